"""A picture of a report's top for the README.

``python -m scripts.report_picture hyq-tvm-report.html docs/images/report.png`` (Playwright and a
Chromium are needed).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

WIDTH, HEIGHT = 1100, 900


def main(page: str, picture: str) -> int:
    """Opens the page as it is and writes what the window shows."""
    from playwright.sync_api import sync_playwright

    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        opened = browser.new_page(color_scheme="light", viewport={"width": WIDTH, "height": HEIGHT})
        opened.goto(Path(page).resolve().as_uri())
        opened.screenshot(path=picture)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
