"""Instruction sets: vector width and how a register of int32 sums takes int8 products."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tvm.target import codegen

from schedules.llvm import vector
from schedules.llvm.vector import Expr


@dataclass(frozen=True)
class Isa:
    """One instruction set.

    lanes: int32 elements in a vector register, of which there are ``registers``. group: elements
    of the reduction that ``dot`` adds to a lane. operand: dtype in which activations wait for
    ``dot``; biased: they are stored plus 128, because one side of the product is unsigned.
    intrinsic: LLVM's name of ``dot``, empty where LLVM finds the instructions itself.
    pairs: LLVM's name of the instruction that multiplies int16 and adds neighbours to int32.
    packs: LLVM's names of the saturating narrowings int32 -> int16 -> int8, interleaved by 128
    bits. permute: LLVM's name of the byte permutation of two registers, for tables.
    sums: dtype of a lane of sums.
    """

    name: str
    lanes: int
    registers: int
    group: int = 1
    operand: str = "int8"
    biased: bool = False
    intrinsic: str = ""
    pairs: str = ""
    packs: tuple[str, str] | None = None
    permute: str = ""
    sums: str = "int32"

    @property
    def bytes(self) -> int:
        """Bytes in a vector register."""
        return self.lanes * 4

    def broadcast(self, buffer: Any, offset: Expr) -> Expr:
        """``group`` activations at ``offset``, repeated in every lane."""
        if self.group == 1:
            return vector.broadcast(vector.load(buffer, offset, 1).astype(self.sums), self.lanes)
        few = vector.load(buffer, offset, self.group)
        return vector.broadcast(vector.reinterpret(few, "int32", 1), self.lanes)

    def weights(self, buffer: Any, offset: Expr) -> Expr:
        """The int8 weights of all lanes, ``group`` a lane, ready for ``dot``."""
        count = self.lanes * self.group
        loaded = vector.load(buffer, offset, count)
        if self.operand == "int8" and self.group > 1:
            return loaded
        return vector.cast(loaded, self.sums if self.group == 1 else self.operand, count)

    def dot(self, total: Expr, activations: Expr, weights: Expr) -> Expr:
        """``total`` plus, lane by lane, the products of ``group`` activations and weights."""
        if self.group == 1:
            return total + activations * weights
        factors = vector.reinterpret(activations, self.operand, self.lanes * self.group)
        if self.operand == "int16":
            products = vector.intrinsic(self.intrinsic, "int32", self.lanes, factors, weights)
            return total + products
        return vector.intrinsic(self.intrinsic, "int32", self.lanes, total, factors, weights)


_AVX512_PAIRS = "llvm.x86.avx512.pmaddw.d.512"
_AVX2_PAIRS = "llvm.x86.avx2.pmadd.wd"
_SSE2_PAIRS = "llvm.x86.sse2.pmadd.wd"
_AVX512_PACKS = ("llvm.x86.avx512.packssdw.512", "llvm.x86.avx512.packsswb.512")
_AVX2_PACKS = ("llvm.x86.avx2.packssdw", "llvm.x86.avx2.packsswb")

AVX512_VNNI = Isa(
    name="avx512vnni",
    lanes=16,
    registers=32,
    group=4,
    biased=True,
    intrinsic="llvm.x86.avx512.vpdpbusd.512",
    pairs=_AVX512_PAIRS,
    packs=_AVX512_PACKS,
    permute="llvm.x86.avx512.vpermi2var.qi.512",
)
AVX512 = Isa(
    name="avx512bw",
    lanes=16,
    registers=32,
    group=2,
    operand="int16",
    intrinsic=_AVX512_PAIRS,
    pairs=_AVX512_PAIRS,
    packs=_AVX512_PACKS,
)
AVX_VNNI = Isa(
    name="avxvnni",
    lanes=8,
    registers=16,
    group=4,
    biased=True,
    intrinsic="llvm.x86.avx512.vpdpbusd.256",
    pairs=_AVX2_PAIRS,
    packs=_AVX2_PACKS,
)
AVX2 = Isa(
    name="avx2",
    lanes=8,
    registers=16,
    group=2,
    operand="int16",
    intrinsic=_AVX2_PAIRS,
    pairs=_AVX2_PAIRS,
    packs=_AVX2_PACKS,
)
SSE2 = Isa(
    name="sse2",
    lanes=4,
    registers=16,
    group=2,
    operand="int16",
    intrinsic=_SSE2_PAIRS,
    pairs=_SSE2_PAIRS,
)
DOTPROD = Isa(
    name="dotprod",
    lanes=4,
    registers=32,
    group=4,
    intrinsic="llvm.aarch64.neon.sdot.v4i32.v16i8",
)
PORTABLE = Isa(name="portable", lanes=4, registers=16)

_BY_FEATURE = (
    ("avx512vnni", AVX512_VNNI),
    ("avx512bw", AVX512),
    ("avxvnni", AVX_VNNI),
    ("avx2", AVX2),
    ("sse2", SSE2),
    ("dotprod", DOTPROD),
)


def instruction_set(target: Any) -> Isa:
    """The widest one that ``target``, a ``tvm.target.Target`` of kind llvm, has."""
    return of_features({str(name) for name in codegen.llvm_get_cpu_features(target)})


def of_features(features: Collection[str]) -> Isa:
    """The widest one of LLVM's feature names; tables in registers only with ``avx512vbmi``."""
    found = next((isa for feature, isa in _BY_FEATURE if feature in features), PORTABLE)
    if found.permute and "avx512vbmi" not in features:
        return Isa(**{**vars(found), "permute": ""})
    return found
