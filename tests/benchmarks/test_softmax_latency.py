"""The softmax benchmark compares what it says, and writes its tables."""

from __future__ import annotations

import numpy as np
import pytest
import tvm

from benchmarks import latency_report, softmax_latency
from benchmarks.float32 import rows
from benchmarks.float32.target import float_isa, float_target
from hyq_tvm import numerics
from schedules.rule import Constant

pytestmark = pytest.mark.skipif(
    float_isa(float_target()).lanes != 16, reason="float kernels are made for AVX512"
)


@pytest.mark.parametrize("dtype", ["int8", "int32"])
def test_both_sides_compute_the_same_probabilities(dtype):
    x = softmax_latency.logits((3, 50), dtype)
    kernel = rows.softmax(x.shape, dtype, softmax_latency.SCALES[dtype], "uint8")
    function = kernel.function.with_attr("global_symbol", "f")
    module = tvm.compile(tvm.IRModule({"f": function}), target=float_target())
    out = tvm.runtime.tensor(np.zeros(x.shape, np.uint8))
    passed = [a.value if isinstance(a, Constant) else x for a in kernel.arguments]
    module["f"](*[tvm.runtime.tensor(a) for a in passed], out)
    for kind in softmax_latency.KINDS:
        case = softmax_latency.integer_case(x, kind)
        integer = numerics.OPERATORS["softmax"](*case.arrays, **case.params)
        assert np.abs(integer.astype(int) - out.numpy()).max() <= 6


def test_tables_of_one_length(tmp_path):
    softmax_latency.main(["--tokens", "64", "--turns", "2", "--out", str(tmp_path)])
    found = latency_report.load(tmp_path / "softmax_latency.json")
    names = [row.name for row in found if row.group == "16x64x64 int8 to uint8"]
    assert sorted(names) == sorted([*softmax_latency.KINDS, "exact", "exact, scalar exp"])
    assert {row.group for row in found} == {f"16x64x64 {d} to uint8" for d in ("int8", "int32")}
    assert all(row.facts["elements"] == 65536 for row in found)
    fused = latency_report.load(tmp_path / "attention_latency.json")
    assert len({row.group for row in fused}) == 1
    assert fused[0].name == softmax_latency.BASE
    assert len(fused) == 4
    text = (tmp_path / "softmax_latency.md").read_text(encoding="utf-8")
    assert "min ns/element" in text
