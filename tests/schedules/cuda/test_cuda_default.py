"""The last rule takes every operator and changes no integer."""

import numpy as np
import pytest

from schedules.application import choose
from schedules.cuda import default
from tests.schedules.calls import Call, ints
from tests.schedules.cuda.device import TARGET, assert_exact, machine_code
from tests.schedules.test_attention import attention_call
from tests.schedules.test_default import calls as common_calls
from tests.schedules.test_layer_norm import norm_call
from tests.schedules.test_softmax import softmax_call


def calls():
    return {
        **common_calls(),
        "norm": norm_call(9, 24),
        "softmax": softmax_call(50, "linear"),
        "attention": attention_call(2, 5, 9, 7, 6, weight_bits=16),
        "published attention": attention_call(2, 5, 9, 7, 6, kind="hyq"),
        "concat": Call(
            "concat", {"axis": 1}, [ints(np.int8, 2, 3, 5), ints(np.int8, 2, 4, 5)], tensors=2
        ),
        "pad": Call("pad", {"pads": [(0, 0), (1, 2)], "value": 5}, [ints(np.int16, 3, 7)]),
    }


def test_every_operator_keeps_its_integers(any_order):
    assert_exact(calls(), [default.schedule])


@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])
def test_every_operator_compiles_without_spills(arch):
    kernels = [choose(c.workload(), TARGET, [default.schedule]) for c in calls().values()]
    made = machine_code(kernels, arch)
    assert len(made.resources) >= len(kernels)
    assert all(r.spills == 0 and 0 < r.registers <= 128 for r in made.resources.values())
