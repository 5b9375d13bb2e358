import errno
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.workspace import RECORD
from nnunet_rs.predict.folder import FolderOptions, predict_files
from nnunet_rs.predict.inputs import ResultPlace, one_case, result_place


@pytest.fixture
def make(tmp_path, save_nifti, made_up_case):
    """`make("a_0000.nii.gz", ...)`: write these images and return their paths."""

    def write(*names):
        (tmp_path / "in").mkdir(exist_ok=True)
        return [save_nifti(tmp_path / "in" / name, made_up_case(0, (6, 11, 9))[0][0]) for name in names]

    return write


def test_one_file_is_a_case(make):
    (plain,) = make("scan.nii.gz")
    assert one_case([plain], 1).name == "scan"
    (numbered,) = make("scan_0000.nii.gz")
    assert one_case([numbered], 1).name == "scan"


def test_channels_are_in_the_order_of_their_numbers_or_else_as_given(make):
    files = make("a_0000.nii.gz", "a_0001.nii.gz", "t2.nii.gz", "t1.nii.gz")
    assert one_case([files[1], files[0]], 2).images == (files[0], files[1])
    assert one_case([files[2], files[3]], 2).images == (files[2], files[3])


def test_what_is_no_case_is_refused(make, tmp_path):
    a0, a1, b0, text = *make("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz"), tmp_path / "notes.txt"
    text.touch()
    for files, channels, said in (
        ([tmp_path / "nowhere.nii.gz"], 1, "no such file or folder"),
        ([a0, tmp_path], 1, "is a folder; give one folder, or the files of one case"),
        ([text], 1, "the ending is not one of an image"),
        ([a0, b0], 2, r"are of different cases \(a, b\); for several cases give a folder"),
        ([a0, a0], 2, "are channels 0000, 0000"),
        ([a0, a1], 3, "2 files, the model takes 3 channels"),
        ([a0, a1], 1, "2 files, the model takes 1 channel; "),
    ):
        with pytest.raises(DatasetError, match=said):
            one_case(files, channels)


def test_an_ending_makes_a_file_unless_a_folder_is_there(make, tmp_path):
    images = make("a.nii.gz")
    assert result_place(tmp_path / "b.nii.gz", images) == ResultPlace(tmp_path, "b", ".nii.gz")
    assert result_place(tmp_path / "b.nrrd", images) == ResultPlace(tmp_path, "b", ".nrrd")
    assert result_place(tmp_path / "b", images) == ResultPlace(tmp_path / "b")
    (tmp_path / "c.nii.gz").mkdir()
    assert result_place(tmp_path / "c.nii.gz", images) == ResultPlace(tmp_path / "c.nii.gz")
    for ending in (".png", ".tif", ".bmp"):
        with pytest.raises(DatasetError, match="cannot say where in space"):
            result_place(tmp_path / f"b{ending}", images)


@pytest.mark.parametrize("name", ["seg.nii.gz", "seg.nii", "deep/er/seg.nrrd", "seg.mha"])
def test_one_image_becomes_one_segmentation(make, tmp_path, make_predictor, name):
    SimpleITK = pytest.importorskip("SimpleITK")  # noqa: N806
    (image,), out = make("scan_0000.nii.gz"), tmp_path / "out" / name
    predictor = make_predictor()
    assert predict_files(predictor, [image], out).written == ("seg",)
    assert sorted(path.name for path in out.parent.iterdir()) == [RECORD, out.name]
    expected = predictor(np.asarray(nibabel.load(image).dataobj).T, (1.0, 1.0, 1.0))
    written, source = SimpleITK.ReadImage(str(out)), SimpleITK.ReadImage(str(image))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(written), expected)
    for of in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(written, of)(), getattr(source, of)(), atol=1e-6)
    assert predict_files(predictor, [image], out).skipped == ("seg",)


def test_a_folder_gets_what_folders_get(make, tmp_path, make_predictor):
    predict_files(make_predictor(), make("scan_0000.nii.gz"), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {RECORD, "scan.nii.gz", "prediction.json"}


def test_one_result_beside_its_image_and_never_over_it(make, tmp_path, make_predictor):
    (image,) = make("scan.nii.gz")
    before, predictor = image.read_bytes(), make_predictor()
    predict_files(predictor, [image], image.with_name("seg.nii.gz"))
    (image.parent / "deep").mkdir()
    for out, said in (
        (image, "is the input file"),
        (image.parent, "is the folder of the images"),
        (image.parent / "deep/../scan.nii.gz", "is the input file"),
    ):
        with pytest.raises(DatasetError, match=said):
            predict_files(predictor, [image], out, FolderOptions(overwrite=True))
    assert image.read_bytes() == before


def test_a_file_that_is_not_ours_stays(make, tmp_path, make_predictor):
    out = tmp_path / "seg.nii.gz"
    out.write_bytes(b"mine")
    with pytest.raises(NnunetError, match=r"seg\.nii\.gz: is not known to be made by this tool"):
        predict_files(make_predictor(), make("scan.nii.gz"), out)
    assert out.read_bytes() == b"mine"
    predict_files(make_predictor(), make("scan.nii.gz"), out, FolderOptions(overwrite=True))
    assert Path(tmp_path / "previous/1/seg.nii.gz").read_bytes() == b"mine"


def test_a_name_with_an_ending_that_is_no_formats_makes_no_folder(make, tmp_path):
    images = make("scan.nii.gz")
    for name in ("seg.xyz", "seg.jpeg", "seg.nii.bz2"):
        with pytest.raises(DatasetError, match=rf"{name}: \.\w+ is no format that is written; .* of \.nii\.gz "):
            result_place(tmp_path / name, images)
    for name in ("segmentations", "run.2", "of 3.11.2026", "v1.x"):
        assert not result_place(tmp_path / name, images).is_file
    (tmp_path / "seg.xyz").mkdir()
    assert result_place(tmp_path / "seg.xyz", images) == ResultPlace(tmp_path / "seg.xyz")


@pytest.mark.parametrize("name", ["seg.nii.gz", "out", "new/seg.nii.gz"])
def test_where_nothing_can_be_written_nothing_is_computed(name, make, tmp_path, make_predictor, monkeypatch):
    def read_only(path, **_):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    images, predictor = make("scan.nii.gz"), make_predictor()
    monkeypatch.setattr(Path, "touch", read_only)
    monkeypatch.setattr(type(predictor), "prepare", lambda *_: pytest.fail("computed"))
    with pytest.raises(NnunetError, match=r"cannot be written: Read-only file system"):
        predict_files(predictor, images, tmp_path / name)
