"""The same input gives the same bytes, in any process; releases say what they are made of."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIGESTS = """
    import hashlib, json, sys
    import numpy as np
    import hyq_tvm
    from benchmarks.fuzzing.blocks import build
    from benchmarks.fuzzing.recipe import random_recipe
    from hyq_tvm.module_facts import plan_text
    from hyq_tvm.targets import vta
    from hyq_tvm.vta.isa.verilog import package
    from relay_passes.add_integer_entry import add_integer_entry
    from relay_passes.read_program import read_program
    network, module = build(random_recipe(10_000))
    data = np.random.default_rng(0).normal(size=(16, *network.input.shape[1:])).astype("f")
    batches = [data] if sys.argv[1] == "whole" else [data[:5], data[5:6], data[6:]]
    integer = hyq_tvm.quantize(module, batches, progress=False)
    program = read_program(integer)
    constants = b"".join(array.tobytes() for i in program for array in i.constants)
    texts = [repr((i.name, i.op, i.params, i.shape)) for i in program]
    target = vta.resolve({}, complete=True)
    library = vta.build(add_integer_entry(integer), target, None).library
    parts = {
        "plan": plan_text(integer).encode(),
        "program": constants + "".join(texts).encode(),
        "device": b"".join(p.to_bytes() for p in library.programs),
        "rtl": package().encode(),
    }
    print(json.dumps({key: hashlib.sha256(part).hexdigest() for key, part in parts.items()}))
"""


def digests(hash_seed: int, batches: str) -> dict[str, str]:
    """Of plan, program, device program and RTL, made in a process of their own."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(DIGESTS), batches]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"plan", "program", "device", "rtl"}
    return found


def test_two_processes_make_the_same_bytes():
    assert digests(1, "whole") == digests(2, "cut")


def test_the_lock_file_pins_what_the_project_needs():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = dict(line.split("==") for line in lines)
    assert list(pins) == sorted(pins)
    assert pins["apache-tvm"] == "0.27.0.post1"
    assert pins["apache-tvm-ffi"] == "0.1.14.post1"
    assert {"torch", "numpy", "click", "pillow"} < set(pins)


def test_the_bill_lists_the_packages_of_the_lock_file_with_licences():
    bill = json.loads((ROOT / "sbom.json").read_text())
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    parts = bill["components"]
    assert [f"{part['name']}=={part['version']}" for part in parts] == lines
    assert all(re.fullmatch(r"pkg:pypi/[^@]+@.+", part["purl"]) for part in parts)
    assert all(part["licenses"][0]["license"]["name"] != "unknown" for part in parts)


def test_the_readme_states_the_versions_of_the_matrix():
    pages = [(ROOT / name).read_text() for name in ("README.md", "docs/trust.md")]
    row = re.search(r"\| Python \|.*\n\|[-|]+\n((?:\|.*\n)+)", pages[1])[1].strip().splitlines()[-1]
    versions = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(versions) == 5
    stated = re.search(r"Tested with (.*?) \(", pages[0], re.DOTALL)[1]
    assert re.findall(r"[0-9][0-9a-z.]*[0-9]", stated) == versions
