"""``offload``: neighbouring accepted operators become one call, and compute the same."""

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax

from hyq_tvm.quantization.lowering import lower
from relay_passes.offload import Offloaded, offload, view_source
from relay_passes.quantize_graph import emit_program
from relay_passes.read_program import golden
from tests.integer_modules import dense_module, images
from tests.integer_modules import golden as golden_dense
from tests.quantization.lowering.planning import minmax_plan, residual_block

FUNCTION = "tests.offload"


@pytest.fixture
def device():
    """Programs placed so far; the packed function runs them by the golden model."""
    programs = []

    def run(handle, *tensors):
        program = programs[int(np.from_dlpack(handle)[0])]
        given, results = tensors[: len(program.inputs)], tensors[len(program.inputs) :]
        made = program.run(*(np.from_dlpack(tensor) for tensor in given))
        for tensor, value in zip(results, made, strict=True):
            np.from_dlpack(tensor)[...] = value

    tvm_ffi.register_global_func(FUNCTION, run, override=True)
    yield programs
    tvm_ffi.remove_global_func(FUNCTION)


def offloaded(mod, programs, accepts):
    def place(program):
        programs.append(program)
        handle = np.array([len(programs) - 1], np.uint8)
        return Offloaded(handle, tuple(program.inputs), tuple(program.outputs))

    return offload(mod, FUNCTION, accepts, place)


def run(mod, *inputs):
    machine = relax.VirtualMachine(tvm.compile(mod, target="llvm"), tvm.cpu())
    found = machine["main"](*(tvm.runtime.tensor(x) for x in inputs))
    return [found.numpy()] if hasattr(found, "numpy") else [part.numpy() for part in found]


def operators(programs):
    return [[instruction.op for instruction in program] for program in programs]


def calls(mod, op):
    found = []

    def visit(node):
        if isinstance(node, relax.Call) and node.op == tvm.ir.Op.get(op):
            found.append(node)

    relax.analysis.post_order_visit(mod["main"], visit)
    return found


def test_a_device_that_accepts_nothing_changes_nothing(device):
    mod = dense_module()
    tvm.ir.assert_structural_equal(offloaded(mod, device, lambda name, op: False), mod)
    assert device == []


def test_one_call_for_everything(device):
    mod = dense_module()
    changed = offloaded(mod, device, lambda name, op: True)
    assert operators(device) == [["quantize", "dense", "dequantize"]]
    assert len(calls(changed, "relax.call_dps_packed")) == 1
    assert calls(changed, "relax.call_tir") == []
    assert len(changed.functions) == 1, "kernels that nobody calls are dropped"
    x = images(4)
    np.testing.assert_array_equal(run(changed, x)[0], golden_dense(x))
    assert calls(mod, "relax.call_dps_packed") == [], "the module given stays as it was"


@pytest.mark.parametrize("accepted", ["quantize", "dense", "dequantize"])
def test_the_rest_stays_on_the_cpu(device, accepted):
    changed = offloaded(dense_module(), device, lambda name, op: op == accepted)
    assert operators(device) == [[accepted]]
    assert len(calls(changed, "relax.call_tir")) == 2
    x = images(4)
    np.testing.assert_array_equal(run(changed, x)[0], golden_dense(x))


def test_operators_on_both_sides_of_a_gap_are_two_calls(device):
    changed = offloaded(dense_module(), device, lambda name, op: op != "dense")
    assert operators(device) == [["quantize"], ["dequantize"]]
    x = images(4)
    np.testing.assert_array_equal(run(changed, x)[0], golden_dense(x))


def test_a_region_with_several_results(device):
    mod = dense_module(outputs=3)
    changed = offloaded(mod, device, lambda name, op: op == "dequantize")
    assert operators(device) == [["dequantize"] * 3]
    assert len(calls(changed, "relax.call_dps_packed")) == 1
    x = images(4)
    for found in run(changed, x):
        np.testing.assert_array_equal(found, golden_dense(x))


def test_a_result_that_others_read_too_leaves_the_region(device):
    mod = dense_module(outputs=2)
    changed = offloaded(mod, device, lambda name, op: op in ("quantize", "dense"))
    assert operators(device) == [["quantize", "dense"]]
    assert list(device[0].outputs.values()) == [(4, 3)]
    x = images(4)
    for found in run(changed, x):
        np.testing.assert_array_equal(found, golden_dense(x))


def test_a_reshape_behind_a_region_shows_its_result(device):
    changed = offloaded(dense_module(final_shape=(2, 6)), device, lambda name, op: True)
    x = images(4)
    np.testing.assert_array_equal(run(changed, x)[0], golden_dense(x).reshape(2, 6))


def test_names_decide_where_the_device_looks_at_them(device):
    seen = []
    offloaded(dense_module(), device, lambda name, op: bool(seen.append((name, op))))
    assert [op for _, op in seen] == ["quantize", "dense", "dequantize"]
    assert all(name for name, _ in seen)


def test_every_kind_alone_and_every_kind_but_one(device):
    rng = np.random.default_rng(7)
    graph = residual_block(rng)
    x = rng.normal(0, 1, (2, 6, 6, 12)).astype(np.float32)
    plan = minmax_plan(graph, x, wide=("x", "sum", "out"))
    mod = emit_program(lower(graph, plan), plan)
    (want,) = golden(mod)(x)
    kinds = set()
    offloaded(mod, device, lambda name, op: bool(kinds.add(op)))
    assert len(kinds) > 2
    for chosen in [*({kind} for kind in kinds), *(kinds - {kind} for kind in kinds)]:
        device.clear()
        changed = offloaded(mod, device, lambda name, op, chosen=chosen: op in chosen)
        assert {op for program in operators(device) for op in program} == chosen
        np.testing.assert_array_equal(run(changed, x)[0], want, err_msg=str(chosen))


def test_views_are_aliases_and_reshapes():
    x = relax.Var("x", relax.TensorType((4, 2), "int8"))
    assert view_source(x).same_as(x)
    assert view_source(relax.op.reshape(x, (8,))).same_as(x)
    assert view_source(relax.op.permute_dims(x, (1, 0))) is None
    assert view_source(relax.const(1)) is None
