"""Real models end to end: accelerator, CPU and golden model agree on every integer."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

import hyq_tvm
from benchmarks.real_models import MODELS, UnavailableError, import_timm
from relay_passes.read_program import golden
from tests.vta.models import noise, quantized_model

IMAGES = 200


def real_model(name):
    try:
        return MODELS[name]()
    except UnavailableError as error:
        pytest.skip(str(error))


def on_accelerator(module):
    made = hyq_tvm.compile(module, target="vta")
    assert made.metadata.notes["accelerator"]["cpu_operators"] == []
    assert len(made.metadata.notes["accelerator"]["programs"]) == 1
    return made


def timed(made, images, record):
    """Outputs; seconds an image of the simulator go into the report."""
    made(images[:1])
    started = time.perf_counter()
    outputs = made(images)
    record("simulator_seconds_an_image", (time.perf_counter() - started) / len(images))
    return outputs


@pytest.mark.slow
def test_the_trained_mobilevit_over_real_images(record_property):
    model = real_model("mobilevit_cifar")
    images = np.concatenate([batch for _, batch in zip(range(2), model.test(), strict=False)])
    images = images[:IMAGES]
    module = quantized_model(model.module, next(model.calibration()))
    logits = timed(on_accelerator(module), images, record_property)
    np.testing.assert_array_equal(logits, hyq_tvm.compile(module)(images))
    run = golden(module)
    for index, image in enumerate(images):
        np.testing.assert_array_equal(logits[index], run(image[None])[0][0])
    assert (logits.argmax(-1) == model.labels[:IMAGES]).mean() > 0.6


@pytest.mark.slow
def test_the_trained_vision_transformer(record_property):
    model = real_model("vit_tiny")
    image = next(model.test())[:1]
    module = quantized_model(model.module, next(model.calibration())[:1])
    logits = timed(on_accelerator(module), image, record_property)
    np.testing.assert_array_equal(logits, golden(module)(image)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilevit_xxs", "mobilevit_xs", "mobilevit_s"])
def test_mobilevits_of_full_size(name, record_property):
    try:
        timm = import_timm()
    except UnavailableError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    image = noise(1, 3, 256, 256)
    module = quantized_model(model, image)
    logits = timed(on_accelerator(module), image, record_property)
    np.testing.assert_array_equal(logits, golden(module)(image)[0])
