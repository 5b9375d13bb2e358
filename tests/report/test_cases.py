from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import nibabel
import numpy as np
import pytest
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.types import Dataset
from nnunet_rs.evaluate.folders import evaluate_folders
from nnunet_rs.evaluate.summary import Summary
from nnunet_rs.report.cases import picture_case, picture_ranked


@pytest.fixture
def scored(
    raw_dataset: Callable[..., Path], save_nifti: Callable[..., Path], tmp_path: Path
) -> tuple[Dataset, Summary]:
    """Three cases: case_1 predicted perfectly, case_2 shifted, case_0 as nothing but background."""

    root = raw_dataset(cases=3)
    dataset = read_dataset(root)
    for index, case in enumerate(dataset.training):
        truth = np.asarray(nibabel.load(case.label).dataobj).T
        found = {0: np.zeros_like(truth), 1: truth, 2: np.roll(truth, 3, axis=2)}[index]
        save_nifti(tmp_path / "found" / case.label.name, found, (3, 1, 1))
    return dataset, evaluate_folders(tmp_path / "found", root / "labelsTr", dataset.labels)


def test_pictures_are_of_the_best_the_median_and_the_worst(scored: tuple[Dataset, Summary], tmp_path: Path) -> None:
    dataset, summary = scored
    paths = picture_ranked(tmp_path / "pictures", dataset.training, dataset.labels, summary)
    assert [path.name for path in paths] == ["best.png", "median.png", "worst.png"]
    cases = {case.name: case for case in dataset.training}
    for path, name in zip(paths, ("case_1", "case_2", "case_0"), strict=True):
        alone = tmp_path / "alone.png"
        picture_case(alone, f"{name}: the {path.stem} of 3", cases[name], dataset.labels, summary)
        np.testing.assert_array_equal(matplotlib.image.imread(path), matplotlib.image.imread(alone))


def test_classes_are_coloured_where_they_are(scored: tuple[Dataset, Summary], tmp_path: Path) -> None:
    """Columns are image, reference, prediction: grey, coloured, and coloured unless nothing was predicted."""
    dataset, summary = scored
    best, _, worst = picture_ranked(tmp_path, dataset.training, dataset.labels, summary)
    for path, predicted in ((best, True), (worst, False)):
        picture = matplotlib.image.imread(path)[..., :3]
        rows = slice(picture.shape[0] // 5, picture.shape[0] * 4 // 5)  # without title and legend
        columns = np.array_split(picture[rows], 3, axis=1)
        coloured = [float(np.mean(np.ptp(column, axis=2) > 0.2)) for column in columns]
        assert coloured[0] == 0
        assert coloured[1] > 0.02
        assert (coloured[2] > 0.02) == predicted
