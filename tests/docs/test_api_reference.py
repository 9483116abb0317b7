import hyq_tvm
from scripts.api_reference import FILE, page


def test_the_reference_is_up_to_date():
    assert FILE.read_text(encoding="utf-8") == page(), "run: python -m scripts.api_reference"


def test_everything_public_is_described():
    text = page()
    for name in set(hyq_tvm.__all__) - {"__version__"}:
        assert f"## `hyq_tvm.{name}`" in text
    assert "```text\n\n```" not in text
