"""Executables: any number of samples, clear refusals, and the same bits after saving."""

import json
import sysconfig
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hyq_tvm
from hyq_tvm import artifact
from hyq_tvm.errors import (
    ArtifactError,
    ConfigError,
    FloatComputationError,
    InputError,
    PlanError,
)
from hyq_tvm.executable import Executable, SavedLibrary
from tests import integer_modules as modules


@pytest.fixture(scope="module")
def exe():
    return hyq_tvm.compile(modules.dense_module())


@pytest.fixture(scope="module")
def saved(exe, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    exe.save(path)
    return path


@given(count=st.integers(1, 3 * modules.BATCH + 1), seed=st.integers(0, 5))
def test_any_number_of_samples_gives_the_golden_bits(exe, count, seed):
    x = modules.images(count, seed)
    np.testing.assert_array_equal(exe(x), modules.golden(x))
    np.testing.assert_array_equal(exe.run_integers(x), modules.golden_integers(x))


def test_results_are_float32_and_int8_and_the_callers_own(exe):
    x = modules.images(modules.BATCH)
    first, integers = exe(x), exe.run_integers(x)
    assert (first.dtype, integers.dtype) == (np.float32, np.int8)
    kept = first.copy()
    exe(modules.images(modules.BATCH, seed=9))
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    np.testing.assert_array_equal(exe(x), kept)


def test_strided_and_unaligned_inputs_are_the_same(exe):
    x = modules.images(2 * modules.BATCH)
    expected = modules.golden(x)
    np.testing.assert_array_equal(exe(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(exe(np.repeat(x, 2, axis=0)[::2]), expected)
    memory = np.empty(x.nbytes + 1, np.uint8)
    unaligned = memory[1:].view(np.float32).reshape(x.shape)
    unaligned[:] = x
    np.testing.assert_array_equal(exe(unaligned), expected)


def test_several_outputs_are_a_tuple():
    exe = hyq_tvm.compile(modules.dense_module(outputs=2))
    x = modules.images(modules.BATCH + 1)
    for run, golden in ((exe, modules.golden), (exe.run_integers, modules.golden_integers)):
        outputs = run(x)
        assert isinstance(outputs, tuple)
        assert len(outputs) == 2
        for output in outputs:
            np.testing.assert_array_equal(output, golden(x))


def test_an_output_without_the_batch_wants_the_traced_shape():
    exe = hyq_tvm.compile(modules.dense_module(final_shape=(2, 2, 3)))
    x = modules.images(modules.BATCH)
    np.testing.assert_array_equal(exe(x), modules.golden(x).reshape(2, 2, 3))
    with pytest.raises(InputError, match=r"shape \[4, 8\]"):
        exe(modules.images(modules.BATCH + 1))


def test_the_integers_follow_the_spec(exe):
    x = modules.images(modules.BATCH)
    spec = exe.output_spec[0]
    real = np.float32(spec.scale[0]) * (
        exe.run_integers(x).astype(np.float32) - np.float32(spec.zero_point)
    )
    np.testing.assert_array_equal(real, exe(x))
    assert exe.input_spec[0].shape == (modules.BATCH, modules.FEATURES)


def wrong(dtype: str = "float32", shape: tuple[int, ...] = (4, 8)) -> np.ndarray:
    return np.zeros(shape, dtype)


def not_finite(value: float) -> np.ndarray:
    x = modules.images(9)
    x[8, 7] = value
    return x


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (wrong("float64"), r"dtype float64: use x\.astype\(np\.float32\)"),
        (wrong("int8"), "dtype int8"),
        (wrong(">f4"), "dtype >f4"),
        (wrong(shape=(4, 9)), r"x wants shape \[any, 8\].*got shape \[4, 9\]"),
        (wrong(shape=(8,)), r"got shape \[8\]"),
        (wrong(shape=(1, 4, 8)), r"got shape \[1, 4, 8\]"),
        (wrong(shape=()), r"got shape \[\]"),
        (wrong(shape=(0, 8)), "no sample"),
        (not_finite(np.nan), "NaN or infinity"),
        (not_finite(np.inf), "NaN or infinity"),
        (not_finite(-np.inf), "NaN or infinity"),
        ([[0.0] * 8] * 4, "got list"),
        (None, "got NoneType"),
    ],
)
def test_wrong_arrays_are_refused(exe, x, message):
    for run in (exe, exe.run_integers):
        with pytest.raises(InputError, match=message):
            run(x)


def test_the_wrong_number_of_arrays_is_refused(exe):
    with pytest.raises(InputError, match=r"0 arrays given, 1 wanted: \['x'\]"):
        exe()
    with pytest.raises(InputError, match="2 arrays given"):
        exe(modules.images(4), modules.images(4))


def test_loading_gives_the_same_bits(exe, saved):
    loaded = hyq_tvm.load(saved)
    x = modules.images(7)
    np.testing.assert_array_equal(loaded(x), exe(x))
    np.testing.assert_array_equal(loaded.run_integers(x), exe.run_integers(x))
    assert loaded.metadata == exe.metadata
    assert loaded.plan == exe.plan == modules.plan()


def test_a_loaded_executable_can_be_saved_again(saved, tmp_path):
    hyq_tvm.load(saved).save(tmp_path / "again")
    x = modules.images(3)
    np.testing.assert_array_equal(hyq_tvm.load(tmp_path / "again")(x), modules.golden(x))


def test_saving_without_a_linker_leaves_nothing_behind(exe, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    monkeypatch.setattr("tvm.support.cc.get_cc", lambda: str(tmp_path / "no-compiler"))
    with pytest.raises(ArtifactError, match="is a C compiler installed"):
        exe.save(tmp_path / "out" / "model")
    assert list((tmp_path / "out").iterdir()) == []


def test_looking_without_running(saved):
    looked = hyq_tvm.load(saved, run_code=False)
    assert looked.plan == modules.plan()
    assert looked.output_spec[0].integer_dtype == "int8"
    with pytest.raises(ArtifactError, match="run_code=False"):
        looked(modules.images(1))


def resaved(saved: Path, target: Path, **changes: object) -> Path:
    """The artefact with a valid checksum over changed metadata."""
    found = artifact.read_artifact(saved)
    data = {**found.metadata.__dict__, **changes}
    artifact.write_artifact(
        target, artifact.Metadata(**data), found.plan, SavedLibrary(found.library).export
    )
    return target


def test_code_for_another_processor_is_not_loaded(saved, tmp_path):
    path = resaved(saved, tmp_path / "m", features=("quantum",))
    with pytest.raises(ArtifactError, match="needs processor features quantum"):
        hyq_tvm.load(path)
    assert hyq_tvm.load(path, run_code=False).metadata.features == ("quantum",)


@pytest.mark.parametrize("code", [b"", b"not a library", b"\x7fELF" + bytes(100)])
def test_a_library_that_is_none_is_refused(exe, tmp_path, code):
    path = tmp_path / "m"
    artifact.write_artifact(path, exe.metadata, "", lambda file: file.write_bytes(code) and None)
    with pytest.raises(ArtifactError, match=r"lib\.so cannot be loaded"):
        hyq_tvm.load(path)


def test_a_foreign_library_is_refused(exe, tmp_path):
    foreign = next(Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("*.so"))
    path = tmp_path / "m"
    artifact.write_artifact(path, exe.metadata, "", SavedLibrary(foreign).export)
    with pytest.raises(ArtifactError, match=r"lib\.so"):
        hyq_tvm.load(path)


def test_a_float_model_has_neither_plan_nor_integers(exe, saved):
    data = json.loads((saved / "metadata.json").read_text())["metadata"]
    data["outputs"][0].update(integer_dtype="", scale=[])
    exe = Executable(artifact.Metadata.from_dict(data), "", SavedLibrary(saved / "lib.so"))
    with pytest.raises(FloatComputationError, match="quantize it first"):
        exe.run_integers(modules.images(1))
    with pytest.raises(PlanError, match="has no plan"):
        _ = exe.plan


def test_threads_take_turns(exe):
    inputs = [modules.images(9, seed) for seed in range(8)]
    results: dict[int, np.ndarray] = {}

    def work(index: int) -> None:
        for _ in range(20):
            results[index] = exe(inputs[index])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for index, x in enumerate(inputs):
        np.testing.assert_array_equal(results[index], modules.golden(x))


def test_latency_measures_calls(exe):
    found = exe.latency(calls=5, warmup=0)
    assert 0 < found.minimum <= found.median
    assert found.calls == 5
    with pytest.raises(ConfigError, match="calls=0"):
        exe.latency(calls=0)


def test_it_says_what_it_is(exe):
    assert repr(exe) == "<Executable integer-only, target llvm, inputs x [4, 8]>"
