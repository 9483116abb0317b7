"""Mutation testing: small faults put into the code, one at a time; tests that notice kill them.

``python -m benchmarks.mutation --part numerics`` (or ``isa``, ``passes``)

A mutant is one change of one expression: a comparison, an operator, a constant, a condition. Each
is tried in a process of its own, forked after NumPy, Hypothesis and TVM were imported, so that a
mutant costs what its tests cost; sources on the disk are never touched. The tests of the module of
the same name run first. ``--sample N`` tries N mutants drawn by ``--seed``; results are lines of a
log, and mutants that it holds are not tried again.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import importlib.machinery
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
LOG = Path(__file__).with_name("results") / "mutation.jsonl"
PATIENCE = 120
KILLED, SURVIVED, HUNG = "killed", "survived", "hung"

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Add, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr, ast.Pow: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Sources, and the tests that must notice. preload: what is imported before forking."""

    sources: tuple[str, ...]
    tests: tuple[str, ...]
    preload: tuple[str, ...] = ()


PARTS = {
    "numerics": Part(("hyq_tvm/numerics",), ("tests/numerics",)),
    "isa": Part(
        ("hyq_tvm/vta/isa",),
        ("tests/vta/test_isa.py", "tests/vta/test_program.py", "tests/vta/test_simulator.py"),
    ),
    "passes": Part(
        ("relay_passes",),
        ("tests/relay_passes", "tests/frontend/test_torch_operators.py"),
        ("torch", "tvm", "tvm.relax"),
    ),
}


@dataclass(frozen=True)
class Mutant:
    """The ``number``-th place of a file that can be changed."""

    file: str
    number: int
    line: int
    change: str


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Nodes that can be changed and how, in order; no annotations, texts or messages."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if change := _change(node):
            yield node, change
        stack += reversed([child for child in _children(node)])


def _children(node: ast.AST) -> Iterator[ast.AST]:
    skipped: tuple[Any, ...] = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, skipped):
                yield child


def _change(node: ast.AST) -> str:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        return f"{type(node.ops[0]).__name__} -> {COMPARISONS[type(node.ops[0])].__name__}"
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in OPERATORS:
        return f"{type(node.op).__name__} -> {OPERATORS[type(node.op)].__name__}"
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        return f"{node.value} -> {_other(node.value)}"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        return f"{type(node.op).__name__} removed"
    return ""


def _other(value: Any) -> Any:
    return not value if isinstance(value, bool) else value + 1


def mutate(node: Any) -> None:
    """Change the node in place."""
    if isinstance(node, ast.Compare):
        node.ops[0] = COMPARISONS[type(node.ops[0])]()
    elif isinstance(node, ast.Constant):
        node.value = _other(node.value)
    elif isinstance(node, ast.UnaryOp):
        node.op = ast.UAdd() if isinstance(node.op, ast.USub) else ast.Invert()
        if isinstance(node.op, ast.Invert):
            operand = copy.copy(node.operand)
            node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), operand)
            ast.copy_location(node.operand, operand)
    else:
        node.op = OPERATORS[type(node.op)]()


def mutants(part: Part) -> list[Mutant]:
    """All of a part."""
    found = []
    for folder in part.sources:
        for file in sorted((ROOT / folder).rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for number, (node, change) in enumerate(places(tree)):
                found.append(Mutant(name, number, getattr(node, "lineno", 0), change))
    return found


def mutated_source(mutant: Mutant) -> bytes:
    """The file with its one change."""
    tree = ast.parse((ROOT / mutant.file).read_text(encoding="utf-8"))
    for number, (node, _) in enumerate(places(tree)):
        if number == mutant.number:
            mutate(node)
    return ast.unparse(ast.fix_missing_locations(tree)).encode()


def attempt(mutant: Mutant, part: Part) -> str:
    """Fork, run the tests on the mutant, and say what became of it."""
    child = os.fork()
    if not child:
        _run_tests(mutant, part)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return SURVIVED if status == 0 else KILLED
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return HUNG


def _run_tests(mutant: Mutant, part: Part) -> None:
    import pytest

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    sys.dont_write_bytecode = True
    target, source = str(ROOT / mutant.file), mutated_source(mutant)
    read = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: Any, fullname: str) -> Any:
        if self.get_filename(fullname) == target:
            return compile(source, target, "exec")
        return read(self, fullname)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
    stem = Path(mutant.file).stem
    first = [str(t) for folder in part.tests for t in sorted((ROOT / folder).rglob(f"*{stem}*.py"))]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu"]
    status = 0
    for tests in (first, [str(ROOT / folder) for folder in part.tests]):
        status = status or (int(pytest.main([*options, *tests])) if tests else 0)
    os._exit(0 if status == 0 else 1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=sorted(PARTS), default="numerics")
    parser.add_argument("--sample", type=int, help="so many, drawn by the seed; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--log", type=Path, default=LOG)
    options = parser.parse_args()
    part = PARTS[options.part]
    for name in ("pytest", "hypothesis", "hypothesis.extra.numpy", *part.preload):
        importlib.import_module(name)
    chosen = mutants(part)
    order = np.random.default_rng(options.seed).permutation(len(chosen))[: options.sample]
    known = _known(options.log)
    end = time.monotonic() + 60 * options.minutes
    for index in order:
        mutant = chosen[int(index)]
        if mutant in known:
            continue
        if time.monotonic() > end:
            break
        known[mutant] = attempt(mutant, part)
        with options.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**asdict(mutant), "fate": known[mutant]}) + "\n")
    tried = {chosen[int(i)]: known[chosen[int(i)]] for i in order if chosen[int(i)] in known}
    alive = [mutant for mutant, fate in tried.items() if fate == SURVIVED]
    share = 100 * (1 - len(alive) / max(len(tried), 1))
    print(f"{options.part}: {len(chosen)} mutants, {len(tried)} tried, {share:.1f} % killed")
    for mutant in alive:
        print(f"  {mutant.file}:{mutant.line}: {mutant.change}")


def _known(log: Path) -> dict[Mutant, str]:
    if not log.exists():
        return {}
    lines = log.read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines if line.endswith("}")]
    return {Mutant(**{k: v for k, v in e.items() if k != "fate"}): e["fate"] for e in entries}


if __name__ == "__main__":
    main()
