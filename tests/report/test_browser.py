"""Pages in a real browser: no error, no request, keys, wheel, touch, layers, markup, widths, dark, print, axe-core."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import NARROW, WIDE, Open, Opened
from nnunet_rs.model.validation_patch import ValidationPatch
from nnunet_rs.report.page import Live, write_report
from nnunet_rs.report.predictions import Given, read_predictions
from nnunet_rs.report.predictions_page import write_predictions_report
from nnunet_rs.report.sections.cases import CasesShown
from nnunet_rs.run.status import work_status
from nnunet_rs.run.watch import live_section

WIDTH = 32  # of the patch of a running training
MARKUP = "<img src=x onerror=document.title='no'>"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, write_raw: Callable[..., Path], module_maker: Any) -> Path:
    """A folder with the page of a work folder, of predictions, and of predictions with references."""
    folder = tmp_path_factory.mktemp("pages")
    made = module_maker()
    made.trained()
    write_report(made.work, folder / "work.html", CasesShown(slices=6))
    running = made.training("3d_fullres", 2, finished=False)
    patch(WIDTH).write(running / "patch.npz")
    for name, seconds in (("live", 600), ("anew", 1)):
        live = Live(live_section(work_status(made.work)), seconds)
        write_report(made.work, folder / f"{name}.html", CasesShown(slices=6), live=live)
    raw = write_raw(folder / "Dataset001_Made", cases=6)
    out = folder / "out"
    shutil.copytree(raw / "labelsTr", out)
    (out / "case_0.nii.gz").rename(out / "case_<b>0&.nii.gz")
    labels = {"background": 0, MARKUP: 1, "small & </script><script>alert(1)</script>": 2}
    (out / "prediction.json").write_text(json.dumps({"models": {}, "labels": labels}))
    for name, references in (("predictions", None), ("compared", raw / "labelsTr")):
        found = read_predictions(out, Given(images=raw / "imagesTr", references=references))
        write_predictions_report(found, folder / f"{name}.html")
    return folder


def patch(width: int) -> ValidationPatch:
    """A patch whose prediction misses the lower half of what there is."""
    image = np.indices((6, width, width), np.uint8)[2][None] * 5
    reference = np.zeros((6, width, width), np.uint8)
    reference[1:5, 8:24, 8:24] = 1
    prediction = reference.copy()
    prediction[:, 16:] = 0
    return ValidationPatch("case_0", 4, image, reference, prediction)


NAMES = ("work", "predictions", "compared", "live")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (WIDE, "dark"), (NARROW, "light"), (NARROW, "dark")])
def test_a_page_opens_without_a_complaint(
    name: str, size: tuple[int, int], scheme: str, pages: Path, open_page: Open, screenshots: Path
) -> None:
    opened = open_page(pages / f"{name}.html", size, scheme)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]  # tables scroll by themselves
    page.screenshot(path=screenshots / f"{name}-{size[0]}-{scheme}.png", full_page=True)
    assert opened.complaints == []
    assert opened.serious() == []


def viewer(opened: Opened) -> Any:
    found = opened.page.locator(".viewer").first
    found.scroll_into_view_if_needed()
    return found


def said(found: Any) -> str:
    return str(found.locator("output").inner_text())


def test_keys_move_through_slices_planes_and_layers(pages: Path, open_page: Open) -> None:
    opened = open_page(pages / "compared.html")
    found = viewer(opened)
    stage, image = found.locator(".stage"), found.locator("img.image")
    stage.focus()
    opened.page.keyboard.press("Home")
    first, source = said(found), image.get_attribute("src")
    opened.page.keyboard.press("ArrowUp")
    assert said(found) != first
    opened.page.wait_for_function("([image, was]) => image.src !== was", arg=[image.element_handle(), source])
    assert said(found) in image.get_attribute("alt").replace("slice ", "")
    opened.page.keyboard.press("c")
    assert said(found).startswith("coronal")
    opened.page.keyboard.press("a")
    assert said(found).startswith("axial")
    for key, layer, shown in (("r", "reference", True), ("p", "prediction", True), ("d", "difference", False)):
        assert found.locator(f"img.{layer}").is_visible() is shown
        opened.page.keyboard.press(key)
        assert found.locator(f"img.{layer}").is_visible() is not shown
        assert found.locator(f"button[data-layer={layer}]").get_attribute("aria-pressed") == str(not shown).lower()
    assert opened.complaints == []


def test_the_wheel_moves_slices_once_a_picture_is_chosen(pages: Path, open_page: Open) -> None:
    opened = open_page(pages / "predictions.html")
    found = viewer(opened)
    stage = found.locator(".stage")
    stage.evaluate("stage => stage.scrollIntoView({block: 'center'})")
    before, top = said(found), opened.page.evaluate("scrollY")
    stage.hover()
    opened.page.mouse.wheel(0, 80)
    opened.page.wait_for_function("top => scrollY > top", arg=top)
    assert said(found) == before
    stage.focus()
    stage.hover()
    top = opened.page.evaluate("scrollY")
    opened.page.mouse.wheel(0, 80)
    opened.page.wait_for_function("([output, was]) => output.value !== was", arg=[_output(found), before])
    assert opened.page.evaluate("scrollY") == top


def _output(found: Any) -> Any:
    return found.locator("output").element_handle()


def test_touch_drags_through_slices(pages: Path, open_page: Open) -> None:
    opened = open_page(pages / "predictions.html", NARROW, touch=True)
    found = viewer(opened)
    stage = found.locator(".stage")
    stage.evaluate("stage => stage.scrollIntoView({block: 'center'})")
    before, box = said(found), stage.bounding_box()
    session = opened.page.context.new_cdp_session(opened.page)
    x, y = box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2
    touch = "Input.dispatchTouchEvent"
    session.send(touch, {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 6):
        session.send(touch, {"type": "touchMove", "touchPoints": [{"x": x - step * box["width"] / 8, "y": y}]})
    session.send(touch, {"type": "touchEnd", "touchPoints": []})
    opened.page.wait_for_function("([output, was]) => output.value !== was", arg=[_output(found), before])
    assert opened.complaints == []


def test_the_slider_and_buttons_do_what_keys_do(pages: Path, open_page: Open) -> None:
    opened = open_page(pages / "predictions.html")
    found = viewer(opened)
    found.locator("input[type=range]").fill("0")
    assert said(found).startswith("axial")
    found.get_by_role("button", name="Sagittal").click()
    assert said(found).startswith("sagittal")
    found.get_by_role("button", name="Prediction").click()
    assert not found.locator("img.prediction").is_visible()


def test_markup_in_names_stays_text(pages: Path, open_page: Open) -> None:
    for name in ("predictions", "compared"):
        opened = open_page(pages / f"{name}.html")
        assert opened.page.locator("img[src=x]").count() == 0
        assert opened.page.title() == "out · nnunet_rs report"
        assert opened.page.get_by_text(MARKUP).count() > 3
        assert opened.page.locator("h3", has_text="case_<b>0&").count() == 1
        assert opened.complaints == []


@pytest.mark.parametrize("name", ["work", "live"])
def test_paper_shows_what_is_folded_and_no_controls(name: str, pages: Path, open_page: Open, screenshots: Path) -> None:
    opened = open_page(pages / f"{name}.html", scheme="dark")
    page = opened.page
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator(".controls").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    page.pdf(path=screenshots / f"{name}.pdf")
    assert (screenshots / f"{name}.pdf").stat().st_size > 10_000
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    assert opened.complaints == []


@pytest.mark.parametrize("name", ["predictions", "compared"])
def test_paper_has_a_slice_of_every_case(name: str, pages: Path, open_page: Open, screenshots: Path) -> None:
    opened = open_page(pages / f"{name}.html", scheme="dark")
    page = opened.page
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert [image.is_visible() for image in page.locator("img.image").all()] == [True] * 6
    assert not page.locator(".controls, nav").first.is_visible()
    page.pdf(path=screenshots / f"{name}.pdf")
    page.screenshot(path=screenshots / f"{name}-print.png", full_page=True)
    assert opened.complaints == []


def test_a_running_training_shows_its_validation_patch(pages: Path, open_page: Open) -> None:
    opened = open_page(pages / "live.html")
    found = viewer(opened)
    assert "3d_fullres, fold 2, epoch 4" in found.locator(".rank").text_content()
    found.locator(".stage").focus()
    before = said(found)
    opened.page.keyboard.press("ArrowUp")
    assert said(found) != before
    opened.page.keyboard.press("d")
    assert found.locator("img.difference").is_visible()
    assert found.locator(".score strong").inner_text() == "0.667"
    assert opened.complaints == []


def test_without_scripts_there_is_a_slice_and_every_word(pages: Path, chromium: Any) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((pages / "predictions.html").as_uri())
    assert page.locator("img.image").first.is_visible()
    assert not page.locator(".controls").first.is_visible()
    context.close()


def test_a_page_of_running_trainings_loads_itself_anew(pages: Path, open_page: Open) -> None:
    opened = open_page(pages / "anew.html")
    page = opened.page
    page.locator("details").last.locator("summary").click()
    page.evaluate("window.before = true")
    page.wait_for_function("() => window.before === undefined", timeout=30_000)
    assert page.locator("details").last.get_attribute("open") is not None  # what was open stays open
    page.locator(".stage").first.focus()  # nothing is taken from who scrolls through a case
    page.evaluate("window.before = true")
    page.wait_for_timeout(2500)
    assert page.evaluate("window.before") is True
    assert opened.complaints == []
