"""The viewer in a real browser, of whatever it shows: widths, dark, light, keys, wheel, touch, 3-D, layers, paper."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import NARROW, WIDE, Open, Opened
from nnunet_rs.report.viewer.cases import of_work
from nnunet_rs.report.viewer.prepared import augmented_patches, prepared_cases
from nnunet_rs.report.viewer.server import Viewing, address, serve

pytest.importorskip("ipyniivue", reason="ipyniivue is not installed (pip install 'nnunet-rs[view]')")
SMALL = (760, 560)  # what is drawn without a graphics card takes time
KINDS = {"work": of_work, "prepared": prepared_cases, "augmented": augmented_patches}


@dataclass(frozen=True)
class Shown:
    """A page, with the shades of its canvas."""

    opened: Opened

    @property
    def page(self) -> Any:
        return self.opened.page

    def wait(self, what: str = "0/1/") -> None:
        self.page.wait_for_function("what => document.body.dataset.shown?.startsWith(what)", arg=what, timeout=60_000)
        self.page.wait_for_timeout(300)  # the last layer is drawn with the next frame

    def pixels(self) -> Any:
        from PIL import Image

        return np.asarray(Image.open(io.BytesIO(self.page.locator("#canvas").screenshot())).convert("RGB"), np.int16)

    def where(self) -> str:
        return str(self.page.locator("#where").inner_text())


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory, module_maker: Any) -> Iterator[dict[str, str]]:
    """The viewer of a work folder, of its prepared cases, and of augmented patches."""
    work = module_maker(shape=(12, 40, 36)).prepared()
    servers, found = [], {}
    for name, cases in KINDS.items():
        viewing = Viewing(name, cases(work))
        servers.append(serve(viewing))
        found[name] = address(viewing, servers[-1])
        threading.Thread(target=servers[-1].serve_forever, args=(0.05,), daemon=True).start()
    yield found
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def show(addresses: dict[str, str], open_page: Open) -> Callable[..., Shown]:
    """`show(kind, size=WIDE, scheme="light", touch=False)`: a page whose first case is drawn."""

    def show_it(kind: str, size: tuple[int, int] = WIDE, scheme: str = "light", *, touch: bool = False) -> Shown:
        where = addresses[kind]
        found = Shown(open_page(where, size, scheme, touch=touch, origin=where.rsplit("/", 2)[0]))
        found.wait()
        return found

    return show_it


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
def test_it_opens_without_a_complaint(
    kind: str, size: tuple[int, int], scheme: str, show: Callable[..., Shown], screenshots: Path
) -> None:
    shown = show(kind, size, scheme)
    assert shown.pixels().max() > 100
    assert shown.page.evaluate("document.documentElement.scrollWidth") == size[0]
    shown.page.screenshot(path=screenshots / f"view-{kind}-{size[0]}-{scheme}.png", full_page=True)
    assert shown.opened.complaints == []
    assert shown.opened.serious() == []


def test_keys_move_through_the_slices_of_each_plane(show: Callable[..., Shown]) -> None:
    shown = show("work", SMALL)
    for key, axis in (("a", 2), ("c", 1), ("s", 0), ("m", 2)):
        shown.page.keyboard.press(key)
        before, places = shown.pixels(), [place(shown)]
        for pressed in ("ArrowUp", "PageDown", "ArrowLeft"):
            shown.page.keyboard.press(pressed)
            places.append(place(shown))
        moved = np.diff(np.array(places), axis=0)
        assert np.all(np.abs(np.delete(moved, axis, axis=1)) < 1), key  # from between voxels to one
        assert [np.sign(step) for step in moved[:, axis]] == [1, -1, -1], key
        assert moved[1, axis] < moved[2, axis], key  # five at a time
        shown.page.wait_for_timeout(200)
        assert np.abs(shown.pixels() - before).max() > 20, key
        shown.page.keyboard.press("PageUp")  # to where it began
    assert shown.opened.complaints == []


def place(shown: Shown) -> list[float]:
    """Read where the crosshair is, mm."""
    return [float(part.split()[1]) for part in shown.where().split(" · ")[0].split(", ")]


def test_the_wheel_and_a_finger_move_the_slices(show: Callable[..., Shown]) -> None:
    shown = show("work", SMALL, touch=True)
    shown.page.keyboard.press("a")
    before = place(shown)
    box = shown.page.locator("#canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    shown.page.mouse.move(x, y)
    shown.page.mouse.wheel(0, 200)
    shown.page.wait_for_timeout(200)
    rolled = place(shown)
    assert rolled[:2] == pytest.approx(before[:2], abs=1)
    assert rolled[2] != before[2]
    session = shown.page.context.new_cdp_session(shown.page)
    for kind, points in (("touchStart", [(x, y)]), ("touchMove", [(x + 40, y + 30)]), ("touchEnd", [])):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in points]})
    shown.page.wait_for_timeout(200)
    assert place(shown)[:2] != rolled[:2]
    assert shown.opened.complaints == []


def test_layers_and_labels_are_switched(show: Callable[..., Shown]) -> None:
    shown = show("work", SMALL)
    first = shown.pixels()
    shown.page.keyboard.press("r")
    shown.page.wait_for_timeout(200)
    without = shown.pixels()
    assert np.abs(without - first).max() > 50
    assert np.ptp(without[without.shape[0] // 4 : without.shape[0] // 2], axis=2).max() < np.ptp(first, axis=2).max()
    shown.page.keyboard.press("r")
    shown.page.locator("#labels input").first.uncheck()
    shown.page.wait_for_timeout(200)
    assert np.abs(shown.pixels() - first).max() > 50


def test_three_dimensions(show: Callable[..., Shown], screenshots: Path) -> None:
    shown = show("work", SMALL)
    shown.page.keyboard.press("v")
    shown.page.wait_for_timeout(300)
    before = shown.pixels()
    assert before.max() > 100
    shown.page.screenshot(path=screenshots / "view-3d.png")
    box = shown.page.locator("#canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    shown.page.mouse.move(x, y)
    shown.page.mouse.down()
    shown.page.mouse.move(x + 120, y + 40, steps=4)
    shown.page.mouse.up()
    shown.page.wait_for_timeout(300)
    assert np.abs(shown.pixels() - before).max() > 50  # it turns
    assert shown.opened.complaints == []


def test_paper_is_white_and_has_the_picture(show: Callable[..., Shown], screenshots: Path) -> None:
    from PIL import Image

    shown = show("prepared")
    page = shown.page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # which comes before the page is laid out for paper
    page.emulate_media(media="print")
    page.wait_for_function("() => document.getElementById('paper').naturalWidth > 100")
    assert page.locator("#paper").is_visible()
    assert not page.locator("#canvas").is_visible()
    assert not page.locator("#cases").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    picture = np.asarray(Image.open(io.BytesIO(page.locator("#paper").screenshot())).convert("L"))
    assert picture.max() > 100
    page.pdf(path=screenshots / "view.pdf")
    page.screenshot(path=screenshots / "view-print.png", full_page=True)
    assert shown.opened.complaints == []
