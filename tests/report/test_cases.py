from pathlib import Path

import matplotlib.image
import numpy as np
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.evaluate.folders import evaluate_folders
from nnunet_rs.report.cases import picture_ranked


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
