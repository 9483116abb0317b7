"""Target cuda end to end: compiled without a GPU, saved, and run on an emulated one."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
from tvm.target import Target

import hyq_tvm
import schedules.cuda
from hyq_tvm import cuda_device, targets
from hyq_tvm.errors import ArtifactError, DeviceError, TargetError
from hyq_tvm.targets import cuda_toolchain
from hyq_tvm.targets.cuda import CudaTarget
from hyq_tvm.targets.cuda_toolchain import Compiled, Resources
from tests.integer_modules import dense_module, golden, golden_integers, images
from tests.schedules.cuda.conftest import gpu  # noqa: F401  a fixture

ARCH = {"kind": "cuda", "arch": "sm_90"}


@pytest.fixture
def nvidia():
    """NVIDIA's compiler; skipped where there is none."""
    try:
        return cuda_toolchain.compiler()
    except TargetError as error:
        pytest.skip(str(error))


def test_a_compiled_model_runs(gpu):  # noqa: F811
    exe = hyq_tvm.compile(dense_module(), target="cuda")
    assert exe.metadata.target["arch"] == ["sm_90"]
    assert exe.metadata.integer_only
    x = images(9)
    np.testing.assert_array_equal(exe(x), golden(x), strict=True)
    np.testing.assert_array_equal(exe.run_integers(x), golden_integers(x), strict=True)


def test_a_saved_model_runs_and_can_be_saved_again(gpu, tmp_path):  # noqa: F811
    hyq_tvm.compile(dense_module(), target=ARCH).save(tmp_path / "a")
    hyq_tvm.load(tmp_path / "a").save(tmp_path / "b")
    exe = hyq_tvm.load(tmp_path / "b")
    x = images(4)
    np.testing.assert_array_equal(exe(x), golden(x), strict=True)
    np.testing.assert_array_equal(exe(x[:3]), golden(x[:3]), strict=True)


def test_several_outputs(gpu):  # noqa: F811
    exe = hyq_tvm.compile(dense_module(outputs=2), target=ARCH)
    x = images(4)
    for output in exe(x):
        np.testing.assert_array_equal(output, golden(x), strict=True)


def test_the_network_is_one_graph(gpu):  # noqa: F811
    exe = hyq_tvm.compile(dense_module(), target=ARCH)
    text = exe._library.executable.as_text()
    assert "cuda_graph.run_or_capture" in text
    exe(images(4))
    before = gpu.hyq_emulator_graphs()
    exe(images(4))
    assert gpu.hyq_emulator_graphs() == before + 1
    plain = hyq_tvm.compile(dense_module(), target={**ARCH, "graph": False})
    assert "cuda_graph" not in plain._library.executable.as_text()
    np.testing.assert_array_equal(plain(images(4)), golden(images(4)), strict=True)


def test_machine_code_for_several_cards_without_a_gpu(nvidia, tmp_path):
    exe = hyq_tvm.compile(dense_module(), target={"kind": "cuda", "arch": ["sm_90", "sm_75"]})
    kernels = exe.metadata.notes["cuda"]["kernels"]
    assert set(kernels) == {"sm_75", "sm_90"}
    assert all(k["registers"] > 0 for made in kernels.values() for k in made.values())
    exe.save(tmp_path / "model")
    assert sorted(cuda_device.cubins_beside(tmp_path / "model" / "lib.so")) == ["sm_75", "sm_90"]
    with pytest.raises(ArtifactError, match=r"cannot run here|no NVIDIA"):
        exe(images(4))


def test_the_library_holds_source_and_the_cards_code_is_taken(gpu, tmp_path):  # noqa: F811
    hyq_tvm.compile(dense_module(), target={**ARCH, "arch": ["sm_80", "sm_90"]}).save(
        tmp_path / "a"
    )
    library = tmp_path / "a" / "lib.so"
    assert b'extern "C" __global__' in library.read_bytes()
    found = []

    def code(emitted):
        found.append(emitted)
        return (tmp_path / "a" / "kernels.sm_90.cubin").read_bytes()

    cuda_device.load_library(library, code)
    assert len(found) == 1


def test_code_for_another_card_is_refused(gpu, tmp_path, monkeypatch):  # noqa: F811
    hyq_tvm.compile(dense_module(), target=ARCH).save(tmp_path / "model")
    monkeypatch.setenv("HYQ_EMULATOR_MAJOR", "8")
    with pytest.raises(ArtifactError, match=r"made for sm_90, this machine's GPU is sm_80"):
        hyq_tvm.load(tmp_path / "model")


def test_the_newest_code_that_fits_is_taken():
    assert cuda_device.fitting(["sm_80", "sm_86", "sm_90"], "sm_89") == "sm_86"
    with pytest.raises(ArtifactError, match="sm_120"):
        cuda_device.fitting(["sm_90", "sm_100"], "sm_120")


def test_too_little_memory_is_one_clear_error(gpu, monkeypatch):  # noqa: F811
    exe = hyq_tvm.compile(dense_module(), target=ARCH)
    monkeypatch.setenv("HYQ_EMULATOR_MIB", "0")
    with pytest.raises(DeviceError, match=r"out of memory .*smaller batch"):
        exe(images(4))


def test_without_a_gpu_the_arch_is_needed(monkeypatch):
    monkeypatch.delenv("HYQ_EMULATOR", raising=False)
    with pytest.raises(TargetError, match=r"target 'cuda'.*\"arch\": \"sm_90\""):
        targets.resolve("cuda")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"arch": "sm_61"}, "no kernels for arch 'sm_61'; there are sm_75"),
        ({"arch": []}, "no kernels for arch"),
        ({"arch": "sm_90", "mcpu": "x"}, r"no options \['mcpu'\]; it has arch"),
        ({"arch": "sm_90", "graph": 1}, "neither true nor false"),
        ({"arch": "sm_90", "host": {"mcpu": "z80"}}, "z80"),
    ],
)
def test_options_that_make_no_sense(options, reason):
    with pytest.raises(TargetError, match=reason):
        targets.resolve({"kind": "cuda", **options})


def test_a_tvm_target_is_taken():
    _, target = targets.resolve(Target({"kind": "cuda", "arch": "sm_86"}))
    assert isinstance(target, CudaTarget)
    assert target.architectures == ("sm_86",)


def test_float_models_are_refused():
    with pytest.raises(TargetError, match="integers only"), targets.resolve(ARCH)[1]:
        pass


def test_no_compiler_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(cuda_toolchain, "_nvrtc_library", lambda: None)
    monkeypatch.setattr(cuda_toolchain, "_nvcc", lambda: None)
    with pytest.raises(TargetError, match=r"NVRTC or nvcc, and finds neither: pip install"):
        hyq_tvm.compile(dense_module(), target=ARCH)


class Spilling:
    """A compiler whose kernels need more registers than there are."""

    name = "spilling"

    def compile(self, source, arch):
        return Compiled(arch, b"", "", {"dense_": Resources(255, 0, 8, 24)})


def test_spills_are_refused(monkeypatch):
    monkeypatch.setattr(cuda_toolchain, "compiler", Spilling)
    with pytest.raises(TargetError, match=r"spill registers on sm_90: dense_ \(24 bytes\)"):
        hyq_tvm.compile(dense_module(), target=ARCH)


def test_both_compilers_report_the_same_kernels(nvidia):
    device = Path(schedules.cuda.__file__).with_name("device.cuh").read_text(encoding="utf-8")
    code = device + 'extern "C" __global__ void twice(int64_t* x) { x[threadIdx.x] *= 2; }'
    made = nvidia.compile(code, "sm_80")
    assert made.cubin.startswith(b"\x7fELF")
    assert ".entry twice" in made.ptx
    assert made.resources["twice"].spills == 0
    tool = cuda_toolchain._nvcc()
    if tool is None:
        pytest.skip("no nvcc here: only NVRTC was tried")
    assert set(cuda_toolchain.Nvcc(tool).compile(code, "sm_80").resources) == {"twice"}


def test_a_compiler_error_shows_its_line(nvidia):
    with pytest.raises(TargetError, match=r"failed for sm_80: .*error.*undefined"):
        nvidia.compile('extern "C" __global__ void f() { x = 1; }', "sm_80")


def test_a_library_that_is_no_nvrtc_says_so(tmp_path):
    (tmp_path / "libnvrtc.so.13").write_bytes(b"nothing")
    with pytest.raises(TargetError, match="cannot be loaded"):
        cuda_toolchain.Nvrtc(tmp_path / "libnvrtc.so.13")


def test_reasons_why_tvms_library_cannot_be_loaded(tmp_path):
    library = tmp_path / cuda_device.LIBRARY
    assert "driver" in cuda_device._reason(library, "libcuda.so.1: cannot open")
    assert "nvidia-cuda-runtime" in cuda_device._reason(library, "libcudart.so.13: cannot open")
    assert "copy it" in cuda_device._reason(library, "no such file")


def test_memory_is_the_callers(gpu):  # noqa: F811
    exe = hyq_tvm.compile(dense_module(), target=ARCH)
    x = images(4)
    first = exe(x)
    kept = first.copy()
    exe(images(4, seed=3))
    np.testing.assert_array_equal(first, kept)
    assert isinstance(gpu, ctypes.CDLL)
