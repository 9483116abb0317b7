"""Small kernels to measure."""

from schedules.llvm import vector
from schedules.prim_func import prim_func
from schedules.rule import Kernel, Spec


def kernel(name, body):
    """A kernel of 64 int32 in and out whose code ``body(x, out)`` emits."""
    spec = Spec((64,), "int32")
    return Kernel(name, prim_func(name, [spec], spec, body), (0,))


def copy(x, out):
    """What works and takes next to no time."""
    with vector.loop(64) as i:
        vector.store(out, i, vector.load(x, i, 1), 1)
