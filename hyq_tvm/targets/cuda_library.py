"""A host library and the machine code of its kernels, one file an architecture beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyq_tvm import cuda_device
from hyq_tvm.cuda_device import cubin_name
from hyq_tvm.targets.backend import CompiledLibrary


@dataclass(frozen=True)
class CudaLibrary:
    """TVM embeds source; the machine code of every architecture travels beside the library."""

    executable: Any
    cubins: Mapping[str, bytes]
    _held: list[Any] = field(default_factory=list)

    def module(self) -> Any:
        """TVM's module, through a file: kernels in memory cannot be launched otherwise.

        Raises ``TargetError`` without a GPU and ``ArtifactError`` where no code fits it.
        """
        folder = tempfile.TemporaryDirectory(prefix="hyq_tvm_cuda_")
        self._held.append(folder)
        library = Path(folder.name) / "lib.so"
        self.export(library)
        files = {arch: library.parent / cubin_name(arch) for arch in self.cubins}
        return cuda_device.load_library(library, cuda_device.code_of(files))

    def export(self, path: Path) -> None:
        """Write the shared library, and the machine code beside it; raises ``OSError``."""
        CompiledLibrary(self.executable).export(path)
        for arch, cubin in self.cubins.items():
            (path.parent / cubin_name(arch)).write_bytes(cubin)
