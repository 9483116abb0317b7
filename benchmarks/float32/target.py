"""The target of float kernels, and their instruction set."""

from __future__ import annotations

from typing import Any

import tvm

from hyq_tvm.targets.llvm import host_options
from hyq_tvm.threads import num_threads
from schedules.llvm.isa import Isa, instruction_set

_FAST = ("reassoc", "nnan", "nsz", "arcp", "contract")


def float_target() -> Any:
    """The host, with the freedom that lets LLVM fuse multiplications and additions."""
    options = {f"fast-math-{name}": True for name in _FAST}
    return tvm.target.Target(
        {"kind": "llvm", **host_options(), "num-cores": num_threads(), **options}
    )


def float_isa(target: Any) -> Isa:
    """Registers of float32 sums as wide as those that the integer kernels use."""
    wide = instruction_set(target)
    return Isa("float32", wide.lanes, wide.registers, operand="float32", sums="float32")
