"""The instruction set of HyQ-VTA: the one table that everything else is generated from."""

from __future__ import annotations

from hyq_tvm.vta.isa.records import Choice, Enumeration, Field, Format, Function, Register

VERSION = 1
"""Changes whenever a program of before would mean something else."""

UNITS = ("load", "compute", "store")

OPCODE_BITS = 3
UOP_INDEX_BITS = 13
SRAM_BITS = 13
LOOP_BITS = 14
DST_BITS = 11
SRC_BITS = 11
THIRD_BITS = 10
THIRD_FACTOR_BITS = 6
LENGTH_BITS = 13
SIZE_BITS = 14
PAD_BITS = 4
UOP_BITS = DST_BITS + SRC_BITS + THIRD_BITS
MAX_STEPS = 1 << 24
"""Steps of one loop nest, iter_out * iter_in * micro-ops: more is illegal, so that none hangs."""

PARAMETER_BYTES = 16
"""Bytes of one lane of a parameter entry: multiplier 4, second 4, offset 8."""

INT32_LOW, INT32_HIGH = -(2**31), 2**31 - 1


def _enumeration(name: str, rows: dict[str, str]) -> Enumeration:
    choices = [Choice(key, code, meaning) for code, (key, meaning) in enumerate(rows.items())]
    return Enumeration(name, tuple(choices))


MEMORY = _enumeration(
    "MEMORY",
    {
        "UOP": "micro-ops, 4 bytes each",
        "WGT": "weights int8: run c of a matrix row r is input c of output r",
        "INP": "inputs, 8 bits",
        "ACC": "accumulators int32",
        "WGT_T": "weights int8, transposed: run c of a matrix row r is input r of output c",
        "ACC8": "accumulators from or to int8, saturating when stored",
        "ACC16": "accumulators from or to int16, saturating when stored",
        "ACCU8": "accumulators from or to uint8, saturating when stored",
        "TBL": "table entries, 16 bits each",
        "PRM": "parameters, 16 bytes a lane: multiplier int32, second int32, offset int64",
    },
)

STORABLE = ("ACC", "ACC8", "ACC16", "ACCU8")
"""Memories that STORE reads."""

MATRICES = ("WGT", "WGT_T")
FLAT = ("UOP", "TBL", "PRM")
"""Memories whose loads take neither padding nor partly filled entries."""

ELEMENT_BYTES = {
    "UOP": 4,
    "WGT": 1,
    "INP": 1,
    "ACC": 4,
    "WGT_T": 1,
    "ACC8": 1,
    "ACC16": 2,
    "ACCU8": 1,
    "TBL": 2,
    "PRM": PARAMETER_BYTES,
}
"""DRAM bytes of one element of a run."""

OPERAND = _enumeration(
    "OPERAND",
    {
        "ACC": "the accumulator entry that the micro-op's src selects",
        "IMM": "the register IMMEDIATE in every lane",
        "PRM": "the second word of the parameter entry that the micro-op's third selects",
    },
)

FUNCTIONS: tuple[Function, ...] = (
    Function("MOV", "move", "", ("r = clip(b)",)),
    Function("MIN", "binary", "", ("r = clip(min(a, b))",)),
    Function("MAX", "binary", "", ("r = clip(max(a, b))",)),
    Function("ADD", "binary", "", ("r = clip(a + b)",)),
    Function("SUB", "binary", "", ("r = clip(a - b)",)),
    Function("MUL", "binary", "", ("r = clip(a * b)",)),
    Function("SHR", "binary", "", ("r = clip(rshift(a, b mod 32))",)),
    Function(
        "REQ",
        "unary",
        "parameter",
        (
            "p = prm[third][lane]",
            "r = clip(((b * p.multiplier + p.offset) >> (p.second mod 64)) + ZERO_POINT)",
        ),
    ),
    Function(
        "SCALE_ADD",
        "binary",
        "parameter",
        (
            "p = prm[third][lane]",
            "r = clip(((a * p.multiplier + b * p.second + p.offset) >> SHIFT) + ZERO_POINT)",
        ),
    ),
    Function(
        "LOOKUP",
        "unary",
        "",
        ("r = tbl[TABLE_BASE + min(max(b - TABLE_LOW, 0), TABLE_SIZE - 1)]  # int16",),
    ),
    Function("ROW_SUM", "binary", "", ("r = clip(a + sum(acc[src][0 : LANES]))",)),
    Function("ROW_MAX", "binary", "", ("r = clip(max(a, max(acc[src][0 : LANES])))",)),
    Function(
        "MOMENTS",
        "binary",
        "",
        (
            "s1 = int64(acc[dst], 0) + sum(acc[src][0 : LANES])",
            "s2 = int64(acc[dst], 2) + sum(squares of acc[src][0 : LANES])",
            "acc[dst] = {s1 low word, s1 high word, s2 low word, s2 high word, 0...}",
        ),
    ),
    Function(
        "ROOT",
        "unary",
        "",
        (
            "s1, s2 = int64(acc[src], 0), int64(acc[src], 2)",
            "v = max(1, COUNT * s2 - s1 * s1 + EPSILON)  # an error from 2^62 on",
            "z = (64 - bitlen(v)) with its lowest bit cleared",
            "root = largest R with R * R * ((v << z) >> 32) <= 2^62",
            "acc[dst] = {s1 low word, root, 32 - z / 2, 0...}",
        ),
    ),
    Function(
        "NORM",
        "unary",
        "row",
        (
            "s1, root, shift = acc[third][0], acc[third][1], acc[third][2]",
            "r = clip(rshift((COUNT * b - s1) * root, shift))",
        ),
    ),
    Function(
        "RECIPROCAL",
        "unary",
        "",
        (
            "l = max(acc[src][0], 1); h = bitlen(l)",
            "m = ((RESCALE_MULTIPLIER << h) + (l >> 1)) div l",
            "acc[dst] = {m low word, m high word, h + RESCALE_SHIFT, 0...}",
        ),
    ),
    Function(
        "RESCALE",
        "unary",
        "row",
        (
            "m, shift = int64(acc[third], 0), acc[third][2]",
            "r = clip(rshift(b * m, shift) + ZERO_POINT)",
        ),
    ),
    Function(
        "RESCALE_WIDE",
        "binary",
        "row",
        (
            "m, shift = int64(acc[third], 0), acc[third][2]",
            "r = clip(rshift((256 * a + b) * m, shift) + ZERO_POINT)",
        ),
    ),
    Function(
        "REQ_LOOKUP",
        "unary",
        "parameter",
        ("x = what REQ gives", "r = what LOOKUP gives for b = x"),
    ),
)

FUNCTION = Enumeration(
    "FUNCTION",
    tuple(Choice(f.name, code, " ; ".join(f.meaning)) for code, f in enumerate(FUNCTIONS)),
)

IMMEDIATE_FUNCTIONS = ("MOV", "MIN", "MAX", "ADD", "SUB", "MUL", "SHR")
"""Functions whose operand need not be an accumulator entry."""

STATISTICS = ("MOMENTS", "ROOT", "RECIPROCAL")
"""Functions that write the numbers of a row, not lanes."""

EXPONENTIAL = _enumeration(
    "EXPONENTIAL",
    {
        "WEIGHTS": "e = tbl[TABLE_BASE + min(d, TABLE_SIZE - 1)] as uint16; 0 where t <= -2^30",
        "LINEAR_POT": "q = d >> F; f = d mod 2^F; e = ((OFFSET - f) << (W - bitlen(OFFSET))) >> q",
        "TABLE": "as LINEAR_POT with tbl[TABLE_BASE + 2 f] and tbl[TABLE_BASE + 2 f + 1] << 16 "
        "(uint16 each) in place of the shifted line",
        "LINEAR": "q = d div PERIOD; r = d mod PERIOD; z = OFFSET - r; "
        "e = z shifted left by W - bitlen(OFFSET) (right where negative), then right by q",
        "POLY2": "as LINEAR with z = CONSTANT - r * (OFFSET - r) and W - bitlen(CONSTANT)",
    },
)

RESULT = _enumeration(
    "RESULT",
    {
        "WEIGHT": "e, 8 bits",
        "WEIGHT_WIDE": "two planes: e >> 8 at dst, e mod 256 at dst + plane",
        "UINT8": "255 e / L: m = rdiv(255 << (h + 22 - W), L); rshift((e m) >> 16, h + 6 - W)",
        "LOG2": "floor(log2(4/3 L / e)), at most 15; 15 where e is 0",
        "GRID": "m = rdiv(RESCALE_MULTIPLIER << h, L); "
        "clip(rshift(e m, h + RESCALE_SHIFT) + ZERO_POINT)",
    },
)

TARGET = _enumeration(
    "TARGET",
    {
        "ACC": "the accumulators, int32",
        "INP": "the input buffer: the low 8 bits of each lane",
    },
)

REGISTERS: tuple[Register, ...] = (
    Register("LOAD_Y_STRIDE", "load", 0, 2**32 - 1, 0, "bytes from one row of runs to the next"),
    Register("LOAD_X_STRIDE", "load", 0, 2**32 - 1, 0, "bytes from one run to the next"),
    Register("LOAD_PAD", "load", INT32_LOW, INT32_HIGH, 0, "value of padding and unfilled lanes"),
    Register("STORE_Y_STRIDE", "store", 0, 2**32 - 1, 0, "bytes from one row of runs to the next"),
    Register("STORE_X_STRIDE", "store", 0, 2**32 - 1, 0, "bytes from one run to the next"),
    Register("LOW", "compute", INT32_LOW, INT32_HIGH, INT32_LOW, "lower end of clip"),
    Register("HIGH", "compute", INT32_LOW, INT32_HIGH, INT32_HIGH, "upper end of clip"),
    Register("ZERO_POINT", "compute", INT32_LOW, INT32_HIGH, 0, "added after a rounding shift"),
    Register("IMMEDIATE", "compute", INT32_LOW, INT32_HIGH, 0, "operand IMM"),
    Register("SHIFT", "compute", 0, 62, 0, "shift of SCALE_ADD"),
    Register("TABLE_BASE", "compute", 0, 2**SRAM_BITS - 1, 0, "first entry of the table"),
    Register("TABLE_LOW", "compute", INT32_LOW, INT32_HIGH, 0, "value that reads the first entry"),
    Register("TABLE_SIZE", "compute", 1, 2**SRAM_BITS, 1, "entries of the table"),
    Register("LANES", "compute", 1, 2**8, 1, "lanes that reductions read"),
    Register("COUNT", "compute", 1, 2**15, 1, "elements that share a mean"),
    Register("EPSILON", "compute", 0, 2**61 - 1, 0, "added to the variance of ROOT"),
    Register("RESCALE_MULTIPLIER", "compute", 0, INT32_HIGH, 0, "numerator of a row's reciprocal"),
    Register("RESCALE_SHIFT", "compute", -31, 62, 0, "added to a reciprocal's shift"),
    Register("FRACTION_BITS", "compute", 1, 8, 4, "F: the softmax grid is ln2 / 2^F"),
    Register("WEIGHT_BITS", "compute", 15, 21, 15, "W: width of an unnormalised weight"),
    Register("GRID_MULTIPLIER", "compute", 0, 2**15 - 1, 0, "of the grid requantizer; 0: no such"),
    Register("GRID_PRE_SHIFT", "compute", 0, 31, 0, "of the grid requantizer"),
    Register("GRID_SHIFT", "compute", 0, 62, 0, "of the grid requantizer"),
    Register("LOGIT_SHIFT", "compute", -14, 30, 0, "LINEAR, POLY2: shift of differences"),
    Register("PERIOD", "compute", 1, 2**12 - 1, 1, "LINEAR, POLY2: ln2 in steps"),
    Register("OFFSET", "compute", 0, 2**13 - 1, 0, "offset of the line or the polynomial"),
    Register("CONSTANT", "compute", 0, 2**18 - 1, 0, "POLY2: constant of the polynomial"),
)

REGISTER = Enumeration(
    "REGISTER", tuple(Choice(r.name, code, r.meaning) for code, r in enumerate(REGISTERS))
)

COMMON = (
    Field("opcode", OPCODE_BITS, "which instruction"),
    Field("pop_prev", 1, "wait for a token from the unit before (load, compute, store)"),
    Field("pop_next", 1, "wait for a token from the unit after"),
    Field("push_prev", 1, "give a token to the unit before, when done"),
    Field("push_next", 1, "give a token to the unit after, when done"),
)

_TRANSFER = (
    Field("memory", 4, "kind of on-chip memory", MEMORY),
    Field("sram", SRAM_BITS, "first entry on chip"),
    Field("dram", 32, "byte address of the first run"),
    Field("y_size", SIZE_BITS, "rows of runs", minimum=1),
    Field("x_size", SIZE_BITS, "runs of a row", minimum=1),
    Field("length", LENGTH_BITS, "elements of a run", minimum=1),
)

_LOOPS = (
    Field("uop_begin", UOP_INDEX_BITS, "first micro-op"),
    Field("uop_end", UOP_INDEX_BITS + 1, "micro-op after the last", minimum=1),
    Field("iter_out", LOOP_BITS, "iterations of the outer loop", minimum=1),
    Field("iter_in", LOOP_BITS, "iterations of the inner loop", minimum=1),
    Field("dst_out", DST_BITS, "outer step of the destination index"),
    Field("dst_in", DST_BITS, "inner step of the destination index"),
    Field("src_out", SRC_BITS, "outer step of the source index"),
    Field("src_in", SRC_BITS, "inner step of the source index"),
)

_NEST = (
    "for y in 0 .. iter_out - 1:",
    "  for x in 0 .. iter_in - 1:",
    "    for u in uop[uop_begin .. uop_end - 1]:",
    "      dst = u.dst + y * dst_out + x * dst_in",
    "      src = u.src + y * src_out + x * src_in",
)

LOAD = Format(
    "LOAD",
    0,
    "load",
    "a strided block of runs from DRAM, with padding",
    (
        *COMMON,
        *_TRANSFER,
        Field("pad_top", PAD_BITS, "rows of padding above"),
        Field("pad_bottom", PAD_BITS, "rows of padding below"),
        Field("pad_left", PAD_BITS, "runs of padding before each row"),
        Field("pad_right", PAD_BITS, "runs of padding after each row"),
    ),
    (
        "# INP, ACC, ACC8, ACC16, ACCU8: a run fills n = ceil(length / BLOCK) entries;",
        "# padding and the lanes that no element fills get LOAD_PAD.",
        "entry = sram",
        "for y in -pad_top .. y_size + pad_bottom - 1:",
        "  for x in -pad_left .. x_size + pad_right - 1:",
        "    inside = 0 <= y < y_size and 0 <= x < x_size",
        "    for c in 0 .. n * BLOCK - 1:",
        "      element = memory[dram + y * LOAD_Y_STRIDE + x * LOAD_X_STRIDE + c * bytes]",
        "      buffer[entry + c div BLOCK][c mod BLOCK] =",
        "        element if inside and c < length else LOAD_PAD",
        "    entry += n",
        "# WGT: y counts matrices, x its rows, c its columns; unfilled cells get 0;",
        "# matrix y starts at entry sram + y * ceil(x_size / BLOCK) * n:",
        "      wgt[sram + (y * ceil(x_size / BLOCK) + x div BLOCK) * n + c div BLOCK]",
        "        [x mod BLOCK][c mod BLOCK] = element",
        "# WGT_T: the same transposed, with m = ceil(x_size / BLOCK):",
        "      wgt[sram + (y * n + c div BLOCK) * m + x div BLOCK][c mod BLOCK][x mod BLOCK] =",
        "        element",
        "# UOP, TBL: an element is an entry; PRM: an element is a lane, length a multiple of",
        "# BLOCK; no padding. Runs follow each other without gaps.",
    ),
)

STORE = Format(
    "STORE",
    1,
    "store",
    "a strided block of runs to DRAM",
    (*COMMON, *_TRANSFER),
    (
        "entry = sram; n = ceil(length / BLOCK)",
        "for y in 0 .. y_size - 1:",
        "  for x in 0 .. x_size - 1:",
        "    for c in 0 .. length - 1:",
        "      value = acc[entry + c div BLOCK][c mod BLOCK]",
        "      memory[dram + y * STORE_Y_STRIDE + x * STORE_X_STRIDE + c * bytes] =",
        "        saturate(value) to the type of the memory kind",
        "    entry += n",
    ),
)

GEMM = Format(
    "GEMM",
    2,
    "compute",
    "matrix-vector products of BLOCK x BLOCK tiles into accumulators",
    (
        *COMMON,
        Field("init", 1, "the product replaces the accumulator instead of being added"),
        Field("inp_u8", 1, "inputs are uint8 instead of int8"),
        *_LOOPS,
        Field("wgt_out", THIRD_BITS, "outer step of the weight index"),
        Field("wgt_in", THIRD_BITS, "inner step of the weight index"),
    ),
    (
        *_NEST,
        "      wgt = u.third + y * wgt_out + x * wgt_in",
        "      for o in 0 .. BLOCK - 1:",
        "        product = sum over i of inp[src][i] * wgt[wgt][o][i]",
        "        acc[dst][o] = product + (0 if init else acc[dst][o])  # modulo 2^32",
    ),
)

FINISH = Format(
    "FINISH",
    3,
    "compute",
    "the end of a program; the last instruction",
    COMMON,
    ("done = 1  # all units are idle and no token is left",),
)

VECTOR = Format(
    "VECTOR",
    4,
    "compute",
    "one function on each lane of accumulator entries",
    (
        *COMMON,
        Field("op", 5, "what is computed", FUNCTION),
        Field("operand", 2, "where b comes from; all but MOV to SHR need ACC", OPERAND),
        Field("target", 1, "where r goes; binary functions need ACC", TARGET),
        *_LOOPS,
        Field("third_out", THIRD_FACTOR_BITS, "outer step of the third index"),
        Field("third_in", THIRD_FACTOR_BITS, "inner step of the third index"),
    ),
    (
        *_NEST,
        "      third = u.third + y * third_out + x * third_in",
        "      for lane in 0 .. BLOCK - 1:",
        "        a = acc[dst][lane]; b = operand",
        "        r = function(a, b)        # all intermediates have 64 bits, modulo 2^64",
        "        target[dst][lane] = r     # before the next micro-op reads",
    ),
)

SOFTMAX = Format(
    "SOFTMAX",
    5,
    "compute",
    "weights or probabilities of rows of logits",
    (
        *COMMON,
        Field("exponential", 3, "what stands for 2^-d", EXPONENTIAL),
        Field("result", 3, "what is written", RESULT),
        Field("target", 1, "where it goes", TARGET),
        Field("rows", 12, "how many rows", minimum=1),
        Field("length", LENGTH_BITS, "logits of a row", minimum=1),
        Field("src", SRC_BITS, "first accumulator entry of the first row"),
        Field("src_step", SRC_BITS, "entries from one row to the next"),
        Field("dst", DST_BITS, "first entry of the first row of results"),
        Field("dst_step", DST_BITS, "entries from one row to the next"),
        Field("plane", DST_BITS, "WEIGHT_WIDE: entries from the high plane to the low one"),
        Field("total", DST_BITS, "accumulator entry of the first row's sum; one more each row"),
    ),
    (
        "for row in 0 .. rows - 1:",
        "  t[j] = acc[src + row * src_step + j div BLOCK][j mod BLOCK], j in 0 .. length - 1",
        "  d[j] = min(max(t) - t[j], 2^31 - 1)",
        "  LINEAR_POT and TABLE with GRID_MULTIPLIER > 0:",
        "    d[j] = rshift(min(rshift(d[j], GRID_PRE_SHIFT), 2^15 - 1) * GRID_MULTIPLIER,",
        "                  GRID_SHIFT)",
        "  LINEAR_POT, TABLE: d[j] = min(d[j], ((W + 1) << F) - 1)",
        "  LINEAR, POLY2: d[j] = min(d[j] * 2^LOGIT_SHIFT (rounded), (W + 1) * PERIOD - 1)",
        "  e[j] = exponential(d[j])",
        "  L = sum of e, int32; h = bitlen(L)",
        "  WEIGHT, WEIGHT_WIDE: acc[total + row] = {L, 0...}",
        "  target[dst + row * dst_step + j div BLOCK][j mod BLOCK] = result(e[j], L)",
        "  # lanes of the last entry beyond length get 0",
        "# results and sums must not overwrite logits, but for a row's own in place",
    ),
)

SET = Format(
    "SET",
    6,
    "register",
    "write a register of the unit that owns it",
    (
        *COMMON,
        Field("register", 5, "which register", REGISTER),
        Field("value", 64, "its value", signed=True),
    ),
    ("register = value",),
)

FORMATS: tuple[Format, ...] = (LOAD, STORE, GEMM, FINISH, VECTOR, SOFTMAX, SET)
BY_NAME = {f.name: f for f in FORMATS}
BY_OPCODE = {f.opcode: f for f in FORMATS}

UOP_FIELDS = (
    Field("dst", DST_BITS, "destination entry"),
    Field("src", SRC_BITS, "source entry"),
    Field("third", THIRD_BITS, "weight, parameter or row entry"),
)
UOP = Format("UOP", 0, "compute", "a micro-op, 32 bits", UOP_FIELDS, ())

_BEFORE = {"load": False, "compute": True, "store": True}
_AFTER = {"load": True, "compute": True, "store": False}


def neighbours(unit: str) -> tuple[bool, bool]:
    """Whether a unit has one before it, and one after it, to exchange tokens with."""
    return _BEFORE[unit], _AFTER[unit]
