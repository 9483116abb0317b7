"""Planned memory: tensors whose lifetimes do not meet share it."""

import tvm
from tvm import relax, te

from hyq_tvm.targets.memory_plan import activation_bytes

HOST = tvm.target.Target("llvm")


def chain(length, size):
    """``length`` operators one after the other on ``size`` bytes."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((size,), "int8"))

    def step(a: te.Tensor) -> te.Tensor:
        return te.compute(a.shape, lambda i: a[a.shape[0] - 1 - i], name="step")

    with builder.function("main", [x]):
        with builder.dataflow():
            last = x
            for _ in range(length):
                last = builder.emit_te(step, last)
            found = builder.emit_output(last)
        builder.emit_func_output(found)
    return builder.get()


def test_tensors_that_follow_each_other_share_two_places():
    # The caller keeps the result, so that it has a place of its own.
    for length, places in ((1, 0), (2, 1), (3, 2), (4, 2), (9, 2)):
        assert activation_bytes(chain(length, 1000), HOST) == places * 1000


def test_the_module_stays_as_it_is():
    module = chain(3, 10)
    before = module.script()
    activation_bytes(module, HOST)
    assert module.script() == before


def test_a_module_without_functions_needs_nothing():
    assert activation_bytes(tvm.IRModule(), HOST) == 0
