"""Settings and fixtures that every test shares."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

import hyq_tvm  # noqa: F401  sets the number of threads before anything imports TVM

hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, print_blob=True, max_examples=50
)
hypothesis.settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The optional folder of real models and images beside the checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: it holds the real models and images")
    return folder
