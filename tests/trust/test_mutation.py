"""Mutants change one thing, tests notice it, and the runner tells noticing from not."""

import ast
from functools import partial

import pytest

from benchmarks import mutation
from benchmarks.mutating import places
from benchmarks.mutating.process import HUNG, KILLED, SURVIVED, fate

SOURCE = "def f(x, y):\n    if x < 3 and not y:\n        return -x + 1\n    return x << 2\n"


def test_every_place_is_changed_once_and_the_code_stays_code():
    count = len(list(places.places(ast.parse(SOURCE))))
    changed = set()
    for wanted in range(count):
        text = ast.unparse(places.mutated(SOURCE, wanted))
        compile(text, "mutant", "exec")
        changed.add(text)
    assert count == 9
    assert len(changed) == count
    assert ast.unparse(ast.parse(SOURCE)) not in changed


def test_messages_and_annotations_are_no_places():
    source = 'def f(x: "a" = 1) -> "b":\n    raise ValueError(f"{1 + 2}", 3 < 4)\n'
    assert len(list(places.places(ast.parse(source)))) == 1


VICTIM = mutation.Part(("hyq_tvm/numerics",), ("tests/trust/mutation_victim.py",))


def fates(log, wanted, part=VICTIM):
    mutation.Trial(part, wanted, partial(mutation._append, log), 1e18).run()
    return [mutation._known(log)[mutant] for mutant in wanted]


def test_tests_kill_a_mutant_and_spare_the_original(tmp_path, monkeypatch):
    inside = [m for m in mutation.mutants(VICTIM) if m.file.endswith("numerics/fixed_point.py")]
    shift = next(m for m in inside if "LShift" in m.change)
    unused = next(m for m in mutation.mutants(VICTIM) if m.file.endswith("reference/pool.py"))
    assert fates(tmp_path / "log", [shift, unused]) == [KILLED, mutation.UNTESTED]
    monkeypatch.setattr(places, "mutate", lambda node: None)
    assert fates(tmp_path / "log", [shift]) == [SURVIVED]


def test_a_failing_suite_is_no_judge(tmp_path):
    with pytest.raises(RuntimeError):
        fates(
            tmp_path / "log",
            [],
            mutation.Part(("hyq_tvm/numerics",), ("tests/trust/mutation_failing.py",)),
        )


def test_what_needs_too_much_of_the_processor_hangs():
    def spin() -> bool:
        while True:
            pass

    assert fate(spin, 0.1) == HUNG
    assert fate(lambda: True, 5) == KILLED
    assert fate(lambda: False, 5) == SURVIVED


def test_what_swells_is_killed():
    assert fate(lambda: not bytearray(8 << 30), 20) == KILLED


def test_results_are_of_unchanged_files_alone(tmp_path):
    log = tmp_path / "log.jsonl"
    mutant = mutation.Mutant("a.py", 0, 1, "1 -> 2", "12345678")
    mutation._append(log, mutant, SURVIVED, 1.0)
    mutation._append(log, mutant, KILLED, 1.0)
    with log.open("a") as file:
        file.write('{"file": "a.py", "num')  # the machine went down in the middle of a line
    assert mutation._known(log) == {mutant: KILLED}
    assert mutation.summary("x", mutation._known(log)).startswith("x, 1 tried, 100.0 % killed")


def test_statements_are_found_by_any_of_their_lines():
    lines = places.statement_lines(
        "def f(\n    x=1,\n):\n    y = (\n        x\n    )\n    return y\n"
    )
    assert lines[2] == range(1, 4)
    assert lines[5] == range(4, 7)
    assert lines[7] == range(7, 8)
