import math
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.predict.evaluate import evaluate_folders
from nnunet_rs.report.cases import picture_ranked, ranked_cases


def scored(**dice: tuple[float, ...]) -> SimpleNamespace:
    cases = [
        SimpleNamespace(name=name, scores=[SimpleNamespace(dice=value) for value in values])
        for name, values in dice.items()
    ]
    return SimpleNamespace(cases=cases)


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ({"a": (0.5, 0.7), "b": (0.9, math.nan), "c": (0.1, 0.2)}, {"best": "b", "median": "a", "worst": "c"}),
        ({"a": (0.1,), "b": (0.2,), "c": (0.3,), "d": (0.4,)}, {"best": "d", "median": "b", "worst": "a"}),
        ({"a": (0.5,), "b": (0.7,), "empty": (math.nan,)}, {"best": "b", "worst": "a"}),
        ({"a": (0.5,)}, {"best": "a"}),
        ({"empty": (math.nan,)}, {}),
    ],
)
def test_who_is_best_median_and_worst(dice: dict, expected: dict[str, str]) -> None:
    assert {place.rank: place.scores.name for place in ranked_cases(scored(**dice))} == expected


def test_pictures_of_the_three(raw_dataset, save_nifti, tmp_path: Path) -> None:
    root = raw_dataset(cases=3)
    dataset = read_dataset(root)
    found = tmp_path / "found"
    found.mkdir()
    for case in dataset.training:
        (found / case.label.name).write_bytes(case.label.read_bytes())
    summary = evaluate_folders(found, root / "labelsTr", dataset.labels)
    paths = picture_ranked(tmp_path / "pictures", dataset.training, dataset.labels, summary)
    assert [path.name for path in paths] == ["best.png", "median.png", "worst.png"]
    for path in paths:
        assert np.ptp(matplotlib.image.imread(path)) > 0.5
