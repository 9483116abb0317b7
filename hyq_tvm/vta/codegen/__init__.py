"""The code generator: integer operators to instruction streams, tiled to the buffers."""

from hyq_tvm.vta.codegen.compile import (
    RULES,
    HostedProgram,
    RefusedOperationError,
    compile_operations,
    compile_program,
)

__all__ = [
    "RULES",
    "HostedProgram",
    "RefusedOperationError",
    "compile_operations",
    "compile_program",
]
