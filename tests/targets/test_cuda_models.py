"""Whole models for every architecture: which kernels there are, what they use, and no floats."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import hyq_tvm
from benchmarks.latency_models import MODELS, quantized
from benchmarks.real_models import UnavailableError
from hyq_tvm import targets
from hyq_tvm.errors import TargetError
from hyq_tvm.targets import cuda, cuda_toolchain
from hyq_tvm.targets.cuda_toolchain import Compiled
from relay_passes.read_program import golden
from schedules.application import choose, workloads
from schedules.cuda import rules
from schedules.cuda.products import LEAST
from tests.schedules.cuda.conftest import gpu  # noqa: F401  a fixture
from tests.schedules.cuda.device import FLOAT, entries

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90")
NAMES = ("digits", "mobilevit_xxs", "mobilevit_s", "vit_tiny")
LISTS = Path(__file__).with_name("cuda_kernels")
ENDS = ("quantize", "dequantize")
TENSOR_CORES = re.compile(r"mma\.sync\S*\.s32\.s8\.s8")

quick = pytest.param("digits")
models = pytest.mark.parametrize(
    "name", [quick, *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES[1:])]
)
architectures = pytest.mark.parametrize(
    "arch",
    [pytest.param(a, marks=() if a in ("sm_75", "sm_90") else pytest.mark.slow)
     for a in ARCHITECTURES],
)  # fmt: skip


@cache
def model(name):
    try:
        return quantized(MODELS[name], 1)
    except UnavailableError as error:
        pytest.skip(str(error))


@cache
def compiled(name: str, arch: str) -> Compiled:
    """Every kernel of the model; skipped without NVIDIA's compiler."""
    try:
        compiler = cuda_toolchain.compiler()
    except TargetError as error:
        pytest.skip(str(error))
    seen = []

    class Watched:
        """Keeps what it compiles."""

        name = "watched"

        def compile(self, source, arch):
            seen.append(compiler.compile(source, arch))
            return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_toolchain, "compiler", Watched)
        hyq_tvm.compile(model(name), target={"kind": "cuda", "arch": arch})
    return seen[-1]


def plain_name(kernel: str) -> str:
    """Without the number of those that differ in constants alone."""
    return re.sub(r"_(\d+_)?kernel$", "", kernel).rstrip("_")


@models
@architectures
def test_every_kernel_of_the_list_and_no_other(name, arch):
    wanted = json.loads((LISTS / f"{name}.json").read_text())
    assert sorted({plain_name(k) for k in compiled(name, arch).resources}) == wanted


@models
@architectures
def test_no_spills_and_no_float_between_the_ends(name, arch):
    made = compiled(name, arch)
    assert all(r.spills == 0 and r.shared <= 48 * 1024 for r in made.resources.values())
    bodies = entries(made.ptx)
    assert set(bodies) == set(made.resources)
    floating = {kernel for kernel, body in bodies.items() if FLOAT.search(body)}
    assert floating == {kernel for kernel in bodies if kernel.startswith(ENDS)}


@models
@architectures
def test_products_use_tensor_cores_or_dp4a(name, arch):
    bodies = entries(compiled(name, arch).ptx)
    products = [k for k in bodies if re.match(r"(dense|conv2d|matmul)_\d+x\d+x\d+", k)]
    assert products
    for kernel in products:
        depth, channels = map(int, re.search(r"_\d+x(\d+)x(\d+)", kernel).groups())
        on_cores = min(depth, channels) >= LEAST
        assert bool(TENSOR_CORES.search(bodies[kernel])) is on_cores, kernel
        assert ("dp4a" in bodies[kernel]) is not on_cores, kernel
    assert all(TENSOR_CORES.search(b) for k, b in bodies.items() if k.startswith("attention"))


@models
def test_every_product_has_its_kernel(name):
    target = targets.resolve({"kind": "cuda", "arch": "sm_90"})[1].device
    for workload in workloads(model(name)):
        kernel = choose(workload, target, rules(target))
        plain = workload.op in ("dense", "matmul", "attention", "layer_norm", "softmax")
        whole = workload.op == "conv2d" and workload.params["groups"] == 1
        assert (kernel.name != workload.op) or not (plain or whole), kernel.name


@models
def test_the_emulated_gpu_makes_the_golden_integers(gpu, name):  # noqa: F811
    shape = MODELS[name].sample
    exe = hyq_tvm.compile(model(name), target="cuda")
    x = MODELS[name].images(1, seed=9)
    assert x.shape == (1, *shape)
    for _ in range(2):  # the first call captures the graph, the second one runs it
        np.testing.assert_array_equal(exe(x), golden(model(name))(x)[0])


def test_the_lists_are_those_of_the_models():
    assert sorted(file.stem for file in LISTS.glob("*.json")) == sorted(NAMES)
    assert cuda.ARCHITECTURES[0] == ARCHITECTURES[0]
