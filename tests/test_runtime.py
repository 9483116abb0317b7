"""Running saved executables where neither TVM's compiler nor PyTorch can be imported."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hyq_tvm
from hyq_tvm import runtime
from hyq_tvm.errors import TargetError
from tests import integer_modules as modules
from tests.conftest import ROOT

DEPLOYED = """
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tvm", "torch"):
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, Forbidden())
import numpy as np
import hyq_tvm

exe = hyq_tvm.load(sys.argv[1])
x = np.load(sys.argv[2])
np.savez(sys.argv[3], logits=exe(x), integers=exe.run_integers(x))
hyq_tvm.set_num_threads(1)
np.testing.assert_array_equal(exe(x), np.load(sys.argv[3])["logits"])
assert exe.plan.tensors and exe.input_spec and exe.latency(calls=2).calls == 2
assert not {"tvm", "torch"} & set(sys.modules)
"""


def python(code: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("deployed") / "model"
    hyq_tvm.compile(modules.dense_module()).save(path)
    return path


def check_deployment(saved: Path, tmp_path: Path, **variables: str) -> None:
    x = modules.images(7)
    np.save(tmp_path / "x.npy", x)
    arguments = (saved, tmp_path / "x.npy", tmp_path / "y.npz")
    done = python(DEPLOYED, *arguments, **variables)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    with np.load(tmp_path / "y.npz") as found:
        np.testing.assert_array_equal(found["logits"], modules.golden(x))
        np.testing.assert_array_equal(found["integers"], modules.golden_integers(x))


def test_deployment_needs_no_compiler(saved, tmp_path):
    check_deployment(saved, tmp_path)


def test_deployment_from_a_folder_of_two_libraries(saved, tmp_path):
    folder = tmp_path / "runtime"
    folder.mkdir()
    for name in runtime.LIBRARIES:
        (folder / name).symlink_to(runtime.library_folder() / name)
    check_deployment(saved, tmp_path, HYQ_TVM_RUNTIME=str(folder))


def test_importing_the_package_stays_small():
    code = "import sys, hyq_tvm; print({'tvm', 'tvm_ffi', 'torch', 'numpy'} & set(sys.modules))"
    assert python(code).stdout == "set()\n"


def test_the_compiler_may_be_imported_after_loading(saved):
    code = (
        "import sys, numpy as np, hyq_tvm\n"
        "exe = hyq_tvm.load(sys.argv[1])\n"
        "assert 'tvm' not in sys.modules\n"
        "import tvm\n"
        "x = np.ones((3, 8), 'float32')\n"
        "assert (hyq_tvm.load(sys.argv[1])(x) == exe(x)).all()\n"
    )
    done = python(code, saved)
    assert done.returncode == 0, done.stderr


def test_a_runtime_folder_without_libraries_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv(runtime.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(TargetError, match=r"lacks libtvm_runtime\.so, libtvm_runtime_extra\.so"):
        runtime.library_folder()


def test_a_host_without_tvm_is_told_what_to_install(monkeypatch):
    monkeypatch.delenv(runtime.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(runtime.PathFinder, "find_spec", lambda name: None)
    with pytest.raises(TargetError, match="pip install apache-tvm"):
        runtime.library_folder()


def test_libraries_that_cannot_be_loaded_are_named(saved, tmp_path):
    for name in runtime.LIBRARIES:
        (tmp_path / name).write_text("damaged")
    code = "import sys, hyq_tvm; hyq_tvm.load(sys.argv[1])"
    done = python(code, saved, HYQ_TVM_RUNTIME=str(tmp_path))
    assert "TargetError: TVM's runtime in" in done.stderr


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (7, 1, 9)])
@pytest.mark.parametrize("dtype", ["int8", "float32", "int64"])
def test_buffers_are_aligned(shape, dtype):
    buffer = runtime.aligned_empty(shape, np.dtype(dtype))
    assert (buffer.shape, buffer.dtype) == (shape, np.dtype(dtype))
    assert buffer.ctypes.data % runtime.ALIGNMENT == 0
    assert buffer.flags.c_contiguous
