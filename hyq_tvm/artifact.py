"""A saved executable: one folder with the library, the plan, and metadata that describes both.

====================  =============================================================================
``lib.so``            compiled kernels, weights and the virtual machine's program
``lib.packed``        instead of it: the same with weights of 4 and 6 bits in so many (packing.py)
``program*.vta``      programs of the VTA accelerator, for that target only (docs/vta.md)
``kernels.*.cubin``   machine code of GPUs by architecture, for that target only (docs/cuda.md)
``plan.json``         the QuantPlan (absent for a module that was compiled in float)
``metadata.json``     format, versions, target, processor features, inputs, outputs, and the SHA-256
                      of the other files
====================  =============================================================================

The folder is written beside its place and renamed, so that it is complete or absent. Checksums
find damage, they do not prove where a file comes from: loading runs native code, so load only
artefacts that you trust.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hyq_tvm import cuda_device, documents, packing
from hyq_tvm.errors import ArtifactError, TargetError

FORMAT = 1
LIBRARY = "lib.so"
PACKED = "lib.packed"
PLAN = "plan.json"
METADATA = "metadata.json"
PROGRAM_SUFFIX = ".vta"
_DTYPES = frozenset("bool int8 uint8 int16 int32 int64 float16 float32 float64".split())
MOST_BYTES = 16 << 30
"""No file of an artefact is longer; checking one that is would take minutes."""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a compiled model; ``shape`` starts with the traced batch.

    ``integer_dtype``, ``scale`` (one number or one per channel) and ``zero_point`` describe what
    ``run_integers`` returns for an output: ``real = scale * (q - zero_point)``. They are empty for
    inputs and for outputs that are computed in float.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    integer_dtype: str = ""
    scale: tuple[float, ...] = ()
    zero_point: int = 0


@dataclass(frozen=True)
class Metadata:
    """What is known about a compiled model besides its code.

    target: the options of the TVM target. machine, features: processor architecture and the
    instruction set extensions (as ``/proc/cpuinfo`` spells them) that the code may use.
    versions: of hyq_tvm, apache-tvm and apache-tvm-ffi at compile time.
    float_operators: operators that ``allow_float`` let through, and what is known of their cost.
    notes: measured facts (compile seconds, peak memory, preprocessing, accumulator margins).
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    integer_only: bool
    target: Mapping[str, Any]
    machine: str = ""
    features: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    float_operators: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Metadata:
        """The inverse of ``asdict``; raises ``KeyError`` or ``TypeError`` on garbled data."""
        return cls(
            inputs=tuple(_spec(entry) for entry in data["inputs"]),
            outputs=tuple(_spec(entry) for entry in data["outputs"]),
            integer_only=bool(data["integer_only"]),
            target=dict(data["target"]),
            machine=str(data["machine"]),
            features=tuple(data["features"]),
            versions=dict(data["versions"]),
            float_operators=tuple(data["float_operators"]),
            notes=dict(data["notes"]),
        )


@dataclass(frozen=True)
class Artifact:
    """A checked folder: its metadata, the text of its plan ("" without one) and its library.

    ``runtime.load_library`` loads libraries as they are and packed ones.
    """

    metadata: Metadata
    plan: str
    library: Path


def package_versions() -> dict[str, str]:
    """Installed versions of what decides whether a library can be loaded."""
    return {name: found for name in ("apache-tvm", "apache-tvm-ffi") if (found := _version(name))}


def write_artifact(
    path: str | os.PathLike[str],
    metadata: Metadata,
    plan: str,
    export: Callable[[Path], None],
    *,
    packed: bool = False,
) -> None:
    """Write the folder ``path``; ``export`` writes the library to the file it is given.

    packed: keep runs of small bytes in the library, which narrow weights are, in 4 or 6 bits.

    An artefact that is already there is replaced. Raises ``ArtifactError`` when something else is
    there or the folder cannot be written; then the old contents are untouched and nothing is left
    behind.
    """
    target = Path(path)
    _check_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise ArtifactError(f"{target} cannot be written: {error}") from error
    try:
        _fill(staging, metadata, plan, export, packed)
        _replace(staging, target)
    except OSError as error:
        raise ArtifactError(f"{target} cannot be written: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def read_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Check the folder ``path`` without running any of its code.

    Raises ``ArtifactError`` naming the file and the remedy when the folder is missing, is no
    artefact, is of another format, or when a file differs from its checksum.
    """
    folder = Path(path)
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a name is too long
        raise ArtifactError(f"{folder} is not a folder: give the path that Executable.save wrote")
    document = _read_metadata(folder / METADATA)
    try:
        metadata = Metadata.from_dict(document["metadata"])
        files = dict(document["files"])
        library = PACKED if PACKED in files else LIBRARY
        if library not in files:
            raise KeyError(library)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{folder / METADATA} lacks or garbles {error}") from error
    for name in sorted(files):
        _check_file(folder, name, files[name])
    plan = (folder / PLAN).read_text(encoding="utf-8") if PLAN in files else ""
    return Artifact(metadata, plan, folder / library)


def library_file(folder: Path) -> Path:
    """The library of an artefact's folder, packed or not."""
    packed = folder / PACKED
    return packed if packed.is_file() else folder / LIBRARY


def unpacked_bytes(library: Path) -> int:
    """Size of a library once it is unpacked; raises ``ArtifactError`` where a packed one is not."""
    if library.name != PACKED:
        return library.stat().st_size
    try:
        with library.open("rb") as file:
            return packing.unpacked_size(file.read(64))
    except ValueError as error:
        raise ArtifactError(f"{library} is damaged ({error}): copy the folder again") from error


def check_host(metadata: Metadata, host_features: frozenset[str]) -> None:
    """Refuse code that this machine could not run, before it is loaded.

    Raises ``ArtifactError`` on another processor architecture, missing instruction set
    extensions, other versions of TVM than the artefact was made with, or code for GPUs where there
    is none that it fits.
    """
    if metadata.machine and metadata.machine != platform.machine():
        raise ArtifactError(
            f"made for {metadata.machine}, this machine is {platform.machine()}: compile it again "
            "with a target of this architecture"
        )
    missing = sorted(set(metadata.features) - host_features)
    if missing:
        raise ArtifactError(
            f"needs processor features {', '.join(missing)} that this machine lacks: compile it "
            'again with target={"kind": "llvm", "mcpu": ...} of this machine'
        )
    for name, found in package_versions().items():
        wanted = metadata.versions.get(name, found)
        if wanted != found:
            raise ArtifactError(
                f"made with {name} {wanted}, this machine has {found}: install "
                f"{name}=={wanted} or compile it again"
            )
    if metadata.target.get("kind") == "cuda":
        _check_gpu([str(arch) for arch in metadata.target.get("arch", ())])


def _check_gpu(architectures: list[str]) -> None:
    try:
        cuda_device.fitting(architectures, cuda_device.architecture())
    except TargetError as error:
        raise ArtifactError(str(error)) from error


def _spec(data: Mapping[str, Any]) -> TensorSpec:
    spec = TensorSpec(**{**data, "shape": tuple(data["shape"]), "scale": tuple(data["scale"])})
    texts = (spec.name, spec.dtype, spec.integer_dtype)
    numbers = (*spec.shape, spec.zero_point)
    if not all(isinstance(text, str) for text in texts) or spec.dtype not in _DTYPES:
        raise ValueError(f"the names or the type of a tensor: {data!r}")
    if not all(type(number) is int for number in numbers) or min(spec.shape, default=0) < 0:
        raise ValueError(f"the whole numbers of tensor {spec.name!r}: {data!r}")
    if not all(isinstance(step, int | float) for step in spec.scale):
        raise ValueError(f"the scale of tensor {spec.name!r}")
    return spec


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _check_replaceable(target: Path) -> None:
    if not target.exists() or (target / METADATA).is_file():
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    raise ArtifactError(f"{target} exists and is no saved executable: choose another path")


def _fill(
    folder: Path, metadata: Metadata, plan: str, export: Callable[[Path], None], packed: bool
) -> None:
    library = folder / LIBRARY
    export(library)
    if packed:
        (folder / PACKED).write_bytes(packing.pack(library.read_bytes()))
        library.unlink()
    if plan:
        (folder / PLAN).write_text(plan, encoding="utf-8")
    files = {file.name: _checksum(file) for file in sorted(folder.iterdir())}
    document = {"format": FORMAT, "files": files, "metadata": asdict(metadata)}
    document["checksum"] = _own_checksum(document)
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    (folder / METADATA).write_text(text, encoding="utf-8")
    folder.chmod(0o755)  # mkdtemp's folder is its owner's alone


def _replace(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.replace(target)
        return
    old = staging.with_name(staging.name + ".old")
    target.replace(old)
    try:
        staging.replace(target)
    except OSError:
        old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        document = documents.parse(documents.read_text(path))
    except OSError as error:
        raise ArtifactError(f"{path.parent} is no saved executable: {error}") from error
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged ({error}): save the model again") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ArtifactError(
            f"{path} is not of format {FORMAT}: compile the model with this version of hyq_tvm"
        )
    if document.get("checksum") != _own_checksum(document):
        raise ArtifactError(f"{path} is damaged (its checksum differs): copy the folder again")
    return document


def _own_checksum(document: Mapping[str, Any]) -> str:
    """Over everything else in the document, so that a changed byte anywhere is found."""
    rest = {key: value for key, value in document.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _check_file(folder: Path, name: str, checksum: str) -> None:
    file = folder / name
    if Path(name).name != name:
        raise ArtifactError(f"{folder / METADATA} lists {name!r}, which is not inside the folder")
    if file.is_symlink():
        raise ArtifactError(f"{file} is a link: copy the folder again, with what it links to")
    if not file.is_file():
        raise ArtifactError(f"{file} is missing: copy the whole folder again")
    if file.stat().st_size > MOST_BYTES:
        raise ArtifactError(f"{file} is too long to be one of an executable: copy it again")
    if _checksum(file) != checksum:
        raise ArtifactError(f"{file} is damaged (its checksum differs): copy the folder again")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
