"""Instruction sets to run kernels on: those that this machine has."""

from __future__ import annotations

from typing import Any

import pytest
import tvm
from tvm.target import codegen

from hyq_tvm.processor import host_features, needed_features

PROCESSORS = {
    "avx512vnni": {"mcpu": "icelake-server"},
    "avx512bw": {"mcpu": "skylake-avx512"},
    "avxvnni": {"mcpu": "haswell", "mattr": ["+avxvnni"]},
    "avx2": {"mcpu": "haswell"},
    "sse2": {"mcpu": "x86-64"},
}


def make_target(name: str) -> Any:
    return tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", **PROCESSORS[name]})


@pytest.fixture(params=PROCESSORS, scope="session")
def target(request: pytest.FixtureRequest) -> Any:
    """A target of each x86 instruction set; skipped where the machine cannot run it."""
    made = make_target(request.param)
    vectors = [f for f in codegen.llvm_get_cpu_features(made) if "avx" in str(f) or f == "sse2"]
    missing = set(needed_features(vectors, "x86_64")) - host_features()
    if missing:
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")
    return made
