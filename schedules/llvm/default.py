"""The rule for any operator on any CPU: rows in parallel, intermediate results row by row."""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import s_tir

from schedules.rule import Kernel, Workload

PARALLEL_WORK = 50_000
"""Loop iterations below which starting threads costs more than it saves."""

_SPATIAL = 0  # IterVar.DataPar
_FEW_ROWS = 4


def schedule(workload: Workload, target: Any) -> Kernel:
    """Outer loops fused and in parallel where there is work; LLVM vectorises the inner loops.

    From the last block backwards, a block moves into the rows of the one behind it where that
    computes nothing twice, so that its result stays in the cache.
    """
    state = s_tir.Schedule(workload.function)
    root = state.get_sblock("root")
    names = [str(state.get(b).name_hint) for b in state.get_child_blocks(root)]
    nests: list[tuple[Any, list[str]]] = []
    for name in reversed([n for n in names if state.get_loops(n)]):
        moved = _moved(state, name, nests[-1][0]) if nests and nests[-1][0] is not None else None
        if moved is None:
            nests.append((_row_loop(state, name), [name]))
        else:
            state = moved
            nests[-1][1].append(name)
    for rows, blocks in nests:
        work = sum(_iterations(state, name) for name in blocks)
        if rows is not None and work >= PARALLEL_WORK:
            state.parallel(rows)
    arguments = tuple(range(len(workload.arguments)))
    return Kernel(workload.op, state.mod["main"], arguments)


def _row_loop(state: Any, name: str) -> Any:
    """The outer spatial loops of a block fused into one; all of them where rows are few.

    None for the sum of everything, which has no spatial loop.
    """
    loops = state.get_loops(name)
    kinds = [int(v.iter_type) for v in state.get(state.get_sblock(name)).iter_vars]
    spatial = next((i for i, kind in enumerate(kinds) if kind != _SPATIAL), len(kinds))
    if not spatial:
        return None
    outer = loops[: max(1, spatial - 1)]
    if prod(_extent(state, loop) for loop in outer) < _FEW_ROWS and spatial > 1:
        outer = loops[:spatial]
    return state.fuse(*outer) if len(outer) > 1 else outer[0]


def _moved(state: Any, name: str, rows: Any) -> Any:
    """The schedule with the block inside the loop ``rows``, or None where that is not possible."""
    trial = state.copy()
    try:
        trial.compute_at(name, rows)
    except s_tir.ScheduleError:
        return None
    return trial if _iterations(trial, name) <= _iterations(state, name) else None


def _iterations(state: Any, name: str) -> int:
    return prod(_extent(state, loop) for loop in state.get_loops(name))


def _extent(state: Any, loop: Any) -> int:
    return int(state.get(loop).extent)
