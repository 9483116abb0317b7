"""What the demonstration measures and prints, on made-up models."""

import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

import hyq_tvm
from hyq_tvm.demo.data import Split
from hyq_tvm.demo.pipeline import (
    GOLDEN_IMAGES,
    GoldenMismatchError,
    Latency,
    Outcome,
    Score,
    check_golden,
    measure_latency,
    single_thread,
)
from hyq_tvm.demo.show import print_outcome, samples
from hyq_tvm.demo.summary import accuracy_table, cost_table


def score(name="test", exact=(0, 1, 2, 4), integer=(0, 1, 5, 5)):
    images = np.zeros((4, 32, 32), np.uint8)
    split = Split(images, np.array([0, 1, 2, 3], np.uint8))
    return Score(name, split, np.array(exact, np.uint8), np.array(integer, np.uint8))


def outcome():
    return Outcome(
        model=torch.nn.Linear(9, 100),
        program=SimpleNamespace(constant_bytes=1500),
        scores=[score("test"), score("hard", integer=(0, 1, 2, 4))],
        float_latency=Latency(1.0, 1.25),
        integer_latency=Latency(0.5, 0.625),
        golden_integers=80,
        seconds={"compile": 12.34},
    )


def test_shares():
    found = score()
    assert (found.float_top1, found.integer_top1, found.agreement) == (0.75, 0.5, 0.5)


def test_sizes():
    assert outcome().parameters == 1000
    assert outcome().float_bytes == 4000
    assert outcome().integer_bytes == 1500


def test_tables():
    assert accuracy_table(outcome()).rows[0][1:] == ("4", "75.0 %", "50.0 %", "50.0 %")
    exact, integer = cost_table(outcome()).rows
    assert exact[1:] == ("1.25", "1.00", "4 kB")
    assert integer[1:] == ("0.62", "0.50", "2 kB")


def test_samples_begin_where_the_models_differ():
    assert samples(score()) == [2, 0, 1]
    assert samples(score(integer=(0, 1, 2, 4))) == [0, 1, 2]


@pytest.mark.parametrize("color", [None, "truecolor"])
def test_printing(color):
    file = io.StringIO()
    print_outcome(
        Console(file=file, width=100, color_system=color, force_terminal=bool(color)), outcome()
    )
    text = re.sub(r"\x1b\[[\d;]*m", "", file.getvalue())
    for piece in ("75.0 %", "integers, compiled", "80 output integers", "12.3 s", "is 2: float 2"):
        assert piece in text
    assert ("▀" in text) == bool(color)


def golden_pair(offset):
    """An executable and a program whose integers differ by ``offset`` on one image."""
    calls = []

    def integers(image):
        calls.append(image)
        return np.arange(10, dtype=np.int16)[None] + (offset if len(calls) == 5 else 0)

    program = SimpleNamespace(run_integers=lambda x: [np.arange(10, dtype=np.int16)[None]])
    return SimpleNamespace(run_integers=integers), program


def test_equal_integers_are_counted():
    assert check_golden(*golden_pair(0)) == 10 * GOLDEN_IMAGES


def test_one_wrong_integer_stops_the_demonstration():
    with pytest.raises(GoldenMismatchError, match="NumPy model"):
        check_golden(*golden_pair(1))


def test_latency_is_of_both_in_turn():
    calls = []
    found = outcome()
    found.model = lambda x: calls.append("float")
    found.executable = lambda x: calls.append("integer")
    exact, integer = measure_latency(found)
    assert calls[:4] == ["float", "integer", "float", "integer"]
    assert 0 < exact.minimum <= exact.median
    assert 0 < integer.minimum <= integer.median


def test_threads_are_given_back():
    before = torch.get_num_threads(), hyq_tvm.num_threads()
    with single_thread():
        assert (torch.get_num_threads(), hyq_tvm.num_threads()) == (1, 1)
    assert (torch.get_num_threads(), hyq_tvm.num_threads()) == before
