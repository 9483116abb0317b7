"""The VTA accelerator: the entry that says why it cannot be compiled for."""

from hyq_tvm.targets.backend import unavailable

BACKEND = unavailable(
    name="vta",
    summary="the VTA accelerator on FPGAs",
    reason="this version of hyq_tvm has no code generator for the VTA accelerator; compile for "
    "'llvm', whose integer results are the same by definition",
)
