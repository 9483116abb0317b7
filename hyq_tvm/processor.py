"""Instruction set extensions of this machine, and which of them compiled code needs."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

_CPUINFO = Path("/proc/cpuinfo")

X86: Mapping[str, str] = MappingProxyType(
    {
        "sse4.1": "sse4_1",
        "sse4.2": "sse4_2",
        "ssse3": "ssse3",
        "popcnt": "popcnt",
        "avx": "avx",
        "avx2": "avx2",
        "fma": "fma",
        "f16c": "f16c",
        "bmi": "bmi1",
        "bmi2": "bmi2",
        "gfni": "gfni",
        "vaes": "vaes",
        "vpclmulqdq": "vpclmulqdq",
        "avx512f": "avx512f",
        "avx512bw": "avx512bw",
        "avx512cd": "avx512cd",
        "avx512dq": "avx512dq",
        "avx512vl": "avx512vl",
        "avx512ifma": "avx512ifma",
        "avx512vnni": "avx512_vnni",
        "avx512vbmi": "avx512vbmi",
        "avx512vbmi2": "avx512_vbmi2",
        "avx512bitalg": "avx512_bitalg",
        "avx512vpopcntdq": "avx512_vpopcntdq",
        "avx512bf16": "avx512_bf16",
        "avx512fp16": "avx512_fp16",
        "avx512vp2intersect": "avx512_vp2intersect",
        "avxvnni": "avx_vnni",
        "avxifma": "avx_ifma",
        "avxvnniint8": "avx_vnni_int8",
        "avxneconvert": "avx_ne_convert",
        "amx-tile": "amx_tile",
        "amx-int8": "amx_int8",
        "amx-bf16": "amx_bf16",
    }
)
"""LLVM's name of a vector extension -> the kernel's, on x86-64."""

ARM: Mapping[str, str] = MappingProxyType(
    {
        "neon": "asimd",
        "dotprod": "asimddp",
        "i8mm": "i8mm",
        "bf16": "bf16",
        "fullfp16": "asimdhp",
        "sve": "sve",
        "sve2": "sve2",
    }
)
"""The same on 64-bit ARM."""


def extensions(machine: str = "") -> Mapping[str, str]:
    """LLVM's feature names that matter on ``machine`` (default: this one), with the kernel's."""
    name = machine or platform.machine()
    if name in ("x86_64", "AMD64"):
        return X86
    return ARM if name in ("aarch64", "arm64") else {}


def host_features(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """The kernel's names of this machine's features; empty where the kernel does not tell."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            return frozenset(value.split())
    return frozenset()


def needed_features(llvm_features: Iterable[str], machine: str = "") -> tuple[str, ...]:
    """The kernel's names of the extensions among a target's LLVM features, sorted."""
    known = extensions(machine)
    return tuple(sorted({known[name] for name in llvm_features if name in known}))
