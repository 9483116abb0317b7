"""A compiled accelerator program: instruction stream, DRAM image, tensors and their places.

File layout, little-endian: 8 bytes magic, uint32 format, uint32 length of the header, the header as
JSON, the instructions (16 bytes each), the image, 32 bytes SHA-256 of all before.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyq_tvm import documents
from hyq_tvm.errors import ConfigError, DeviceProgramError, InputError
from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.isa.encoding import Rows, Words, decode
from hyq_tvm.vta.isa.table import BY_NAME
from hyq_tvm.vta.verify import verify

MAGIC = b"HYQVTA\r\n"
FORMAT = 1
SUFFIX = ".vta"
ROLES = ("input", "output", "constant", "activation")
DRAM_LIMIT = 1 << 32
_PREFIX = struct.Struct("<8sII")
_DIGEST_BYTES = 32
_WORD_BYTES = 16
_MOST_BYTES = 2 * DRAM_LIMIT


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in DRAM: dense, last axis fastest. role: one of ``ROLES``."""

    address: int
    shape: tuple[int, ...]
    dtype: str
    role: str

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, eq=False)
class Program:
    """What a device runs.

    words: uint64 ``[N, 2]``. image: uint8, the DRAM from ``image_address`` on when a run starts
    (constants and micro-ops); the other bytes up to ``dram_bytes`` hold nothing. tensors: name ->
    place.
    layers: first instruction -> what the instructions from there on compute.
    metadata: plain data for reports.

    Raises ``DeviceProgramError`` naming the instruction or tensor that is not legal on ``config``.
    """

    config: VTAConfig
    words: Words
    image: NDArray[np.uint8]
    dram_bytes: int
    tensors: Mapping[str, Place]
    layers: Mapping[int, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    image_address: int = 0

    def __post_init__(self) -> None:
        image_end = self.image_address + len(self.image)
        if self.image_address < 0 or not image_end <= self.dram_bytes <= DRAM_LIMIT:
            raise DeviceProgramError(
                f"an image of {len(self.image)} bytes at {self.image_address} in a DRAM of "
                f"{self.dram_bytes}"
            )
        for name, place in self.tensors.items():
            self._check_place(name, place)
        verify(self.rows, self.config, self.dram_bytes)

    def _check_place(self, name: str, place: Place) -> None:
        if place.role not in ROLES:
            raise DeviceProgramError(f"tensor {name!r}: role {place.role!r} is not of {ROLES}")
        if place.address < 0 or place.address + place.nbytes > self.dram_bytes:
            raise DeviceProgramError(
                f"tensor {name!r}: bytes {place.address}..{place.address + place.nbytes} lie "
                f"outside the DRAM of {self.dram_bytes}"
            )

    @cached_property
    def rows(self) -> Rows:
        """The decoded instructions."""
        return decode(self.words)

    def places(self, role: str) -> dict[str, Place]:
        """The tensors of a role, in order."""
        return {name: place for name, place in self.tensors.items() if place.role == role}

    def placed_inputs(self, inputs: Mapping[str, NDArray[Any]]) -> list[tuple[int, NDArray[Any]]]:
        """Address and bytes of every input; raises ``InputError`` unless they are the program's."""
        places = self.places("input")
        if set(inputs) != set(places):
            raise InputError(
                f"inputs {sorted(inputs)} were given; the program takes {sorted(places)}"
            )
        placed = []
        for name, place in places.items():
            array = np.asarray(inputs[name])
            if array.shape != place.shape or str(array.dtype) != place.dtype:
                raise InputError(
                    f"input {name!r} is {array.dtype} {array.shape}; "
                    f"{place.dtype} {place.shape} is needed"
                )
            raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            placed.append((place.address, raw))
        return placed

    def layer_of(self, index: int) -> str:
        """What instruction ``index`` belongs to; empty where nobody said."""
        starts = [start for start in self.layers if start <= index]
        return self.layers[max(starts)] if starts else ""

    def count(self, name: str) -> int:
        """How many instructions of a kind the program has."""
        return int(np.count_nonzero(self.rows[:, 0] == BY_NAME[name].opcode))

    def check_device(self, config: VTAConfig) -> None:
        """Raises ``DeviceProgramError`` unless a device of ``config`` runs this program."""
        if config.fingerprint != self.config.fingerprint:
            ours, theirs = asdict(self.config), asdict(config)
            different = {k: (ours[k], theirs[k]) for k in ours if ours[k] != theirs[k]}
            raise DeviceProgramError(
                f"the program was compiled for device {self.config.fingerprint}, this one is "
                f"{config.fingerprint}; different (program, device): {different}. Compile again "
                "with this device's architecture record"
            )

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the file that ``save`` writes: what this program is known by."""
        return self.to_bytes()[-_DIGEST_BYTES:]

    def to_bytes(self) -> bytes:
        """The file's contents."""
        header = {
            "config": json.loads(self.config.to_json()),
            "fingerprint": self.config.fingerprint,
            "instructions": len(self.words),
            "image_bytes": len(self.image),
            "image_address": self.image_address,
            "dram_bytes": self.dram_bytes,
            "tensors": {name: asdict(place) for name, place in self.tensors.items()},
            "layers": {str(index): name for index, name in self.layers.items()},
            "metadata": dict(self.metadata),
        }
        text = json.dumps(header).encode()
        body = _PREFIX.pack(MAGIC, FORMAT, len(text)) + text
        body += self.words.astype("<u8").tobytes() + self.image.tobytes()
        return body + hashlib.sha256(body).digest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Program:
        """The inverse of ``to_bytes``; raises ``DeviceProgramError`` on anything that is amiss."""
        header, rest = _header(data)
        try:
            return cls._from_parts(header, rest)
        except DeviceProgramError:
            raise
        except ConfigError as error:
            raise DeviceProgramError(f"the program's device: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DeviceProgramError(f"the program's header is damaged: {error!r}") from error

    @classmethod
    def _from_parts(cls, header: Mapping[str, Any], rest: bytes) -> Program:
        count, image_bytes = int(header["instructions"]), int(header["image_bytes"])
        split = count * _WORD_BYTES
        if count < 0 or image_bytes < 0 or split + image_bytes != len(rest):
            raise DeviceProgramError(
                f"a program of {count} instructions and {image_bytes} image bytes has {len(rest)} "
                "bytes behind its header"
            )
        config = VTAConfig.from_json(json.dumps(header["config"]))
        if config.fingerprint != header["fingerprint"]:
            raise DeviceProgramError(
                f"the program is for device {header['fingerprint']}, which another version of "
                "hyq_tvm defined; compile it again"
            )
        return cls(
            config=config,
            words=np.frombuffer(rest[:split], "<u8").astype(np.uint64).reshape(-1, 2),
            image=np.frombuffer(rest[split:], np.uint8),
            dram_bytes=int(header["dram_bytes"]),
            tensors={name: _place(entry) for name, entry in header["tensors"].items()},
            layers={int(index): str(name) for index, name in header["layers"].items()},
            metadata=dict(header["metadata"]),
            image_address=int(header["image_address"]),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, complete or not at all; raises ``DeviceProgramError`` if it cannot."""
        target = Path(path)
        temporary = None
        try:
            with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as stream:
                temporary = Path(stream.name)
                stream.write(self.to_bytes())
            temporary.replace(target)
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise DeviceProgramError(f"cannot write {target}: {error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Program:
        """Read and check a file; raises ``DeviceProgramError`` naming it."""
        try:
            return cls.from_bytes(documents.read_bytes(path, _MOST_BYTES))
        except (OSError, ValueError) as error:
            raise DeviceProgramError(f"{path}: {error}") from error


def export_programs(programs: Sequence[Program], folder: Path) -> None:
    """Write ``program.vta``, ``program1.vta`` and so on; raises ``OSError``."""
    for index, program in enumerate(programs):
        folder.joinpath(f"program{index or ''}{SUFFIX}").write_bytes(program.to_bytes())


def _header(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and what follows it, up to the digest."""
    if len(data) < _PREFIX.size or not data.startswith(MAGIC):
        raise DeviceProgramError("this is not an accelerator program")
    _, form, length = _PREFIX.unpack_from(data)
    if form != FORMAT:
        raise DeviceProgramError(f"program format {form}; this version reads {FORMAT}")
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if _PREFIX.size + length > len(body) or hashlib.sha256(body).digest() != digest:
        raise DeviceProgramError("the program is truncated or damaged: its checksum does not match")
    try:
        header = json.loads(body[_PREFIX.size : _PREFIX.size + length])
    except (ValueError, RecursionError) as error:
        raise DeviceProgramError(f"the program's header is damaged: {error}") from error
    if not isinstance(header, dict):
        raise DeviceProgramError("the program's header is damaged: not an object")
    return header, body[_PREFIX.size + length :]


def _place(entry: Mapping[str, Any]) -> Place:
    shape = tuple(int(n) for n in entry["shape"])
    dtype = np.dtype(entry["dtype"])
    if any(n < 0 for n in shape) or dtype.kind not in "iu":
        raise DeviceProgramError(f"a tensor has the shape {shape} and the type {dtype}")
    return Place(int(entry["address"]), shape, str(dtype), str(entry["role"]))
