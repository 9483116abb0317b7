import numpy as np
import pytest

from hyq_tvm.report.comparison import compare, score
from hyq_tvm.report.significance import mcnemar, wilson


def classes(*rows):
    return np.array(rows, np.int64)


def test_a_score_counts_first_and_five_best():
    found = classes([0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [5, 6, 7, 8, 9])
    judged = score(found, np.array([0, 0, 0]))
    assert (judged.images, judged.right) == (3, 1)
    assert judged.top1 == pytest.approx(1 / 3)
    assert judged.top5 == pytest.approx(2 / 3)
    assert judged.interval == wilson(1, 3)


def test_few_classes_have_no_top5():
    assert score(classes([0], [1]), np.array([0, 0])).top5 is None


def test_a_comparison_is_paired():
    truth = np.zeros(10, np.int64)
    first = classes(*[[0]] * 6, *[[1]] * 4)
    second = classes(*[[0]] * 4, *[[2]] * 2, [0], *[[1]] * 3)
    found = compare(first, second, truth)
    assert (found.lost, found.won) == (2, 1)
    assert found.change == pytest.approx(-0.1)
    assert found.interval[0] < -0.1 < found.interval[1]
    assert found.agreement == pytest.approx(0.7)
    assert found.mcnemar_p == mcnemar(first[:, 0] == 0, second[:, 0] == 0)
    assert set(found.to_dict()) >= {"change", "interval", "lost", "won", "agreement", "mcnemar_p"}
