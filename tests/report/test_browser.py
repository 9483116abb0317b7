"""The page in a real browser: nothing fails, nothing is cut off, tables sort and filter."""

import shutil

import pytest

from hyq_tvm.report import write_report
from tests.report.test_report import FULL, LAYERS

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("page") / "report.html", FULL).as_uri()


@pytest.fixture(params=[PHONE, DESK], ids=["phone", "desk"])
def page(request, browser, address):
    context = browser.new_context(viewport=request.param)
    opened = context.new_page()
    opened.problems, opened.requests = [], []
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.on(
        "console", lambda line: opened.problems.append(line.text) if line.type == "error" else None
    )
    opened.on("request", lambda asked: opened.requests.append(asked.url))
    opened.goto(address)
    yield opened
    context.close()


def names(page):
    return page.locator("#layers tbody tr:visible th").all_inner_texts()


def test_it_loads_alone_and_without_errors(page, address):
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith("data:")] == [address]
    assert page.locator("h1").inner_text() == FULL.title


def test_nothing_is_wider_than_the_screen(page):
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for i in range(page.locator("svg").count()):
        box = page.locator("svg").nth(i).bounding_box()
        assert box["width"] > 100
        assert box["height"] > 5


def test_layers_sort_and_filter(page):
    page.get_by_role("button", name="SQNR dB").click()
    assert names(page) == ["block.attn", "stem.conv", "block.add"]  # unknown figures last
    page.get_by_role("button", name="SQNR dB").click()
    assert names(page) == ["stem.conv", "block.attn", "block.add"]
    page.locator("#filter").fill("ATTENTION")
    assert names(page) == ["block.attn"]
    page.locator("#filter").fill("")
    assert len(names(page)) == len(LAYERS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(browser, address, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto(address)
    colors = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    text, ground = (
        sum(int(part) for part in color[color.index("(") + 1 : -1].split(",")[:3])
        for color in colors
    )
    assert abs(text - ground) > 450
    assert (text < ground) == (scheme == "light")
    page.close()
