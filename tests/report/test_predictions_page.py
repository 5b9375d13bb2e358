"""Pages of predictions: what they show, in which order, and what is wrong with some cases."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.io import write_labels
from nnunet_rs.report.predictions import Given, read_predictions
from nnunet_rs.report.predictions_page import PredictionsShown, write_predictions_report

NAMES = {"background": 0, "large": 1, "small": 2}


@pytest.fixture
def folder(tmp_path: Path, raw_dataset: Callable[..., Path]) -> Path:
    """Predictions of six cases: references, of which one is cut to a tenth."""
    raw = raw_dataset(cases=6)
    (tmp_path / "out").mkdir()
    for path in sorted((raw / "labelsTr").iterdir()):
        image = nibabel.load(path)
        data = np.asarray(image.dataobj).copy()
        if path.name.startswith("case_4"):
            data[10:] = 0
        nibabel.save(nibabel.Nifti1Image(data, image.affine), tmp_path / "out" / path.name)
    (tmp_path / "out" / "prediction.json").write_text(json.dumps({"models": {}, "labels": NAMES}))
    return tmp_path / "out"


def given(folder: Path, *, references: bool = False) -> Given:
    raw = next(folder.parent.glob("Dataset*"))
    return Given(images=raw / "imagesTr", references=raw / "labelsTr" if references else None)


def page(folder: Path, known: Given, shown: PredictionsShown | None = None) -> str:
    report = write_predictions_report(
        read_predictions(folder, known), folder / "report.html", shown or PredictionsShown(threads=2)
    )
    text = (folder / "report.html").read_text()
    assert report.bytes == len(text.encode())
    return text


def cases(text: str) -> list[str]:
    return re.findall(r'<h3><span class="rank">.*?</span> (\S+)</h3>', text)


def views(text: str) -> list[list[dict[str, object]]]:
    return [json.loads(found) for found in re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)]


def test_the_most_unusual_comes_first(folder: Path) -> None:
    text = page(folder, given(folder))
    assert cases(text)[0] == "case_4"
    assert len(cases(text)) == 6
    assert "large has" in text
    assert [view["plane"] for view in views(text)[0]] == ["axial", "coronal", "sagittal"]
    assert views(text)[0][0]["reference"] == []
    assert 'data-layer="reference"' not in text


def test_with_references_the_worst_comes_first(folder: Path) -> None:
    text = page(folder, given(folder, references=True))
    assert cases(text)[0] == "case_4"
    assert "The case with the lowest Dice comes first" in text
    assert 'data-layer="difference"' in text


def test_without_images_the_segmentations_are_shown(folder: Path) -> None:
    text = page(folder, Given())
    assert len(cases(text)) == 6
    assert "6 of 6 cases have no image" in text


def test_only_the_first_cases_are_drawn(folder: Path) -> None:
    text = page(folder, given(folder), PredictionsShown(cases=2, slices=2, threads=1))
    assert cases(text)[0] == "case_4"
    assert len(cases(text)) == 2
    assert "4 cases that come later in the order are in the tables only" in text
    assert len(views(text)[0][0]["indices"]) == 2  # type: ignore[arg-type]


def test_what_is_wrong_with_a_case_is_told_and_the_rest_is_shown(folder: Path) -> None:
    raw = next(folder.parent.glob("Dataset*"))
    (folder / "case_0.nii.gz").write_bytes(b"no")
    (raw / "imagesTr" / "case_1_0000.nii.gz").write_bytes(b"no")
    (raw / "labelsTr" / "case_2.nii.gz").write_bytes((raw / "labelsTr" / "case_3.nii.gz").read_bytes())
    (folder / "case_5.nii.gz").write_bytes((folder / "case_4.nii.gz").read_bytes())
    text = page(folder, given(folder, references=True))
    assert sorted(cases(text)) == [f"case_{k}" for k in range(1, 6)]
    assert "case_0 cannot be shown." in text
    assert re.search(r"case_1: The image is left out: .*case_1_0000\.nii\.gz", text)
    assert re.search(r"case_2: The reference is left out: .*shape-mismatch|case_2: The reference is left out", text)
    assert "case_5: The image is left out" in text


def test_no_case_that_can_be_read_is_an_error(folder: Path) -> None:
    for path in folder.glob("*.nii.gz"):
        path.write_bytes(b"no")
    with pytest.raises(DatasetError, match="no case can be read"):
        page(folder, Given())


def test_markup_in_names_stays_text(folder: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    (folder / "prediction.json").write_text(json.dumps({"labels": {"background": 0, name: 1, "</script>": 2}}))
    (folder / "case_0.nii.gz").rename(folder / "<b>&.nii.gz")
    text = page(folder, Given())
    assert name not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "<b>&" not in text


def test_the_command_tells_work_folders_from_predictions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = next(folder.parent.glob("Dataset*"))
    more = ["-i", str(raw / "imagesTr"), "--references", str(raw / "labelsTr"), "-j", "1"]
    assert main(["report", str(folder), *more, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["cases"], told["shown"]) == (6, 6)
    assert 0 < told["dice"] < 1
    assert (folder / "report.html").is_file()
    assert main(["report", str(folder / "case_0.nii.gz"), "-q"]) == 0
    assert (folder / "case_0.report.html").is_file()
    (folder.parent / "empty").mkdir()
    assert main(["report", str(folder.parent / "empty"), *more, "-q"]) == 2
    assert "-i is for predictions" in capsys.readouterr().err
    assert main(["report", str(folder.parent / "empty"), "-q"]) == 1
    assert "holds no plan.json" in capsys.readouterr().err
    (folder / "mine.html").write_text("mine")
    assert main(["report", str(folder), "-o", str(folder / "mine.html"), "-q"]) == 1
    assert (folder / "mine.html").read_text() == "mine"


def test_predict_makes_the_page(make_work: Callable[..., Path], tmp_path: Path) -> None:
    work, out = make_work({"3d_fullres": (0,)}), tmp_path / "segmented"
    images = next(tmp_path.glob("Dataset*")) / "imagesTr"
    options = ["--no-mirror", "--save-probabilities", "--report", "-q"]
    assert main(["predict", str(work), "-i", str(images), "-o", str(out), *options]) == 0
    text = (out / "report.html").read_text()
    assert len(cases(text)) == 5
    assert "mean entropy" in text
    assert all(view["image"][0][0].startswith("data:image/webp") for view in views(text)[0])  # type: ignore[index]


def test_a_label_that_lies_elsewhere_than_its_image(folder: Path) -> None:
    found = nibabel.load(folder / "case_0.nii.gz")
    affine = found.affine.copy()
    affine[:3, 3] += 50
    moved = nibabel.Nifti1Image(np.asarray(found.dataobj), affine)
    write_labels(folder / "case_0.nii.gz", np.asarray(moved.dataobj).T, _header(moved))
    assert "case_0: The image is left out" in page(folder, given(folder))


def _header(image: nibabel.Nifti1Image) -> object:
    from nnunet_rs.core.types import Header

    return Header("itk", tuple(tuple(map(float, row)) for row in image.affine))
