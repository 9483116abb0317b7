"""Which costs are worth paying: wide streams, finer tables, multiplies after a table.

Every candidate is judged by the error at the model's output that it takes away, as the groups'
judges estimate it, against the error that the whole plan makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from hyq_tvm.quantization.demand import Stream, is_clamp
from hyq_tvm.quantization.groups import Choices
from hyq_tvm.quantization.overrides import layer_option, override_of

if TYPE_CHECKING:
    from hyq_tvm.quantization.planner import Planner

WORTH = 0.01
"""A cost is paid when it takes away at least this share of the plan's error."""


def choose(planner: Planner) -> Choices:
    """The choices that the configuration leaves open, made for one model."""
    config = planner.config
    choices = Choices(
        wide=_wide_streams(planner),
        scaled=frozenset(planner.recipes),
        fine_softmax=_fine_softmax(planner),
    )
    unary = [n.name for n in planner.graph if n.op == "unary" and not is_clamp(n)]
    if config.scaling == "qads_paper":
        choices = replace(choices, paid=frozenset(unary) & _scaled_inputs(planner))
    elif planner.recipes:
        choices = _pay(planner, choices, unary, _with_paid)
    if config.table_bits == 12:
        return replace(choices, fine_tables=frozenset(_table_inputs(planner, choices)))
    if config.table_bits == "auto":
        choices = _pay(planner, choices, _table_inputs(planner, choices), _with_fine_table)
    return choices


def _wide_streams(planner: Planner) -> frozenset[str]:
    def wide(stream: Stream) -> bool:
        bits = override_of(planner.config, stream.tensors, "bits", None)
        if bits is not None:
            return int(bits) == 16
        if planner.config.residual_bits == 8:
            return bool(stream.reads & {"output", "softmax"})
        return True

    return frozenset(s.name for s in planner.structure.streams if wide(s))


def _fine_softmax(planner: Planner) -> frozenset[str]:
    names = [n.name for n in planner.graph if n.op in ("attention", "softmax")]
    wanted = planner.config.softmax_weight_bits
    return frozenset(
        name
        for name in names
        if layer_option(planner.config, name, "softmax_weight_bits", wanted) == 16
    )


def _scaled_inputs(planner: Planner) -> frozenset[str]:
    """What the published recipe scales, whatever it costs."""
    return frozenset(planner.graph[name].inputs[0] for name in planner.recipes)


def _table_inputs(planner: Planner, choices: Choices) -> list[str]:
    """Names of the groups that only tables read."""
    return [g.name for g in planner.structure.groups(choices) if g.reads == {"table"}]


def _with_paid(choices: Choices, name: str) -> Choices:
    return replace(choices, paid=choices.paid | {name})


def _with_fine_table(choices: Choices, name: str) -> Choices:
    return replace(choices, fine_tables=choices.fine_tables | {name})


def _pay(
    planner: Planner,
    choices: Choices,
    candidates: Iterable[str],
    extended: Callable[[Choices, str], Choices],
) -> Choices:
    """``choices`` and every candidate that is worth its cost on its own."""
    total = error = _error(planner, choices)
    for name in candidates:
        tried = extended(choices, name)
        found = _error(planner, tried)
        if error - found > WORTH * total:
            choices, error = tried, found
    return choices


def _error(planner: Planner, choices: Choices) -> float:
    groups = planner.structure.groups(choices)
    return sum(planner.solve(group, choices).error for group in groups)
