"""The viewer: what its server gives to whom, and its page in a real browser."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from browser import NARROW, Open
from nnunet_rs.cli import main
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.types import LabelSet
from nnunet_rs.report.predictions import Given, read_predictions
from nnunet_rs.report.viewer.cases import of_image, of_predictions, of_work
from nnunet_rs.report.viewer.prepared import augmented_patches, prepared_cases
from nnunet_rs.report.viewer.server import Viewing, address, serve

pytest.importorskip("ipyniivue", reason="ipyniivue is not installed (pip install 'nnunet-rs[view]')")
MARKUP = "<img src=x onerror=document.title='no'>"


@pytest.fixture
def viewing(tmp_path: Path, raw_dataset: Callable[..., Path]) -> Viewing:
    """Predictions of four cases with images and references; one image is damaged, one reference is too large."""
    raw = raw_dataset(cases=4)
    out = tmp_path / MARKUP.replace("/", "")
    shutil.copytree(raw / "labelsTr", out)
    (out / "prediction.json").write_text(json.dumps({"labels": {"background": 0, MARKUP: 1, "small": 2}}))
    (raw / "imagesTr" / "case_2_0000.nii.gz").write_bytes(b"no")
    shutil.copy(raw / "labelsTr" / "case_2.nii.gz", raw / "labelsTr" / "case_3.nii.gz")
    found = read_predictions(out, Given(images=raw / "imagesTr", references=raw / "labelsTr", find_values=False))
    return Viewing(found.name, of_predictions(found, found.labels), found.remarks)


@pytest.fixture
def served(viewing: Viewing) -> Iterator[str]:
    """The address of the page."""
    server = serve(viewing)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield address(viewing, server)
    server.shutdown()
    thread.join()
    server.server_close()


def get(served: str, path: str, host: str = "") -> tuple[int, bytes, dict[str, str]]:
    _, _, place, token, _ = served.split("/")
    connection = HTTPConnection(place, timeout=30)
    connection.request("GET", path.replace("TOKEN", token), headers={"Host": host} if host else {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content, dict(answer.getheaders())


def test_layers_are_given_to_who_knows_the_token(served: str) -> None:
    assert served.startswith("http://127.0.0.1:")
    status, content, headers = get(served, "/TOKEN/case/0")
    about = json.loads(content)
    assert status == 200
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert [layer["key"] for layer in about["layers"]] == ["image0", "reference", "prediction", "difference"]
    assert (about["shape"], about["steps"]) == ([10, 24, 20], [1])
    status, content, _ = get(served, "/TOKEN/case/0/prediction?2")
    assert nibabel.Nifti1Image.from_bytes(content).shape == (10, 12, 5)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/cases", "/TOKEN", "/TOKENx/cases", "/TOKEN/../cases", "/TOKEN/case/9", "/TOKEN/case/-1", "/TOKEN/case/x",
        "/TOKEN/case/0/none", "/TOKEN/case/0/image0?0", "/TOKEN/case/0/image0?x", "/TOKEN/case/0/image0/1", "/TOKEN/a",
        "/TOKEN//etc/passwd", "/TOKEN/%2e%2e/page.html", "/TOKEN/page.html",
    ],
)  # fmt: skip
def test_there_is_nothing_else(served: str, path: str) -> None:
    assert get(served, path)[0] == 404


def test_other_names_of_this_machine_are_not_answered(served: str) -> None:
    assert get(served, "/TOKEN/cases", "localhost:8123")[0] == 200
    assert get(served, "/TOKEN/cases", "evil.example:8123")[0] == 404


def test_what_is_wrong_with_a_layer_is_told(served: str) -> None:
    about = json.loads(get(served, "/TOKEN/case/2")[1])
    assert [layer["key"] for layer in about["layers"]] == ["reference", "prediction", "difference"]
    assert "case_2_0000.nii.gz" in about["remarks"][0]
    get(served, "/TOKEN/case/3")
    status, content, _ = get(served, "/TOKEN/case/3/reference")
    assert status == 500
    assert "(10, 26, 20) voxels (z, y, x), the first layer (10, 27, 20)" in json.loads(content)["error"]


def test_a_port_in_use_is_told(viewing: Viewing) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(NnunetError, match=r"port \d+ is in use; name another \(--port\)"):
            serve(viewing, taken.getsockname()[1])
    with pytest.raises(NnunetError, match="port 70000 cannot be used"):
        serve(viewing, 70000)


def test_prepared_cases_and_augmented_patches(make_work: Callable[..., Path]) -> None:
    work = make_work({"3d_fullres": (0,)})
    for case in (prepared_cases(work)[0], augmented_patches(work)[0], of_work(work)[0]):
        layers = {layer.key: layer.read() for layer in case.layers()}
        shapes = {key: voxels.data.shape for key, voxels in layers.items()}
        assert len(set(shapes.values())) == 1, shapes
    layers = {layer.key: layer.read().data for layer in prepared_cases(work)[0].layers()}
    assert set(layers) == {"image0", "reference", "located"}
    assert layers["located"].sum() > 0
    patches = {layer.key: layer.read().data for layer in augmented_patches(work)[0].layers()}
    assert list(patches) == ["after0", "before0", "labels-after", "labels-before"]
    assert not np.array_equal(patches["after0"], patches["before0"])
    with pytest.raises(DatasetError, match="no configuration '4d'"):
        prepared_cases(work, "4d")


def test_values_that_nobody_names_are_found(viewing: Viewing, tmp_path: Path) -> None:
    label = next(tmp_path.glob("<*")) / "case_0.nii.gz"
    shown = Viewing("one", of_image((label,), label, None))
    assert shown.case(0)["labels"] == []
    assert [row["name"] for row in shown.found_labels(0)] == ["label 1", "label 2"]
    assert Viewing("one", of_image((label,), label, LabelSet(("b", "a"), (0, 1)))).case(0)["labels"][0]["name"] == "a"


def test_the_command_refuses_what_is_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("no")
    for words, code, said in (
        ([tmp_path / "nowhere"], 1, "nowhere: no such file or folder"),
        ([tmp_path / "notes.txt"], 1, "notes.txt: is no image"),
        ([tmp_path, "--prepared"], 2, "holds no plan"),
        ([tmp_path], 1, "holds no segmentation"),
    ):
        assert main(["view", *map(str, words), "--no-browser", "-q"]) == code
        assert said in capsys.readouterr().err


def shown(page: Any, what: str) -> None:
    page.wait_for_function("what => document.body.dataset.shown === what", arg=what, timeout=60_000)


def test_the_page_in_a_browser(served: str, open_page: Open, screenshots: Path) -> None:
    opened = open_page(served, origin=served.rsplit("/", 2)[0])
    page = opened.page
    shown(page, "0/1/3")
    assert page.locator("h1").inner_text() == MARKUP
    assert page.get_by_text(MARKUP).count() == 2
    assert page.locator("img:not(#paper)").count() == 0
    lit = page.evaluate("(async () => { const bitmap = await createImageBitmap(canvas); return bitmap.width; })()")
    assert lit > 100
    page.screenshot(path=screenshots / "view.png")
    page.keyboard.press("n")
    shown(page, "1/1/3")
    assert page.locator("#place").inner_text() == "2 of 4"
    page.keyboard.press("b")
    shown(page, "0/1/3")
    reference = page.locator("[data-key=reference] input[type=checkbox]")
    assert reference.is_checked()
    page.keyboard.press("r")
    assert not reference.is_checked()
    page.keyboard.press("d")
    shown(page, "0/1/4")
    page.get_by_role("button", name="Axial").click()
    assert page.locator("[data-slice='0']").get_attribute("aria-pressed") == "true"
    page.locator("#labels input").first.uncheck()
    page.locator("#low").fill("100")
    page.locator("#low").dispatch_event("change")
    page.locator("#filter").fill("case_3")
    assert page.locator("#cases option").count() == 1
    assert opened.complaints == []
    assert opened.serious() == []


def test_what_cannot_be_shown_is_told_in_the_page(served: str, open_page: Open, screenshots: Path) -> None:
    opened = open_page(served, NARROW, origin=served.rsplit("/", 2)[0])
    page = opened.page
    shown(page, "0/1/3")
    page.locator("#cases").select_option("2")
    shown(page, "2/1/2")
    assert "case_2_0000.nii.gz" in page.locator("#remarks").inner_text()
    page.locator("#cases").select_option("3")
    shown(page, "3/1/2")
    assert "Reference is left out: it has" in page.locator("#remarks").inner_text()
    page.screenshot(path=screenshots / "view-360.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW[0]
    assert [text for text in opened.complaints if "500" not in text] == []
