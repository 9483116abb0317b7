"""The command line, from files to files; every mistake ends in one line and exit code 2."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hyq_tvm
from hyq_tvm.cli import main
from tests import integer_modules as modules

SIZE = 16
CLASSES = 4


@pytest.fixture
def hyq(capfd, monkeypatch):
    """Run a command line: (exit code, standard output, standard error)."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """model.pt2, labelled pictures of bright colours, the same pictures as arrays."""
    import torch

    class Colours(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.head = torch.nn.Linear(8, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.stem(x)).mean((2, 3)))

    folder = tmp_path_factory.mktemp("cli")
    torch.manual_seed(0)
    program = torch.export.export(Colours().eval(), (torch.zeros(2, 3, SIZE, SIZE),))
    torch.export.save(program, folder / "model.pt2")
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (12, 20, 24, 3), np.uint8)
    labels = rng.integers(0, CLASSES, 12)
    (folder / "images").mkdir()
    lines = ["file,label"]
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        Image.fromarray(picture).save(folder / "images" / f"{index:02}.png")
        lines.append(f"{index:02}.png,{label}")
    (folder / "images" / "labels.csv").write_text("\n".join(lines))
    np.savez(folder / "data.npz", images=pictures, labels=labels)
    return folder


@pytest.fixture(scope="module")
def compiled(work):
    """The model compiled by the command line."""
    output = work / "model.hyq"
    with pytest.raises(SystemExit) as exit_:
        main(["compile", f"{work}/model.pt2", "--calibration", f"{work}/images", "-o", f"{output}"])
    assert not exit_.value.code
    return output


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model of arrays, not of pictures."""
    path = tmp_path_factory.mktemp("small") / "dense.hyq"
    hyq_tvm.compile(modules.dense_module()).save(path)
    return path


def test_help_is_there_for_every_command(hyq):
    code, out, _ = hyq("--help")
    assert code == 0
    for command in ("quantize", "compile", "run", "eval", "inspect", "report", "demo"):
        assert command in out
        code, text, _ = hyq(command, "--help")
        assert code == 0
        assert text.startswith(f"Usage: hyq-tvm {command}")


def test_the_version_is_printed(hyq):
    assert hyq("--version")[:2] == (0, f"hyq-tvm, version {hyq_tvm.__version__}\n")


def test_quantize_then_compile_is_compile_at_once(hyq, work, compiled, tmp_path):
    plan, output = tmp_path / "plan.json", tmp_path / "two.hyq"
    model, images = work / "model.pt2", work / "images"
    code, out, _ = hyq("quantize", model, "--calibration", images, "-o", plan)
    assert code == 0
    assert "plan.json: " in out
    code, out, _ = hyq("compile", model, "--plan", plan, "-o", output)
    assert code == 0
    assert "integer-only" in out
    x = np.random.default_rng(1).normal(size=(3, 3, SIZE, SIZE)).astype("float32")
    np.testing.assert_array_equal(hyq_tvm.load(output)(x), hyq_tvm.load(compiled)(x))


def test_options_reach_the_configuration(hyq, work, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"weight_bits": 6, "softmax": "table", "seed": 5}))
    plan = tmp_path / "plan.json"
    code, _, err = hyq(
        *("quantize", work / "model.pt2", "--calibration", f"{work}/data.npz:images", "-o", plan),
        *("--images", 4, "--config", config, "--softmax", "poly2", "--scaling", "none"),
        *("--activation-bits", 6, "--observer", "minmax", "--mean", "0", "--std", "1,1,1"),
    )
    assert code == 0, err
    found = hyq_tvm.QuantPlan.load(plan).config
    expected = hyq_tvm.QuantConfig(
        scaling=None, softmax="poly2", activation_bits=6, weight_bits=6, observer="minmax", seed=5
    )
    assert found == expected


def test_pictures_are_classified(hyq, work, compiled, tmp_path):
    pictures = sorted((work / "images").glob("*.png"))[:3]
    code, out, _ = hyq("run", compiled, *pictures, "--top", 2, "-o", tmp_path / "y.npz")
    assert code == 0
    from hyq_tvm.images import Preprocessing, read_image

    x = np.stack([read_image(p, Preprocessing(size=(SIZE, SIZE))) for p in pictures])
    logits = hyq_tvm.load(compiled)(x)
    with np.load(tmp_path / "y.npz") as written:
        np.testing.assert_array_equal(written["output0"], logits)
    for picture, row in zip(pictures, logits, strict=True):
        (line,) = [line for line in out.splitlines() if picture.name in line]
        first, second = np.argsort(-row)[:2]
        assert f"{first}, {second}" in line


def test_arrays_are_run_and_integers_written(hyq, small, tmp_path):
    x = modules.images(6)
    np.save(tmp_path / "x.npy", x)
    code, out, _ = hyq("run", small, tmp_path / "x.npy", "--integers", "-o", tmp_path / "y.npz")
    assert code == 0
    assert "x.npy[5]" in out
    with np.load(tmp_path / "y.npz") as written:
        np.testing.assert_array_equal(written["output0"], modules.golden_integers(x))


@pytest.mark.parametrize("arrays", [True, False])
def test_eval_counts_right_answers(hyq, work, compiled, arrays):
    data = f"{work}/data.npz:images" if arrays else work / "images"
    labels = ("--labels", f"{work}/data.npz:labels") if arrays else ()
    code, out, err = hyq("eval", compiled, "--data", data, *labels, "--model", work / "model.pt2")
    assert code == 0, err
    from hyq_tvm.images import ImageFolder, Preprocessing

    images = ImageFolder(work / "images", Preprocessing(size=(SIZE, SIZE)))
    exe = hyq_tvm.load(compiled)
    classes = np.concatenate([exe(batch).argmax(1) for batch in images])
    with np.load(work / "data.npz") as found:
        right = int((classes == found["labels"]).sum())
    (line,) = [line for line in out.splitlines() if "integer" in line and "│" in line]
    assert f"{100 * right / 12:.2f}" in line
    assert "12 images" in out
    assert "float" in out
    assert "say the same on" in out


def test_eval_resumes_and_writes_its_figures(hyq, work, compiled, tmp_path):
    log, output = tmp_path / "eval.log", tmp_path / "figures.json"
    base = ("eval", compiled, "--data", work / "images", "--model", work / "model.pt2")
    arguments = (*base, "--batch", 5, "--resume", log, "-o", output)
    code, _, err = hyq(*arguments)
    assert code == 0, err
    figures = json.loads(output.read_text())
    assert figures["scores"]["integer"]["images"] == 12
    assert set(figures["milliseconds"]) == {"float", "integer"}
    lines = log.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 3  # 12 images in batches of 5
    log.write_text("".join(lines[:2]))
    code, _, err = hyq(*arguments)
    assert code == 0, err
    again = json.loads(output.read_text())
    for name in ("scores", "comparison"):
        assert again[name] == figures[name]
    assert log.read_text() == "".join(lines)
    code, out, _ = hyq(*arguments)  # nothing left to do: no times either
    assert code == 0
    assert json.loads(output.read_text())["milliseconds"] == {}
    assert "McNemar p" in out
    code, _, err = hyq(*arguments, "--mean", "0")
    assert code == 2
    assert "another evaluation" in err


def test_inspect_shows_layers_and_runs_nothing(hyq, compiled, monkeypatch):
    monkeypatch.setattr("hyq_tvm.executable.load_library", lambda _: pytest.fail("code was loaded"))
    code, out, _ = hyq("inspect", compiled)
    assert code == 0
    assert "integer-only" in out
    assert "conv2d" in out
    assert "head" in out
    code, matched, _ = hyq("inspect", compiled, "--match", "head")
    assert code == 0
    assert "head" in matched
    assert "stem" not in matched


def test_inspect_measures_noise_against_the_float_model(hyq, work, compiled):
    arguments = ("--model", work / "model.pt2", "--data", work / "images", "--images", 4)
    for path in (compiled, compiled / "plan.json"):
        code, out, err = hyq("inspect", path, *arguments)
        assert code == 0, err
        rows = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
        noise = {row[0].strip(): row[8].strip() for row in rows}
        margins = {row[0].strip(): row[9].strip() for row in rows}
        assert float(noise["head:wide"]) > 20
        assert 0 < float(margins["head:wide"]) < 31


def test_a_report_is_one_page(hyq, work, compiled, tmp_path):
    (tmp_path / "peers.md").write_text("# Peers\n\n| runtime | ms |\n|---|---|\n| other | 2.5 |\n")
    arguments = ("--model", work / "model.pt2", "--data", work / "images", "--images", 2)
    page = tmp_path / "page.html"
    code, out, err = hyq(
        "report", compiled, *arguments, "--attach", tmp_path / "peers.md", "-o", page
    )
    assert code == 0, err
    assert "page.html" in out
    text = page.read_text(encoding="utf-8")
    for piece in ("Latency by operator", "conv2d (", "Peers", "Signal to noise at the end", "head"):
        assert piece in text
    code, _, err = hyq("report", compiled, *arguments, "--attach", work / "model.pt2", "-o", page)
    assert code == 2
    assert "attach .md" in err


def test_inspect_shows_a_plan(hyq, compiled):
    code, out, _ = hyq("inspect", compiled / "plan.json")
    assert code == 0
    assert "QuantConfig" in out
    assert "head" in out
    assert "Outputs: simulated on calibration images" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compile", "absent.pt2", "-o", "x"), "absent.pt2 does not exist"),
        (("compile", "model.h5", "-o", "x"), "give a file ending in"),
        (("compile", "{work}/model.pt2", "-o", "x", "--target", "tpu"), "unknown target 'tpu'"),
        (("compile", "{work}/model.pt2", "-o", "x", "--target", "{{"), "is not JSON"),
        (("compile", "{work}/model.pt2", "-o", "x", "--target", "cuda"), "target 'cuda'"),
        (("compile", "{work}/model.pt2", "-o", "x", "--plan", "no.json"), "no.json"),
        (("compile", "{work}/model.pt2", "-o", "x", "--checkpoint", "w.npz"), "--checkpoint"),
        (("compile", "{work}/model.pt2", "-o", "x", "--input-shape", "1,a"), "--input-shape"),
        (("compile", "{work}/model.pt2", "-o", "x", "--input-shape", "1,0"), "--input-shape"),
        (("compile", "{work}/model.pt2", "-o", "x", "--input-shape", "1,3"), "fixed shapes"),
        (("compile", "{work}/model.pt2", "-o", "x", "--config", "no.json"), "--config no.json"),
        (("quantize", "{work}/model.pt2"), "--calibration is missing"),
        (("quantize", "{work}/model.pt2", "--calibration", "no/where"), "no/where does not exist"),
        (("quantize", "{work}/model.pt2", "--calibration", "{work}/data.npz"), "data.npz:NAME"),
        (
            (
                "quantize",
                "{work}/model.pt2",
                "--calibration",
                "{work}/data.npz:images",
                "--mean",
                "a",
            ),
            "--mean 'a'",
        ),
        (("run", "absent.hyq", "x.png"), "absent.hyq is not a folder"),
        (("run", "{small}", "x.png"), "not pictures"),
        (("run", "{small}", "{work}/data.npz:labels"), "got dtype int64"),
        (("eval", "{small}", "--data", "{work}/data.npz:images"), "--labels is missing"),
        (("inspect", "README"), "neither an executable's folder nor a plan.json"),
        (("inspect", "absent.json"), "absent.json"),
        (("inspect", "{small}", "--model", "m.onnx"), "needs both --model and --data"),
    ],
)
def test_mistakes_end_in_one_line(hyq, work, small, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    filled = [argument.format(work=work, small=small) for argument in arguments]
    code, _, err = hyq(*filled)
    assert code == 2
    (line,) = err.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["[]", "{", '{"speed": 1}', '{"percentile": "high"}'])
def test_a_bad_configuration_is_named(hyq, work, tmp_path, content):
    config = tmp_path / "config.json"
    config.write_text(content)
    code, _, err = hyq("compile", work / "model.pt2", "-o", "x", "--config", config)
    assert code == 2
    assert "config" in err


def test_a_float_compile_warns_in_one_line(hyq, work, tmp_path):
    code, out, err = hyq("compile", work / "model.pt2", "-o", tmp_path / "float.hyq")
    assert code == 0
    (line,) = err.strip().splitlines()
    assert line.startswith("warning: compiling a float model")
    assert "with float computation" in out
    code, out, _ = hyq("inspect", tmp_path / "float.hyq")
    assert code == 0
    assert "with float computation" in out


def test_a_damaged_program_is_named(hyq, tmp_path):
    Path(tmp_path / "model.pt2").write_bytes(b"PK\x03\x04 not really")
    code, _, err = hyq("compile", tmp_path / "model.pt2", "-o", tmp_path / "x")
    assert code == 2
    assert "model.pt2 is no exported PyTorch program" in err
