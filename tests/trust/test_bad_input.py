"""Whatever a file holds: an exception of our own that says where, quickly, and nothing else."""

import hashlib
import io
import json
import struct
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hyq_tvm
from hyq_tvm import artifact
from hyq_tvm.arrays import read_array
from hyq_tvm.errors import (
    ArtifactError,
    CalibrationError,
    ConfigError,
    DeviceProgramError,
    HyqError,
    InputError,
    PlanError,
    TuningError,
)
from hyq_tvm.images import Preprocessing, read_image
from hyq_tvm.quantization.plan import QuantPlan
from hyq_tvm.vta.arch import VTAConfig
from hyq_tvm.vta.program import Program
from schedules import recorded
from tests.test_artifact import rewrite, write
from tests.trust import malformed
from tests.vta.streams import program

SECONDS = 10  # on a machine that has other work; the parsers take milliseconds
NAMES = sorted(malformed.NO_DOCUMENT)
ODDITIES = sorted(malformed.oddities(Path("x")))
PLANS = dict(malformed.plan_fields())


@contextmanager
def refused(error=HyqError, match=None):
    """One of our exceptions, with a message, in a bounded time."""
    start = time.monotonic()
    with pytest.raises(error, match=match) as caught:
        yield
    assert time.monotonic() - start < SECONDS
    assert len(str(caught.value)) > 10
    assert len(str(caught.value)) < 2000


def make(path: Path, oddity: str) -> Path:
    malformed.oddities(path)[oddity]()
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_no_plan(tmp_path, name):
    file = tmp_path / "plan.json"
    file.write_bytes(malformed.NO_DOCUMENT[name])
    with refused(PlanError, match=r"plan\.json"):
        QuantPlan.load(file)


@pytest.mark.parametrize("case", sorted(PLANS))
def test_a_plan_with_a_wrong_field(case):
    with refused(PlanError):
        QuantPlan.from_json(PLANS[case])


@pytest.mark.parametrize("oddity", ODDITIES)
def test_a_plan_that_is_no_file(tmp_path, oddity):
    with refused(PlanError, match=r"plan\.json"):
        QuantPlan.load(make(tmp_path / "plan.json", oddity))


@pytest.mark.parametrize("name", [n for n, _ in malformed.damaged(b"x" * 99, 12, 0)])
def test_a_plan_that_was_cut_short(tmp_path, name):
    text = malformed.PLAN.to_json().encode()
    file = tmp_path / "plan.json"
    file.write_bytes(dict(malformed.damaged(text, 12, 0))[name])
    with refused(PlanError):
        QuantPlan.load(file)


def test_the_plan_that_all_of_these_spoil_is_good():
    assert QuantPlan.from_json(malformed.PLAN.to_json()) == malformed.PLAN


@pytest.mark.parametrize("path", ["\0", "a\0b", "", "/proc/self/mem", "x" * 900])
def test_paths_that_lead_nowhere(path):
    for load, error in ((QuantPlan.load, PlanError), (hyq_tvm.load, ArtifactError)):
        with refused(error):
            load(path)


@pytest.mark.parametrize("name", NAMES)
def test_metadata_that_is_no_document(tmp_path, name):
    write(tmp_path / "m")
    (tmp_path / "m" / "metadata.json").write_bytes(malformed.NO_DOCUMENT[name])
    with refused(ArtifactError, match=r"metadata\.json"):
        hyq_tvm.load(tmp_path / "m")


@pytest.mark.parametrize("file", ["metadata.json", "lib.so", "plan.json"])
@pytest.mark.parametrize("oddity", ODDITIES)
def test_an_artefact_whose_file_is_none(tmp_path, file, oddity):
    write(tmp_path / "m")
    (tmp_path / "m" / file).unlink()
    make(tmp_path / "m" / file, oddity)
    with refused(ArtifactError):
        hyq_tvm.load(tmp_path / "m")


@pytest.mark.parametrize("oddity", [o for o in ODDITIES if o != "folder"])
def test_a_folder_that_is_none(tmp_path, oddity):
    with refused(ArtifactError, match="is not a folder"):
        hyq_tvm.load(make(tmp_path / "m", oddity))


@pytest.mark.parametrize("file", ["metadata.json", "lib.so", "plan.json"])
@pytest.mark.parametrize("case", [name for name, _ in malformed.damaged(b"x" * 99, 4, 8)])
def test_an_artefact_with_a_damaged_file(tmp_path, file, case):
    write(tmp_path / "m")
    path = tmp_path / "m" / file
    path.write_bytes(dict(malformed.damaged(path.read_bytes(), 4, 8))[case])
    with refused(ArtifactError, match=file):
        hyq_tvm.load(tmp_path / "m")


FIELDS = ["inputs", "outputs", "target", "features", "versions", "float_operators", "notes"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("wrong", ["null", "nan", "huge", "negative"])
def test_metadata_with_a_wrong_field(tmp_path, field, wrong):
    write(tmp_path / "m")
    document = json.loads((tmp_path / "m" / "metadata.json").read_text())
    value = malformed.WRONG[wrong]
    rewrite(tmp_path / "m", metadata=document["metadata"] | {field: value})
    with refused(ArtifactError, match=r"metadata\.json"):
        hyq_tvm.load(tmp_path / "m")


SPECS = [{"shape": "x"}, {"shape": [-1]}, {"shape": [None]}, {"dtype": "q8"}, {"name": 3}]


@pytest.mark.parametrize("spec", [*SPECS, {"scale": [None]}, {"zero_point": "x"}, {"odd": 1}])
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_tensor_that_cannot_be(tmp_path, side, spec):
    write(tmp_path / "m")
    metadata = json.loads((tmp_path / "m" / "metadata.json").read_text())["metadata"]
    metadata[side][0] |= spec
    rewrite(tmp_path / "m", metadata=metadata)
    with refused(ArtifactError, match=r"metadata\.json"):
        hyq_tvm.load(tmp_path / "m")


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "/etc/passwd", "../../x", "a\0b", "C:\\x/y"]
)
def test_files_that_lie_elsewhere(tmp_path, name):
    write(tmp_path / "m")
    library = artifact._checksum(tmp_path / "m" / "lib.so")
    rewrite(tmp_path / "m", files={"lib.so": library, name: "0"})
    with refused(ArtifactError):
        hyq_tvm.load(tmp_path / "m")


def test_a_link_to_a_file_elsewhere_is_not_followed(tmp_path):
    write(tmp_path / "m")
    (tmp_path / "elsewhere.so").write_bytes((tmp_path / "m" / "lib.so").read_bytes())
    (tmp_path / "m" / "lib.so").unlink()
    (tmp_path / "m" / "lib.so").symlink_to(tmp_path / "elsewhere.so")
    with refused(ArtifactError, match="link"):
        hyq_tvm.load(tmp_path / "m")


RECORD = {
    "workload": "w",
    "target": "t",
    "rule": "r",
    "choice": {"a": 1},
    "seconds": 1.0,
    "error": "",
    "cost": 0.0,
}
RECORD_FIELDS = [
    (field, name)
    for field in RECORD
    for name in malformed.WRONG
    if (field, name) not in {("seconds", "null"), ("choice", "object"), ("cost", "negative")}
    and not (name == "text" and isinstance(RECORD[field], str))
    and (field, name) not in {("seconds", "huge"), ("cost", "huge")}
]


@pytest.mark.parametrize(("field", "name"), RECORD_FIELDS)
def test_a_tuning_record_with_a_wrong_field(tmp_path, field, name):
    line = json.dumps(RECORD | {field: malformed.WRONG[name]})
    (tmp_path / "a.jsonl").write_text(json.dumps(RECORD) + "\n" + line + "\n")
    with refused(TuningError, match=r"a\.jsonl, line 2"):
        recorded.read(tmp_path)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("empty", "zeros")])
def test_lines_that_are_no_records(tmp_path, name):
    (tmp_path / "a.jsonl").write_bytes(malformed.NO_DOCUMENT[name] + b"\n")
    with refused(TuningError, match=r"a\.jsonl"):
        recorded.read(tmp_path)


@pytest.mark.parametrize("oddity", [o for o in ODDITIES if o != "missing"])
def test_records_that_are_no_file(tmp_path, oddity):
    make(tmp_path / "a.jsonl", oddity)
    with refused(TuningError, match=r"a\.jsonl"):
        recorded.read(tmp_path)


GOOD_PROGRAM = program().to_bytes()


@pytest.mark.parametrize("case", [name for name, _ in malformed.damaged(GOOD_PROGRAM, 12, 24)])
def test_a_damaged_device_program(tmp_path, case):
    (tmp_path / "p.vta").write_bytes(dict(malformed.damaged(GOOD_PROGRAM, 12, 24))[case])
    with refused(DeviceProgramError, match=r"p\.vta"):
        Program.load(tmp_path / "p.vta")


def resealed(header: bytes) -> bytes:
    """A program with another header and a checksum that is right."""
    length = struct.unpack_from("<I", GOOD_PROGRAM, 12)[0]
    body = GOOD_PROGRAM[:12] + struct.pack("<I", len(header)) + header
    body += GOOD_PROGRAM[16 + length : -32]
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize("name", NAMES)
def test_a_device_program_whose_header_is_none(name):
    with refused(DeviceProgramError):
        Program.from_bytes(resealed(malformed.NO_DOCUMENT[name]))


@pytest.mark.parametrize("oddity", ODDITIES)
def test_a_device_program_that_is_no_file(tmp_path, oddity):
    with refused(DeviceProgramError, match=r"p\.vta"):
        Program.load(make(tmp_path / "p.vta", oddity))


@pytest.mark.parametrize("name", NAMES)
def test_an_architecture_record_that_is_none(tmp_path, name):
    (tmp_path / "core.json").write_bytes(malformed.NO_DOCUMENT[name])
    with refused(ConfigError):
        VTAConfig.load(tmp_path / "core.json")


def saved(array, **named) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **named) if named else np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


ARRAYS = {
    "objects.npy": saved(np.array([{"a": 1}], dtype=object)),
    "objects.npz": saved(None, a=np.zeros(3), b=np.array([{}], dtype=object)),
    "header.npy": b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<f4', 'shape': (99999999,)" * 3,
    "huge.npy": saved(np.zeros(4, np.float32)).replace(b"(4,)", b"(9999999999999,)"),
    "evil.npy": saved(np.zeros(4)).replace(b"'<f8'", b"exit()"),
    **{f"{n}.npy": d for n, d in malformed.damaged(saved(np.ones((9, 9), "f4")), 8, 0)},
    **{f"{n}.npz": d for n, d in malformed.damaged(saved(None, a=np.ones((9, 9))), 8, 0)},
    **{f"{n}.npy": d for n, d in malformed.NO_DOCUMENT.items()},
}


@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_an_array_that_is_none(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(ARRAYS[name])
    source = f"{file}:b" if name == "objects.npz" else str(file)
    with refused(InputError, match=name.partition(".")[0]):
        read_array(source)


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(stream, kind)
    return stream.getvalue()


PICTURES = {
    **{f"{n}.png": d for n, d in malformed.damaged(picture("png"), 6, 0)},
    **{f"{n}.jpg": d for n, d in malformed.damaged(picture("jpeg"), 6, 0)},
    **{f"{n}.bmp": d for n, d in malformed.NO_DOCUMENT.items()},
    "bomb.ppm": b"P6 99999 99999 255\n" + bytes(99),
    "negative.ppm": b"P6 -4 4 255\n" + bytes(99),
}


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_a_picture_that_is_none(tmp_path, name):
    (tmp_path / name).write_bytes(PICTURES[name])
    with refused(CalibrationError, match=name.partition(".")[0]):
        read_image(tmp_path / name, Preprocessing((8, 8)))
