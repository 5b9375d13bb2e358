"""Lists of images: what they may say, and what is wrong is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from nnunet_rs.core.case_list import read_case_list
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.types import Case


def read(folder: Path, text: str, channels: int = 1) -> tuple[Case, ...]:
    (folder / "cases.csv").write_text(text, encoding="utf-8")
    return read_case_list(folder / "cases.csv", channels, folder / "out")


def test_images_are_named_from_the_list_on_and_outputs_from_the_folder_on(tmp_path: Path) -> None:
    text = f"\ufeffid, image ,output\na,scans/a.nii.gz,1/a.mha\nb,/scans/b.nrrd,{tmp_path}/out/2/b.nii.gz\n\nc,c.nii,\n"
    assert read(tmp_path, text) == (
        Case("a", (tmp_path / "scans/a.nii.gz",), output="1/a.mha"),
        Case("b", (Path("/scans/b.nrrd"),), output="2/b.nii.gz"),
        Case("c", (tmp_path / "c.nii",)),
    )


def test_channels_have_a_column_each_or_one_for_all(tmp_path: Path) -> None:
    two = read(tmp_path, "image_0,image_1,id\nt1.nii,t2.nii,a\n", channels=2)
    assert two == (Case("a", (tmp_path / "t1.nii", tmp_path / "t2.nii")),)
    assert read(tmp_path, "id,image\na,both.nii\n", channels=2) == (Case("a", (tmp_path / "both.nii",)),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "its first line names the columns nothing; write a first line as id,image,output"),
        ("a,a.nii.gz\n", r"names the columns a, a\.nii\.gz; write"),
        ("id,image,label\na,a.nii,b.nii\n", "names the columns id, image, label"),
        ("id,image,image\na,a.nii,b.nii\n", "names the columns id, image, image"),
        ("id,image_0,image_1\na,a.nii,b.nii\n", "has 2 columns of images, the model takes 1 channel$"),
        ("id,image\n", "lists no case"),
        ("id,image\na\n", "line 2: an id or an image is missing"),
        ("id,image\n,a.nii\n", "line 2: an id or an image is missing"),
        ("id,image\na,a.nii\na,b.nii\n", "line 3: the id a is there twice"),
        ("id,image\n../a,a.nii\n", r"line 2: the id '\.\./a' cannot be a file's name"),
        ("id,image\n.a,a.nii\n", "cannot be a file's name"),
        ("id,image,output\na,a.nii,x.nii\nb,b.nii,x.nii\n", r"line 3: the output x\.nii is there twice"),
        ("id,image,output\na,a.nii,\nb,b.nii,a.nii\n", r"line 3: the output a\.nii is there twice"),
        ("id,image,output\na,a.nii,1/x.nii.gz\nb,b.nii,1/x.nrrd\n", r"line 3: the output 1/x\.nrrd is there twice"),
        ("id,image,output\na,a.nii,../x.nii\n", r"the output \.\./x\.nii lies not in .*out; name a folder above"),
        ("id,image,output\na,a.nii,/x.nii\n", "lies not in"),
        ("id,image,output\na,a.nii,.x/x.nii\n", "lies not in"),
        ("id,image,output\na,a.nii,x.txt\n", r"the output x\.txt is of no format that is written"),
        ("id,image,output\na,a.nii,x.dcm\n", "is of no format that is written"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        read(tmp_path, text)


def test_a_file_that_is_no_list_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        read_case_list(tmp_path / "none.csv", 1, tmp_path)
    (tmp_path / "cases.csv").write_bytes(b"id,image\n\xff,a.nii")
    with pytest.raises(DatasetError, match="is not UTF-8 text"):
        read_case_list(tmp_path / "cases.csv", 1, tmp_path)
