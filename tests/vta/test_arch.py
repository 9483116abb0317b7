"""The architecture record: derived sizes, validation, JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from hyq_tvm.errors import ConfigError
from hyq_tvm.vta.arch import DEFAULT, TINY, VTAConfig


def test_derived_sizes_of_the_default_are_those_of_vta():
    assert DEFAULT.block == 16
    assert (DEFAULT.uop_entries, DEFAULT.inp_entries) == (8192, 2048)
    assert (DEFAULT.wgt_entries, DEFAULT.acc_entries) == (1024, 2048)
    assert DEFAULT.bus_bytes == 16
    assert DEFAULT.entries("WGT_T") == 1024
    assert DEFAULT.entries("ACC16") == 2048


@pytest.mark.parametrize("config", [DEFAULT, TINY, VTAConfig(softmax_lanes=1)])
def test_json_round_trip(config):
    assert VTAConfig.from_json(config.to_json()) == config


def test_sizes_left_out_keep_their_defaults():
    assert VTAConfig.from_json('{"LOG_ACC_BUFF_SIZE": 16}') == replace(DEFAULT, log_acc_buffer=16)


@pytest.mark.parametrize(
    ("size", "value", "message"),
    [
        ("log_inp_buffer", 16, "4096 entries, but instructions address 2048"),
        ("log_wgt_buffer", 19, "2048 entries, but instructions address 1024"),
        ("log_acc_buffer", 18, "4096 entries, but instructions address 2048"),
        ("log_uop_buffer", 16, "16384 entries, but instructions address 8192"),
        ("log_table_buffer", 15, "16384 entries"),
        ("log_parameter_buffer", 19, "2048 entries"),
        ("log_wgt_buffer", 7, "not one entry"),
        ("log_acc_buffer", -1, "not one entry"),
        ("log_batch", 1, "choose 0 to 0"),
        ("log_block", 1, "choose 2 to 6"),
        ("log_block", 4.0, "an integer is needed"),
        ("log_block", True, "an integer is needed"),
        ("softmax_lanes", 3, "power of two"),
        ("softmax_lanes", 32, "power of two up to 16"),
        ("log_bus_width", 4, "choose 5 to 9"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(size, value, message):
    with pytest.raises(ConfigError, match=message):
        VTAConfig(**{**asdict(DEFAULT), size: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"LOG_BLOK": 4}', "LOG_BLOK"),
        ('{"LOG_ACC_WIDTH": 4}', "this core has 5"),
    ],
)
def test_bad_json_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        VTAConfig.from_json(text)


def test_unreadable_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.json"):
        VTAConfig.load(tmp_path / "absent.json")
    path = tmp_path / "device.json"
    path.write_text(TINY.to_json())
    assert VTAConfig.load(path) == TINY
    assert json.loads(path.read_text())["LOG_ACC_WIDTH"] == 5


def test_the_fingerprint_follows_what_programs_depend_on():
    assert DEFAULT.fingerprint != TINY.fingerprint
    assert replace(DEFAULT, log_acc_buffer=16).fingerprint != DEFAULT.fingerprint
    assert replace(DEFAULT, clock_mhz=100, dram_latency=9).fingerprint == DEFAULT.fingerprint
