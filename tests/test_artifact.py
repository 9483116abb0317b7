"""Artefacts: complete or absent, and nothing damaged is ever loaded."""

import errno
import json
import os
import platform
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hyq_tvm import artifact
from hyq_tvm.artifact import Metadata, TensorSpec, read_artifact, write_artifact
from hyq_tvm.errors import ArtifactError

METADATA = Metadata(
    inputs=(TensorSpec("x", (4, 8), "float32"),),
    outputs=(TensorSpec("output0", (4, 3), "float32", "int8", (0.5, 0.25), -3),),
    integer_only=True,
    target={"kind": "llvm", "mattr": ["-avx2"]},
    machine=platform.machine(),
    features=("avx2",),
    versions={"hyq_tvm": "0", **artifact.package_versions()},
    notes={"compile_seconds": 1.5},
)
CODE = b"\x7fELF" + bytes(range(256)) * 8
PLAN = '{"version": 1}\n'


def write(path: Path, code: bytes = CODE) -> None:
    write_artifact(path, METADATA, PLAN, lambda file: file.write_bytes(code) and None)


def left_behind(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_what_is_written_is_read(tmp_path):
    write(tmp_path / "deep" / "model")
    found = read_artifact(tmp_path / "deep" / "model")
    assert found.metadata == METADATA
    assert found.plan == PLAN
    assert found.library.read_bytes() == CODE
    assert left_behind(tmp_path / "deep") == ["model"]
    assert (tmp_path / "deep" / "model").stat().st_mode & 0o777 == 0o755


def test_a_float_model_has_no_plan(tmp_path):
    write_artifact(tmp_path / "m", METADATA, "", lambda file: file.write_bytes(CODE) and None)
    assert left_behind(tmp_path / "m") == ["lib.so", "metadata.json"]
    assert read_artifact(tmp_path / "m").plan == ""


def test_an_artefact_is_replaced(tmp_path):
    write(tmp_path / "m", b"old")
    write(tmp_path / "m", b"new")
    assert read_artifact(tmp_path / "m").library.read_bytes() == b"new"
    assert left_behind(tmp_path) == ["m"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "m").mkdir()
    write(tmp_path / "m")
    assert read_artifact(tmp_path / "m").metadata == METADATA


@pytest.mark.parametrize("folder", [True, False])
def test_something_else_is_never_overwritten(tmp_path, folder):
    target = tmp_path / "precious"
    if folder:
        target.mkdir()
        (target / "thesis.tex").write_text("years")
    else:
        target.write_text("years")
    with pytest.raises(ArtifactError, match="precious exists and is no saved executable"):
        write(target)
    assert left_behind(tmp_path) == ["precious"]


def full_disk(file: Path) -> None:
    file.write_bytes(CODE[:100])
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    with pytest.raises(ArtifactError, match="No space left"):
        write_artifact(tmp_path / "m", METADATA, PLAN, full_disk)
    assert left_behind(tmp_path) == []


def test_a_full_disk_keeps_the_previous_artefact(tmp_path):
    write(tmp_path / "m")
    with pytest.raises(ArtifactError, match="No space left"):
        write_artifact(tmp_path / "m", METADATA, PLAN, full_disk)
    assert read_artifact(tmp_path / "m").library.read_bytes() == CODE
    assert left_behind(tmp_path) == ["m"]


def test_a_failed_rename_restores_the_previous_artefact(tmp_path, monkeypatch):
    write(tmp_path / "m", b"old")
    rename = Path.replace

    def fails_for_the_new_one(self, target):
        if Path(target).name == "m" and not self.name.endswith(".old"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fails_for_the_new_one)
    with pytest.raises(ArtifactError, match="Input/output error"):
        write(tmp_path / "m", b"new")
    assert read_artifact(tmp_path / "m").library.read_bytes() == b"old"
    assert left_behind(tmp_path) == ["m"]


def test_an_error_of_the_exporter_passes_and_cleans_up(tmp_path):
    def broken(_: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_artifact(tmp_path / "m", METADATA, PLAN, broken)
    assert left_behind(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_place_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ArtifactError, match="cannot be written"):
        write(tmp_path / "m")


def test_a_parent_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        write(tmp_path / "file" / "m")


@pytest.mark.parametrize("name", ["lib.so", "plan.json", "metadata.json"])
@pytest.mark.parametrize("place", [0, -2])
def test_every_changed_byte_is_found(tmp_path, name, place):
    write(tmp_path / "m")
    file = tmp_path / "m" / name
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match=name):
        read_artifact(tmp_path / "m")


@pytest.mark.parametrize("name", ["lib.so", "plan.json", "metadata.json"])
def test_truncated_and_missing_files_are_named(tmp_path, name):
    write(tmp_path / "m")
    file = tmp_path / "m" / name
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ArtifactError, match=name):
        read_artifact(tmp_path / "m")
    file.unlink()
    with pytest.raises(ArtifactError, match=name):
        read_artifact(tmp_path / "m")


def rewrite(folder: Path, **changes: object) -> None:
    """Change the metadata document and make its own checksum right again."""
    file = folder / "metadata.json"
    document = json.loads(file.read_text()) | changes
    document["checksum"] = artifact._own_checksum(document)
    file.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 1"),
        ({"format": None}, "format 1"),
        ({"files": None}, "lacks or garbles"),
        ({"files": {}}, "lib.so"),
        ({"metadata": {}}, "inputs"),
        ({"metadata": None}, "lacks or garbles"),
    ],
)
def test_a_foreign_document_is_refused(tmp_path, changes, message):
    write(tmp_path / "m")
    rewrite(tmp_path / "m", **changes)
    with pytest.raises(ArtifactError, match=message):
        read_artifact(tmp_path / "m")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "sub/file"])
def test_files_outside_the_folder_are_not_read(tmp_path, name):
    write(tmp_path / "m")
    library = artifact._checksum(tmp_path / "m" / "lib.so")
    rewrite(tmp_path / "m", files={"lib.so": library, name: "0"})
    with pytest.raises(ArtifactError, match="not inside the folder"):
        read_artifact(tmp_path / "m")


@pytest.mark.parametrize("text", ["[]", "3", "not json", ""])
def test_metadata_that_is_no_document_is_refused(tmp_path, text):
    write(tmp_path / "m")
    (tmp_path / "m" / "metadata.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"metadata\.json"):
        read_artifact(tmp_path / "m")


def test_missing_and_foreign_paths_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match="is not a folder"):
        read_artifact(tmp_path / "absent")
    (tmp_path / "file").write_bytes(CODE)
    with pytest.raises(ArtifactError, match="is not a folder"):
        read_artifact(tmp_path / "file")
    with pytest.raises(ArtifactError, match="is no saved executable"):
        read_artifact(tmp_path)


def test_a_copied_folder_is_as_good(tmp_path):
    write(tmp_path / "m")
    shutil.copytree(tmp_path / "m", tmp_path / "copy")
    assert read_artifact(tmp_path / "copy").metadata == METADATA


def test_a_host_that_fits_is_accepted():
    assert artifact.check_host(METADATA, frozenset({"avx2", "fpu"})) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"machine": "pdp11"}, "made for pdp11"),
        ({"features": ("avx2", "avx512_vnni")}, "needs processor features avx512_vnni"),
        ({"versions": {"apache-tvm": "0.1"}}, "made with apache-tvm 0.1"),
        ({"versions": {"apache-tvm-ffi": "9"}}, "made with apache-tvm-ffi 9"),
    ],
)
def test_code_for_another_host_is_refused(changes, message):
    with pytest.raises(ArtifactError, match=message):
        artifact.check_host(replace(METADATA, **changes), frozenset({"avx2"}))
