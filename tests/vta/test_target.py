"""``target="vta"``: the same executable as elsewhere, its integers from the accelerator."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import hyq_tvm
from hyq_tvm import targets
from hyq_tvm.demo import data
from hyq_tvm.demo.model import load_model
from hyq_tvm.errors import (
    ArtifactError,
    DeviceProgramError,
    TargetError,
    UnsupportedModelError,
)
from hyq_tvm.executable import SavedLibrary
from hyq_tvm.quantization.lowering import lower
from hyq_tvm.runtime import VirtualMachine
from hyq_tvm.targets.vta import VTATarget
from hyq_tvm.vta.arch import DEFAULT, TINY
from hyq_tvm.vta.codegen import compile as rules
from hyq_tvm.vta.driver import Control, Register, SimulatedDevice, on_device
from hyq_tvm.vta.program import Program
from relay_passes.quantize_graph import emit_program
from relay_passes.read_program import golden
from tests.integer_modules import BATCH, dense_module, golden_integers, images
from tests.integer_modules import golden as golden_dense
from tests.quantization.lowering.planning import minmax_plan, residual_block
from tests.test_compiler import float_module
from tests.vta.models import quantized_model

TINY_SIZES = {
    name: getattr(TINY, name) for name in TINY.__dataclass_fields__ if name != "softmax_lanes"
}


@pytest.fixture(scope="module")
def dense():
    return hyq_tvm.compile(dense_module(), target="vta")


@pytest.fixture(scope="module")
def digits():
    """The demonstration's model, quantized, and some of its test images."""
    x = data.to_input(data.load_split("test").images[:4])
    return quantized_model(load_model(), x), x


def accelerator(executable):
    return executable.metadata.notes["accelerator"]


def test_the_api_is_that_of_every_target(dense):
    x = images(10)
    np.testing.assert_array_equal(dense.run_integers(x), golden_integers(x))
    np.testing.assert_array_equal(dense(x), golden_dense(x))
    assert dense.metadata.integer_only
    assert dense.metadata.target["kind"] == "vta"
    assert dense.metadata.target["fingerprint"] == DEFAULT.fingerprint
    assert dense.latency(calls=2).calls == 2


@pytest.mark.parametrize("outputs", [1, 2])
def test_views_and_outputs_as_on_the_cpu(outputs):
    module = dense_module(outputs=outputs, final_shape=(2, 6))
    x = images(BATCH)
    on_cpu = hyq_tvm.compile(module)
    on_accelerator = hyq_tvm.compile(module, target="vta")
    for call in ("run_integers", "__call__"):
        np.testing.assert_array_equal(getattr(on_accelerator, call)(x), getattr(on_cpu, call)(x))


def test_a_block_of_a_network_is_bit_exact_with_the_cpu():
    rng = np.random.default_rng(11)
    graph = residual_block(rng)
    x = rng.normal(size=(2, 6, 6, 12)).astype(np.float32)
    plan = minmax_plan(graph, x, wide=("x", "sum", "out"))
    module = emit_program(lower(graph, plan), plan)
    on_cpu = hyq_tvm.compile(module)
    for target in ("vta", {"kind": "vta", **TINY_SIZES}):
        on_accelerator = hyq_tvm.compile(module, target=target)
        assert accelerator(on_accelerator)["cpu_operators"] == []
        for sample in (x, 3 * x, np.zeros_like(x)):
            np.testing.assert_array_equal(on_accelerator(sample), on_cpu(sample))


def test_the_digits_model_runs_on_the_accelerator_alone(digits, tmp_path):
    module, x = digits
    made = hyq_tvm.compile(module, target="vta")
    assert accelerator(made)["cpu_operators"] == []
    assert len(accelerator(made)["programs"]) == 1
    assert accelerator(made)["programs"][0]["milliseconds"] > 0
    wanted = np.concatenate([golden(module)(image[None])[0] for image in x])
    np.testing.assert_array_equal(made(x), wanted)
    made.save(tmp_path / "digits")
    np.testing.assert_array_equal(hyq_tvm.load(tmp_path / "digits")(x), wanted)


@pytest.mark.slow
def test_the_digits_model_is_bit_exact_with_the_cpu(digits):
    module, _ = digits
    x = data.to_input(data.load_split("test").images[:64])
    on_cpu, on_accelerator = (hyq_tvm.compile(module, target=t) for t in ("llvm", "vta"))
    np.testing.assert_array_equal(on_accelerator.run_integers(x), on_cpu.run_integers(x))
    np.testing.assert_array_equal(on_accelerator(x), on_cpu(x))


def test_an_artefact_holds_everything(dense, tmp_path):
    dense.save(tmp_path / "model")
    names = {file.name for file in (tmp_path / "model").iterdir()}
    assert names == {"lib.so", "plan.json", "metadata.json", "program.vta"}
    program = Program.load(tmp_path / "model" / "program.vta")
    assert program.config == DEFAULT
    assert {place.role for place in program.tensors.values()} == {"input", "output"}
    loaded = hyq_tvm.load(tmp_path / "model")
    loaded.save(tmp_path / "again")
    x = images(BATCH)
    again = hyq_tvm.load(tmp_path / "again")
    np.testing.assert_array_equal(again.run_integers(x), golden_integers(x))
    assert again.plan == dense.plan


def test_damaged_and_missing_programs_are_named(dense, tmp_path):
    dense.save(tmp_path / "model")
    program = tmp_path / "model" / "program.vta"
    raw = bytearray(program.read_bytes())
    raw[len(raw) // 2] ^= 1
    program.write_bytes(raw)
    with pytest.raises(ArtifactError, match=r"program\.vta is damaged"):
        hyq_tvm.load(tmp_path / "model")
    program.unlink()
    with pytest.raises(ArtifactError, match=r"program\.vta is missing"):
        hyq_tvm.load(tmp_path / "model")


def test_a_library_without_its_program_says_so(dense, tmp_path):
    other = hyq_tvm.compile(
        dense_module(final_shape=(6, 2)), target={"kind": "vta", "log_inp_buffer": 14}
    )
    other.save(tmp_path / "model")
    shutil.copyfile(tmp_path / "model" / "lib.so", tmp_path / "lib.so")
    digest = Program.load(tmp_path / "model" / "program.vta").digest
    del other
    machine = VirtualMachine(SavedLibrary(tmp_path / "lib.so").module())
    with pytest.raises(DeviceProgramError, match=f"no program {digest.hex()} is loaded"):
        machine.run("main", [images(BATCH)])


def test_a_chosen_device_runs_the_program(dense):
    device, x = SimulatedDevice(DEFAULT), images(BATCH)
    assert device.read(Register.COUNT) == 0
    with on_device(device):
        np.testing.assert_array_equal(dense.run_integers(x), golden_integers(x))
    assert device.read(Register.COUNT) > 0
    device.write(Register.CONTROL, Control.RESET)
    np.testing.assert_array_equal(dense.run_integers(x), golden_integers(x))
    assert device.read(Register.COUNT) == 0


def test_a_device_of_another_configuration_is_refused(dense):
    with (
        on_device(SimulatedDevice(TINY)),
        pytest.raises(DeviceProgramError, match=r"compiled for device .* compile again"),
    ):
        dense(images(BATCH))


def test_operators_that_the_device_cannot_compute_are_named_and_run_on_the_cpu(monkeypatch):
    rng = np.random.default_rng(11)
    graph = residual_block(rng)
    x = rng.normal(size=(2, 6, 6, 12)).astype(np.float32)
    plan = minmax_plan(graph, x, wide=("x", "sum", "out"))
    module = emit_program(lower(graph, plan), plan)
    lower_conv = rules.RULES["conv2d"]

    def no_depthwise(context, operation):
        if operation.params["groups"] > 1:
            raise UnsupportedModelError("no depthwise today")
        lower_conv(context, operation)

    monkeypatch.setitem(rules.RULES, "conv2d", no_depthwise)
    with pytest.warns(UserWarning, match="computed by the CPU.*no depthwise today"):
        made = hyq_tvm.compile(module, target="vta")
    (only,) = accelerator(made)["cpu_operators"]
    assert "conv2d" in only
    assert len(accelerator(made)["programs"]) == 2
    np.testing.assert_array_equal(made(x), golden(module)(x)[0])


def test_sizes_by_name_and_by_record(tmp_path):
    sizes = {"log_block": 3, "log_inp_buffer": 14, "log_wgt_buffer": 16, "log_acc_buffer": 16}
    _, target = targets.resolve({"kind": "vta", **sizes})
    assert isinstance(target, VTATarget)
    assert (target.config.log_block, target.config.softmax_lanes) == (3, 8)
    record = tmp_path / "tiny.json"
    record.write_text(TINY.to_json())
    _, target = targets.resolve({"kind": "vta", "record": str(record), "clock_mhz": 50})
    assert target.config.fingerprint == TINY.fingerprint
    assert target.config.clock_mhz == 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": 4}, r"no options \['blocks'\]"),
        ({"log_block": 9}, "log_block=9: choose 2 to 6"),
        ({"log_block": "big"}, "an integer is needed"),
        ({"record": "/nowhere.json"}, "/nowhere.json"),
        ({"host": {"mcpu": "z80"}}, "z80"),
    ],
)
def test_impossible_devices_are_refused(options, message):
    with pytest.raises(TargetError, match=message):
        targets.resolve({"kind": "vta", **options})


def test_float_models_are_refused():
    with (
        pytest.warns(UserWarning, match="float model"),
        pytest.raises(TargetError, match="integers only"),
    ):
        hyq_tvm.compile(float_module(), target="vta")


def test_metadata_is_plain_data(dense):
    text = json.dumps({"target": dict(dense.metadata.target), "notes": dict(dense.metadata.notes)})
    assert json.loads(text)["target"]["log_block"] == 4
