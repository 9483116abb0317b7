"""NVIDIA GPUs: the entry that says why they cannot be compiled for."""

from hyq_tvm.targets.backend import unavailable

BACKEND = unavailable(
    name="cuda",
    summary="NVIDIA GPUs",
    reason="this version of hyq_tvm has no integer kernels for NVIDIA GPUs; compile for 'llvm', "
    "whose integer results are the same by definition",
)
