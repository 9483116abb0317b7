"""The target table: what users may write, and what they are told when it does not work."""

import platform

import pytest
import tvm
from tvm.target import Target, codegen

from hyq_tvm import targets
from hyq_tvm.errors import TargetError
from hyq_tvm.processor import X86
from hyq_tvm.targets import backend, llvm


def test_a_name_becomes_this_machine():
    found, target = targets.resolve("llvm")
    assert found.name == "llvm"
    options = backend.option_dict(target)
    assert options["mcpu"] == str(codegen.llvm_get_system_cpu())
    assert options["num-cores"] >= 1


def test_options_win_over_this_machine():
    _, target = targets.resolve({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 7})
    options = backend.option_dict(target)
    assert (options["mcpu"], options["num-cores"]) == ("x86-64-v3", 7)
    assert "mattr" not in options


def test_another_architecture_is_not_given_this_processor():
    _, target = targets.resolve({"kind": "llvm", "mtriple": "aarch64-linux-gnu"})
    assert "mcpu" not in backend.option_dict(target)


def test_a_tvm_target_is_taken_as_it_is():
    given = Target({"kind": "llvm", "mcpu": "x86-64-v2"})
    _, target = targets.resolve(given)
    assert backend.option_dict(target) == {"kind": "llvm", "mcpu": "x86-64-v2"}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 feature names")
def test_extensions_hidden_by_a_hypervisor_are_switched_off(monkeypatch):
    monkeypatch.setattr(llvm.codegen, "llvm_get_system_cpu", lambda: "znver4")
    visible = frozenset(X86.values()) - {"avx512_vnni", "avx512_bf16"}
    monkeypatch.setattr(llvm, "host_features", lambda: visible)
    assert llvm.host_options() == {"mcpu": "znver4", "mattr": ["-avx512bf16", "-avx512vnni"]}
    _, target = targets.resolve("llvm")
    assert "avx512vnni" not in codegen.llvm_get_cpu_features(target)
    assert "avx512vbmi" in codegen.llvm_get_cpu_features(target)


def test_an_unreadable_cpuinfo_switches_nothing_off(monkeypatch):
    monkeypatch.setattr(llvm, "host_features", frozenset)
    assert "mattr" not in llvm.host_options()


@pytest.mark.parametrize(
    "target", ["tpu", "", {"mcpu": "znver4"}, {"kind": "metal"}, "llvm -mcpu=znver4"]
)
def test_unknown_targets_list_the_choices(target):
    with pytest.raises(TargetError, match=r"choose one of 'llvm': .*'cuda'.*'vta'"):
        targets.resolve(target)


@pytest.mark.parametrize("target", [None, 5, ["llvm"]])
def test_other_things_are_no_target(target):
    with pytest.raises(TargetError, match="give a name such as 'llvm'"):
        targets.resolve(target)


@pytest.mark.parametrize("options", [{"speed": "high"}, {"num-cores": "many"}, {"mattr": 3}])
def test_unknown_options_are_named(options):
    with pytest.raises(TargetError, match="is not valid"):
        targets.resolve({"kind": "llvm", **options})


def test_an_unknown_processor_is_not_taken_for_a_plain_one():
    with pytest.raises(TargetError, match="LLVM knows no processor 'z80'"):
        targets.resolve({"kind": "llvm", "mcpu": "z80"})
    with pytest.raises(TargetError, match="LLVM knows no processor 'cortex-a76'"):
        targets.resolve({"kind": "llvm", "mcpu": "cortex-a76"})


def test_the_table_is_keyed_by_name():
    assert all(name == entry.name for name, entry in targets.BACKENDS.items())


def test_the_code_of_an_older_processor_needs_fewer_extensions():
    from tests.integer_modules import dense_module

    _, target = targets.resolve({"kind": "llvm", "mcpu": "x86-64-v2"})
    built = targets.BACKENDS["llvm"].build(dense_module(), target, None)
    assert built.machine == "x86_64"
    assert "popcnt" in built.features
    assert not {"avx", "avx2", "avx512f"} & set(built.features)
    assert isinstance(built.library.module(), tvm.runtime.Module)
