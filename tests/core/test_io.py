"""Files of one case brought together; what single formats do is in test_nifti and test_itk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nnunet_rs.core.image_file import Grid, compare_grids, smallest_integer
from nnunet_rs.core.io import can_read, gather, read_labels, read_scan, read_volume, write_labels
from nnunet_rs.core.issues import IssueError, fatal

Save = Callable[..., Path]
EYE = tuple(tuple(map(float, row)) for row in np.eye(4))


def grid(**changes: object) -> Grid:
    values = {"file": Path("b.nii"), "shape": (3, 4, 5), "spacing": (1.0, 1.0, 1.0), "affine": EYE}
    return Grid(**{**values, **changes})  # type: ignore[arg-type]


def moved(**entries: float) -> tuple[tuple[float, ...], ...]:
    """The unit affine with entries changed: `moved(a03=2)` shifts along x."""
    affine = np.eye(4)
    for name, value in entries.items():
        affine[int(name[1]), int(name[2])] = value
    return tuple(tuple(map(float, row)) for row in affine)


@pytest.mark.parametrize(
    ("name", "readable"),
    [("a.nii.gz", True), ("A.NII.GZ", True), ("a.nii", True), ("a.png", True), ("a.gz", False), ("nii", False)],
)
def test_the_ending_tells_the_format(name: str, readable: bool) -> None:
    assert can_read(Path(name)) is readable


def test_endings_in_capitals_are_read(tmp_path: Path, save_nifti: Save) -> None:
    zipped = save_nifti(tmp_path / "a.nii.gz", np.arange(8, dtype=np.uint8).reshape(2, 2, 2))
    capitals = zipped.rename(tmp_path / "A.NII.GZ")
    np.testing.assert_array_equal(read_labels(capitals).data.ravel(), range(8))
    write_labels(tmp_path / "B.NII.GZ", read_labels(capitals).data, read_labels(capitals).header)
    np.testing.assert_array_equal(read_labels(tmp_path / "B.NII.GZ").data.ravel(), range(8))


def test_one_file_per_channel(tmp_path: Path, save_nifti: Save) -> None:
    parts = [np.full((3, 4, 5), value, kind) for value, kind in ((-7, np.int16), (0.5, np.float32))]
    paths = [save_nifti(tmp_path / f"a_{i:04d}.nii.gz", part, (3, 2, 1)) for i, part in enumerate(parts)]
    volume = read_volume(paths)
    np.testing.assert_array_equal(volume.data, np.stack(parts))
    assert volume.spacing == (3.0, 2.0, 1.0)


def test_channels_of_different_grids_are_refused(tmp_path: Path, save_nifti: Save) -> None:
    paths = [save_nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16))]
    paths.append(save_nifti(tmp_path / "b.nii", np.zeros((3, 4, 6), np.int16)))
    with pytest.raises(IssueError, match=r"b\.nii: shape-mismatch: \(z, y, x\) is \(3, 4, 6\), a\.nii has \(3, 4, 5\)"):
        read_volume(paths, "a")
    paths[1] = save_nifti(tmp_path / "c.nii", np.zeros((3, 4, 5), np.int16), (2, 1, 1))
    with pytest.raises(IssueError, match=r"c\.nii: spacing-mismatch: \(2.0, 1.0, 1.0\), a\.nii has \(1.0, 1.0, 1.0\)"):
        read_volume(paths)


def test_a_channel_file_with_several_channels_is_refused(tmp_path: Path, save_nifti: Save) -> None:
    paths = [save_nifti(tmp_path / f"{n}.nii", np.zeros((n, 3, 4, 5), np.int16)) for n in (1, 2)]
    with pytest.raises(IssueError, match=r"2\.nii: channels: 2 channels in one of several files"):
        read_volume(paths)


def test_all_faults_of_a_case_are_gathered(tmp_path: Path, save_nifti: Save) -> None:
    broken = np.ones((3, 4, 5), np.float32)
    broken[0, 0, 0] = np.inf
    paths = [save_nifti(tmp_path / "a.nii", broken), save_nifti(tmp_path / "b.nii", np.ones((2, 2, 2), np.int16))]
    image, issues = gather([read_scan(path) for path in paths])
    assert [issue.rule for issue in issues] == ["shape-mismatch", "non-finite"]
    assert image.shape == (1, 3, 4, 5)


def test_a_constant_image_is_a_warning(tmp_path: Path, save_nifti: Save) -> None:
    image = np.stack([np.arange(8).reshape(2, 2, 2), np.full((2, 2, 2), 3)]).astype(np.int16)
    _, issues = gather([read_scan(save_nifti(tmp_path / "a.nii", image))])
    assert [(issue.rule, issue.value, issue.fatal) for issue in issues] == [
        ("image-constant", "all voxels of channel 1 are 3.0", False)
    ]


@pytest.mark.parametrize(
    ("other", "rules", "is_fatal"),
    [
        (grid(), [], False),
        (grid(shape=(3, 4, 6)), ["shape-mismatch"], True),
        (grid(spacing=(1.0, 1.0, 1.000001)), [], False),
        (grid(spacing=(1.0, 1.0, 1.0005)), ["spacing-mismatch"], False),
        (grid(spacing=(1.0, 1.0, 1.002)), ["spacing-mismatch"], True),
        (grid(affine=moved(a03=0.005)), [], False),
        (grid(affine=moved(a03=0.05)), ["origin-mismatch"], False),
        (grid(affine=moved(a13=-2)), ["origin-mismatch"], True),
        (grid(affine=moved(a01=0.0005)), ["orientation-mismatch"], False),
        (grid(affine=moved(a00=-1)), ["orientation-mismatch"], True),
        (grid(affine=moved(a00=-1, a23=9)), ["orientation-mismatch", "origin-mismatch"], True),
        (grid(spacing=(1.0, 1.0, 0.0), affine=moved(a23=9)), [], False),  # told by the reader, the rest follows from it
    ],
)
def test_differences_between_grids(other: Grid, rules: list[str], is_fatal: bool) -> None:
    issues = compare_grids(grid(file=Path("a.nii")), other)
    assert [issue.rule for issue in issues] == rules
    assert bool(fatal(issues)) is is_fatal
    assert all(issue.file == Path("b.nii") for issue in issues)


def test_files_named_alike_are_told_with_their_folders() -> None:
    here, there = Path("predictions/a.nii"), Path("labels/a.nii")
    (issue,) = compare_grids(grid(file=there), grid(file=here, shape=(3, 4, 6)))
    assert str(issue).startswith(f"{here}: shape-mismatch: (z, y, x) is (3, 4, 6), {there} has (3, 4, 5); store it on")


def test_the_advice_is_never_to_mirror_labels() -> None:
    (issue,) = compare_grids(grid(), grid(affine=moved(a00=-1)))
    assert issue.advice.startswith("store it again in the image's orientation")
    (issue,) = compare_grids(grid(), grid(affine=moved(a03=9)))
    assert issue.advice == "copy the image's header, if the voxels belong together"


def test_either_of_two_places_will_do() -> None:
    both = grid(file=Path("a.nii"), affine=moved(a03=9), qform=EYE)
    (issue,) = compare_grids(both, grid())
    assert (issue.rule, issue.fatal) == ("qform-sform", False)
    (issue,) = compare_grids(grid(file=Path("a.nii")), grid(affine=moved(a03=9), qform=EYE))
    assert (issue.rule, issue.fatal) == ("qform-sform", False)
    (issue,) = compare_grids(both, grid(affine=moved(a13=9)))
    assert (issue.rule, issue.fatal) == ("origin-mismatch", True)


def test_warnings_of_reading_are_told_on_request(tmp_path: Path, save_nifti: Save) -> None:
    told: list[str] = []
    path = save_nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16))
    read_volume(path, "a", lambda issue: told.append(str(issue)))
    assert told == [f"{path}: image-constant: all voxels of channel 0 are 0.0; " + told[0].split("; ", 1)[1]]


def test_labels_are_written_beside_an_image_or_its_header(tmp_path: Path, save_nifti: Save) -> None:
    image = read_volume(save_nifti(tmp_path / "a.nii", np.arange(60, dtype=np.int16).reshape(3, 4, 5), (3, 2, 1)))
    labels = np.ones((3, 4, 5), np.uint8)
    for header in (image, image.header):
        write_labels(tmp_path / "b.nii.gz", labels, header)
        assert read_labels(tmp_path / "b.nii.gz").spacing == image.spacing
    with pytest.raises(TypeError, match="header must be an image, or an image's header, got ndarray"):
        write_labels(tmp_path / "c.nii.gz", labels, image.data)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be an integer array .*, got Labels: give its data"):
        write_labels(tmp_path / "c.nii.gz", read_labels(tmp_path / "b.nii.gz"), image)  # type: ignore[arg-type]
    assert not (tmp_path / "c.nii.gz").exists()


def test_what_does_not_fit_into_memory_is_told_with_its_file(
    tmp_path: Path, save_nifti: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError("Unable to allocate 83.8 TiB")

    path = save_nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16))
    for owner, name in (("nnunet_rs.core.nifti", "_parse"), ("nnunet_rs.core.io", "gather")):
        with monkeypatch.context() as patch:
            patch.setattr(f"{owner}.{name}", full)
            with pytest.raises(IssueError, match=r"a\.nii: memory: does not fit into memory: Unable to allocate 83"):
                read_volume(path)


def test_an_orientation_is_told_by_where_the_axes_point() -> None:
    (issue,) = compare_grids(grid(), grid(affine=moved(a00=-1)))
    assert issue.value == (
        "LAS (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), "
        "b.nii has RAS (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)"
    )
    turned = ((0.0, 0.0, -1.0, 0.0), (-1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    codes = "".join(nibabel.aff2axcodes(np.array(turned)))
    assert compare_grids(grid(), grid(affine=turned))[0].value.startswith(codes)


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [(0, 255, "u1"), (0, 256, "u2"), (0, 65536, "i4"), (-1, 0, "i4"), (0, 2**31, "i8")],
)
def test_the_smallest_integer_type(low: int, high: int, kind: str) -> None:
    assert smallest_integer(low, high) == np.dtype(kind)


def test_real_headers_come_back(shared: Path, tmp_path: Path) -> None:
    for folder in ("Task04_Hippocampus", "Dataset027_ACDC"):
        path = sorted((shared / "data" / folder / "imagesTr").glob("*.nii.gz"))[0]
        volume = read_volume([path])
        write_labels(tmp_path / "a.nii.gz", np.zeros(volume.data.shape[1:], np.uint8), volume.header)
        given, written = nibabel.load(path), nibabel.load(tmp_path / "a.nii.gz")
        np.testing.assert_array_equal(written.affine, given.affine)
        for field in ("dim", "pixdim", "qform_code", "sform_code", "quatern_c", "srow_x", "xyzt_units"):
            np.testing.assert_array_equal(written.header[field], given.header[field])
        assert read_labels(tmp_path / "a.nii.gz").spacing == volume.spacing
