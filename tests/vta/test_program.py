"""The program container: round trip, strict parsing, static checks."""

from __future__ import annotations

import hashlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyq_tvm.errors import DeviceProgramError
from hyq_tvm.vta.arch import DEFAULT, TINY
from hyq_tvm.vta.program import Place, Program
from tests.vta.streams import TEXT, program


def test_round_trip(tmp_path):
    made = program()
    made.save(tmp_path / "program.vta")
    read = Program.load(tmp_path / "program.vta")
    np.testing.assert_array_equal(read.words, made.words)
    np.testing.assert_array_equal(read.image, made.image)
    assert (read.config, read.tensors, read.layers) == (made.config, made.tensors, made.layers)
    assert [p.name for p in tmp_path.iterdir()] == ["program.vta"]
    assert (read.count("GEMM"), read.layer_of(3)) == (2, "first")
    assert list(read.places("output")) == ["y"]


def edited(**changes):
    """The bytes of a program whose header was changed, with a correct checksum."""
    data = program().to_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    header = {**json.loads(data[16 : 16 + length]), **changes}
    text = json.dumps({k: v for k, v in header.items() if v is not None}).encode()
    body = data[:12] + struct.pack("<I", len(text)) + text + data[16 + length : -32]
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instructions": 8}, "8 instructions"),
        ({"instructions": -1}, "-1 instructions"),
        ({"instructions": None}, "header is damaged"),
        ({"instructions": "many"}, "header is damaged"),
        ({"tensors": []}, "header is damaged"),
        ({"tensors": {"x": {"address": 0}}}, "header is damaged"),
        (
            {"tensors": {"x": {"address": 0, "shape": [1], "dtype": "q8", "role": "input"}}},
            "header is damaged",
        ),
        (
            {"tensors": {"x": {"address": 0, "shape": [-1], "dtype": "int8", "role": "input"}}},
            "has the shape",
        ),
        (
            {"tensors": {"x": {"address": 0, "shape": [1], "dtype": "O", "role": "input"}}},
            "the type object",
        ),
        ({"config": {"LOG_BLOCK": 99}}, "log_block=99"),
        ({"config": {}}, "another version"),
        ({"layers": {"x": "y"}}, "header is damaged"),
        ({"dram_bytes": 4}, "in a DRAM of 4"),
    ],
)
def test_damaged_headers_are_refused(changes, message):
    with pytest.raises(DeviceProgramError, match=message):
        Program.from_bytes(edited(**changes))


@given(st.data())
def test_truncation_and_bit_flips_are_refused(data):
    raw = program().to_bytes()
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(DeviceProgramError):
        Program.from_bytes(raw[:cut])
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    flipped = bytearray(raw)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DeviceProgramError):
        Program.from_bytes(bytes(flipped))


def test_other_formats_and_files_are_refused(tmp_path):
    raw = bytearray(program().to_bytes())
    raw[8] = 9
    with pytest.raises(DeviceProgramError, match="program format 9"):
        Program.from_bytes(bytes(raw))
    with pytest.raises(DeviceProgramError, match="not an accelerator program"):
        Program.from_bytes(b"ELF")
    with pytest.raises(DeviceProgramError, match=r"none\.vta"):
        Program.load(tmp_path / "none.vta")


def test_an_unwritable_path_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(DeviceProgramError, match="cannot write"):
        program().save(tmp_path / "folder" / "program.vta")
    (tmp_path / "taken").mkdir()
    with pytest.raises(DeviceProgramError, match="cannot write"):
        program().save(tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_another_device_is_refused():
    program().check_device(TINY)
    with pytest.raises(DeviceProgramError, match="'log_block': \\(2, 4\\)"):
        program().check_device(DEFAULT)


LOADS = "SET register=LOAD_X_STRIDE value={stride}\nLOAD memory={memory} {rest}\nFINISH"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not FINISH"),
        (TEXT.replace("FINISH pop_next", ""), "not FINISH"),
        ("FINISH\nFINISH", "instruction 0 .*not the last"),
        ("LOAD memory=INP dram=390 y_size=1 x_size=1 length=3\nFINISH", "instruction 0 .*0x189"),
        (
            LOADS.format(stride=100, memory="INP", rest="y_size=1 x_size=5 length=1"),
            "instruction 1 .*DRAM bytes up to 0x191",
        ),
        (
            LOADS.format(stride=0, memory="INP", rest="sram=511 y_size=1 x_size=1 length=5"),
            "entries up to 513, the buffer has 512",
        ),
        (
            LOADS.format(stride=0, memory="INP", rest="y_size=500 x_size=1 length=1 pad_top=13"),
            "entries up to 513",
        ),
        (
            LOADS.format(stride=0, memory="WGT", rest="y_size=1 x_size=1025 length=1"),
            "entries up to 257, the buffer has 256",
        ),
        (
            LOADS.format(stride=0, memory="PRM", rest="y_size=1 x_size=1 length=3"),
            "multiples of 4",
        ),
        ("STORE memory=ACC sram=512 y_size=1 x_size=1 length=1\nFINISH", "entries up to 513"),
        ("GEMM uop_end=513 iter_out=1 iter_in=1\nFINISH", "micro-ops up to 513"),
        ("VECTOR op=ADD uop_end=513 iter_out=1 iter_in=1\nFINISH", "micro-ops up to 513"),
        ("SET register=LANES value=5\nFINISH", "4 lanes"),
        (
            "SOFTMAX exponential=TABLE result=UINT8 rows=2 length=5 src=509 src_step=2\nFINISH",
            "source entries up to 513",
        ),
        (
            "SOFTMAX exponential=TABLE result=UINT8 rows=1 length=5 dst=511\nFINISH",
            "destination entries up to 513",
        ),
        (
            "SOFTMAX exponential=WEIGHTS result=WEIGHT_WIDE target=INP rows=1 length=4 plane=512"
            "\nFINISH",
            "destination entries up to 513",
        ),
        (
            "SOFTMAX exponential=WEIGHTS result=WEIGHT rows=2 length=5 total=511\nFINISH",
            "sums up to entry 513",
        ),
        (
            "SOFTMAX exponential=WEIGHTS result=WEIGHT target=INP rows=2 length=5 src=7 src_step=2"
            " total=10\nFINISH",
            "instruction 0 .*: sums overwrite logits",
        ),
        (
            "SOFTMAX exponential=TABLE result=UINT8 rows=2 length=5 src_step=2 dst=3 dst_step=2"
            "\nFINISH",
            "instruction 0 .*: results overwrite logits",
        ),
        (
            "SOFTMAX exponential=TABLE result=UINT8 rows=2 length=5 src_step=1 dst_step=1\nFINISH",
            "results overwrite logits",
        ),
        (
            "SOFTMAX exponential=WEIGHTS result=WEIGHT_WIDE rows=1 length=9 plane=2 total=20"
            "\nFINISH",
            "results overwrite logits",
        ),
    ],
)
def test_what_the_device_cannot_execute_is_refused(text, message):
    with pytest.raises(DeviceProgramError, match=message):
        program(text)


@pytest.mark.parametrize(
    "fields",
    [
        "exponential=TABLE result=UINT8 src_step=2 dst_step=2",
        "exponential=TABLE result=UINT8 src_step=2 dst=4 dst_step=3",
        "exponential=WEIGHTS result=WEIGHT src_step=2 dst_step=2 target=INP total=4",
        "exponential=WEIGHTS result=WEIGHT_WIDE src_step=2 dst_step=2 plane=4 total=8",
    ],
)
def test_rows_in_place_or_elsewhere_are_accepted(fields):
    program(f"SOFTMAX rows=2 length=5 {fields}\nFINISH")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (Place(390, (3,), "int8", "input"), "outside the DRAM"),
        (Place(-1, (1,), "int8", "input"), "outside the DRAM"),
        (Place(0, (1,), "int8", "weight"), "role 'weight'"),
    ],
)
def test_tensors_outside_the_dram_are_refused(place, message):
    made = program()
    with pytest.raises(DeviceProgramError, match=message):
        Program(made.config, made.words, made.image, made.dram_bytes, {"t": place})
