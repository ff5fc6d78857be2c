"""A real browser: Debian's Chromium, steered by Playwright.

Without Chromium the tests of this folder are left out, loudly; EMO_REQUIRE_BROWSER=1 makes that an
error.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
# As root there is no sandbox. Without a GPU, what needs one (the projector) is drawn in software.
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        assert not os.environ.get("EMO_REQUIRE_BROWSER"), "chromium is not installed"
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[[int, str], Any]]:
    """`new_page(width, scheme)`: a page; at the end of the test it must have had no error."""
    pages: list[Any] = []
    errors: list[str] = []

    def make(width: int, scheme: str) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.on("console", lambda one: errors.append(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        pages.append(page)
        return page

    yield make
    for page in pages:
        page.context.close()
    assert not errors
