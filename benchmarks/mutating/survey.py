"""Which tests execute which line, and what each costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import coverage

ROOT = Path(__file__).resolve().parents[2]
Hits = set[tuple[str, int]]


@dataclass
class Survey:
    """seconds: of the processor, by test. lines: tests by file and line.

    imported: lines by file that run when modules are imported, for all tests.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    imported: dict[str, set[int]] = field(default_factory=dict)

    def at_import(self, file: str, lines: Collection[int]) -> bool:
        """Whether one of the lines runs at import."""
        return not self.imported.get(file, set()).isdisjoint(lines)

    def noticing(self, file: str, lines: Collection[int]) -> list[str]:
        """Tests that execute one of the lines, the cheapest first.

        What runs at import concerns every test; those that enter the file come first.
        """
        known = self.lines.get(file, {})
        users = {test for tests in known.values() for test in tests}
        chosen = {test for line in lines for test in known.get(line, ())}
        if self.at_import(file, lines):
            chosen = set(self.seconds)
        return sorted(chosen, key=lambda test: (test not in users, self.seconds[test]))


def survey(files: Sequence[Path], imported: Hits, tests: dict[str, Callable[[], None]]) -> Survey:
    """Run the tests, watching the files. imported: lines that ran before."""
    found = Survey()
    for file, line in imported:
        found.imported.setdefault(file, set()).add(line)
    for name, test in tests.items():
        start = time.process_time()
        with watched(files) as hits:
            test()
        found.seconds[name] = time.process_time() - start
        for file, line in hits:
            found.lines.setdefault(file, {}).setdefault(line, []).append(name)
    return found


@contextmanager
def watched(files: Sequence[Path]) -> Iterator[Hits]:
    """The lines of the files, by name from the root, that run meanwhile, in any thread."""
    hits: Hits = set()
    watch = coverage.Coverage(
        data_file=None, config_file=False, include=[str(file) for file in files]
    )
    watch.start()
    try:
        yield hits
    finally:
        watch.stop()
        found = watch.get_data()
        for name in found.measured_files():
            place = Path(name).relative_to(ROOT).as_posix()
            hits.update((place, line) for line in found.lines(name) or ())
