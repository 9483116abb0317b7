"""Instruction set extensions: the kernel's names against LLVM's."""

from pathlib import Path

import pytest

from hyq_tvm import processor


def test_flags_are_read_from_the_first_processor(tmp_path: Path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2 avx512_vnni\n\nflags : other\n")
    assert processor.host_features(cpuinfo) == {"fpu", "avx2", "avx512_vnni"}


def test_arm_calls_them_features(tmp_path: Path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("Features\t: fp asimd asimddp\n")
    assert processor.host_features(cpuinfo) == {"fp", "asimd", "asimddp"}


@pytest.mark.parametrize("content", [None, "", "model name : x\n"])
def test_no_flags_is_no_feature(tmp_path: Path, content):
    cpuinfo = tmp_path / "cpuinfo"
    if content is not None:
        cpuinfo.write_text(content)
    assert processor.host_features(cpuinfo) == frozenset()


def test_only_extensions_that_matter_are_needed():
    llvm = ["64bit", "avx512vnni", "avx512vbmi2", "fast-lzcnt", "bmi", "macrofusion"]
    assert processor.needed_features(llvm, "x86_64") == ("avx512_vbmi2", "avx512_vnni", "bmi1")
    assert processor.needed_features(["dotprod", "avx2"], "aarch64") == ("asimddp",)
    assert processor.needed_features(["avx2"], "riscv64") == ()


def test_no_two_llvm_names_share_a_kernel_name():
    for table in (processor.X86, processor.ARM):
        assert len(set(table.values())) == len(table)
