"""Processors that this machine is not: the kernels compile for them, to the instructions meant."""

import pytest
import tvm

from schedules.application import choose
from schedules.llvm import isa, rules
from schedules.llvm.isa import instruction_set
from tests.schedules.calls import build, lookup, to_int8
from tests.schedules.test_products import conv_call, dense_call

ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}
X86 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu"}
PROCESSORS = {
    "alderlake": ({**X86, "mcpu": "alderlake"}, isa.AVX_VNNI.name, "vpdpbusd"),
    "sapphirerapids": ({**X86, "mcpu": "sapphirerapids"}, isa.AVX512_VNNI.name, "vpdpbusd"),
    "skylake-avx512": ({**X86, "mcpu": "skylake-avx512"}, isa.AVX512.name, "vpmaddwd"),
    "haswell": ({**X86, "mcpu": "haswell"}, isa.AVX2.name, "vpmaddwd"),
    "x86-64": (X86, isa.SSE2.name, "pmaddwd"),
    "neoverse-n1": ({**ARM, "mcpu": "neoverse-n1"}, isa.DOTPROD.name, "sdot"),
    "cortex-a72": ({**ARM, "mcpu": "cortex-a72"}, isa.PORTABLE.name, "mla"),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_products_use_the_instructions_of_the_processor(name):
    options, found, instruction = PROCESSORS[name]
    target = tvm.target.Target(options)
    assert instruction_set(target).name == found
    calls = [
        dense_call(20, 36, 50, [to_int8(), lookup()]),
        conv_call((1, 5, 7, 8), (33, 3, 3, 8), padding=(1, 1, 1, 1)),
    ]
    kernels = [choose(call.workload(), target, rules(target)[:-1]) for call in calls]
    assembly = build(kernels, target).mod.inspect_source("asm")
    assert assembly.count(instruction) > 20


def test_tables_in_registers_need_their_instruction():
    assert isa.of_features({"avx512vnni", "avx512bw", "avx512vbmi"}).permute
    assert not isa.of_features({"avx512vnni", "avx512bw"}).permute


def test_an_unknown_processor_gets_portable_code():
    assert isa.of_features(set()) is isa.PORTABLE
