import json
from dataclasses import asdict

import numpy as np
import pytest

from benchmarks import hybrids
from benchmarks.hybrids import Result, load_results, main, markdown, parse, pictures
from benchmarks.real_models import UnavailableError, import_timm


def result(name, equal=True):
    seconds = {"calibrate": 40.2, "plan": 9.0, "quantize": 2.0, "compile": 30.0}
    return Result(name, 256, 100, 30.5, 34.0, 1.0, equal, 2, 1.25, seconds, {})


def test_results_become_a_table_in_the_models_order(tmp_path):
    for name in ("efficientformer_l1", "mobilevit_s"):
        text = json.dumps(asdict(result(name, name != "mobilevit_s")))
        (tmp_path / f"hybrids-{name}.json").write_text(text)
    rows = [r for r in markdown(load_results(tmp_path)).splitlines() if r.startswith("| m")]
    rows += [r for r in markdown(load_results(tmp_path)).splitlines() if r.startswith("| eff")]
    assert "mobilevit_s" in rows[1]
    assert "| NO |" in rows[1]
    assert "| 40 | 9 | 32 | 1.25 | 30.5 | 34.0 | 100% | yes, 2 images |" in rows[2]


def test_what_is_there_is_not_measured_again(tmp_path, capsys):
    (tmp_path / "hybrids-mobilevit_s.json").write_text(json.dumps(asdict(result("mobilevit_s"))))
    assert main(["--model", "mobilevit_s", "--out", str(tmp_path)]) == 0
    assert "mobilevit_s" in (tmp_path / "hybrids.md").read_text()
    broken = json.dumps(asdict(result("mobilevit_s", equal=False)))
    (tmp_path / "hybrids-mobilevit_s.json").write_text(broken)
    assert main(["--model", "mobilevit_s", "--out", str(tmp_path)]) == 1


def test_unknown_models_end_with_a_message(capsys):
    with pytest.raises(SystemExit):
        parse(["--model", "lenet"])
    assert "lenet" in capsys.readouterr().err


def test_pictures_come_from_their_seed():
    first = pictures(2, 32, 5)
    assert first.shape == (2, 3, 32, 32)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, pictures(2, 32, 5))
    assert 0.5 < first.std() < 2


@pytest.mark.slow
@pytest.mark.parametrize("name", hybrids.MODELS)
def test_integers_of_whole_models_equal_the_golden_ones(name):
    try:
        import_timm()
    except UnavailableError as error:
        pytest.skip(str(error))
    found = hybrids.measure(name, images=4)
    assert found.integers_equal
    assert found.sqnr_db > found.weights_alone_db - 15
