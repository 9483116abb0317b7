"""The instruction table and what derives from it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyq_tvm.errors import DeviceProgramError
from hyq_tvm.vta.isa import (
    BY_NAME,
    FORMATS,
    REGISTERS,
    assemble,
    decode,
    decode_uops,
    disassemble,
    encode,
    encode_uops,
    instruction,
    listing,
)
from hyq_tvm.vta.isa.__main__ import GENERATED, main, stale
from hyq_tvm.vta.isa.encoding import _extract, check, from_row
from hyq_tvm.vta.isa.records import Field, Format, Placed
from hyq_tvm.vta.isa.table import ELEMENT_BYTES

SAMPLES = [
    instruction("SET", register="LOW", value=-128),
    instruction("SET", register="EPSILON", value=2**61 - 1, pop_prev=1),
    instruction("LOAD", memory="INP", dram=2**32 - 1, y_size=3, x_size=5, length=7, pad_left=15),
    instruction("GEMM", init=1, uop_end=1024, iter_out=16383, iter_in=1, wgt_in=1023, dst_out=2047),
    instruction("VECTOR", op="REQ", target="INP", uop_end=1, iter_out=1, iter_in=9),
    instruction("SOFTMAX", exponential="WEIGHTS", result="WEIGHT", target="INP", rows=1, length=9),
    instruction("STORE", memory="ACC8", y_size=1, x_size=1, length=1, pop_prev=1, push_prev=1),
    instruction("FINISH", pop_next=1),
]


def _field(form: Field) -> st.SearchStrategy[int]:
    if form.choices is not None:
        return st.sampled_from(sorted(form.choices.by_code))
    edges = [v for v in (form.low, form.low + 1, form.high - 1, form.high) if v >= form.low]
    return st.one_of(st.sampled_from(edges), st.integers(form.low, form.high))


@st.composite
def legal_instructions(draw):
    form = draw(st.sampled_from(FORMATS))
    fields = {f.name: draw(_field(f)) for f in form.fields if f.name != "opcode"}
    try:
        return instruction(form.name, **fields)
    except DeviceProgramError:
        return instruction("FINISH")


@given(st.lists(legal_instructions(), min_size=1, max_size=8))
def test_encoding_round_trip(program):
    words = encode(program)
    decoded = [from_row(row) for row in decode(words)]
    assert [encode([a]).tolist() for a in decoded] == [encode([b]).tolist() for b in program]
    assert assemble(listing(words)) == [instruction(d.name, **_bare(d)) for d in decoded]


def _bare(made):
    return {f.name: made[f.name] for f in made.format.fields if _kept(f, made[f.name])}


def _kept(form, value):
    return form.name != "opcode" and (value != 0 or form.choices is not None)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=4))
def test_any_words_decode_or_are_refused_by_index(words):
    array = np.array(words, dtype=np.uint64).reshape(-1, 2)
    try:
        rows = decode(array)
    except DeviceProgramError:
        with pytest.raises(DeviceProgramError, match=r"^instruction \d+: "):
            decode(array)
    else:
        np.testing.assert_array_equal(encode([from_row(row) for row in rows]), array)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: disassemble(s)[:30])
def test_text_round_trip(sample):
    assert [disassemble(made) for made in assemble(disassemble(sample))] == [disassemble(sample)]


def test_each_field_has_its_own_bits():
    for form in FORMATS:
        spans = [(p.offset, p.offset + p.field.bits) for p in form.placed]
        assert all(end == start for (_, end), (start, _) in itertools.pairwise(spans))
        assert spans[-1][1] <= 128


def test_vta_numbers_are_kept():
    assert {n: BY_NAME[n].opcode for n in ("LOAD", "STORE", "GEMM", "FINISH", "VECTOR")} == {
        "LOAD": 0,
        "STORE": 1,
        "GEMM": 2,
        "FINISH": 3,
        "VECTOR": 4,
    }


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("JUMP", {}, "unknown instruction 'JUMP'"),
        ("GEMM", {"uop": 1}, r"no fields \['uop'\]"),
        ("GEMM", {"uop_end": 0, "iter_out": 1, "iter_in": 1}, "uop_end=0 is outside"),
        ("GEMM", {"uop_begin": 5, "uop_end": 5, "iter_out": 1, "iter_in": 1}, "are none"),
        ("GEMM", {"uop_end": 1, "iter_out": 1, "iter_in": 1, "dst_in": 2048}, "dst_in=2048"),
        ("GEMM", {"uop_end": 1, "iter_out": 4097, "iter_in": 4096}, "16781312 steps"),
        ("LOAD", {"memory": "OUT"}, "memory='OUT'"),
        ("LOAD", {"memory": 15, "y_size": 1, "x_size": 1, "length": 1}, "not one of its choices"),
        ("LOAD", {"memory": "INP", "x_size": 1, "length": 1}, "y_size=0 is outside"),
        (
            "LOAD",
            {"memory": "WGT", "y_size": 1, "x_size": 1, "length": 1, "pad_top": 1},
            "no padding",
        ),
        ("LOAD", {"memory": "INP", "y_size": 1, "x_size": 1, "length": 1, "pop_prev": 1}, "'prev'"),
        ("STORE", {"memory": "INP", "y_size": 1, "x_size": 1, "length": 1}, "only"),
        (
            "STORE",
            {"memory": "ACC", "y_size": 1, "x_size": 1, "length": 1, "pop_next": 1},
            "'next'",
        ),
        ("SET", {"register": "LOAD_PAD", "push_prev": 1}, "'prev'"),
        ("SET", {"register": "SHIFT", "value": 63}, "outside 0..62"),
        ("SET", {"register": "PERIOD", "value": 0}, "outside 1"),
        ("SET", {"register": 31, "value": 0}, "not one of its choices"),
        (
            "VECTOR",
            {"op": "ADD", "target": "INP", "uop_end": 1, "iter_out": 1, "iter_in": 1},
            "writes accumulators only",
        ),
        (
            "VECTOR",
            {"op": "REQ", "operand": "IMM", "uop_end": 1, "iter_out": 1, "iter_in": 1},
            "reads an accumulator entry only",
        ),
        (
            "SOFTMAX",
            {"exponential": "TABLE", "result": "WEIGHT", "rows": 1, "length": 1},
            "belong together",
        ),
    ],
)
def test_illegal_instructions_are_refused(name, fields, message):
    with pytest.raises(DeviceProgramError, match=message):
        instruction(name, **fields)


def test_illegal_words_name_the_instruction():
    words = encode([instruction("FINISH")] * 3)
    words[1, 0] = 7
    with pytest.raises(DeviceProgramError, match="instruction 1: opcode 7 does not exist"):
        decode(words)
    words[1, 0] = 3 | 1 << 20
    with pytest.raises(DeviceProgramError, match="instruction 1: FINISH has bits set above"):
        decode(words)


@pytest.mark.parametrize("text", ["GEMM uop_end=x", "LOAD oops=1", "FINISH pop_prev=2"])
def test_bad_text_names_the_line(text):
    with pytest.raises(DeviceProgramError, match="line 2: "):
        assemble(f"# first\n{text}\n")


def test_uops_round_trip_and_overflow():
    uops = [(0, 0, 0), (2047, 2047, 1023), (1, 2, 3)]
    np.testing.assert_array_equal(decode_uops(encode_uops(uops)), uops)
    for bad in [(2048, 0, 0), (0, -1, 0), (0, 0, 1024)]:
        with pytest.raises(DeviceProgramError, match="does not fit"):
            encode_uops([bad])


def test_a_format_beyond_128_bits_is_refused():
    with pytest.raises(ValueError, match="129 bits"):
        Format("WIDE", 7, "compute", "", (Field("a", 129, ""),), ())


def test_reset_values_are_legal():
    for register in REGISTERS:
        assert register.low <= register.reset <= register.high
        check(instruction("SET", register=register.name, value=register.high))


def test_generated_files_are_current():
    assert stale() == []
    assert main(["--check"]) == 0


def test_stale_files_are_reported_and_written(tmp_path, capsys):
    assert main(["--check", "--root", str(tmp_path)]) == 1
    assert "docs/isa.md is not current" in capsys.readouterr().err
    assert main(["--root", str(tmp_path)]) == 0
    assert main(["--check", "--root", str(tmp_path)]) == 0
    for path, make in GENERATED.items():
        assert (tmp_path / path).read_text() == make()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("offset", "bits"), [
    (0, 1), (0, 64), (3, 5), (59, 5), (60, 8), (63, 2), (64, 1), (64, 64), (65, 17), (127, 1),
    (1, 62), (40, 30),
])  # fmt: skip
def test_fields_are_found_anywhere_in_the_words(offset, bits, signed):
    values = [0, 1, (1 << bits) - 1, 1 << (bits - 1), (1 << bits) // 3]
    others = [0, (1 << 128) - 1]
    for value, other in itertools.product(values, others):
        around = other & ~(((1 << bits) - 1) << offset) | value << offset
        words = np.array([[around & (1 << 64) - 1, around >> 64]], dtype=np.uint64)
        wanted = value - (1 << bits) if (signed or bits == 64) and value >> (bits - 1) else value
        (found,) = _extract(words, Placed(Field("x", bits, "", signed=signed), offset))
        assert int(found) == wanted


def test_any_bit_above_the_fields_is_refused():
    for made in SAMPLES:
        for bit in range(made.format.used_bits, 128):
            words = encode([made])
            words[0, bit // 64] |= np.uint64(1 << bit % 64)
            with pytest.raises(DeviceProgramError, match=r"instruction 0: .* has bits set above"):
                decode(words)


def test_stale_files_are_written_over(tmp_path):
    main(["--root", str(tmp_path)])
    first = next(iter(GENERATED))
    (tmp_path / first).write_text("old")
    assert stale(tmp_path) == [first]
    assert main(["--root", str(tmp_path)]) == 0
    assert stale(tmp_path) == []


def test_ranges_of_fields():
    assert (Field("x", 8, "", signed=True).low, Field("x", 8, "", signed=True).high) == (-128, 127)
    assert (Field("x", 8, "", minimum=1).low, Field("x", 8, "").high) == (1, 255)


def test_bytes_in_dram_are_those_of_the_names():
    bits = {"ACC": 32, "ACC8": 8, "ACCU8": 8, "ACC16": 16, "INP": 8, "WGT": 8, "WGT_T": 8}
    bits |= {"UOP": 32, "TBL": 16, "PRM": 32 + 32 + 64}
    assert {name: 8 * size for name, size in ELEMENT_BYTES.items()} == bits


def test_the_longest_loops_are_legal_and_one_step_more_is_not():
    loops = {"uop_begin": 1000, "iter_out": 4096, "iter_in": 4096}
    assert instruction("GEMM", uop_end=1001, **loops)["uop_end"] == 1001
    with pytest.raises(DeviceProgramError, match="33554432 steps"):
        instruction("GEMM", uop_end=1002, **loops)


def test_addresses_are_hexadecimal_and_nothing_else_is():
    text = disassemble(instruction("LOAD", memory="INP", dram=255, y_size=16, x_size=1, length=1))
    assert "dram=0xff" in text
    assert "y_size=16" in text
