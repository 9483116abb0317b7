"""The float model of a softmax stays close to the integers of the contract."""

import numpy as np
import pytest
import torch

from hyq_tvm.numerics.reference.softmax import softmax
from hyq_tvm.quantization.plan import LayerPlan
from hyq_tvm.quantization.softmax_model import planned_probabilities, probabilities


def logits(tokens):
    rng = np.random.default_rng(tokens)
    x = rng.integers(-127, 128, size=(64, tokens))
    x[:, 0] = 127  # the published softmax takes its scale from the greatest magnitude
    return x


@pytest.mark.parametrize("scale", [0.05, 1.3, 1.4], ids=["fine", "coarse", "every weight 0"])
@pytest.mark.parametrize("tokens", [1, 2, 3, 16, 197])
def test_the_published_codes_are_those_of_the_clause(tokens, scale):
    x = logits(tokens)
    codes = softmax(x, kind="hyq", output="log2_4bit", scale=scale)
    wanted = np.where(codes >= 16, 0.0, np.exp2(-codes.astype(float)))
    found = probabilities(torch.from_numpy(x * scale).float(), "hyq", 8, 4).numpy()
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("tokens", [1, 3, 197, 364])
def test_the_published_bytes_are_those_of_the_clause(tokens):
    x = logits(tokens)
    wanted = softmax(x, kind="hyq", output="uint8", scale=0.05) / 255
    real = torch.from_numpy(x * 0.05).float()
    found = planned_probabilities(real, LayerPlan("softmax", softmax="hyq")).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-6)
