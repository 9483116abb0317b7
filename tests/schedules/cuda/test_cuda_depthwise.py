"""Depthwise convolutions, four channels a thread: exact for every geometry and epilogue."""

from schedules.application import choose
from schedules.cuda import depthwise
from tests.schedules.calls import lookup, residual, to_int8, to_int16
from tests.schedules.cuda.device import FLOAT, TARGET, assert_exact, machine_code
from tests.schedules.test_depthwise import depthwise_call

RULES = [depthwise.schedule]


def calls():
    shape = (2, 7, 6, 12)
    return {
        "plain": depthwise_call(shape, (3, 3)),
        "strided": depthwise_call((1, 9, 8, 36), (3, 3), strides=(2, 2)),
        "dilated": depthwise_call(shape, (3, 3), dilation=(2, 2), padding=(2, 2, 2, 2)),
        "uneven": depthwise_call(shape, (5, 2), strides=(1, 2), padding=(2, 0, 1, 1)),
        "inside": depthwise_call(shape, (3, 3), padding=(0, 0, 0, 0)),
        "table": depthwise_call(shape, (3, 3), stages=[to_int8(), lookup()]),
        "stream": depthwise_call(shape, (3, 3), stages=[to_int16(), residual(), to_int8()]),
    }


def test_every_geometry_and_epilogue(any_order):
    kernels = assert_exact(calls(), RULES)
    assert all(kernel.name.startswith("depthwise_") for kernel in kernels)


def test_one_kernel_without_spills_or_floats():
    kernels = [choose(call.workload(), TARGET, RULES) for call in calls().values()]
    made = machine_code(kernels, "sm_75")
    assert len(made.resources) == len(kernels)
    assert all(r.spills == 0 for r in made.resources.values())
    assert not FLOAT.search(made.ptx)


def test_odd_channels_are_left_to_other_rules():
    call = depthwise_call((1, 5, 5, 7), (3, 3))
    assert depthwise.schedule(call.workload(), TARGET) is None
