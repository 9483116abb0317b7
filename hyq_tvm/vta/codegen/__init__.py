"""The code generator: integer operators to instruction streams, tiled to the buffers."""

from hyq_tvm.vta.codegen.compile import HostedProgram, compile_operations, compile_program

__all__ = ["HostedProgram", "compile_operations", "compile_program"]
