import numpy as np
import pytest

from hyq_tvm.numerics.softmax_tables import INTEGER_KINDS
from hyq_tvm.report.figures import SOFTMAX_BOUND
from hyq_tvm.report.softmax_curves import SCALES, largest_error, softmax_curves


@pytest.fixture(scope="module")
def curves():
    return {curve.kind: curve for curve in softmax_curves()}


def test_every_integer_kind_has_a_curve(curves):
    assert set(curves) == set(INTEGER_KINDS)
    assert all(len(curve.scales) > len(SCALES) // 2 for curve in curves.values())


@pytest.mark.parametrize("kind", ["linear_pot", "linear"])
def test_linear_kinds_keep_their_bound_at_every_scale(curves, kind):
    assert tuple(curves[kind].scales) == SCALES
    assert max(curves[kind].errors) <= SOFTMAX_BOUND


def test_the_published_form_is_far_worse_at_coarse_scales(curves):
    assert max(curves["hyq"].errors) > 4 * SOFTMAX_BOUND


def test_a_refused_scale_has_no_error():
    assert largest_error("linear", np.zeros((1, 4)), 2.0**-40) is None


def test_equal_logits_are_exact_to_half_a_step():
    assert largest_error("table", np.zeros((1, 5)), 0.1) <= 0.5 / 255
