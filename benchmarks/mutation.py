"""Mutation testing: small faults put into the code, one at a time; tests that notice kill them.

``python -m benchmarks.mutation --part numerics`` (or ``isa``, ``passes``)

A mutant is one change of one expression: a comparison, an operator, a constant, a condition. First
the tests run once, which tells what they cost and which lines they execute. Then every mutant has a
process of its own, forked with everything imported and collected, which runs the tests that execute
its line, the cheapest first, until one fails; sources on the disk are never touched. Tests that
need several times the processor time that they needed before count as noticing. ``--sample N``
tries N mutants drawn by ``--seed``. Results are lines of a log; mutants of unchanged files that it
holds are not tried again, survivors with ``--survivors``.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.mutating import process
from benchmarks.mutating.places import mutated, places, statement_lines
from benchmarks.mutating.process import SURVIVED
from benchmarks.mutating.session import Session, collect, fresh
from benchmarks.mutating.survey import ROOT, Survey

LOG = Path(__file__).with_name("results") / "mutation.jsonl"
UNTESTED = "untested"
PATIENCE, START = 4.0, 10.0
"""A mutant's limit: so many times the seconds of its tests, and seconds to start in."""


@dataclass(frozen=True)
class Part:
    """Sources, and the tests that must notice.

    preload: what is imported before forking. first: a test that notices much, for its cost.
    """

    sources: tuple[str, ...]
    tests: tuple[str, ...]
    preload: tuple[str, ...] = ()
    first: str = ""


PARTS = {
    "numerics": Part(("hyq_tvm/numerics",), ("tests/numerics", "tests/trust/test_survivors.py")),
    "isa": Part(
        ("hyq_tvm/vta/isa",),
        ("tests/vta/test_isa.py", "tests/vta/test_program.py", "tests/vta/test_simulator.py"),
        first="tests/vta/test_isa.py::test_generated_files_are_current",
    ),
    "passes": Part(
        ("relay_passes",),
        ("tests/relay_passes",),
        ("torch", "torch.export", "torch._dynamo", "tvm", "tvm.relax"),
    ),
}


@dataclass(frozen=True)
class Mutant:
    """The ``number``-th place of a file that can be changed. digest: of the file's text."""

    file: str
    number: int
    line: int
    change: str
    digest: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return ROOT / self.file


def files(part: Part) -> list[Path]:
    """All sources of a part."""
    return [file for folder in part.sources for file in sorted((ROOT / folder).rglob("*.py"))]


def mutants(part: Part) -> list[Mutant]:
    """All of a part."""
    found = []
    for path in files(part):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        for number, (node, change) in enumerate(places(ast.parse(text))):
            found.append(Mutant(name, number, getattr(node, "lineno", 0), change, digest))
    return found


@dataclass
class Trial:
    """Mutants of a part; ``tell`` learns the fate of each and the seconds that it took."""

    part: Part
    wanted: Sequence[Mutant]
    tell: Callable[[Mutant, str, float], None]
    end: float

    def run(self) -> None:
        """Those inside of functions in one session, then the others."""
        found = process.answer(self._session)
        for mutant in self.wanted:
            if found.at_import(mutant.file, self._lines(mutant)):
                self._judge(mutant, found, None)

    def _session(self) -> Survey:
        surveys = []

        def work(session: Session, found: Survey) -> None:
            surveys.append(found)
            for mutant in self.wanted:
                if not found.at_import(mutant.file, self._lines(mutant)):
                    self._judge(mutant, found, session)

        collect(self.part.tests, Session(files(self.part), work))
        return surveys[0]

    def _judge(self, mutant: Mutant, found: Survey, session: Session | None) -> None:
        if time.monotonic() > self.end:
            return
        start = time.monotonic()
        tests = found.noticing(mutant.file, self._lines(mutant))
        tests.sort(key=lambda test: test != self.part.first)
        tree = mutated(mutant.path.read_text(encoding="utf-8"), mutant.number)
        code = compile(tree, str(mutant.path), "exec")
        limit = START + PATIENCE * sum(found.seconds[test] for test in tests)
        if not tests:
            fate = UNTESTED
        elif session:
            fate = session.fate(mutant.path, code, tests, limit)
        else:
            fate = fresh(mutant.path, code, tests, found.seconds, limit)
        self.tell(mutant, fate, time.monotonic() - start)

    def _lines(self, mutant: Mutant) -> range:
        lines = statement_lines(mutant.path.read_text(encoding="utf-8"))
        return lines.get(mutant.line, range(mutant.line, mutant.line + 1))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=sorted(PARTS), default="numerics")
    parser.add_argument("--sample", type=int, help="so many, drawn by the seed; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--survivors", action="store_true", help="try those again")
    options = parser.parse_args()
    part = PARTS[options.part]
    chosen = mutants(part)
    order = np.random.default_rng(options.seed).permutation(len(chosen))[: options.sample]
    sample = [chosen[int(index)] for index in order]
    known = _known(options.log)
    again = (SURVIVED, UNTESTED) if options.survivors else ()
    wanted = [m for m in sample if m not in known or known[m] in again]
    if wanted:
        for name in ("hypothesis.extra.numpy", *part.preload):
            importlib.import_module(name)
        end = time.monotonic() + 60 * options.minutes
        Trial(part, wanted, lambda *result: _append(options.log, *result), end).run()
    known = _known(options.log)
    fates = {mutant: known[mutant] for mutant in sample if mutant in known}
    print(summary(f"{options.part}: {len(chosen)} mutants", fates))


def summary(title: str, fates: dict[Mutant, str]) -> str:
    """Counts, and what no test noticed."""
    alive = [mutant for mutant, fate in fates.items() if fate in (SURVIVED, UNTESTED)]
    share = 100 * (1 - len(alive) / max(len(fates), 1))
    counts = ", ".join(f"{count} {fate}" for fate, count in Counter(fates.values()).most_common())
    lines = [f"{title}, {len(fates)} tried, {share:.1f} % killed: {counts}"]
    alive.sort(key=lambda m: (m.file, m.line, m.number))
    return "\n".join([*lines, *(f"  {m.file}:{m.line}: {m.change} ({fates[m]})" for m in alive)])


def _append(log: Path, mutant: Mutant, fate: str, seconds: float) -> None:
    entry = {**asdict(mutant), "fate": fate, "seconds": round(seconds, 2)}
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _known(log: Path) -> dict[Mutant, str]:
    """The latest fate of every mutant."""
    if not log.exists():
        return {}
    lines = log.read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines if line.endswith("}")]
    fields = Mutant.__dataclass_fields__
    return {Mutant(**{name: e[name] for name in fields}): e["fate"] for e in entries}


if __name__ == "__main__":
    main()
