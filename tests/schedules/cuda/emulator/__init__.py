"""A CUDA driver on the CPU, and a compiler for it: kernels run thread by thread, without a GPU.

The source that TVM emits is compiled by g++ behind ``kernels.h``, which says what a thread, a
barrier and a warp's instructions are; ``driver.cpp`` stands in for libcuda and libcudart, so that
TVM's own CUDA runtime loads, launches and captures as on a GPU.
"""

from __future__ import annotations

import atexit
import ctypes
import platform
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from hyq_tvm.targets.cuda_toolchain import Compiled, Resources

_HERE = Path(__file__).parent
_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\([^)]*\) \{')
_VERSION = "libcudart.so.13 { global: cuda*; hyq*; cu*; local: *; };"


def missing() -> str:
    """Why kernels cannot be emulated here; empty where they can."""
    if platform.machine() != "x86_64":
        return "the emulator switches stacks of x86-64"
    return "" if shutil.which("g++") else "the emulator needs g++"


class EmulatedCompiler:
    """A ``hyq_tvm.targets.cuda_toolchain.Compiler`` for the emulated GPU."""

    name = "g++"

    def compile(self, source: str, arch: str) -> Compiled:
        """A shared library in place of machine code."""
        kernels = sorted(set(_KERNEL.findall(source)))
        entries = "\n".join(f"HYQ_KERNEL({name})" for name in kernels)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kernels.cpp"
            file.write_text(f'#include "{_HERE}/kernels.h"\n{source}\n{entries}\n')
            library = file.with_suffix(".so")
            _gpp("-O0", "-w", "-fno-strict-aliasing", "-fwrapv", str(file), "-o", str(library))
            code = library.read_bytes()
        used = {name: Resources(0, 0, 0, 0) for name in kernels}
        return Compiled(arch, code, "", used)


@cache
def libraries() -> Path:
    """A folder with the driver's libraries, for processes that have it in ``LD_LIBRARY_PATH``."""
    folder = Path(tempfile.mkdtemp(prefix="hyq_emulator_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    version = folder / "version"
    version.write_text(_VERSION)
    runtime = str(folder / "libcudart.so.13")
    script = f"-Wl,--version-script={version}"
    source = str(_HERE / "driver.cpp")
    _gpp("-O1", source, script, "-Wl,-soname,libcudart.so.13", "-o", runtime)
    # libcuda is a name only: the driver's functions are in the other library.
    options = ["-Wl,--no-as-needed", "-Wl,-soname,libcuda.so.1", f"-Wl,-rpath,{folder}"]
    driver = str(folder / "libcuda.so.1")
    _gpp("-x", "c++", "/dev/null", "-x", "none", runtime, *options, "-o", driver)
    return folder


@cache
def driver() -> ctypes.CDLL:
    """The driver, loaded where TVM's CUDA runtime will look for libcuda and libcudart."""
    runtime, *rest = [
        ctypes.CDLL(str(libraries() / name), ctypes.RTLD_GLOBAL)
        for name in ("libcudart.so.13", "libcuda.so.1")
    ]
    assert rest
    return runtime


def _gpp(*arguments: str) -> None:
    command = ["g++", "-std=c++17", "-shared", "-fPIC", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"g++ failed: {done.stderr[:4000]}")
