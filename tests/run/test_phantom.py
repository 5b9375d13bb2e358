from pathlib import Path

import nibabel
import numpy as np
import pytest
from nnunet_rs.core.check import check_dataset
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.types import Dataset
from nnunet_rs.run.phantom import LABELS, make_scan, write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(write_dataset(tmp_path_factory.mktemp("phantom"), training=2, test=1, seed=3))


def test_the_same_numbers_give_the_same_scan_and_others_another() -> None:
    first, again, other = make_scan(1, 0), make_scan(1, 0), make_scan(1, 1)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    assert first.image.shape != other.image.shape or not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("index", range(4))
def test_every_organ_is_there_and_slices_are_thick(index: int) -> None:
    scan = make_scan(0, index)
    counts = np.bincount(scan.labels.ravel(), minlength=len(LABELS))
    assert counts.min() > 100
    assert counts[0] > 0.7 * scan.labels.size
    spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)
    assert spacing[2] > 2.5 * spacing[0]
    assert scan.image.min() >= 0


def test_tilted_scans_have_oblique_headers() -> None:
    straight, tilted = (make_scan(0, 1, tilted=tilted).affine[:3, :3] for tilted in (False, True))
    assert np.count_nonzero(straight - np.diag(np.diag(straight))) == 0
    cosines = tilted / np.linalg.norm(tilted, axis=0)
    assert np.allclose(cosines.T @ cosines, np.eye(3), atol=1e-6)
    assert 5 < np.degrees(np.arccos(cosines[2, 2])) < 16


def test_the_dataset_is_sound_and_labels_sit_on_their_images(dataset: Dataset) -> None:
    assert [issue for issue in check_dataset(dataset) if issue.fatal] == []
    assert dataset.labels.names == tuple(LABELS)
    assert (len(dataset.training), len(dataset.test)) == (2, 1)
    for case in dataset.training:
        assert case.label is not None
        image, label = nibabel.load(case.images[0]), nibabel.load(case.label)
        assert image.shape == label.shape
        assert np.array_equal(image.affine, label.affine)
        assert {"sform_code", "qform_code"} <= set(image.header)


def test_files_are_the_same_byte_by_byte(dataset: Dataset, tmp_path: Path) -> None:
    again = read_dataset(write_dataset(tmp_path, training=2, test=1, seed=3))
    for first, second in zip(dataset.training, again.training, strict=True):
        assert first.images[0].read_bytes() == second.images[0].read_bytes()
