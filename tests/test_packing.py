"""Packed files: the same bytes back, weights in as many bits as they have, damage named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hyq_tvm
from hyq_tvm import artifact, packing
from hyq_tvm.cli import main
from hyq_tvm.errors import ArtifactError
from hyq_tvm.runtime import plain_library

NOISE = np.random.default_rng(0)
CODE = NOISE.integers(64, 128, 1000).astype(np.int8).tobytes()
HEAD, ENTRY = 24, 24


def weights(low, high, count):
    return np.resize(np.arange(low, high + 1), count).astype(np.int8).tobytes()


@pytest.mark.parametrize(("low", "high", "bits"), [(-8, 7, 4), (-7, 7, 4), (-32, 31, 6), (0, 0, 4)])
def test_weights_take_their_bits(low, high, bits):
    values = weights(low, high, 4096)
    packed = packing.pack(CODE + values + CODE)
    assert len(packed) == HEAD + ENTRY + 2 * len(CODE) + 4096 * bits // 8
    assert packing.unpack(packed) == CODE + values + CODE
    assert packing.unpacked_size(packed[:HEAD]) == 2 * len(CODE) + 4096


def test_neighbours_of_both_widths():
    data = weights(-8, 7, 4096) + weights(-32, -9, 4096) + weights(-8, 7, 257)
    packed = packing.pack(data)
    assert len(packed) == HEAD + 3 * ENTRY + 2048 + 3072 + 128 + 1
    assert packing.unpack(packed) == data


@pytest.mark.parametrize("data", [b"", b"\x00", bytes(256), bytes(259), weights(-128, 127, 4096)])
def test_nothing_to_pack_or_little(data):
    assert packing.unpack(packing.pack(data)) == data


PIECES = st.lists(
    st.tuples(st.sampled_from([1, 8, 9, 32, 33, 128]), st.integers(0, 700), st.integers(0, 99)),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(PIECES)
def test_any_bytes_come_back(pieces):
    parts = [
        np.random.default_rng(seed).integers(-limit, limit, count).astype(np.int8).tobytes()
        for limit, count, seed in pieces
    ]
    data = b"".join(parts)
    assert packing.unpack(packing.pack(data)) == data


@settings(max_examples=200, deadline=None)
@given(st.integers(0, HEAD + 2 * ENTRY - 1), st.integers(1, 255), st.integers(0, 40))
def test_damaged_heads_are_refused_or_have_the_same_length(place, change, cut):
    packed = packing.pack(weights(-8, 7, 512) + CODE[:100] + weights(-32, 31, 512))
    data = bytearray(packed[: len(packed) - cut])
    data[place] ^= change
    try:
        found = packing.unpack(bytes(data))
    except ValueError:
        return
    assert len(found) == packing.unpacked_size(bytes(data))


@pytest.mark.parametrize("data", [b"", packing.MAGIC, b"\x7fELF" + bytes(100)])
def test_other_files_are_refused(data):
    with pytest.raises(ValueError, match="not a packed file"):
        packing.unpack(data)


def test_a_cut_table_and_a_wrong_length_are_refused():
    packed = packing.pack(weights(-8, 7, 512) + CODE)
    with pytest.raises(ValueError, match="cut off"):
        packing.unpack(packed[: HEAD + ENTRY - 1])
    with pytest.raises(ValueError, match="differs from what its table says"):
        packing.unpack(packed + b"\x00")


def test_a_packed_library_that_is_damaged_is_named(tmp_path):
    file = tmp_path / "lib.packed"
    file.write_bytes(b"not packed")
    with pytest.raises(ArtifactError, match=r"lib\.packed is damaged"), plain_library(file):
        pass
    with pytest.raises(ArtifactError, match=r"lib\.packed is damaged"):
        artifact.unpacked_bytes(file)


@pytest.fixture(scope="module")
def executable():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 64)
    )
    mod = hyq_tvm.from_torch(model.eval(), (torch.zeros(1, 1, 8, 8),))
    images = NOISE.normal(size=(8, 1, 8, 8)).astype(np.float32)
    config = hyq_tvm.QuantConfig(weight_bits=4, scaling=None)
    return hyq_tvm.compile(hyq_tvm.quantize(mod, images, config, progress=False)), images


def test_artefacts_of_narrow_weights_are_packed_and_give_the_same_integers(executable, tmp_path):
    made, images = executable
    made.save(tmp_path / "packed")
    made.save(tmp_path / "plain", packed=False)
    sizes = {n: (tmp_path / n / f).stat().st_size for n, f in
             (("packed", "lib.packed"), ("plain", "lib.so"))}  # fmt: skip
    assert not (tmp_path / "packed" / "lib.so").exists()
    assert sizes["plain"] - sizes["packed"] >= 0.9 * (64 * 256 * 2) / 2
    assert artifact.unpacked_bytes(tmp_path / "packed" / "lib.packed") == sizes["plain"]
    loaded = hyq_tvm.load(tmp_path / "packed")
    np.testing.assert_array_equal(loaded.run_integers(images), made.run_integers(images))


def test_a_packed_artefact_can_be_saved_again_either_way(executable, tmp_path):
    made, _ = executable
    made.save(tmp_path / "packed")
    loaded = hyq_tvm.load(tmp_path / "packed")
    loaded.save(tmp_path / "again")
    loaded.save(tmp_path / "plain", packed=False)
    again = (tmp_path / "again" / "lib.packed").read_bytes()
    assert again == (tmp_path / "packed" / "lib.packed").read_bytes()
    assert packing.unpack(again) == (tmp_path / "plain" / "lib.so").read_bytes()


def test_inspect_says_what_an_artefact_takes(executable, tmp_path, capsys):
    made, _ = executable
    made.save(tmp_path / "m")
    with pytest.raises(SystemExit) as exit_:
        main(["inspect", str(tmp_path / "m")])
    assert not exit_.value.code
    plain = artifact.unpacked_bytes(tmp_path / "m" / "lib.packed")
    assert f"packed from {plain:,}" in " ".join(capsys.readouterr().out.split())
