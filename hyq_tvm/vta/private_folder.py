"""Where code that was compiled for this machine is kept and loaded from."""

from __future__ import annotations

import os
from pathlib import Path


def private_folder(name: str) -> Path:
    """``name`` in this user's cache, made if need be.

    Raises ``OSError`` where there is none, or others could put their code into it.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "hyq_tvm" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    details = folder.stat()
    if details.st_uid != os.getuid() or details.st_mode & 0o022:
        raise PermissionError(f"{folder} can be written by others; make it private (chmod 700)")
    return folder
