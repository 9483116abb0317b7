"""A CUDA driver on the CPU, and a compiler for it: kernels run thread by thread, without a GPU.

The source that TVM emits is compiled by g++ behind ``kernels.h``, which says what a thread, a
barrier and a warp's instructions are; ``driver.cpp`` stands in for libcuda and libcudart, so that
TVM's own CUDA runtime loads, launches and captures as on a GPU.
"""

from __future__ import annotations

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
def driver() -> ctypes.CDLL:
    """The driver, loaded where TVM's CUDA runtime will look for libcuda and libcudart."""
    folder = Path(tempfile.mkdtemp(prefix="hyq_emulator_"))
    version = folder / "version"
    version.write_text(_VERSION)
    source, script = str(_HERE / "driver.cpp"), f"-Wl,--version-script={version}"
    for name, options in (("libcudart.so.13", [script]), ("libcuda.so.1", [])):
        library = folder / name
        if options:
            _gpp("-O1", source, *options, f"-Wl,-soname,{name}", "-o", str(library))
            loaded = ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
        else:
            # libcuda is a name only: the driver's functions are in the other library.
            runtime = str(folder / "libcudart.so.13")
            options = [runtime, "-Wl,--no-as-needed", f"-Wl,-soname,{name}"]
            _gpp("-x", "c++", "/dev/null", "-x", "none", *options, "-o", str(library))
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    shutil.rmtree(folder)
    return loaded


def _gpp(*arguments: str) -> None:
    command = ["g++", "-std=c++17", "-shared", "-fPIC", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"g++ failed: {done.stderr[:4000]}")
