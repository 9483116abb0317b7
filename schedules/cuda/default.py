"""The rule for any operator: one thread an element of the result."""

from __future__ import annotations

from typing import Any

from tvm import s_tir

from schedules.rule import Kernel, Workload

THREADS = 128


def schedule(workload: Workload, target: Any) -> Kernel:
    """Elementwise blocks vanish into their readers, a sum lives in its thread's registers.

    What neither can join its reader becomes a launch of its own, through global memory.
    """
    state = s_tir.Schedule(workload.function)
    state = _inlined(state)
    names = _blocks(state)
    if _is_reduction(state, names[-1]):
        state.cache_write(names[-1], 0, "local")
        names = _blocks(state)
    thread = bind(state, names.pop())
    while names and _fuse(state, names[-1], thread):
        names.pop()
    for name in names:
        bind(state, name)
    return Kernel(workload.op, state.mod["main"], tuple(range(len(workload.arguments))))


def bind(state: Any, name: str) -> Any:
    """The spatial loops of a block on the threads of a grid; the thread's loop."""
    kinds = [int(v.iter_type) for v in state.get(state.get_sblock(name)).iter_vars]
    loops = state.get_loops(name)
    # A scalar has an axis without a loop.
    paired = zip(loops, kinds[len(kinds) - len(loops) :], strict=True)
    spatial = [loop for loop, kind in paired if kind == 0]
    if not spatial:
        spatial = [state.add_unit_loop(state.get_sblock(name))]
    elif spatial != loops[: len(spatial)]:
        state.reorder(*spatial)
    fused = state.fuse(*spatial) if len(spatial) > 1 else spatial[0]
    block, thread = state.split(fused, [None, THREADS])
    state.bind(block, "blockIdx.x")
    state.bind(thread, "threadIdx.x")
    return thread


def _inlined(state: Any) -> Any:
    """Every elementwise block except the result in place of its uses, where TVM can do that."""
    for name in _blocks(state)[:-1]:
        if _is_reduction(state, name):
            continue
        trial = state.copy()
        try:
            trial.compute_inline(name)
        except s_tir.ScheduleError:
            continue
        state = trial
    return state


def _fuse(state: Any, name: str, thread: Any) -> bool:
    """Moves a sum into the thread that reads it, if no other thread would have to repeat it."""
    if not _is_reduction(state, name):
        return False
    before = _iterations(state, name)
    trial = state.copy()
    try:
        trial.compute_at(name, thread)
    except s_tir.ScheduleError:
        return False
    if _iterations(trial, name) > 2 * before + THREADS:
        return False
    state.compute_at(name, thread)
    state.set_scope(name, 0, "local")
    return True


def _blocks(state: Any) -> list[str]:
    root = state.get_sblock("root")
    return [str(state.get(b).name_hint) for b in state.get_child_blocks(root)]


def _is_reduction(state: Any, name: str) -> bool:
    block = state.get(state.get_sblock(name))
    return any(int(v.iter_type) != 0 for v in block.iter_vars)


def _iterations(state: Any, name: str) -> int:
    total = 1
    for loop in state.get_loops(name):
        total *= int(state.get(loop).extent)
    return total
