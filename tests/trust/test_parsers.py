"""Random damage to good files: an error of our own, or a value that makes a whole trip."""

import hashlib
import json
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyq_tvm.artifact import Metadata
from hyq_tvm.errors import DeviceProgramError, HyqError, TuningError
from hyq_tvm.quantization.plan import QuantPlan
from hyq_tvm.vta.program import Program
from schedules import recorded
from tests.trust.malformed import PLAN
from tests.vta.streams import program

TEXT = PLAN.to_json()
RECORD = recorded.Record("w", "t", "r", {"a": 1}, 1.5).line()
PROGRAM = program().to_bytes()
PIECES = [
    "",
    "{",
    "}",
    "[",
    "]",
    ",",
    '"',
    "null",
    "-",
    "1e999",
    "NaN",
    "true",
    "\\u0000",
    "9" * 40,
]


@st.composite
def spoiled(draw, text: str) -> str:
    """The text with one to four stretches replaced."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(start + 12, len(text))))
        text = text[:start] + draw(st.sampled_from(PIECES)) + text[end:]
    return text


@given(spoiled(TEXT))
@example(TEXT)
def test_a_spoiled_plan_is_refused_or_whole(text):
    try:
        plan = QuantPlan.from_json(text)
    except HyqError:
        return
    assert QuantPlan.from_json(plan.to_json()).to_json() == plan.to_json()


@given(spoiled(RECORD.strip()))
@example(RECORD.strip())
def test_a_spoiled_record_is_refused_or_whole(line):
    try:
        record = recorded._parse(line, "file")
    except TuningError:
        return
    assert recorded._parse(record.line(), "file") == record


@given(st.data())
def test_a_spoiled_program_with_a_right_checksum_is_refused_or_whole(data):
    length = struct.unpack_from("<I", PROGRAM, 12)[0]
    header = data.draw(spoiled(PROGRAM[16 : 16 + length].decode())).encode()
    words = bytearray(PROGRAM[16 + length : -32])
    for _ in range(data.draw(st.integers(0, 3))):
        words[data.draw(st.integers(0, len(words) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    body = PROGRAM[:12] + struct.pack("<I", len(header)) + header + bytes(words)
    try:
        read = Program.from_bytes(body + hashlib.sha256(body).digest())
    except DeviceProgramError:
        return
    assert Program.from_bytes(read.to_bytes()).to_bytes() == read.to_bytes()


SPEC = {"name": "x", "shape": [4, 8], "dtype": "float32", "integer_dtype": "", "scale": []}
METADATA = json.dumps(
    {
        "inputs": [SPEC],
        "outputs": [{**SPEC, "scale": [0.5], "zero_point": 3}],
        "integer_only": True,
        "target": {"kind": "llvm"},
        "machine": "x86_64",
        "features": ["avx2"],
        "versions": {"hyq_tvm": "0"},
        "float_operators": [],
        "notes": {},
    }
)


@given(spoiled(METADATA))
@example(METADATA)
def test_spoiled_metadata_is_refused_by_what_the_reader_catches(text):
    try:
        data = json.loads(text)
    except ValueError:
        return
    try:
        metadata = Metadata.from_dict(data)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return
    assert all(isinstance(spec.name, str) for spec in (*metadata.inputs, *metadata.outputs))


def test_the_good_files_are_good():
    assert QuantPlan.from_json(TEXT) == PLAN
    assert Program.from_bytes(PROGRAM).to_bytes() == PROGRAM
    assert Metadata.from_dict(json.loads(METADATA)).inputs[0].shape == (4, 8)
    with pytest.raises(TuningError):
        recorded._parse("{}", "file")
