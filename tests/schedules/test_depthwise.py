"""Depthwise convolutions: exact on every instruction set, whatever size and epilogue."""

import pytest

from schedules.llvm import depthwise, isa, rules
from tests.schedules.calls import Call, assert_exact, lookup, to_int8
from tests.schedules.conftest import make_target
from tests.schedules.test_products import EPILOGUES, conv_call

ONE = (1, 1, 1, 1)
TWO = (2, 2, 2, 2)
CHANNELS = (1, 3, 15, 16, 17, 20, 24, 32, 33, 48, 64, 80, 96, 130)


def depthwise_call(shape, kernel, strides=(1, 1), padding=ONE, dilation=(1, 1), stages=None):
    channels = shape[3]
    weight = (channels, *kernel, 1)
    return conv_call(shape, weight, strides, padding, dilation, channels, stages)


def assert_depthwise(calls, target):
    kernels = assert_exact(calls, [depthwise.schedule], target)
    assert {k.name.split("_")[0] for k in kernels} == {"depthwise"}


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_every_number_of_channels(target, strides):
    stages = [to_int8(), lookup()]
    calls = {f"{c}": depthwise_call((1, 6, 9, c), (3, 3), strides, stages=stages) for c in CHANNELS}
    assert_depthwise(calls, target)


def test_every_geometry(target):
    calls = {
        "batch": depthwise_call((3, 5, 4, 24), (3, 3)),
        "5x5": depthwise_call((1, 7, 9, 40), (5, 5), padding=TWO),
        "7x2, dilated": depthwise_call((1, 9, 9, 40), (7, 2), (2, 1), (2, 1, 2, 2), (1, 2)),
        "3x3, dilated": depthwise_call((1, 9, 9, 32), (3, 3), padding=TWO, dilation=(2, 2)),
        "no padding": depthwise_call((1, 4, 5, 16), (2, 2), padding=(0, 0, 0, 0)),
        "one pixel": depthwise_call((1, 1, 1, 20), (3, 3)),
        "stride over kernel": depthwise_call((1, 7, 8, 24), (1, 2), (3, 4), (0, 0, 0, 0)),
        "columns of a window apart": depthwise_call((1, 3, 9, 48), (1, 3), (1, 3), (0, 0, 0, 0)),
    }
    assert_depthwise(calls, target)


def test_every_epilogue(target):
    calls = {
        name: depthwise_call((1, 4, 5, 50), (3, 3), stages=stages)
        for name, stages in EPILOGUES.items()
        if name in ("accumulator", "table", "stream", "everything")
    }
    assert_depthwise(calls, target)


def test_portable_code(monkeypatch):
    monkeypatch.setattr(depthwise, "instruction_set", lambda target: isa.PORTABLE)
    calls = {f"{c}": depthwise_call((1, 6, 5, c), (3, 3)) for c in (1, 16, 20, 33)}
    calls["epilogue"] = depthwise_call((1, 3, 3, 20), (3, 3), stages=EPILOGUES["everything"])
    assert_depthwise(calls, make_target("sse2"))


def test_large_work_in_several_threads(target):
    call = depthwise_call((2, 33, 31, 32), (3, 3))
    (kernel,) = assert_exact({"large": call}, [depthwise.schedule], target)
    assert "T.parallel" in kernel.function.script()


def test_several_outputs_a_channel_are_a_grouped_convolution(target):
    call = conv_call((1, 4, 4, 6), (12, 3, 3, 1), padding=ONE, groups=6)
    assert depthwise.schedule(call.workload(), target) is None
    (kernel,) = assert_exact({"multiplier": call}, rules(target)[:-1], target)
    assert kernel.name.startswith("conv2d")


def test_weights_that_are_data_are_left_to_other_rules(target):
    call = depthwise_call((1, 4, 4, 6), (3, 3))
    data = Call(call.op, call.params, call.arrays, tensors=2)
    assert depthwise.schedule(data.workload(), target) is None
