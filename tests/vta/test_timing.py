"""The cycle model: formulas by hand, overlap by tokens, the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hyq_tvm.errors import DeviceProgramError
from hyq_tvm.vta.arch import DEFAULT, TINY
from hyq_tvm.vta.codegen import compile_operations
from hyq_tvm.vta.cycles import (
    DIVIDER,
    GEMM_PIPELINE,
    PROBABILITY_PIPELINE,
    SOFTMAX_PIPELINE,
    STEP_CYCLES,
    STEP_PIPELINE,
    VECTOR_PIPELINE,
    cost,
)
from hyq_tvm.vta.isa import instruction
from hyq_tvm.vta.picture import MOST_BOXES, timeline
from hyq_tvm.vta.profile import profile, table
from hyq_tvm.vta.timing import time_program
from tests.vta.machines import row_of
from tests.vta.operations import constant, operation, random_array, requantize, stages, tensor
from tests.vta.streams import TEXT, program

NEST = {"uop_begin": 2, "uop_end": 5, "iter_out": 4, "iter_in": 7}


@pytest.mark.parametrize(
    ("made", "cycles"),
    [
        (instruction("FINISH"), 1),
        (instruction("SET", register="LOW"), 1),
        (instruction("GEMM", **NEST), 84 + GEMM_PIPELINE),
        (instruction("VECTOR", op="REQ", **NEST), 84 + VECTOR_PIPELINE),
        (
            instruction("VECTOR", op="RECIPROCAL", **NEST),
            11 * STEP_CYCLES["RECIPROCAL"] + 3 + STEP_PIPELINE,
        ),
        (
            instruction("SOFTMAX", exponential="WEIGHTS", result="WEIGHT", rows=3, length=17),
            3 * (2 * 2 + SOFTMAX_PIPELINE) + 1,
        ),
        (
            instruction("SOFTMAX", exponential="TABLE", result="UINT8", rows=3, length=16),
            3 * (3 + DIVIDER + SOFTMAX_PIPELINE + PROBABILITY_PIPELINE) + 1,
        ),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_cycles_of_an_instruction(made, cycles):
    assert cost(row_of(made), (0, 0), DEFAULT) == cycles


def test_fewer_softmax_lanes_take_longer():
    made = instruction("SOFTMAX", exponential="WEIGHTS", result="WEIGHT", rows=1, length=64)
    slow, fast = (cost(row_of(made), (0, 0), replace(DEFAULT, softmax_lanes=n)) for n in (1, 16))
    assert (slow - SOFTMAX_PIPELINE - 1, fast - SOFTMAX_PIPELINE - 1) == (128, 8)


def test_transfers_take_latency_and_their_pieces():
    load = instruction("LOAD", memory="INP", y_size=1, x_size=32, length=1)
    store = instruction("STORE", memory="ACC8", y_size=1, x_size=4, length=4)
    assert cost(row_of(load), (0, 1), DEFAULT) == DEFAULT.dram_latency + 32 + 1
    assert cost(row_of(store), (0, 4), DEFAULT) == DEFAULT.dram_latency + 4 + 2


def test_a_program_by_hand():
    timing = time_program(program())
    assert timing.products == 30
    assert timing.busy["GEMM"] == 30 + 2 * GEMM_PIPELINE
    assert [e.end for e in timing.events if e.name == "FINISH"] == [timing.cycles]
    loads = [e for e in timing.events if e.name == "LOAD"]
    gemm = next(e for e in timing.events if e.name == "GEMM")
    assert gemm.start == loads[-1].end
    assert timing.milliseconds == timing.cycles / TINY.clock_mhz / 1000


def test_units_overlap():
    rng = np.random.default_rng(0)
    x = random_array(rng, (4000, 64))
    made, arguments = stages(requantize(rng, 64))
    weight, bias = random_array(rng, (64, 64)), np.zeros(64, np.int32)
    op = operation(
        "dense",
        [tensor("x", x), constant(weight), constant(bias), *arguments],
        {"epilogue": made},
        {"x": x},
    )
    timing = time_program(compile_operations([op], ["y"], DEFAULT))
    assert timing.product_utilisation > 0.95
    assert timing.cycles < 0.8 * sum(timing.busy.values())
    for unit in ("load", "compute", "store"):
        events = [e for e in timing.events if e.unit == unit]
        assert all(a.end <= b.start for a, b in pairwise(events))


def test_a_deadlock_is_an_error():
    made = program(TEXT.replace("length=8 push_next", "length=8"))
    with pytest.raises(DeviceProgramError, match="deadlock"):
        time_program(made)


def test_the_picture_shows_each_instruction_in_its_lane():
    timing = time_program(program())
    root = ET.fromstring(timeline(timing))
    boxes = root.findall("{http://www.w3.org/2000/svg}rect/{http://www.w3.org/2000/svg}title")
    assert len(boxes) == sum(e.name not in ("SET", "FINISH") for e in timing.events)
    part = ET.fromstring(timeline(timing, timing.cycles - 1, timing.cycles))
    assert len(part) < len(root)


def many_products():
    """A program with more instructions than a picture has room for boxes."""
    rng = np.random.default_rng(0)
    values = {"x": random_array(rng, (9000, 64))}
    made, arguments = stages(requantize(rng, 64))
    weight, bias = random_array(rng, (64, 64)), np.zeros(64, np.int32)
    parts = [constant(weight), constant(bias), *arguments]
    first = operation("dense", [tensor("x", values["x"]), *parts], {"epilogue": made}, values)
    values["y"] = np.zeros((9000, 64), np.int8)
    second = operation("dense", [tensor("y", values["y"]), *parts], {"epilogue": made}, values, "z")
    return compile_operations([first, second], ["z"], TINY_BUFFERS)


TINY_BUFFERS = replace(DEFAULT, log_acc_buffer=13)


def test_the_picture_of_many_instructions_shows_shares():
    made = many_products()
    timing = time_program(made)
    assert sum(e.name in ("LOAD", "GEMM") for e in timing.events) > MOST_BOXES
    picture = timeline(timing, layers=made.layers)
    root = ET.fromstring(picture)
    titles = [t.text for t in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "compute: GEMM" in titles
    assert sum(t.startswith("layer dense") for t in titles) == 2
    assert len(picture) < 500_000
    assert all(
        0 <= float(r.get("x", 0)) <= 1400 for r in root.iter("{http://www.w3.org/2000/svg}rect")
    )


def test_profiles_add_up():
    made = many_products()
    timing = time_program(made)
    layers = profile(made, timing)
    assert [layer.name for layer in layers] == ["layer dense", "layer dense"]
    assert sum(layer.cycles for layer in layers) == timing.cycles
    assert sum(layer.products for layer in layers) == timing.products
    assert sum(layer.busy["GEMM"] for layer in layers) == timing.busy["GEMM"]
    assert all(0.5 < layer.utilisation < layer.product_utilisation <= 1 for layer in layers)
    rows = table(layers)
    assert rows[0][:2] == ("layer", "cycles")
    assert len(rows) == 3


def test_a_program_without_layers_has_one_profile():
    made = replace(program(), layers={})
    (only,) = profile(made, time_program(made))
    assert only.name == ""
    assert only.products == 30
