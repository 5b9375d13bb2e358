"""Statistics of a folder of segmentations, as files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.types import Case, LabelSet
from nnunet_rs.evaluate.structures_folder import measure_cases, write_statistics

LABELS = LabelSet(("background", "liver", "spleen"), (0, 1, 2))


def save(path: Path, data: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(data, np.diag((2.0, 1.0, 3.0, 1.0))), path)
    return path


@pytest.fixture
def cases(tmp_path: Path) -> tuple[Case, ...]:
    """Two segmentations of (x, y, z) = (4, 3, 2) with their images; the second holds nothing."""
    found = []
    for name, size in (("a", 2), ("b", 0)):
        labels = np.zeros((4, 3, 2), np.uint8)
        labels[:size, 0, 0] = 1
        image = np.full((4, 3, 2), 50, np.float32)
        label = save(tmp_path / f"{name}.nii.gz", labels)
        found.append(Case(name, (save(tmp_path / f"{name}_image.nii.gz", image),), label))
    return tuple(found)


def test_csv_and_json(cases: tuple[Case, ...], tmp_path: Path) -> None:
    found = measure_cases(cases, LABELS, ("CT",), threads=2)
    paths = write_statistics(tmp_path / "out", found, ("CT",))
    assert [path.name for path in paths] == ["statistics.json", "statistics.csv"]
    document = json.loads(paths[0].read_text())
    liver = document["cases"]["a"]["liver"]
    assert (liver["voxels"], liver["volume_mm3"], liver["volume_ml"], liver["components"]) == (2, 12.0, 0.012, 1)
    assert (liver["centroid_mm"], liver["first_voxel"]) == ({"x": 1, "y": 0, "z": 0}, {"x": 0, "y": 0, "z": 0})
    assert liver["last_voxel"] == {"x": 1, "y": 0, "z": 0}
    assert liver["intensities"]["CT"]["mean"] == 50
    assert document["cases"]["b"]["spleen"] == {
        "values": [2],
        "voxels": 0,
        "volume_mm3": 0.0,
        "volume_ml": 0.0,
        "components": 0,
    }
    with paths[1].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["case"], row["structure"]) for row in rows] == [(c, s) for c in "ab" for s in ("liver", "spleen")]
    assert (rows[0]["volume_ml"], rows[0]["centroid_mm_x"], rows[0]["CT_percentile_50"]) == ("0.012", "1.0", "50.0")
    assert rows[1]["CT_mean"] == ""
    assert write_statistics(tmp_path / "out", found, ("CT",)) == paths  # what was made here is made again


def test_without_images(cases: tuple[Case, ...]) -> None:
    (found, _) = measure_cases([Case(case.name, (), case.label) for case in cases], LABELS)
    assert found.structures[0].intensities == ()


def test_an_image_of_another_size_is_refused(cases: tuple[Case, ...], tmp_path: Path) -> None:
    other = save(tmp_path / "other.nii.gz", np.zeros((4, 3, 1), np.float32))
    with pytest.raises(DatasetError, match=r"a\.nii\.gz: .*\(2, 3, 4\), other\.nii\.gz has \(1, 3, 4\)"):
        measure_cases([Case("a", (other,), cases[0].label)], LABELS)


def test_more_memory_than_is_allowed_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.nii"
    header = nibabel.Nifti1Header()
    header.set_data_shape((2000, 2000, 2000))
    header.set_data_dtype(np.uint8)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with large.open("wb") as stream:
        stream.write(header.binaryblock + b"\0\0\0\0")
        stream.truncate(352 + 8 * 10**9)
    with pytest.raises(DatasetError, match=r"large\.nii: measuring takes .* GB, .* GB are allowed"):
        measure_cases([Case("large", (), large)], LABELS, memory=4 << 30)


def test_foreign_files_stay(cases: tuple[Case, ...], tmp_path: Path) -> None:
    found = measure_cases(cases, LABELS)
    (tmp_path / "statistics.csv").write_text("mine")
    with pytest.raises(NnunetError, match=r"statistics\.csv"):
        write_statistics(tmp_path, found)
    assert (tmp_path / "statistics.csv").read_text() == "mine"
    write_statistics(tmp_path, found, overwrite=True)
    assert (tmp_path / "previous" / "1" / "statistics.csv").read_text() == "mine"
