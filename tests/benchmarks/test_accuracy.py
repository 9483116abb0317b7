import dataclasses
import itertools
import json

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks.accuracy import Case, compare, load_results, main, markdown, parse
from benchmarks.real_models import MODELS, UnavailableError
from hyq_tvm.errors import UnsupportedModelError

LABELS = np.array([0, 1, 1, 0])
EXACT = np.array([[2, 1], [0, 3], [1, 0], [4, 0]], dtype=np.float32)


def result(case):
    noisy = EXACT + np.float32([[-2, 0], [0, 0], [0, 0], [0, 0]])
    return compare(case, LABELS, EXACT, noisy, {"run": 1.0})


@pytest.fixture
def measured(monkeypatch):
    """Cases that would have been measured; measuring itself is replaced."""
    seen = []

    def measure(case, source):
        seen.append(case)
        return result(case)

    monkeypatch.setattr(accuracy, "measure", measure)
    monkeypatch.setattr(accuracy, "Source", lambda model: None)
    return seen


def test_comparison():
    found = result(Case("digits"))
    assert (found.images, found.float_top1, found.integer_top1) == (4, 0.75, 0.5)
    assert found.agreement == 0.75
    assert found.change == -0.25
    assert found.mcnemar_p == 1
    assert found.sqnr_db == pytest.approx(10 * np.log10(31 / 4))
    assert {"apache-tvm", "torch", "numpy"} == set(found.versions)


def test_options_multiply(tmp_path):
    options = parse(["--model", "digits,vit_tiny", "--bits", "8,6", "--scaling", "none,qads"])
    found = accuracy.cases(options)
    assert len(found) == len({case.name for case in found}) == 8
    assert found[0] == Case("digits", 8, None)
    assert found[-1] == Case("vit_tiny", 6, "qads")


def test_widths_are_part_of_a_case():
    found = accuracy.cases(parse(["--widths", "uniform,auto", "--bits", "6"]))
    assert [case.config().widths for case in found[:2]] == ["uniform", "auto"]
    assert len({case.name for case in found}) == len(found)


def test_bits_of_weights_are_part_of_a_case():
    found = accuracy.cases(parse(["--weights", "8,4", "--scaling", "qads"]))
    assert [case.config().weight_bits for case in found] == [8, 4]
    assert [case.name.split("-")[2] for case in found] == ["a8", "w4a8"]


def test_the_table_has_every_kind_and_width(tmp_path):
    found = accuracy.cases(parse(["--model", "digits,vit_tiny", "--table"]))
    assert len({case.name for case in found}) == len(found)
    bits = [(8, 8), (6, 8), (4, 8), (8, 6), (8, 4)]
    kinds = {(c.softmax, (c.weights, c.bits)) for c in found if c.model == "vit_tiny"}
    assert kinds == set(itertools.product(accuracy.SOFTMAX_KINDS, bits))
    onoff = {(c.scaling, c.weights, c.bits) for c in found if c.softmax == "linear_pot"}
    assert onoff == {(scaling, *b) for scaling in ("qads", None) for b in bits}


def test_kinds_of_softmax_share_the_plan_of_the_default(monkeypatch):
    made, changed = [], []
    monkeypatch.setattr(accuracy, "plan_from_statistics", lambda *a: made.append(a[2]) or "plan")
    monkeypatch.setattr(accuracy, "with_softmax", lambda *a: changed.append(a[2:]) or a[3])
    source = object.__new__(accuracy.Source)
    source.graph = source.statistics = None
    source._plans = {}
    kinds = ["linear_pot", "table", "poly2"]
    found = [
        source.plan(c)
        for c in accuracy.cases(
            parse(["--softmax", ",".join(kinds), "--weights", "4", "--scaling", "qads"])
        )
    ]
    assert found == ["plan", "table", "poly2"]
    assert [config.softmax for config in made] == ["linear_pot"]
    assert changed == [("plan", "table"), ("plan", "poly2")]


def test_the_table_goes_into_a_page(tmp_path, measured):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- accuracy -->\nold\n<!-- end of accuracy -->\nbehind\n")
    main(["--out", str(tmp_path), "--scaling", "qads", "--page", str(page)])
    text = page.read_text()
    assert "| digits | 4 | 8 / 8 " in text
    assert text.startswith("before\n<!-- accuracy -->\n| model ")
    assert text.endswith("|\n<!-- end of accuracy -->\nbehind\n")
    assert "old" not in text
    page.write_text("no comments")
    with pytest.raises(ValueError, match=r"page\.md lacks the comments"):
        main(["--out", str(tmp_path), "--scaling", "qads", "--page", str(page)])


def test_unknown_model_ends_with_a_message(capsys):
    with pytest.raises(SystemExit):
        parse(["--model", "digits,lenet"])
    assert "lenet" in capsys.readouterr().err


def test_results_are_kept_and_not_measured_again(tmp_path, measured):
    arguments = ["--scaling", "none,qads", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert len(measured) == 2
    assert main([*arguments[:1], "none,qads,smoothquant", *arguments[2:]]) == 0
    assert [case.scaling for case in measured] == [None, "qads", "smoothquant"]
    assert main([*arguments, "--force"]) == 0
    assert len(measured) == 5
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".json", ".json", ".md"]


def test_results_load_as_they_were(tmp_path, measured):
    main(["--out", str(tmp_path), "--scaling", "qads"])
    (loaded,) = load_results(tmp_path)
    assert json.dumps(loaded.__dict__, default=vars) == json.dumps(
        result(Case("digits")).__dict__, default=vars
    )
    assert markdown([loaded]) in (tmp_path / "accuracy.md").read_text()


def test_a_failing_case_leaves_the_others(tmp_path, measured, monkeypatch, capsys):
    replaced = accuracy.measure

    def measure(case, source):
        if case.scaling is None:
            raise UnsupportedModelError("no such operator: fft")
        return replaced(case, source)

    monkeypatch.setattr(accuracy, "measure", measure)
    assert main(["--scaling", "none,qads", "--out", str(tmp_path)]) == 1
    assert len(list(tmp_path.glob("*.json"))) == 1
    assert "no such operator: fft" in capsys.readouterr().err


def test_an_absent_model_is_skipped_with_a_reason(tmp_path, measured, monkeypatch, capsys):
    def absent():
        raise UnavailableError("the folder is missing")

    monkeypatch.setitem(MODELS, "vit_tiny", absent)
    assert main(["--model", "vit_tiny", "--out", str(tmp_path)]) == 1
    assert measured == []
    assert "vit_tiny: skipped, the folder is missing" in capsys.readouterr().err


def test_table_is_ordered_and_readable():
    low = result(Case("digits", 6, None))
    text = markdown([low, result(Case("digits", 8, "qads"))])
    rows = [line for line in text.splitlines() if line.startswith("| digits")]
    assert "| 8 / 8 | auto | qads |" in rows[0]
    assert "| 8 / 6 | auto | none |" in rows[1]
    assert "| 75.00% | 50.00% | -25.00 (" in rows[0]
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize("name", ["digits", "digits_hard"])
def test_embedded_models_have_matching_images_and_classes(name):
    model = MODELS[name]()
    batches = list(model.test())
    assert sum(len(batch) for batch in batches) == len(model.labels)
    assert all(batch.dtype == np.float32 for batch in batches)
    assert model.example(2).shape == (2, 1, 32, 32)
    first, again = next(model.calibration()), next(model.calibration())
    np.testing.assert_array_equal(first, again)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilevit_cifar", "vit_tiny"])
def test_real_models_classify_their_first_images(shared, name):
    import torch

    model = MODELS[name]()
    batch = next(model.test())
    with torch.inference_mode():
        found = model.module(torch.from_numpy(batch)).argmax(1).numpy()
    assert np.mean(found == model.labels[: len(batch)]) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("simulate", [False, True])
def test_measuring_the_embedded_model(simulate):
    model = MODELS["digits"]()
    few = dataclasses.replace(
        model, labels=model.labels[:64], test=lambda: itertools.islice(model.test(), 1)
    )
    found = accuracy.measure(Case("digits", simulate=simulate), accuracy.Source(few))
    assert found.images == 64
    assert found.agreement >= 0.96
    assert 20 < found.sqnr_db < 60
    assert set(found.seconds) == {"import", "calibrate", "plan", "compile", "run"}
