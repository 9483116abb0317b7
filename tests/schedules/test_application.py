"""The pass: a whole integer module with other kernels, the same integers and no marks left."""

import numpy as np
import pytest
import tvm
from tvm import relax

import schedules
from hyq_tvm.topi.registry import OP_ATTRIBUTE
from relay_passes.quantize_graph import quantize_graph
from relay_passes.read_program import golden
from schedules.application import choose
from tests.quantization.lowering.planning import minmax_plan, residual_block
from tests.schedules.calls import Call, ints

TARGET = tvm.target.Target("llvm")


@pytest.fixture(scope="module")
def block():
    rng = np.random.default_rng(3)
    graph = residual_block(rng)
    x = rng.normal(size=(2, 6, 6, 12)).astype(np.float32)
    return quantize_graph(graph, minmax_plan(graph, x, wide=("x", "sum", "out"))), x


def test_a_scheduled_module_equals_the_golden_model(block):
    module, x = block
    machine = relax.VirtualMachine(tvm.compile(schedules.apply(module, TARGET), TARGET), tvm.cpu())
    np.testing.assert_array_equal(
        machine["main"](tvm.runtime.tensor(x)).numpy(), golden(module)(x)[0]
    )


def test_scheduled_functions_are_unmarked_and_never_fused(block):
    scheduled = schedules.apply(block[0], TARGET)
    functions = [f for f in scheduled.functions.values() if isinstance(f, tvm.tirx.PrimFunc)]
    assert functions
    assert all(OP_ATTRIBUTE not in f.attrs and int(f.attrs["op_pattern"]) == 8 for f in functions)


def test_the_modules_attributes_stay(block):
    assert dict(schedules.apply(block[0], TARGET).attrs) == dict(block[0].attrs)


def test_the_module_itself_is_not_changed(block):
    before = block[0].script()
    schedules.apply(block[0], TARGET)
    assert block[0].script() == before


def test_a_target_without_rules_gets_the_module_back(block):
    assert schedules.apply(block[0], tvm.target.Target("c")) is block[0]


def test_an_operator_that_no_rule_takes_is_named():
    call = Call("view", {"shape": (2,), "strides": (1,), "offset": 0}, [ints(np.int8, 4)])
    with pytest.raises(ValueError, match="'view'"):
        choose(call.workload(), TARGET, [lambda workload, target: None])
