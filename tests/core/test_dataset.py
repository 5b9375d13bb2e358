"""What read_dataset finds in a dataset's folder, and what it says is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.types import Case, Dataset

Make = Callable[..., Path]


def touch(root: Path, *names: str) -> None:
    """Empty files: listing opens none."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def declare(root: Path, **keys: Any) -> Path:
    """A dataset.json in nnU-Net's format; a key set to None is left out."""
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz", **keys}
    root.mkdir(exist_ok=True)
    (root / "dataset.json").write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return root


def decathlon(root: Path, training: Any, **keys: Any) -> Path:
    return declare(root, channel_names=None, file_ending=None, modality={"0": "CT"}, training=training, **keys)


def rules(dataset: Dataset) -> list[tuple[str, str, bool]]:
    return [(issue.rule, issue.case, issue.fatal) for issue in dataset.issues]


# ---- valid datasets --------------------------------------------------------------------------------------------------


def test_nnunet_layout(raw_dataset: Make) -> None:
    root = raw_dataset(cases=3, channels=("T1", "T2"))
    dataset = read_dataset(root)
    assert (dataset.name, dataset.layout, dataset.channels) == ("Dataset001_Made", "nnunet", ("T1", "T2"))
    assert dataset.labels.names == ("background", "large", "small")
    assert dataset.issues == ()
    assert dataset.training[1] == Case(
        "case_1",
        (root / "imagesTr/case_1_0000.nii.gz", root / "imagesTr/case_1_0001.nii.gz"),
        root / "labelsTr/case_1.nii.gz",
    )


def test_decathlon_layout(decathlon_dataset: Make) -> None:
    root = decathlon_dataset(cases=2, channels=("T1", "T2"), test=["./imagesTs/x.nii.gz", "./imagesTs/gone.nii.gz"])
    touch(root, "imagesTs/x.nii.gz")
    dataset = read_dataset(root)
    assert (dataset.layout, dataset.channels, dataset.ending) == ("decathlon", ("T1", "T2"), ".nii.gz")
    assert dataset.training[0] == Case("case_0", (root / "imagesTr/case_0.nii.gz",), root / "labelsTr/case_0.nii.gz")
    assert dataset.test == (Case("x", (root / "imagesTs/x.nii.gz",)),)
    assert [str(issue).partition(": ")[2] for issue in dataset.issues] == [
        "test-image: 1 of 2 images listed under 'test' are not there: gone.nii.gz; restore them, or correct the list"
    ]


def test_resource_forks_and_editors_files_are_no_cases(tmp_path: Path) -> None:
    raw = declare(tmp_path / "raw")
    touch(raw, "imagesTr/a_0000.nii.gz", "imagesTr/._a_0000.nii.gz", "imagesTr/_b_0000.nii.gz")
    touch(raw, "labelsTr/a.nii.gz", "labelsTr/._a.nii.gz", "imagesTr/.DS_Store")
    (raw / "imagesTr" / "old.nii.gz").mkdir()
    dataset = read_dataset(raw)
    assert [case.name for case in dataset.training] == ["a"]
    assert [issue.value for issue in dataset.issues] == [
        "1 folder is left out (old.nii.gz): folders within are not looked into",
        "1 file is left out (_b_0000.nii.gz): names that begin with _ are taken for no data",
    ]
    listed = [{"image": f"./imagesTr/{name}.nii.gz", "label": "./labelsTr/a.nii.gz"} for name in ("._a", "a_0000")]
    assert [case.name for case in read_dataset(decathlon(raw, listed)).training] == ["a_0000"]


def test_test_images_of_the_nnunet_layout(tmp_path: Path) -> None:
    root = declare(tmp_path, channel_names={"0": "T1", "1": "T2"})
    touch(root, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    touch(root, "imagesTs/c_0000.nii.gz", "imagesTs/c_0001.nii.gz", "imagesTs/b_0000.nii.gz", "imagesTs/d_0001.nii.gz")
    assert [case.name for case in read_dataset(root).test] == ["b", "c"]  # b may hold both channels


def test_one_file_may_hold_all_channels(tmp_path: Path) -> None:
    root = declare(tmp_path, channel_names={"0": "R", "1": "G", "2": "B"}, file_ending=".png")
    touch(root, "imagesTr/a_0000.png", "labelsTr/a.png")
    assert read_dataset(root).training == (Case("a", (root / "imagesTr/a_0000.png",), root / "labelsTr/a.png"),)


def test_files_that_dataset_json_lists(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    listed = {
        "b": {"images": ["files/b.nii.gz"], "label": "truth/b.nii.gz"},
        "a": {"images": [str(elsewhere / "a.nii.gz")], "label": "truth/a.nii.gz"},
    }
    root = declare(tmp_path / "data", dataset=listed)
    touch(root, "files/b.nii.gz", "truth/a.nii.gz", "truth/b.nii.gz")
    touch(elsewhere, "a.nii.gz")
    dataset = read_dataset(root)
    assert [case.images[0] for case in dataset.training] == [elsewhere / "a.nii.gz", root / "files/b.nii.gz"]
    assert dataset.issues == ()


def test_listed_paths_may_name_variables_of_the_environment_given(tmp_path: Path) -> None:
    listed = {
        "a": {"images": ["$ARCHIVE/a.nii.gz"], "label": "${ARCHIVE}/../truth/a.nii.gz"},
        "b": {"images": ["$NOWHERE/b.nii.gz"], "label": "$ARCHIVE/a.nii.gz"},
    }
    root = declare(tmp_path / "data", dataset=listed)
    touch(tmp_path, "archive/a.nii.gz", "truth/a.nii.gz")
    dataset = read_dataset(root, {"ARCHIVE": str(tmp_path / "archive")})
    assert dataset.training[0].images == (tmp_path / "archive" / "a.nii.gz",)
    assert dataset.training[0].label.samefile(tmp_path / "truth" / "a.nii.gz")
    assert [str(issue).partition(": ")[2] for issue in dataset.issues] == [
        "image-missing: the environment variable NOWHERE is not set; set it, or write the path"
    ]


def test_without_an_environment_a_dollar_is_a_character_of_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVE", str(tmp_path / "elsewhere"))
    root = declare(tmp_path / "data", dataset={"a": {"images": ["$ARCHIVE/a.nii.gz"], "label": "$ARCHIVE/b.nii.gz"}})
    touch(root, "$ARCHIVE/a.nii.gz", "$ARCHIVE/b.nii.gz")
    assert read_dataset(root).training[0].images == (root / "$ARCHIVE" / "a.nii.gz",)


def test_a_label_with_a_channel_number_is_named_as_the_mistake_it_is(tmp_path: Path) -> None:
    root = declare(tmp_path)
    touch(root, "imagesTr/a_0000.nii.gz", "labelsTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/b.nii.gz")
    dataset = read_dataset(root)
    assert [case.name for case in dataset.training] == ["b"]
    assert [str(issue) for issue in dataset.issues] == [
        f"{root}/labelsTr/a_0000.nii.gz: label-name: has a channel number, it is the label of 'a'; "
        "name it a.nii.gz: labels have no channels"
    ]


def test_files_per_channel_under_a_decathlon_like_json(tmp_path: Path) -> None:
    root = decathlon(tmp_path, [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}])
    touch(root, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    dataset = read_dataset(root)
    assert dataset.training == (Case("a", (root / "imagesTr/a_0000.nii.gz",), root / "labelsTr/a.nii.gz"),)
    assert dataset.issues == ()


def test_cases_are_sorted_by_name_as_text(tmp_path: Path) -> None:
    root = declare(tmp_path)
    for name in ("c10", "c9", "C1", "b"):
        touch(root, f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz")
    assert [case.name for case in read_dataset(root).training] == ["C1", "b", "c10", "c9"]


def test_real_datasets(shared: Path) -> None:
    hippocampus = read_dataset(shared / "data" / "Task04_Hippocampus")
    assert (hippocampus.layout, len(hippocampus.training), hippocampus.issues) == ("decathlon", 208, ())
    acdc = read_dataset(shared / "data" / "Dataset027_ACDC")
    assert (acdc.layout, len(acdc.training), acdc.issues) == ("nnunet", 24, ())


def test_many_cases_are_listed_by_one_look_at_each_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [{"image": f"./imagesTr/c{i}.nii.gz", "label": f"./labelsTr/c{i}.nii.gz"} for i in range(3000)]
    root = decathlon(tmp_path, entries)
    touch(root, *(f"{folder}/c{i}.nii.gz" for folder in ("imagesTr", "labelsTr") for i in range(3000)))
    looks: list[Path] = []
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **kw: (looks.append(path), stat(path, **kw))[1])
    assert len(read_dataset(root).training) == 3000
    assert len(looks) < 10


# ---- problems of single cases --------------------------------------------------------------------------------------


def test_what_is_missing_is_told_and_left_out(tmp_path: Path) -> None:
    root = declare(tmp_path, channel_names={"0": "T1", "1": "T2"}, numTraining=9)
    for case in "abcd":
        touch(root, f"imagesTr/{case}_0000.nii.gz", f"imagesTr/{case}_0001.nii.gz", f"labelsTr/{case}.nii.gz")
    (root / "labelsTr/b.nii.gz").unlink()
    (root / "imagesTr/c_0000.nii.gz").unlink()
    touch(root, "imagesTr/d_0002.nii.gz", "labelsTr/e.nii.gz", "imagesTr/f.nii.gz", "imagesTr/g_0000.nii")
    dataset = read_dataset(root)
    assert [case.name for case in dataset.training] == ["a"]
    assert sorted(rules(dataset)) == [
        ("channels", "c", True),
        ("channels", "d", True),
        ("ending", "", False),
        ("image-missing", "e", True),
        ("image-name", "f", True),
        ("label-missing", "b", True),
        ("num-training", "", False),
    ]
    texts = "\n".join(map(str, dataset.issues))
    assert "c_0001.nii.gz: channels: channels 0001, 2 expected (0000 … 0001); give every channel a file" in texts
    assert "num-training: numTraining is 9, found 6 cases" in texts
    assert "imagesTr: ending: 1 file is left out (g_0000.nii): file_ending is .nii.gz; convert them" in texts


def test_listed_files_that_are_missing(tmp_path: Path) -> None:
    entries = [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in "abcc"]
    entries.append({"image": "./imagesTr/d.nii.gz"})
    root = decathlon(tmp_path, entries, numTraining=4)
    touch(root, "imagesTr/a.nii.gz", "imagesTr/c.nii.gz", "imagesTr/d.nii.gz", "labelsTr/b.nii.gz", "labelsTr/c.nii.gz")
    dataset = read_dataset(root)
    assert [case.name for case in dataset.training] == ["c"]
    assert rules(dataset) == [
        ("label-missing", "a", True),
        ("image-missing", "b", True),
        ("case-twice", "c", True),
        ("label-missing", "d", True),
        ("num-training", "", False),
    ]


def test_two_endings_of_one_case_in_a_listing(tmp_path: Path) -> None:
    listed = {"a": {"images": ["a_0.nii.gz", "a_1.nii.gz", "a_2.nii.gz"], "label": "l.nii.gz"}}
    root = declare(tmp_path, dataset=listed, channel_names={"0": "x", "1": "y"})
    touch(root, "a_0.nii.gz", "a_1.nii.gz", "a_2.nii.gz", "l.nii.gz")
    assert rules(read_dataset(root)) == [("channels", "a", True)]


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_of_cases_taken_for_channels_are_named_as_such(tmp_path: Path, first: int) -> None:
    root = declare(tmp_path, numTraining=6)
    for number in range(first, first + 6):
        touch(root, f"imagesTr/word_{number:04d}.nii.gz", f"labelsTr/word_{number:04d}.nii.gz")
    issues = read_dataset(root).issues
    assert [(issue.rule, issue.case) for issue in issues] == [
        ("image-name", f"word_{number:04d}") for number in range(first, first + 6)
    ]
    assert str(issues[5 - first]) == (
        f"{root}/imagesTr/word_0005.nii.gz: image-name: 0005 was read as a channel of 'word', and labelsTr names its "
        "cases like that; add the channel: name it word_0005_0000.nii.gz, and leave the label"
    )
    for issue in issues:  # the advice, followed
        issue.file.rename(issue.file.with_name(issue.advice.split()[5].rstrip(",")))
    assert len(read_dataset(root).training) == 6
    assert read_dataset(root).issues == ()


def test_no_advice_gives_two_files_one_name(tmp_path: Path) -> None:
    root = declare(tmp_path, channel_names={"0": "T1", "1": "T2"}, numTraining=3)
    for case in "abc":
        touch(root, f"imagesTr/{case}_0000.nii.gz", f"imagesTr/{case}_0001.nii.gz")
    touch(root, "labelsTr/a_0000.nii.gz", "labelsTr/a_0001.nii.gz")  # a label for each channel
    touch(root, "labelsTr/b.nii.gz", "labelsTr/b_0000.nii.gz", "labelsTr/c.nii.gz")
    dataset = read_dataset(root)
    assert [case.name for case in dataset.training] == ["b", "c"]
    texts = [str(issue) for issue in dataset.issues]
    assert [issue.fatal for issue in dataset.issues] == [True, False]
    assert "2 labels have channel numbers of 'a': a_0000.nii.gz, a_0001.nii.gz; labels have no" in texts[0]
    assert "'b' has a label without one; labels have no channels: b.nii.gz is used; move the other away" in texts[1]


def test_labels_of_another_ending_are_named(tmp_path: Path) -> None:
    root = declare(tmp_path, numTraining=3)
    for case in "abc":
        touch(root, f"imagesTr/{case}_0000.nii.gz", f"labelsTr/{case}.nii")
    touch(root, "labelsTr/c.nii.gz", "labelsTr/a.seg.nrrd", "labelsTr/notes.txt")
    dataset = read_dataset(root)
    assert [case.name for case in dataset.training] == ["c"]
    assert [(issue.rule, issue.case, issue.file.name) for issue in dataset.issues] == [
        ("label-missing", "a", "a.nii"),
        ("label-missing", "b", "b.nii"),
        ("ending", "", "labelsTr"),
        ("left-out", "", "labelsTr"),
    ]
    assert "no label of 'a' that ends in .nii.gz, but a.nii, a.seg.nrrd; file_ending holds for" in str(
        dataset.issues[0]
    )
    assert dataset.issues[2].value == "1 file is left out (c.nii): file_ending is .nii.gz"
    assert dataset.issues[3].value == "1 file is left out (notes.txt): not of a format that is read"


def test_slicers_segmentations_count_once(tmp_path: Path) -> None:
    root = declare(tmp_path, file_ending=".nrrd", numTraining=2)
    touch(root, *(f"imagesTr/{case}_0000.nrrd" for case in "ab"), *(f"labelsTr/{case}.seg.nrrd" for case in "ab"))
    assert rules(read_dataset(root)) == [("label-missing", "a", True), ("label-missing", "b", True)]


def test_endings_in_capitals_are_endings(tmp_path: Path) -> None:
    root = declare(tmp_path, numTraining=2)
    touch(root, "imagesTr/a_0000.NII.GZ", "labelsTr/a.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/b.NII.gz")
    dataset = read_dataset(root)
    assert [case.label and case.label.name for case in dataset.training] == ["a.nii.gz", "b.NII.gz"]
    assert dataset.issues == ()
    touch(root, "imagesTr/a_0000.nii.gz", "labelsTr/b.nii.gz")
    assert sorted(rules(read_dataset(root))) == [("case-twice", "a", True), ("case-twice", "b", True)]


def test_what_dataset_json_does_not_list_is_told(tmp_path: Path) -> None:
    root = decathlon(
        tmp_path / "msd", [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}], test=["b.nii"]
    )
    touch(root, "imagesTr/a.nii.gz", "imagesTr/c.nii.gz", "imagesTr/d.nii.gz", "labelsTr/a.nii.gz", "imagesTs/e.nii.gz")
    touch(root, "b.nii", "labelsTr/x.json")
    assert [f"{issue.file.name}: {issue.value}" for issue in read_dataset(root).issues] == [
        "imagesTr: 2 files are left out (c.nii.gz, d.nii.gz): not listed in dataset.json",
        "labelsTr: 1 file is left out (x.json): not of a format that is read",
        "imagesTs: 1 file is left out (e.nii.gz): not listed in dataset.json",
    ]
    raw = declare(tmp_path / "raw", dataset={"a": {"images": ["scans/a.nii.gz"], "label": "truth/a.nii.gz"}})
    touch(raw, "scans/a.nii.gz", "truth/a.nii.gz", "truth/b.nii.gz", "imagesTr/c_0000.nii.gz", "archive/d.nii.gz")
    assert [f"{issue.file.name}: {issue.value}" for issue in read_dataset(raw).issues] == [
        "imagesTr: 1 file is left out (c_0000.nii.gz): not listed in dataset.json",
        "truth: 1 file is left out (b.nii.gz): not listed in dataset.json",
    ]


def test_test_images_that_are_left_out_are_told(tmp_path: Path) -> None:
    root = declare(tmp_path)
    touch(root, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b_0001.nii.gz", "imagesTs/c.nii.gz")
    touch(root, "imagesTs/d_0000.mha")
    assert rules(read_dataset(root)) == [("image-name", "c", False), ("channels", "b", False), ("ending", "", False)]


def test_files_that_belong_to_an_image_are_not_left_out(tmp_path: Path) -> None:
    tiff = declare(tmp_path / "tiff", file_ending=".tif")
    touch(tiff, "imagesTr/a_0000.tif", "imagesTr/a.json", "labelsTr/a.tif", "labelsTr/a.json")
    mhd = declare(tmp_path / "mhd", file_ending=".mhd")
    touch(mhd, "imagesTr/a_0000.mhd", "imagesTr/a_0000.zraw", "labelsTr/a.mhd", "labelsTr/a.raw")
    assert read_dataset(tiff).issues == read_dataset(mhd).issues == ()


# ---- what stops everything -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"channel_names": None}, "'channel_names' is missing"),
        ({"file_ending": None}, "'file_ending' is missing; give one of .nii.gz"),
        ({"file_ending": ".xyz"}, "'file_ending' is '.xyz'"),
        ({"file_ending": 3}, "'file_ending' is 3"),
        ({"labels": None}, "'labels' is missing"),
        ({"dataset": []}, "'dataset' is list, not an object"),
        ({"dataset": {"a": {"images": "x"}}}, r"'dataset\['a'\]' is {'images': 'x'}; write"),
        ({"dataset": {"a": {"images": ["x"], "label": 3}}}, "has the label 3"),
        ({"dataset": {}}, "has no training case"),
        ({"dataset": {"a/b": {"images": ["x"]}}}, "has a case named 'a/b'; name it as a file could be named"),
        ({"dataset": {"a": {"images": ["x\0"]}}}, "no name holds a zero byte"),
        ({"file_ending": "nii.gz"}, "'file_ending' is 'nii.gz'; give one of .nii.gz"),
        ({}, "imagesTr: no such folder; nnU-Net's raw layout needs it"),
    ],
)
def test_malformed_nnunet_json(tmp_path: Path, keys: dict[str, Any], text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        read_dataset(declare(tmp_path, **keys))


@pytest.mark.parametrize(
    ("training", "text"),
    [
        ({}, "'training' is dict, not a list"),
        (["a"], r"'training\[0\]' is 'a'; write"),
        ([{"image": 3}], r"'training\[0\]' is {'image': 3}"),
        ([{"image": "a.nii.gz", "label": []}], r"'training\[0\]' has the label \[\]"),
        ([], "has no training case"),
    ],
)
def test_malformed_decathlon_json(tmp_path: Path, training: Any, text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        read_dataset(decathlon(tmp_path, training))


def test_no_dataset_at_all(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="gone: no such folder"):
        read_dataset(tmp_path / "gone")
    with pytest.raises(DatasetError, match=r"dataset\.json: no such file"):
        read_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text("[1]")
    with pytest.raises(DatasetError, match="holds a list, not an object"):
        read_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": {}}')
    with pytest.raises(DatasetError, match="has neither 'training'"):
        read_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": {},\n}')
    with pytest.raises(DatasetError, match="is not JSON: line 2"):
        read_dataset(tmp_path)


def test_an_ending_that_no_image_has(tmp_path: Path) -> None:
    root = declare(tmp_path, file_ending=".nrrd")
    touch(root, "imagesTr/a_0000.nii.gz", "imagesTr/readme", "labelsTr/a.nii.gz")
    with pytest.raises(DatasetError, match=r"no file ends in \.nrrd \(found: 1 .*no ending.*\); see file_ending"):
        read_dataset(root)
