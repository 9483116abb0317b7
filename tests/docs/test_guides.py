"""Every Python block of the guides runs, from the top of its page to the bottom."""

import re
from pathlib import Path

import pytest

import hyq_tvm

GUIDES = Path(hyq_tvm.__file__).parents[1] / "docs" / "guides"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(page.name for page in GUIDES.glob("*.md") if BLOCK.search(page.read_text("utf-8")))


def test_all_guides_have_code():
    assert PAGES == ["deploy.md", "extend.md", "quantize.md", "tune.md"]


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_guide_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "guide"}
    for number, block in enumerate(BLOCK.findall((GUIDES / page).read_text("utf-8")), 1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)


@pytest.mark.parametrize("page", sorted(p.name for p in GUIDES.glob("*.md")))
def test_links_lead_somewhere(page):
    prose = BLOCK.sub("", (GUIDES / page).read_text("utf-8"))
    for target in re.findall(r"\]\(([^)#]+)", prose):
        assert "://" in target or (GUIDES / target).exists(), target
