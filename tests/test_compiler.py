"""The driver: every way in, and one clear error for every wrong one."""

import warnings

import numpy as np
import pytest
import tvm
from tvm import relax

import hyq_tvm
from hyq_tvm.errors import (
    CalibrationError,
    ConfigError,
    FloatComputationError,
    PlanError,
    TargetError,
    TuningError,
    UnsupportedModelError,
)
from hyq_tvm.images import Preprocessing
from hyq_tvm.quantization.plan import QuantPlan
from relay_passes.read_program import read_program
from tests import integer_modules as modules

SHAPE = (2, 3, 8, 8)


def float_module(seed: int = 0, shape: tuple[object, ...] = SHAPE) -> tvm.IRModule:
    """conv2d 3 -> 4, relu, mean over the picture, dense 4 -> 5."""
    rng = np.random.default_rng(seed)
    kernel, matrix = rng.normal(size=(4, 3, 3, 3)), rng.normal(size=(4, 5))
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(x, relax.const(kernel.astype("float32"))))
            y = builder.emit(relax.op.nn.relu(y))
            y = builder.emit(relax.op.mean(y, axis=[2, 3]))
            y = builder.emit(relax.op.matmul(y, relax.const(matrix.astype("float32"))))
            y = builder.emit_output(y)
        builder.emit_func_output(y)
    return builder.finalize()


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE[1:])).astype("float32")


def float_logits(x: np.ndarray) -> np.ndarray:
    executable = tvm.compile(float_module(shape=x.shape), "llvm")
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return machine["main"](tvm.runtime.tensor(x)).numpy()


@pytest.fixture(scope="module")
def quantized():
    return hyq_tvm.quantize(float_module(), images(40))


@pytest.fixture(scope="module")
def plan(quantized):
    return QuantPlan.from_json(str(quantized.attrs["hyq.plan"]))


def test_both_steps_are_close_to_float_and_equal_to_the_golden_model(quantized):
    exe = hyq_tvm.compile(quantized)
    x = images(5, seed=3)
    exact, real = float_logits(x), exe(x)
    noise = np.square(real - exact).sum() / np.square(exact).sum()
    assert noise < 1e-3
    program = read_program(quantized)
    golden = [program.run_integers(x[i : i + 2])[0] for i in (0, 2)]
    np.testing.assert_array_equal(exe.run_integers(x[:4]), np.concatenate(golden))


def test_one_call_does_both_steps(quantized):
    x = images(3, seed=4)
    exe = hyq_tvm.compile(float_module(), "llvm", images(40), hyq_tvm.QuantConfig())
    np.testing.assert_array_equal(exe(x), hyq_tvm.compile(quantized)(x))


@pytest.mark.parametrize("sizes", [(40,), (1,) * 40, (7, 2, 31)])
def test_the_plan_does_not_depend_on_how_images_are_cut(plan, sizes):
    ends = np.cumsum(sizes)
    batches = (images(40)[end - size : end] for size, end in zip(sizes, ends, strict=True))
    again = hyq_tvm.quantize(float_module(), batches)
    assert str(again.attrs["hyq.plan"]) == plan.to_json()


def test_tensors_of_torch_calibrate_too(plan):
    torch = pytest.importorskip("torch")
    again = hyq_tvm.quantize(float_module(), torch.from_numpy(images(40)))
    assert str(again.attrs["hyq.plan"]) == plan.to_json()


def test_a_plan_replaces_calibration(plan, quantized, tmp_path):
    plan.save(tmp_path / "plan.json")
    x = images(3)
    expected = hyq_tvm.compile(quantized)(x)
    for given in (plan, tmp_path / "plan.json", str(tmp_path / "plan.json")):
        np.testing.assert_array_equal(hyq_tvm.compile(float_module(), plan=given)(x), expected)


def test_a_plan_of_another_model_is_refused(plan):
    with pytest.raises(PlanError, match="made for another model"):
        hyq_tvm.quantize(float_module(seed=1), plan=plan)


def test_a_folder_of_pictures_calibrates(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(4):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / f"{index}.png")
    prepare = Preprocessing(size=(8, 8))
    exe = hyq_tvm.compile(float_module(), "llvm", tmp_path, preprocess=prepare)
    assert exe.metadata.notes["preprocessing"]["size"] == [8, 8]
    with pytest.raises(CalibrationError, match="preprocess="):
        hyq_tvm.quantize(float_module(), tmp_path)


def with_value(value: float) -> np.ndarray:
    x = images(4)
    x[3, 2, 7, 7] = value
    return x


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (None, "is missing"),
        ([], "empty"),
        (images(0), "empty"),
        (with_value(np.nan), "NaN or infinity"),
        (with_value(np.inf), "NaN or infinity"),
        (images(4).astype("float64"), "dtype float64"),
        (images(4)[:, :2], "shape"),
        ([images(4)[0, 0]], "shape"),
        (5, "iterable"),
        ("/nonexistent/folder", "is a folder: say how"),
    ],
)
def test_bad_calibration_data_is_refused(calibration, message):
    with pytest.raises(CalibrationError, match=message):
        hyq_tvm.quantize(float_module(), calibration)


def test_contradictions_are_refused(plan, quantized):
    with pytest.raises(ConfigError, match="a plan holds all choices"):
        hyq_tvm.quantize(float_module(), images(4), plan=plan)
    with pytest.raises(ConfigError, match="a plan holds all choices"):
        hyq_tvm.quantize(float_module(), plan=plan, config=hyq_tvm.QuantConfig())
    with pytest.raises(ConfigError, match="quantized already"):
        hyq_tvm.quantize(quantized, images(4))
    with pytest.raises(ConfigError, match="quantized already"):
        hyq_tvm.compile(quantized, calibration=images(4))
    with pytest.raises(ConfigError, match="give calibration="):
        hyq_tvm.compile(float_module(), config=hyq_tvm.QuantConfig())


@pytest.mark.parametrize("model", [None, "model.onnx", 5, lambda x: x])
def test_things_that_are_no_module_are_refused(model):
    for step in (hyq_tvm.quantize, hyq_tvm.compile):
        with pytest.raises(UnsupportedModelError, match="from_torch"):
            step(model)


def test_a_module_without_main_is_refused():
    with pytest.raises(UnsupportedModelError, match="no Relax function main"):
        hyq_tvm.quantize(tvm.IRModule({}), images(4))


def test_dynamic_shapes_are_refused():
    dynamic = float_module(shape=(tvm.tirx.Var("n", "int64"), *SHAPE[1:]))
    with pytest.raises(UnsupportedModelError, match=r"static|open|dynamic"):
        hyq_tvm.quantize(dynamic, images(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UnsupportedModelError, match="dynamic shape"):
            hyq_tvm.compile(dynamic)


@pytest.mark.parametrize("target", ["fpga", "cuda", {"kind": "llvm", "mcpu": "z80"}, None])
def test_targets_are_checked_before_anything_is_calibrated(target):
    def never():
        raise AssertionError("calibration started")
        yield

    with pytest.raises(TargetError):
        hyq_tvm.compile(float_module(), target, calibration=never())


def test_records_that_are_absent_or_damaged_are_refused_before_anything_else(quantized, tmp_path):
    with pytest.raises(TuningError, match="no folder"):
        hyq_tvm.compile(quantized, records=tmp_path / "absent")
    file = tmp_path / "measurements.jsonl"
    file.write_text('{"workload": 3}\n')
    with pytest.raises(TuningError, match=f"{file}, line 1"):
        hyq_tvm.compile(quantized, records=tmp_path)


def test_a_float_model_compiles_with_one_warning():
    x = images(3)
    with pytest.warns(UserWarning, match="calibration=") as caught:
        exe = hyq_tvm.compile(float_module())
    assert len(caught) == 1
    assert caught[0].filename == __file__
    np.testing.assert_allclose(exe(x), float_logits(x), rtol=1e-4, atol=1e-5)
    assert not exe.metadata.integer_only
    with pytest.raises(FloatComputationError, match="compiled in float"):
        exe.run_integers(x)
    with pytest.raises(PlanError, match="has no plan"):
        _ = exe.plan


def test_code_for_another_machine_can_be_compiled_but_not_run(monkeypatch):
    monkeypatch.setattr("hyq_tvm.compiler.host_features", frozenset)
    exe = hyq_tvm.compile(modules.dense_module())
    with pytest.raises(hyq_tvm.ArtifactError, match="cannot run here: needs processor features"):
        exe(modules.images(1))


def test_the_metadata_say_what_was_made():
    exe = hyq_tvm.compile(modules.dense_module(), {"kind": "llvm", "mcpu": "x86-64-v3"})
    found = exe.metadata
    assert found.integer_only
    assert found.float_operators == ()
    assert found.target["mcpu"] == "x86-64-v3"
    assert "avx2" in found.features
    assert "avx512f" not in found.features
    assert found.versions["apache-tvm"] == tvm.__version__
    assert 0 < found.notes["compile_seconds"] < 600
    assert 50 < found.notes["peak_memory_mib"] < 100_000
    assert 0 < found.notes["activation_bytes"] < 10_000
    layers = {row["op"]: row["margin_bits"] for row in found.notes["layers"]}
    assert layers["quantize"] is None
    assert 0 < layers["dense"] < 31


def test_excluded_layers_need_permission(plan):
    (layer,) = [name for name, entry in plan.layers.items() if entry.op == "dense"]
    excluded = plan.with_layer(layer, exclude=True)
    with pytest.raises(FloatComputationError, match=layer):
        hyq_tvm.compile(float_module(), plan=excluded)
    exe = hyq_tvm.compile(float_module(), plan=excluded, allow_float=[layer])
    (cost,) = exe.metadata.float_operators
    assert cost.startswith(f"{layer}: ")
    assert "KiB a batch" in cost
    assert not exe.metadata.integer_only
    x = images(4, seed=6)
    exact = float_logits(x)
    assert np.square(exe(x) - exact).sum() / np.square(exact).sum() < 1e-2


def attention_module() -> tvm.IRModule:
    """q.k, softmax and the product with v over one tensor [2, 6, 8]."""
    rng = np.random.default_rng(8)
    q, k, v = (rng.normal(size=(8, 8)).astype("float32") for _ in "qkv")
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, 6, 8), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            parts = [builder.emit(relax.op.matmul(x, relax.const(w))) for w in (q, k, v)]
            turned = builder.emit(relax.op.permute_dims(parts[1], [0, 2, 1]))
            scores = builder.emit(relax.op.matmul(parts[0], turned))
            scores = builder.emit(relax.op.multiply(scores, relax.const(np.float32(0.1))))
            weights = builder.emit(relax.op.nn.softmax(scores, axis=-1))
            y = builder.emit_output(relax.op.matmul(weights, parts[2]))
        builder.emit_func_output(y)
    return builder.finalize()


def test_exact_softmax_is_an_island_that_needs_no_permission_and_is_reported():
    x = np.random.default_rng(1).normal(size=(32, 6, 8)).astype("float32")
    config = hyq_tvm.QuantConfig(softmax="exact", samples=64)
    exe = hyq_tvm.compile(attention_module(), calibration=x, config=config)
    (cost,) = exe.metadata.float_operators
    assert "KiB a batch" in cost
    assert not exe.metadata.integer_only
    machine = relax.VirtualMachine(tvm.compile(attention_module(), "llvm"), tvm.cpu())
    exact = machine["main"](tvm.runtime.tensor(x[:2])).numpy()
    assert np.square(exe(x[:2]) - exact).sum() / np.square(exact).sum() < 1e-3
    integer = hyq_tvm.compile(attention_module(), calibration=x)
    assert integer.metadata.integer_only
