"""A small dataset through the commands, in both layouts and both configurations, and back onto its files' grids."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nnunet_rs.cli import main

SMALL = ("--features", "4", "--vram", "0.02")
SHORT = ("--recipe", "fast", "--epochs", "1", "--batches", "4", "--device", "cpu", "-j", "1")


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """Run a command with --json; give its object."""
    code = main([*map(str, arguments), "--json", "--quiet"])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert len(out.splitlines()) == 1
    result: dict[str, Any] = json.loads(out)
    assert result["ok"]
    return result


@pytest.mark.parametrize(
    ("layout", "configuration"),
    [("raw_dataset", "3d_fullres"), ("raw_dataset", "2d"), ("decathlon_dataset", "3d_fullres")],
)
def test_from_a_folder_of_scans_to_scores(
    layout: str, configuration: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    channels = ("T1", "T2") if layout == "decathlon_dataset" else ("MRI",)
    root: Path = request.getfixturevalue(layout)(cases=5, channels=channels)
    work, out = tmp_path / "work", tmp_path / "out"

    assert answer(capsys, "check", root)["issues"] == []
    plan = answer(capsys, "plan", root, "-o", work, *SMALL)["plan"]
    assert set(plan["configurations"]) == {"2d", "3d_fullres"}
    prepared = answer(capsys, "preprocess", root, "-o", work, "-c", configuration)
    assert (prepared["cases"], prepared["made"]) == (5, 5)
    again = answer(capsys, "preprocess", root, "-o", work, "-c", configuration)
    assert (again["made"], again["found"]) == (0, 5)

    trained = answer(capsys, "train", work, "-c", configuration, "-f", 0, *SHORT)
    fold = work / "models" / configuration / "fold_0"
    assert trained["folds"][0]["model"] == str(fold)
    assert set(trained["folds"][0]["dice_per_class"]) == {"large", "small"}
    for name in ("weights.safetensors", "model.json", "metrics.jsonl", "progress.png", "validation/summary.json"):
        assert (fold / name).stat().st_size > 0

    predicted = answer(capsys, "predict", work, "-i", root / "imagesTr", "-o", out, "--device", "cpu", "--no-mirror")
    assert len(predicted["written"]) == 5
    assert answer(capsys, "predict", work, "-i", root / "imagesTr", "-o", out, "--no-mirror")["written"] == []
    scores = answer(capsys, "evaluate", out, root / "labelsTr", "-o", tmp_path / "scores.json")
    assert set(scores["mean"]) == {"1", "2"}
    assert 0 <= scores["foreground_mean"]["Dice"] <= 1
    assert json.loads((tmp_path / "scores.json").read_text())["mean"] == scores["mean"]


def oblique() -> np.ndarray:
    """Turned by 20 degrees about x, voxels of 1.2 x 1.1 x 3 mm, the first axis to the left."""
    cosine, sine = np.cos(np.radians(20)), np.sin(np.radians(20))
    turn = np.array([[-1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    affine = np.eye(4)
    affine[:3, :3] = turn * [1.2, 1.1, 3]
    affine[:3, 3] = [80.5, -60.25, 33]
    return affine


HEADERS = {
    "sform": (2, 0, np.diag([1.0, 1.0, 3.0, 1.0])),
    "qform": (0, 1, np.diag([-1.0, -1.0, 3.0, 1.0])),
    "oblique": (1, 1, oblique()),
    "plain": (0, 0, None),  # neither form: nibabel and ITK fall back on the spacing
}


def write_image(path: Path, sform: int, qform: int, affine: np.ndarray | None) -> None:
    rng = np.random.default_rng(1)
    image = nibabel.Nifti1Image(rng.integers(100, 400, (19, 23, 9), np.int16), affine)
    image.set_qform(affine if qform else None, qform)
    image.set_sform(affine if sform else None, sform)
    if affine is None:
        image.header.set_zooms((1.5, 1.25, 3))
    path.parent.mkdir(exist_ok=True)
    nibabel.save(image, path)


def test_predictions_lie_on_their_images(
    raw_dataset: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work, scans, out = tmp_path / "work", tmp_path / "scans", tmp_path / "out"
    answer(capsys, "preprocess", raw_dataset(cases=5), "-o", work, "-c", "3d_fullres", *SMALL)
    answer(capsys, "train", work, "-c", "3d_fullres", "-f", 0, *SHORT)
    for name, (sform, qform, affine) in HEADERS.items():
        write_image(scans / f"{name}.nii.gz", sform, qform, affine)
    answer(capsys, "predict", work, "-i", scans, "-o", out, "--device", "cpu", "--no-mirror")
    for name in HEADERS:
        image, found = nibabel.load(scans / f"{name}.nii.gz"), nibabel.load(out / f"{name}.nii.gz")
        assert found.shape == image.shape
        assert np.array_equal(found.affine, image.affine)
        for key in ("pixdim", "sform_code", "qform_code", "srow_x", "quatern_b", "qoffset_x", "xyzt_units"):
            assert np.array_equal(found.header[key], image.header[key]), (name, key)
        assert found.get_data_dtype() == np.uint8
        assert set(np.unique(np.asarray(found.dataobj))) <= {0, 1, 2}


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scans").mkdir()
    for arguments in (
        ["train", str(tmp_path), "-c", "2d", "-f", "0"],
        ["predict", str(tmp_path), "-i", str(tmp_path / "scans"), "-o", str(tmp_path / "out")],
        ["evaluate", str(tmp_path / "scans"), str(tmp_path / "scans")],
    ):
        assert main(arguments) == 1
        err = capsys.readouterr().err
        assert err.startswith(f"error: {tmp_path}")
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
