"""Scaling: which programs are measured, and a run on the embedded model."""

from __future__ import annotations

import pytest

from benchmarks import latency_report, scaling
from benchmarks.latency_models import MODELS


def test_batches_at_one_resolution_and_resolutions_of_one_image():
    model = MODELS["mobilevit_xxs"]
    found = scaling.points(model, [1, 4], [128, 256])
    assert [*found] == ["batch 1, 256x256", "batch 4, 256x256", "batch 1, 128x128"]
    assert found["batch 4, 256x256"] == (model, 4)
    small, batch = found["batch 1, 128x128"]
    assert (small.name, small.sample, batch) == ("mobilevit_xxs_128", (3, 128, 128), 1)


@pytest.mark.slow
def test_work_grows_with_the_batch(tmp_path):
    folder, cache = tmp_path / "results", tmp_path / "cache"
    scaling.main(["--model", "digits", "--batch", "1,3", "--size", "32", "--turns", "3",
                  "--out", str(folder), "--cache", str(cache)])  # fmt: skip
    one, three = latency_report.load(folder / "scaling-digits.json")
    assert three.facts["gmac"] == pytest.approx(3 * one.facts["gmac"])
    assert three.timing.minimum > one.timing.minimum
    assert (folder / "scaling-digits.png").exists()
