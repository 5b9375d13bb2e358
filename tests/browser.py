"""A real browser for tests of pages: Chromium of the system, driven by Playwright; skipped where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LOCAL = ("data:", "blob:", "file:", "about:")
WIDE, NARROW = (1400, 1000), (360, 740)
# Chromium has no graphics card here, and no sandbox where tests run as root.
OPTIONS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


class Opened:
    """A page that was opened, and what it did that it should not."""

    def __init__(self, page: Any, origin: str) -> None:
        self.page, self.complaints = page, list[str]()
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url[:200]}"))
        page.on("request", lambda request: self._asked(request.url, origin))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and "GPU stall" not in text and "GL Driver" not in text:
            self.complaints.append(f"{kind}: {text}")

    def _asked(self, url: str, origin: str) -> None:
        if not url.startswith(LOCAL) and not (origin and url.startswith(origin)):
            self.complaints.append(f"request: {url}")

    def serious(self) -> list[str]:
        """Ask axe-core for what keeps people from reading the page."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
        found = axe.Axe().run(self.page).response["violations"]
        bad = [each for each in found if each["impact"] in ("serious", "critical")]
        return [f"{each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}" for each in bad]


Open = Callable[..., Opened]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser itself."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright)")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """`open_page(path or address, size=WIDE, scheme="light", touch=False)`: a page in a browser of its own."""
    contexts = []

    def open_it(
        where: Path | str, size: tuple[int, int] = WIDE, scheme: str = "light", *, touch: bool = False, origin: str = ""
    ) -> Opened:
        viewport = {"width": size[0], "height": size[1]}
        context = chromium.new_context(
            viewport=viewport, color_scheme=scheme, has_touch=touch, reduced_motion="reduce", bypass_csp=False
        )
        contexts.append(context)
        opened = Opened(context.new_page(), origin)
        opened.page.goto(where if isinstance(where, str) else where.resolve().as_uri())
        return opened

    yield open_it
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept: the folder that SCREENSHOTS names, else one of pytest's own."""
    named = os.environ.get("SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
