"""Sizes and constants of an attention kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from hyq_tvm.numerics.constants import MASKED
from hyq_tvm.numerics.softmax_tables import weight_octaves
from schedules.llvm import choices, tile
from schedules.llvm.isa import Isa, instruction_set
from schedules.llvm.stages import narrow_form
from schedules.llvm.tile import Reduction, Strips
from schedules.rule import Workload

BYTES = 256
"""Entries of a table that permutations of registers reach."""

_BIAS = 6
_MARGIN = 512
_INT16_LIMIT = 2**15 - _MARGIN
_LOGIT_LIMIT = 2**30 - _MARGIN
_PARALLEL_PRODUCTS = 500_000
_TASKS = 8
_MOST_BLOCKS = 16


@dataclass(frozen=True)
class Choice:
    """Tiles of ``rows`` query rows; the rows of a sample in ``blocks`` parts, in threads or not."""

    rows: int
    blocks: int
    threads: int


@dataclass(frozen=True)
class Plan:
    """One attention: q ``[batch,rows,depth]``, k and v ``[batch,keys,..]``, ``values`` channels.

    logits: dtype in which logits wait. limit: the difference from which weights are 0.
    planes: bytes of a weight. tailed: whether weights of differences from 256 to ``limit`` are 1.
    bias_batch: samples of the bias, 0 without one. numbers: multiplier, rounding and shift of
    logits, multiplier and shift of results; data of the kernel, so that layers share its code.
    """

    isa: Isa
    batch: int
    rows: int
    keys: int
    depth: int
    values: int
    pre_shift: int
    logits: str
    limit: int
    planes: int
    tailed: bool
    zero_point: int
    low: int
    high: int
    bias_batch: int
    numbers: tuple[int, ...] = field(compare=False)
    choice: Choice | None = None

    @property
    def lowest(self) -> int:
        """The logit of an excluded pair."""
        return -(2**15) if self.logits == "int16" else -(2**30)

    @property
    def width(self) -> int:
        """Registers of a strip."""
        return 4 if self.isa.registers > 16 else 2

    @property
    def floor(self) -> int:
        """Below all logits, above excluded ones by enough for a weight of 0."""
        return self.lowest + self.limit

    @property
    def permutes(self) -> bool:
        """Whether the table is read by permutations of registers."""
        reached = self.limit < BYTES or self.tailed
        return bool(self.isa.permute) and self.logits == "int16" and reached

    @property
    def mixed(self) -> bool:
        """Whether keys lie as narrowing instructions leave them; a bias lies in plain order."""
        return self.permutes and not self.bias_batch

    @property
    def tallest(self) -> int:
        """The most query rows whose sums fit into registers."""
        spare = 2 if self.isa.registers > 16 else 1
        return min(self.rows, (self.isa.registers - spare - self.width) // self.width)

    @property
    def height(self) -> int:
        """Query rows of a tile."""
        return self.choice.rows if self.choice else self.tallest

    @property
    def key_strips(self) -> tuple[Strips, ...]:
        """Full strips, then what is left."""
        lanes = self.isa.lanes
        full, rest = divmod(self.keys, self.width * lanes)
        strips = [Strips(0, full, self.width, self.width * lanes)] if full else []
        if rest:
            strips.append(Strips(full * self.width, 1, -(-rest // lanes), rest))
        return tuple(strips)

    @property
    def key_registers(self) -> int:
        """Registers of keys in all."""
        last = self.key_strips[-1]
        return last.first + last.count * last.registers

    @property
    def value_strips(self) -> list[Strips]:
        """Registers of value channels."""
        return tile.cut(self.values, self.isa.lanes, self.width)

    @property
    def value_registers(self) -> int:
        """Registers of value channels in all."""
        return -(-self.values // self.isa.lanes)

    @property
    def depths(self) -> Reduction:
        """The sum over ``depth``."""
        return Reduction(-(-self.depth // self.isa.group))

    @property
    def keys_sum(self) -> Reduction:
        """The sum over ``keys``."""
        return Reduction(-(-self.keys // self.isa.group))

    @property
    def pitch(self) -> int:
        """Logits, and weights, of a row: whole strips."""
        return -(-self.key_registers // self.width) * self.width * self.isa.lanes

    @property
    def plane(self) -> int:
        """Weights of a tile, one plane of them."""
        return self.height * self.pitch

    @property
    def threads(self) -> bool:
        """Whether the work is worth threads."""
        if self.choice:
            return bool(self.choice.threads)
        products = self.batch * self.rows * self.keys * (self.depth + self.values)
        return products >= _PARALLEL_PRODUCTS

    @property
    def blocks(self) -> int:
        """Parts that the rows of a sample are cut into."""
        if self.choice:
            return self.choice.blocks
        tiles = -(-self.rows // self.height)
        return min(tiles, -(-_TASKS // self.batch)) if self.threads else 1


def space(workload: Workload, target: Any) -> Sequence[Choice]:
    """Choices for ``workload``, the rule's own first; empty where it is not the rule's."""
    plan = make_plan(workload, instruction_set(target)) if workload.op == "attention" else None
    if plan is None:
        return ()
    default = Choice(plan.height, plan.blocks, int(plan.threads))
    most = min(_MOST_BLOCKS, -(-plan.rows // plan.height))
    everything = product(
        range(1, plan.tallest + 1),
        sorted({default.blocks, *(n for n in range(1, most + 1) if most % n == 0)}),
        choices.thread_choices(target, plan.threads),
    )
    return choices.default_first(default, (Choice(*c) for c in everything))


def make_plan(workload: Workload, isa: Isa) -> Plan | None:
    """The plan of an ``attention``; None for ``hyq`` and where constants are not known."""
    params = workload.params
    if params["kind"] == "hyq":
        return None
    if any(workload.arguments[i].constant is None for i in (3, 4, 5)):
        return None
    (batch, rows, depth), (_, keys, values) = (workload.arguments[i].shape for i in (0, 2))
    bound = depth * 128 * 128 + _bias_bound(workload)
    multiplier, shift = (workload.constant(i).astype(np.int64) for i in (3, 4))
    form = narrow_form(np.array([bound]), multiplier, shift, 0)
    largest = ((bound * int(multiplier[0])) >> int(shift[0])) + 1
    if form is None or largest > _LOGIT_LIMIT:
        return None
    bits = int(params.get("weight_bits", 8))
    limit = weight_octaves(bits) << int(params.get("fraction_bits", 4))
    tail = workload.constant(5)[BYTES:limit]
    return Plan(
        isa=isa,
        batch=batch,
        rows=rows,
        keys=keys,
        depth=depth,
        values=values,
        pre_shift=form.pre_shift,
        logits="int16" if largest <= _INT16_LIMIT and limit <= _MARGIN else "int32",
        limit=limit,
        planes=bits // 8,
        tailed=bits == 16 and limit > BYTES and bool((tail == 1).all()),
        zero_point=int(params["zero_point"]),
        low=int(params["low"]),
        high=int(params["high"]),
        bias_batch=workload.arguments[_BIAS].shape[0] if params.get("has_bias") else 0,
        numbers=(
            *(int(n[0]) for n in (multiplier, form.rounding, form.shift)),
            *(int(params[key]) for key in ("rescale_multiplier", "rescale_shift")),
        ),
    )


def _bias_bound(workload: Workload) -> int:
    """The largest magnitude of a bias that excludes nothing."""
    if not workload.params.get("has_bias"):
        return 0
    bias = workload.arguments[_BIAS].constant
    if bias is None:
        return 2**31
    wide = bias.astype(np.int64)
    return int(np.abs(np.where(wide <= MASKED, 0, wide)).max())
