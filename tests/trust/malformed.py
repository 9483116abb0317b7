"""Malformed files, made by construction: each case is a name and what to write where."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hyq_tvm.quantization.config import QuantConfig
from hyq_tvm.quantization.plan import LayerPlan, QuantPlan, TensorPlan

PLAN = QuantPlan(
    QuantConfig(overrides={"a": {"bits": 8}}),
    "0" * 64,
    {"a": TensorPlan((0.5, 0.25), 3, 8, False, "minmax", -1.0, 1.0)},
    {"a": LayerPlan("conv2d", alpha=(1.0, 2.0)), "s": LayerPlan("softmax", softmax="table")},
)

NO_DOCUMENT = {
    "empty": b"",
    "blank": b" \n\t ",
    "null": b"null",
    "list": b"[]",
    "number": b"3",
    "text": b'"plan"',
    "brace": b"{",
    "binary": bytes(range(256)),
    "zeros": bytes(4096),
    "utf16": '{"version": 1}'.encode("utf-16"),
    "deep_lists": b"[" * 200_000,
    "deep_objects": b'{"a":' * 100_000,
    "long_number": b'{"version": ' + b"9" * 50_000 + b"}",
    "trailing": b'{"version": 1} {"version": 1}',
    "python": b"__import__('os').system('true')",
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x04exit\x94.",
    "bom": b"\xef\xbb\xbf{}",
}
"""Contents that are no document of any kind of file."""

WRONG: dict[str, Any] = {
    "null": None,
    "text": "x",
    "list": [],
    "object": {"x": 1},
    "nan": float("nan"),
    "infinite": float("inf"),
    "huge": 10**30,
    "negative": -7,
}
"""Values that almost no field takes."""


def put(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of plain data with one entry changed."""
    changed = copy.deepcopy(data)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


def plan_fields() -> Iterator[tuple[str, str]]:
    """(name, JSON) of plans with one field that is wrong, missing or unknown."""
    data = json.loads(PLAN.to_json())
    taken = {
        ("version",): {},
        ("config",): {},
        ("tensors",): {},
        ("layers",): {},
        ("tensors", "a"): {},
        ("tensors", "a", "scale"): {},
        ("tensors", "a", "zero_point"): {"negative"},
        ("tensors", "a", "bits"): {},
        ("tensors", "a", "symmetric"): {},
        ("tensors", "a", "observer"): {"text"},
        ("tensors", "a", "low"): {"negative", "huge"},
        ("tensors", "a", "high"): {"negative", "huge"},
        ("layers", "a"): {},
        ("layers", "a", "weight_bits"): {},
        ("layers", "a", "exclude"): {},
        ("layers", "a", "alpha"): {"list"},
        ("layers", "s", "softmax"): {},
        ("layers", "s", "softmax_weight_bits"): {},
        ("layers", "s", "softmax_fraction_bits"): {},
        ("layers", "s", "softmax_logit_scale"): {"huge"},
        ("config", "activation_bits"): {},
        ("config", "weight_bits"): {},
        ("config", "percentile"): {},
        ("config", "samples"): {"huge"},
        ("config", "softmax"): {},
        ("config", "observer"): {},
        ("config", "scaling"): {"null"},
        ("config", "overrides"): {},
    }
    for path, fine in taken.items():
        for name, value in WRONG.items():
            if name not in fine:
                yield f"{'.'.join(path)}={name}", json.dumps(put(data, path, value))
        place = data
        for key in path[:-1]:
            place = place[key]
    for path in (("tensors", "a", "bits"), ("config",), ("tensors",), ("layers",), ("version",)):
        changed = copy.deepcopy(data)
        place = changed
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        yield f"{'.'.join(path)} missing", json.dumps(changed)
    for path in ((), ("config",), ("tensors", "a"), ("layers", "a")):
        yield f"{'.'.join(path)} extra", json.dumps(put(data, (*path, "surprise"), 1))


def damaged(good: bytes, cuts: int, flips: int) -> Iterator[tuple[str, bytes]]:
    """Truncations at even places and single flipped bits, last byte included."""
    for i in range(cuts):
        yield f"cut{i}", good[: len(good) * i // cuts]
    for i in range(flips):
        place = (len(good) - 1) * i // max(flips - 1, 1)
        changed = bytearray(good)
        changed[place] ^= 1 << (i % 8)
        yield f"flip{i}", bytes(changed)


def oddities(path: Path) -> dict[str, Any]:
    """Things that are no regular file; each value makes one at ``path``."""
    import os

    return {
        "missing": lambda: None,
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "loop": lambda: path.symlink_to(path.name),
        "dangling": lambda: path.symlink_to("nowhere"),
        "endless": lambda: path.symlink_to("/dev/zero"),
        "enormous": lambda: _sparse(path),
    }


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)
