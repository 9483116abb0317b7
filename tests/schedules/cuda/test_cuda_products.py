"""Products on tensor cores and by dp4a: exact for any size and epilogue, and on the right unit."""

import re

import numpy as np
import pytest

from schedules.application import choose
from schedules.cuda import default, products
from schedules.cuda.tiles import TILES, own_tile
from tests.schedules.calls import Call, factors, ints, to_int8
from tests.schedules.cuda.device import FLOAT, TARGET, assert_exact, entries, machine_code
from tests.schedules.test_products import EPILOGUES, conv_call, dense_call

RULES = [products.weighted, products.batched, default.schedule]
ONE = (1, 1, 1, 1)


def matmul_call(batch, rows, depth, channels):
    arrays = [ints(np.int8, batch, rows, depth), ints(np.int8, batch, channels, depth)]
    params = {"epilogue": [to_int8()]}
    return Call("matmul", params, [*arrays, *factors(1, near=1e-3)], tensors=2)


def test_dense_of_every_size(any_order):
    large = [(1, 320, 100), (17, 33, 35), (70, 64, 64), (64, 130, 40), (130, 200, 66)]
    small = [(33, 24, 48), (9, 7, 33), (40, 48, 8), (3, 1, 1), (20, 31, 31), (6, 66, 31)]
    kernels = assert_exact({str(s): dense_call(*s) for s in [*large, *small]}, RULES)
    assert all(kernel.name.startswith("dense_") for kernel in kernels)


def test_every_epilogue(any_order):
    calls = {
        f"{n} {c}": dense_call(19, 40, c, s) for n, s in EPILOGUES.items() for c in (40, 8, 37)
    }
    assert_exact(calls, RULES)


def test_convolutions_of_every_geometry(any_order):
    calls = {
        "stem": conv_call((2, 9, 9, 3), (16, 3, 3, 3), strides=(2, 2), padding=ONE),
        "patches": conv_call((1, 12, 12, 3), (40, 4, 4, 3), strides=(4, 4)),
        "pointwise": conv_call((1, 5, 7, 48), (40, 1, 1, 48)),
        "pointwise, strided": conv_call((2, 5, 7, 48), (40, 1, 1, 48), strides=(2, 2)),
        "padded": conv_call((2, 6, 5, 24), (33, 3, 3, 24), padding=ONE),
        "odd": conv_call((1, 6, 5, 5), (33, 3, 3, 5), padding=(1, 0, 2, 1)),
        "dilated": conv_call((1, 9, 8, 16), (32, 3, 3, 16), dilation=(2, 2), padding=(2, 2, 2, 2)),
        "few channels": conv_call((1, 6, 5, 32), (8, 3, 3, 32), padding=ONE),
        "tall": conv_call((1, 9, 5, 12), (36, 5, 1, 12), padding=(2, 0, 2, 0), strides=(2, 1)),
    }
    kernels = assert_exact(calls, RULES)
    assert all("x" in kernel.name for kernel in kernels)


def test_batched_products(any_order):
    sizes = [(2, 17, 64, 33), (3, 40, 20, 40), (1, 5, 36, 130), (2, 9, 8, 7)]
    assert_exact({str(size): matmul_call(*size) for size in sizes}, RULES)


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_every_tile(gpu, tile, monkeypatch):
    assert tile.shared <= 48 * 1024
    monkeypatch.setattr(products, "own_tile", lambda *_: tile)
    assert_exact({"dense": dense_call(150, 200, 75), "short": dense_call(30, 40, 72)}, RULES)


def test_grouped_convolutions_are_left_to_other_rules():
    call = conv_call((1, 5, 5, 8), (8, 3, 3, 4), groups=2)
    assert products.weighted(call.workload(), TARGET) is None


@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])
def test_the_units_are_the_ones_meant(arch):
    calls = [
        dense_call(70, 64, 64),
        conv_call((1, 8, 8, 32), (32, 3, 3, 32), padding=ONE),
        matmul_call(2, 40, 64, 40),
        dense_call(70, 16, 64),
        conv_call((1, 9, 9, 3), (16, 3, 3, 3), padding=ONE),
    ]
    made = machine_code([choose(c.workload(), TARGET, RULES) for c in calls], arch)
    assert all(r.spills == 0 for r in made.resources.values())
    used = [bool(re.search(r"mma\.sync\S*\.s32\.s8\.s8", b)) for b in entries(made.ptx).values()]
    assert used == [True, True, True, False, False]
    assert ["dp4a" in body for body in entries(made.ptx).values()] == [not mma for mma in used]
    assert not FLOAT.search(made.ptx)
    assert ("cp.async" in made.ptx) is (arch != "sm_75")


def test_few_rows_get_small_tiles():
    assert own_tile(64, 96).rows < own_tile(100_000, 512).rows
