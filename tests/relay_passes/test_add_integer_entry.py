"""The second entry returns the integers and changes nothing about the first."""

import numpy as np
import pytest
import tvm
from tvm import relax

from hyq_tvm.runtime import VirtualMachine
from relay_passes.add_integer_entry import (
    INTEGERS,
    AddIntegerEntry,
    OutputGrid,
    add_integer_entry,
    output_grids,
)
from tests import integer_modules as modules


def names(mod: tvm.IRModule) -> list[str]:
    return sorted(ref.name_hint for ref in mod.get_global_vars())


@pytest.mark.parametrize(
    ("options", "shape"),
    [({}, (4, 3)), ({"outputs": 2}, (4, 3)), ({"final_shape": (2, 2, 3)}, (2, 2, 3))],
)
def test_both_entries_compute_what_they_should(options, shape):
    mod = add_integer_entry(modules.dense_module(**options))
    relax.analysis.well_formed(mod)
    machine = VirtualMachine(tvm.compile(mod, "llvm").jit())
    x = modules.images(modules.BATCH)
    outputs = options.get("outputs", 1)
    for entry, golden in (("main", modules.golden), (INTEGERS, modules.golden_integers)):
        found = machine.run(entry, [x])
        assert len(found) == outputs
        for array in found:
            np.testing.assert_array_equal(array, golden(x).reshape(shape), strict=True)


def test_nothing_is_there_twice():
    before = modules.dense_module()
    after = add_integer_entry(before)
    assert names(after) == sorted([*names(before), INTEGERS])
    calls = [
        binding.value
        for entry in ("main", INTEGERS)
        for block in after[entry].body.blocks
        for binding in block.bindings
        if isinstance(binding.value, relax.Call)
        and binding.value.op.same_as(tvm.ir.Op.get("relax.call_tir"))
    ]
    assert sorted(call.args[0].name_hint for call in calls) == ["dense", "dequantize", "quantize"]


def test_attributes_and_signature_stay():
    before = modules.dense_module()
    after = AddIntegerEntry()(before)
    assert dict(after.attrs) == dict(before.attrs)
    assert [p.name for p in after["main"].params] == ["x"]
    assert after["main"].ret_ty == before["main"].ret_ty


def test_attributes_of_main_stay_with_main():
    before = modules.dense_module()
    before["main"] = before["main"].with_attr("note", "kept")
    after = add_integer_entry(before)
    assert str(after["main"].attrs["note"]) == "kept"


def test_grids_are_those_of_the_dequantize():
    expected = OutputGrid((4, 3), "int8", (modules.OUT_SCALE,), -7)
    assert output_grids(modules.dense_module()) == (expected,)
    assert output_grids(modules.dense_module(outputs=2)) == (expected, expected)


def float_module() -> tvm.IRModule:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 8), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output(builder.emit(relax.op.nn.softmax(x)))
        builder.emit_func_output(y)
    return builder.finalize()


def test_a_float_output_has_no_integers():
    mod = float_module()
    assert output_grids(mod) == ()
    assert names(add_integer_entry(mod)) == ["main"]


def test_an_input_handed_through_has_no_integers():
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 8), "float32"))
    with builder.function("main", [x]):
        builder.emit_func_output(x)
    assert output_grids(builder.finalize()) == ()
