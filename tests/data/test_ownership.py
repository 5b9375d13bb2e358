from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.progress import Silent
from nnunet_rs.data.ownership import require_free, require_own
from nnunet_rs.data.pipeline import PrepareOptions, plan_dataset, prepare_dataset
from nnunet_rs.plan.planner import PlanOverrides

SMALL = PlanOverrides(patch_size=(8, 16, 16), batch_size=2)


class Lines(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def prepare(root: Path, work: Path, **options):
    return prepare_dataset(read_dataset(root), work, PrepareOptions(overrides=SMALL, threads=2, **options))


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder, and links as what they lead to."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(root: Path, work: Path, said: str) -> None:
    before, dataset = content(root), read_dataset(root)
    there = content(work) if work.exists() else None
    for make in (prepare_dataset, plan_dataset):
        with pytest.raises(DatasetError, match=said):
            make(dataset, work)
    assert content(root) == before
    assert (content(work) if work.exists() else None) == there


@pytest.mark.parametrize("layout", ["raw", "decathlon"])
@pytest.mark.parametrize("way", ["itself", "link", "dots"])
def test_the_datasets_own_folder_is_refused(layout: str, way: str, raw_dataset, decathlon_dataset, tmp_path) -> None:
    root = raw_dataset() if layout == "raw" else decathlon_dataset()
    work = {"itself": root, "link": tmp_path / "link", "dots": root / "imagesTr" / ".."}[way]
    if way == "link":
        work.symlink_to(root)
    refused(root, work, "is the dataset's own folder; choose another one for -o, which may lie in it")


@pytest.mark.parametrize("place", ["imagesTr", "labelsTr", "imagesTr/work", "imagesTs/deep/work"])
@pytest.mark.parametrize("linked", [False, True])
def test_a_folder_among_the_scans_is_refused(place: str, linked: bool, raw_dataset, tmp_path) -> None:
    root = raw_dataset()
    (root / "imagesTs").mkdir(exist_ok=True)
    work = root / place
    if linked:
        (tmp_path / "link").symlink_to(root)
        work = tmp_path / "link" / place
    refused(root, work, "among the dataset's scans; choose another folder")


def test_prepared_cases_do_not_go_among_the_scans_through_a_link(raw_dataset, tmp_path) -> None:
    root, work = raw_dataset(), tmp_path / "work"
    work.mkdir()
    (work / "prepared").symlink_to(root / "labelsTr")
    refused(root, work, "prepared: lies in .*labelsTr, among the dataset's scans")


def test_a_folder_in_the_datasets_folder_is_as_good_as_any(raw_dataset) -> None:
    root = raw_dataset()
    assert prepare(root, root / "work").made == 8
    assert prepare(root, root / "work").found == 8


@pytest.mark.parametrize("name", ["dataset.json", "survey.json", "fingerprint.json"])
@pytest.mark.parametrize("text", ["{}", "[]", "not JSON", '{"format": "another"}', '{"name": "x", "dataset": {}}', ""])
def test_a_file_that_this_tool_did_not_make_is_not_replaced(name: str, text: str, raw_dataset, tmp_path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / name).write_text(text)
    refused(raw_dataset(), work, rf"{name}: was not made by nnunet-rs, and would be replaced; choose another folder")


def test_archives_that_are_no_prepared_cases_are_not_replaced(raw_dataset, tmp_path) -> None:
    file = tmp_path / "work" / "prepared" / "2d" / "case_0.zip"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"the user's own")
    refused(raw_dataset(), tmp_path / "work", r"case_0\.zip: was not made by nnunet-rs")


def test_another_datasets_folder_is_refused(raw_dataset, tmp_path) -> None:
    one, other = raw_dataset("Dataset001_One"), raw_dataset("Dataset002_Other")
    refused(one, other, r"dataset\.json: was not made by nnunet-rs")
    own = (one / "dataset.json").read_bytes()
    shutil.copy(one / "dataset.json", other / "dataset.json")
    assert (one / "dataset.json").read_bytes() == own


@pytest.mark.parametrize("name", ["survey.json", "fingerprint.json"])
def test_what_is_damaged_in_a_work_folder_is_made_anew(name: str, raw_dataset, tmp_path) -> None:
    root, work = raw_dataset(), tmp_path / "work"
    prepare(root, work)
    whole = (work / name).read_bytes()
    (work / name).write_bytes(whole[:100])
    assert prepare(root, work).found == 8
    assert (work / name).read_bytes() == whole


def test_a_work_folder_of_before_the_mark_is_known_by_its_other_files(raw_dataset, tmp_path) -> None:
    root, work = raw_dataset(), tmp_path / "work"
    prepare(root, work)
    file = work / "dataset.json"
    listed = json.loads(file.read_bytes())
    del listed["nnunet_rs"]
    file.write_text(json.dumps(listed))
    assert prepare(root, work).found == 8
    assert "nnunet_rs" in json.loads(file.read_bytes())
    file.write_text(json.dumps({**listed, "licence": "the user's"}))
    refused(root, work, r"dataset\.json: was not made by nnunet-rs")


# ---- the same dataset, or another ------------------------------------------------------------------------------------


def other_scans(raw_dataset, name: str) -> Path:
    """A dataset of the same case names, channels and labels, but of other scans."""
    root = raw_dataset(name)
    for k in range(3):  # each scan under the next one's name
        for folder, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
            one, two = (root / folder / f"case_{n}{ending}" for n in (k, k + 1))
            first = one.read_bytes()
            one.write_bytes(two.read_bytes())
            two.write_bytes(first)
    return root


@pytest.mark.parametrize("gone", [False, True])
def test_another_dataset_with_the_same_case_names_is_refused(gone: bool, raw_dataset, tmp_path) -> None:
    one, other = raw_dataset("Dataset001_One"), other_scans(raw_dataset, "Dataset002_Other")
    prepare(one, tmp_path / "work")
    if gone:
        shutil.rmtree(one)
    told = (
        r"work: is the work folder of Dataset001_One \(.*Dataset001_One\), whose cases are other files than those of "
    )
    refused(other, tmp_path / "work", told + r"Dataset002_Other \(.*\); choose another folder")
    (tmp_path / "work" / "dataset.json").unlink()  # as the message says
    assert prepare(other, tmp_path / "work").made == 8


def test_a_dataset_without_a_common_case_is_refused(raw_dataset, tmp_path) -> None:
    one, other = raw_dataset("Dataset001_One"), raw_dataset("Dataset002_Other")
    prepare(one, tmp_path / "work")
    for file in [*(other / "imagesTr").iterdir(), *(other / "labelsTr").iterdir()]:
        file.rename(file.with_name(file.name.replace("case", "scan")))
    refused(other, tmp_path / "work", "is the work folder of Dataset001_One")


@pytest.mark.parametrize("how", ["moved", "copied", "copied anew", "linked"])
def test_a_dataset_that_has_moved_is_known_again(how: str, raw_dataset, tmp_path) -> None:
    root, work, new = raw_dataset(), tmp_path / "work", tmp_path / "new" / "place"
    prepare(root, work)
    new.parent.mkdir()
    match how:
        case "moved":
            root.rename(new)
        case "copied":  # with times
            shutil.copytree(root, new)
        case "copied anew":  # without
            shutil.copytree(root, new, copy_function=shutil.copyfile)
            shutil.rmtree(root)
        case "linked":
            new.symlink_to(root)
    label = new / "labelsTr" / "case_0.nii.gz"
    label.write_bytes(gzip.compress(gzip.decompress(label.read_bytes()), 1))  # stored anew
    assert prepare(new, work).cases == 4
    listed = json.loads((work / "dataset.json").read_bytes())["dataset"]
    assert all(Path(path).exists() for case in listed.values() for path in case["images"])


def test_a_moved_dataset_is_known_by_a_work_folder_that_keeps_no_digests(raw_dataset, tmp_path) -> None:
    root, work = raw_dataset(), tmp_path / "work"
    other = other_scans(raw_dataset, "Dataset002_Other")
    prepare(root, work)
    scan = json.loads((work / "survey.json").read_bytes())
    for case in scan["cases"].values():
        case["digest"] = ""
    (work / "survey.json").write_text(json.dumps(scan))
    refused(other, work, "is the work folder of")
    new = tmp_path / "new" / root.name
    shutil.copytree(root, new, copy_function=shutil.copyfile)
    require_own(read_dataset(new), work)
    shutil.rmtree(root)
    require_own(read_dataset(new), work)  # by its name: the files are gone
    refused(other, work, "is the work folder of")


def test_new_cases_and_corrected_ones_are_seen_by_the_next_run(raw_dataset, tmp_path) -> None:
    root, work = raw_dataset(cases=6), tmp_path / "work"
    faulty, later = root / "labelsTr" / "case_5.nii.gz", root / "imagesTr" / "case_4_0000.nii.gz"
    whole = faulty.read_bytes()
    faulty.write_bytes(b"cut short")
    aside = later.rename(tmp_path / "later.nii.gz")
    label = (root / "labelsTr" / "case_4.nii.gz").rename(tmp_path / "label.nii.gz")
    assert prepare(root, work, skip_faulty=True).cases == 4
    faulty.write_bytes(whole)
    aside.replace(later)
    label.replace(root / "labelsTr" / "case_4.nii.gz")
    for options in ({"skip_faulty": True}, {}):
        assert prepare(root, work, **options).cases == 6
        assert len(json.loads((work / "dataset.json").read_bytes())["dataset"]) == 6


def test_a_plan_without_scans_takes_no_datasets_folder(raw_dataset, tmp_path) -> None:
    root, work = raw_dataset(), tmp_path / "work"
    prepare(root, work)
    for folder in (root, work):
        with pytest.raises(DatasetError, match="is a dataset's folder"):
            require_free(folder)
    (tmp_path / "fingerprint.json").write_text("{}")
    with pytest.raises(DatasetError, match="was not made by nnunet-rs"):
        require_free(tmp_path)


def test_folds_that_are_replaced_are_kept_aside(raw_dataset, tmp_path) -> None:
    root, work, said = raw_dataset(cases=6), tmp_path / "work", Lines()
    prepare(root, work)
    edited = (work / "splits.json").read_bytes().replace(b" ", b"")
    (work / "splits.json").write_bytes(edited)
    groups = {f"case_{k}": "ab"[k % 2] + str(k // 3) for k in range(6)}
    for _ in range(2):
        plan_dataset(read_dataset(root), work, PrepareOptions(overrides=SMALL, groups=groups), said)
    assert (work / "splits.previous.json").read_bytes() == edited
    assert sum("kept as splits.previous.json" in line for line in said.lines) == 1
    assert not (work / "splits.previous-2.json").exists()
