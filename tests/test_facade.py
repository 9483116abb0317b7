"""The public names: all there, all lazy, none shadowed by a module."""

import importlib
import inspect
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hyq_tvm
from hyq_tvm import errors
from tests.conftest import ROOT

FIXED = (
    "from_torch from_onnx quantize compile load tune QuantConfig QuantPlan Executable "
    "set_num_threads"
).split()


@pytest.mark.parametrize("name", sorted({*hyq_tvm.__all__, *FIXED}))
def test_every_name_is_there_and_documented(name):
    value = getattr(hyq_tvm, name)
    assert not inspect.ismodule(value)
    assert name == "__version__" or inspect.getdoc(value)
    assert name in dir(hyq_tvm)


def test_importing_submodules_shadows_no_name():
    for module in ("compiler", "executable", "quantization.planner", "frontend", "cli.commands"):
        importlib.import_module(f"hyq_tvm.{module}")
    assert not [name for name in hyq_tvm.__all__ if inspect.ismodule(getattr(hyq_tvm, name))]


def test_every_error_is_public():
    kinds = {name for name, kind in vars(errors).items() if inspect.isclass(kind)}
    assert kinds <= set(hyq_tvm.__all__)
    assert all(issubclass(getattr(hyq_tvm, name), hyq_tvm.HyqError) for name in kinds)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="has no attribute 'quantise'"):
        _ = hyq_tvm.quantise


@pytest.mark.parametrize("package", ["relay_passes", "schedules", "hyq_tvm.quantization"])
def test_packages_import_in_any_order(package):
    code = f"import {package}, hyq_tvm; hyq_tvm.QuantConfig()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_pins_agree_with_the_readme():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    readme = (ROOT / "README.md").read_text()
    pins = [pin for pin in project["dependencies"] if "==" in pin]
    assert len(pins) == 2
    for pin in pins:
        name, version = pin.split("==")
        assert f"{name} {version}" in readme


def test_the_package_is_typed():
    for package in ("hyq_tvm", "relay_passes", "schedules"):
        assert Path(ROOT, package, "py.typed").is_file()
