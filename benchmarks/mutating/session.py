"""One pytest session that collects once and then tries many mutants, each in a fork of it.

Mutants of lines that run at import need a fresh one: ``fresh`` is for them.
"""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.machinery
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import hypothesis
import pytest

from benchmarks.mutating import process
from benchmarks.mutating.survey import ROOT, Hits, Survey, survey, watched

OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", "--tb=line"]
OPTIONS += ["-m", "not slow and not gpu"]
Key = tuple[str, int]


class Quick:
    """A plugin: hypothesis neither shrinks nor explains what mutants do, nor minds slowness."""

    def pytest_sessionstart(self) -> None:
        """After the tests' own profile was loaded, before they are imported."""
        hypothesis.settings.register_profile(
            "mutants",
            hypothesis.settings.default,
            phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        hypothesis.settings.load_profile("mutants")


class Session(Quick):
    """A plugin that surveys the collected tests and hands itself to ``work``."""

    def __init__(self, files: Sequence[Path], work: Callable[[Session, Survey], None]) -> None:
        self._files, self._work = files, work
        self._imported: Hits = set()
        self._items: dict[str, pytest.Item] = {}

    def pytest_sessionstart(self) -> None:
        """Import what is watched."""
        super().pytest_sessionstart()
        with watched(self._files) as self._imported:
            for file in self._files:
                if file.stem != "__main__":
                    importlib.import_module(_module(file))

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Any:
        """What tests call when they are imported runs at import."""
        with watched(self._files) as hits:
            result = yield
        self._imported |= hits
        return result

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of the tests."""
        if session.testsfailed:
            raise session.Failed("tests cannot be collected")
        self._items = {item.nodeid: item for item in session.items}
        self._live = _functions({str(file) for file in self._files})
        self._caches = [x for x in gc.get_objects() if isinstance(x, functools._lru_cache_wrapper)]
        self._work(self, process.answer(self._survey))
        return True

    def _survey(self) -> Survey:
        tests = {name: functools.partial(self._pass, name) for name in self._items}
        return survey(self._files, self._imported, tests)

    def _pass(self, name: str) -> None:
        if self._fails([name]):
            raise RuntimeError(f"{name} fails without any mutant: mend it first")

    def _fails(self, names: Sequence[str]) -> bool:
        items = [self._items[name] for name in names]
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if item.session.testsfailed:
                return True
        return False

    def fate(self, file: Path, code: CodeType, names: Sequence[str], limit: float) -> str:
        """Of a file whose functions are those of ``code``, judged by these tests."""

        def noticed() -> bool:
            changed = _codes(code)
            for key, functions in self._live[str(file)].items():
                for function in functions:
                    function.__code__ = changed[key]
            for cache in self._caches:
                cache.cache_clear()
            return self._fails(names)

        return process.fate(noticed, limit)


def collect(tests: Sequence[str], session: Session) -> None:
    """Run a session; raises ``RuntimeError`` where it cannot."""
    status = int(pytest.main([*OPTIONS, *(str(ROOT / test) for test in tests)], plugins=[session]))
    if status not in (0, int(pytest.ExitCode.NO_TESTS_COLLECTED)):
        raise RuntimeError(f"pytest ended with {status}")


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _functions(files: set[str]) -> dict[str, dict[Key, list[FunctionType]]]:
    """All that live, by file and what they are called there."""
    found: dict[str, dict[Key, list[FunctionType]]] = {file: {} for file in files}
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename in files:
            keys = found[thing.__code__.co_filename]
            keys.setdefault(_key(thing.__code__), []).append(thing)
    return found


def _codes(code: CodeType) -> dict[Key, CodeType]:
    """A module's code objects."""
    found = {_key(code): code}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found.update(_codes(constant))
    return found


def _key(code: CodeType) -> Key:
    return code.co_qualname, code.co_firstlineno


class _Chosen(Quick):
    """Runs some tests in their order, and what the survey did not know."""

    def __init__(self, tests: Sequence[str], known: Mapping[str, float]) -> None:
        self._rank = {test: rank for rank, test in enumerate(tests)}
        self._known = known

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        rank, known = self._rank, self._known
        items[:] = [item for item in items if item.nodeid in rank or item.nodeid not in known]
        items.sort(key=lambda item: rank.get(item.nodeid, len(rank)))


def fresh(
    file: Path, code: CodeType, names: Sequence[str], known: Mapping[str, float], limit: float
) -> str:
    """Like ``Session.fate``, by a process that has imported neither the file nor its tests."""

    def noticed() -> bool:
        target, read = str(file), importlib.machinery.SourceFileLoader.get_code

        def get_code(self: Any, fullname: str) -> Any:
            return code if self.get_filename(fullname) == target else read(self, fullname)

        importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
        tests = list(dict.fromkeys(str(ROOT / name.split("::")[0]) for name in names))
        status = pytest.main([*OPTIONS, *tests], plugins=[_Chosen(names, known)])
        return status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)

    return process.fate(noticed, limit)
