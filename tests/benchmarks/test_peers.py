"""Peers' benchmark: choice of operators, similarity, and a run on the embedded model."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import latency_report, peers
from benchmarks.latency_models import MODELS
from benchmarks.peer_runtimes import Job, torch_eager


def test_products_before_softmax_stay_float():
    helper = pytest.importorskip("onnx.helper")
    from benchmarks.peer_runtimes import _score_products

    def node(kind, name, inputs):
        return helper.make_node(kind, inputs, [name], name=name)

    nodes = [
        node("MatMul", "project", ["x", "w"]),
        node("MatMul", "scores", ["q", "k"]),
        node("Mul", "scaled", ["scores", "factor"]),
        node("Add", "masked", ["scaled", "mask"]),
        node("Softmax", "weights", ["masked"]),
        node("MatMul", "values", ["weights", "v"]),
    ]
    graph = helper.make_graph(nodes, "attention", [], [])
    assert _score_products(graph) == ["scores", "weights"]


def test_similarity_is_correlation():
    a = np.array([[1.0, 2.0, 4.0]], np.float32)
    assert peers.similarity(3 * a + 1, a) == pytest.approx(1)
    assert peers.similarity(-a, a) == pytest.approx(-1)
    assert peers.similarity(np.ones_like(a), a) == 0


def test_weights_are_the_same_every_time(tmp_path):
    job = Job(MODELS["digits"], 2, 1, tmp_path)
    images = job.model.images(2)
    assert images.shape == (2, 1, 32, 32)
    np.testing.assert_array_equal(torch_eager(job)(images), torch_eager(job)(images))


def test_unknown_models_end_the_program(capsys):
    with pytest.raises(SystemExit):
        peers.parse(["--models", "digits,nonsense"])
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_measures_the_embedded_model(tmp_path, capsys):
    folder, cache = tmp_path / "results", tmp_path / "cache"
    arguments = ["--models", "digits", "--turns", "3", "--only", "torch eager"]
    peers.main([*arguments, "--out", str(folder), "--cache", str(cache)])
    rows = latency_report.load(folder / "peers.json")
    assert [row.name for row in rows] == [peers.OURS, "torch eager"]
    assert all(row.facts["similarity"] > 0.9 for row in rows)
    assert rows[0].timing.minimum < rows[1].timing.minimum
    assert "digits, batch 1, 1 thread(s)" in capsys.readouterr().out
