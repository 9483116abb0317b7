"""Keys and values in the layout of the product instructions, once for all query rows."""

from __future__ import annotations

from schedules.llvm import vector
from schedules.llvm.attention.plan import Plan
from schedules.llvm.tile import BIAS, Strips
from schedules.llvm.vector import Buffer, Expr


def key_bytes(plan: Plan) -> int:
    """Packed keys of a sample."""
    return plan.key_registers * plan.isa.lanes * plan.depths.total * plan.isa.group


def value_bytes(plan: Plan) -> int:
    """Packed values of a sample."""
    return plan.value_registers * plan.isa.lanes * plan.keys_sum.total * plan.isa.group


def pack_keys(plan: Plan, packed: Buffer, place: Expr, keys: Buffer, start: Expr) -> None:
    """``keys [keys,depth]`` at ``start`` to ``packed`` at ``place``: panels of each strip."""
    cell = plan.isa.lanes * plan.depths.total * plan.isa.group
    for strips in plan.key_strips:
        with vector.loop(strips.count) as number:
            panel = place + (strips.first + number * strips.registers) * cell
            first = start + (strips.first * plan.isa.lanes + number * strips.valid) * plan.depth
            if strips.valid < strips.registers * plan.isa.lanes or plan.depth % plan.isa.group:
                _clear(packed, panel, strips.registers * cell, plan.isa.lanes)
            _pack_strip(plan, strips, packed, panel, keys, first)


def _pack_strip(
    plan: Plan, strips: Strips, packed: Buffer, panel: Expr, keys: Buffer, start: Expr
) -> None:
    """``[groups][registers][lanes][group]`` of one strip; the rest of the panel is zero."""
    lanes, group = plan.isa.lanes, plan.isa.group
    whole, rest = divmod(plan.depth, group)
    with vector.loop(strips.valid) as key:
        register, lane = _place(plan, strips, key)
        target = panel + (register * lanes + lane) * group
        source = start + key * plan.depth
        with vector.loop(whole) as i:
            step = i * (strips.registers * lanes * group)
            piece = vector.load(keys, source + i * group, group)
            vector.store(packed, target + step, piece, group)
        for element in range(rest):
            step = whole * (strips.registers * lanes * group) + element
            piece = vector.load(keys, source + whole * group + element, 1)
            vector.store(packed, target + step, piece, 1)


def _place(plan: Plan, strips: Strips, key: Expr) -> tuple[Expr, Expr]:
    """Register and lane of a key; see ``schedules.llvm.row.Rows``."""
    lanes = plan.isa.lanes
    if not plan.mixed:
        return key // lanes, key % lanes
    four = key // 4
    return four % strips.registers, four // strips.registers * 4 + key % 4


def _clear(packed: Buffer, start: Expr, count: int, lanes: int) -> None:
    with vector.loop(count // lanes) as i:
        vector.store(packed, start + i * lanes, vector.constant(0, "int8", lanes), lanes)


def pack_values(plan: Plan, packed: Buffer, place: Expr, values: Buffer, start: Expr) -> None:
    """``values [keys,channels]`` at ``start`` to ``packed`` at ``place``, channel by channel."""
    isa = plan.isa
    whole, rest = divmod(plan.keys, isa.group)
    cell = isa.lanes * isa.group

    def pack(strips: Strips, panel: Expr, channel: Expr, number: Expr, rows: int) -> None:
        for i in range(strips.registers):
            valid = min(isa.lanes, strips.valid - i * isa.lanes)
            source = start + number * (isa.group * plan.values) + channel + i * isa.lanes
            read = [
                vector.load_some(values, source + j * plan.values, isa.lanes, valid, "int8")
                for j in range(rows)
            ]
            read += [vector.constant(0, "int8", isa.lanes)] * (isa.group - rows)
            place_of = panel + (number * strips.registers + i) * cell
            vector.store(packed, place_of, _interleaved(read, isa.lanes), cell)

    for strips in plan.value_strips:
        with vector.loop(strips.count) as strip:
            register = strips.first + strip * strips.registers
            panel = place + register * (cell * plan.keys_sum.total)
            with vector.loop(whole) as number:
                pack(strips, panel, register * isa.lanes, number, isa.group)
            if rest:
                pack(strips, panel, register * isa.lanes, whole, rest)


def _interleaved(rows: list[Expr], lanes: int) -> Expr:
    order = [row * lanes + lane for lane in range(lanes) for row in range(len(rows))]
    return rows[0] if len(rows) == 1 else vector.shuffle(rows, order)


def start_sums(
    plan: Plan, starts: Buffer, place: Expr, packed: Buffer, panels: Expr, of_values: bool
) -> None:
    """Where sums start so that operands stored with an offset make the same sums.

    Queries are stored plus 128 on some instruction sets, weights minus 128 on others.
    """
    isa = plan.isa
    strips_of = plan.value_strips if of_values else plan.key_strips
    groups = (plan.keys_sum if of_values else plan.depths).total
    cell = isa.lanes * isa.group
    sign = 1 if of_values else -1
    for strips in strips_of:
        with vector.loop(strips.count) as strip, vector.loop(strips.registers) as i:
            register = strips.first + strip * strips.registers
            total = vector.local("int32", isa.lanes)
            vector.store(total, 0, vector.constant(0, "int32", isa.lanes), isa.lanes)
            with vector.loop(groups) as group:
                offset = panels + (register * groups + group * strips.registers + i) * cell
                summed = _group_sums(plan, vector.load(packed, offset, cell))
                both = vector.load(total, 0, isa.lanes) + summed
                vector.store(total, 0, both, isa.lanes)
            scaled = vector.load(total, 0, isa.lanes) * vector.constant(
                sign * BIAS, "int32", isa.lanes
            )
            vector.store(starts, place + (register + i) * isa.lanes, scaled, isa.lanes)


def _group_sums(plan: Plan, value: Expr) -> Expr:
    """int8 ``[lanes, group]`` summed over the group, as int32."""
    isa = plan.isa
    if isa.biased:
        ones = vector.constant(0x01010101, "int32", isa.lanes)
        return isa.dot(vector.constant(0, "int32", isa.lanes), ones, value)
    parts = [
        vector.shuffle([value], range(i, isa.lanes * isa.group, isa.group))
        if isa.group > 1
        else value
        for i in range(isa.group)
    ]
    wide = [vector.cast(p, "int32", isa.lanes) for p in parts]
    total = wide[0]
    for part in wide[1:]:
        total = total + part
    return total
