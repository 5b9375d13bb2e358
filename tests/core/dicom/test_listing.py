"""Series that stand as files while they are predicted, and are found again by a path that lasts."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

from dicom_files import picture, write_series
from nnunet_rs.core.dicom.folders import is_dicom_input, series_paths
from nnunet_rs.core.dicom.listing import ENDING, StandIn, is_there, lasting, series_behind, stand_ins
from nnunet_rs.core.dicom.reader import opened, read, read_grid
from nnunet_rs.core.dicom.series import find_series
from nnunet_rs.core.issues import IssueError
from nnunet_rs.core.record import Made


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two series whose files lie in one folder."""
    root = tmp_path / "exports"
    for number in ("1", "2"):
        for file in write_series(tmp_path / number, picture(seed=int(number)), series=number).iterdir():
            root.mkdir(exist_ok=True)
            file.rename(root / f"{number}_{file.name}")
    return root


@pytest.fixture(params=["folder", "zip"])
def root(mixed: Path, request: pytest.FixtureRequest) -> Path:
    """The two series, as a folder and as a zip."""
    if request.param == "folder":
        return mixed
    path = mixed.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in mixed.iterdir():
            archive.write(file, f"sub/{file.name}")
    return path


def test_series_of_a_folder_or_zip_are_read_by_their_names(root: Path) -> None:
    assert is_dicom_input([root])
    paths = series_paths(root)
    assert len(paths) == 2
    found = {int(np.abs(read(path).voxels[0] - picture(seed=1)).sum()) == 0 for path in paths.values()}
    assert found == {True, False}
    for name, path in paths.items():
        assert (path.parent, path.name) == (root, name + ENDING)
        assert is_there(path)
        assert read_grid(path) == ((1, *picture().shape), (2.5, 0.8, 0.7))
        assert read(path).file.is_relative_to(root)


def test_names_do_not_depend_on_where_a_zip_is_unpacked(root: Path) -> None:
    assert set(series_paths(root)) == set(series_paths(root))


def test_a_zip_of_one_series_is_called_as_the_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "head.zip", "w") as archive:
        for file in write_series(tmp_path / "s").iterdir():
            archive.write(file, file.name)
    assert list(series_paths(tmp_path / "head.zip")) == ["head"]


def test_a_stand_in_leads_to_its_series_and_the_record_names_what_lasts(mixed: Path, tmp_path: Path) -> None:
    one, other = find_series(mixed).series
    (tmp_path / "out.nii.gz").write_bytes(b"x")
    with stand_ins([StandIn("case_0000", one), StandIn("case_0001", other)]) as folder:
        file = folder / "case_0001.dcm"
        assert series_behind(file) is other
        assert lasting(file) == mixed / f"{other.name}.dcm"
        made = Made.of(tmp_path / "out.nii.gz", "out.nii.gz", "", "prediction", [file])
    assert series_behind(file) is None
    assert not is_there(file)
    assert made.sources == (str(mixed / f"{other.name}.dcm"),)
    np.testing.assert_array_equal(read(Path(made.sources[0])).voxels, read(mixed / f"{other.name}.dcm").voxels)


def test_a_stand_in_is_as_new_as_what_the_user_has(root: Path) -> None:
    for file in (root, *root.glob("*")):
        os.utime(file, (1e9, 1e9))
    with opened(root) as folder, stand_ins([StandIn("a", find_series(folder, named=root).series[0])]) as place:
        assert (place / "a.dcm").stat().st_mtime == 1e9


def test_no_such_series_is_told(mixed: Path) -> None:
    with pytest.raises(IssueError, match="exports holds no series that is called nothing"):
        read(mixed / "nothing.dcm")


def test_a_series_that_changes_is_read_anew(mixed: Path) -> None:
    path = next(iter(series_paths(mixed).values()))
    assert read(path).shape[0] == 6
    for file in mixed.glob("*_0006.dcm"):
        file.unlink()
    assert read(path).shape[0] == 5


def test_a_folder_of_segmentations_is_no_dicom(tmp_path: Path) -> None:
    (tmp_path / "p" / "seg").mkdir(parents=True)
    (tmp_path / "p" / "a.nii.gz").write_bytes(b"x")
    write_series(tmp_path / "p" / "seg")
    assert not is_dicom_input([tmp_path / "p"])
    assert series_paths(tmp_path / "p") == {}
