from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fingerprint_oracle import fingerprint_dataset
from nnunet_rs.core.budget import Budget
from nnunet_rs.core.check import check_dataset
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.types import Case, Dataset
from nnunet_rs.plan import dataset_scan as module
from nnunet_rs.plan.dataset_scan import DatasetScan, scan_dataset


class Read(list[str]):
    """Remembers the names of the cases that are read, in order."""

    def __init__(self, last: str = "") -> None:
        super().__init__()
        self.last = last  # the case at which the user interrupts

    def __call__(self, case: Case, *_: object) -> None:
        self.append(case.name)
        if case.name == self.last:
            raise KeyboardInterrupt


def _survey(dataset: Dataset, work: Path | None = None, memory: int = 1 << 30, **options) -> DatasetScan:
    return scan_dataset(dataset, work, Budget(memory), threads=2, **options)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_equals_check_and_fingerprint(raw_dataset) -> None:
    dataset = read_dataset(raw_dataset(cases=3, channels=("T1", "T2")))
    found = _survey(dataset)
    assert found.fingerprint == fingerprint_dataset(dataset)
    assert found.issues == check_dataset(dataset)
    assert found.valid() == ("case_0", "case_1", "case_2")


def test_visits_each_case_once_and_counts_it(raw_dataset) -> None:
    dataset = read_dataset(raw_dataset(cases=3))
    seen = {}

    class Counter(Silent):
        count = 0

        def advance(self, count: float = 1, note: str = "") -> None:
            Counter.count += int(count)

    _survey(
        dataset, task=Counter(), visit=lambda case, volume, labels, box: seen.update({case.name: (volume, labels, box)})
    )
    assert sorted(seen) == ["case_0", "case_1", "case_2"]
    volume, labels, box = seen["case_1"]
    assert volume.data.shape[1:] == labels.data.shape == (10, 25, 20)
    assert len(box) == 3
    assert Counter.count == 3


def test_a_second_survey_reads_nothing(raw_dataset, work) -> None:
    read = Read()
    dataset = read_dataset(raw_dataset())
    first = _survey(dataset, work)
    files = {path.name: path.read_bytes() for path in work.iterdir()}
    assert sorted(files) == ["fingerprint.json", "survey.json"]
    assert _survey(dataset, work, visit=read) == first
    assert read == []
    assert {path.name: path.read_bytes() for path in work.iterdir()} == files


def test_one_case_more_is_one_reading(raw_dataset, work) -> None:
    read = Read()
    dataset = read_dataset(raw_dataset())
    whole = _survey(dataset)
    part = Dataset(**{name: getattr(dataset, name) for name in dataset.__slots__} | {"training": dataset.training[:3]})
    _survey(part, work)
    assert _survey(dataset, work, visit=read).fingerprint == whole.fingerprint
    assert read == ["case_3"]


@pytest.mark.parametrize("change", ["touch", "remove"])
def test_a_changed_or_missing_case_makes_the_statistics_anew(raw_dataset, work, change) -> None:
    root, read = raw_dataset(), Read()
    _survey(read_dataset(root), work)
    if change == "touch":
        (root / "labelsTr" / "case_1.nii.gz").touch()
    else:
        (root / "imagesTr" / "case_1_0000.nii.gz").unlink()
        (root / "labelsTr" / "case_1.nii.gz").unlink()
    dataset = read_dataset(root)
    assert _survey(dataset, work, visit=read).fingerprint == fingerprint_dataset(dataset)
    assert len(read) == len(dataset.training)


def test_goes_on_after_an_interruption(raw_dataset, work) -> None:
    dataset = read_dataset(raw_dataset())
    before, after = Read(last="case_2"), Read()
    with pytest.raises(KeyboardInterrupt):
        scan_dataset(dataset, work, Budget(1 << 30), threads=1, visit=before)
    assert _survey(dataset, work, visit=after).fingerprint == fingerprint_dataset(dataset)
    assert sorted([*before, *after]) == ["case_0", "case_1", "case_2", "case_3"]
    assert before


def test_saves_on_the_way(raw_dataset, work, monkeypatch) -> None:
    monkeypatch.setattr(module, "_SAVE_EVERY", 0.0)
    saved = []
    original = module.write_dataset_scan
    monkeypatch.setattr(module, "write_dataset_scan", lambda path, *a, **k: saved.append(original(path, *a, **k)))
    _survey(read_dataset(raw_dataset()), work)
    assert len(saved) >= 4


@pytest.mark.parametrize("damage", ["", "{}", '{"version": 99}', '{"version": 1, "cases": {}, "statistics": "x"}'])
def test_a_damaged_survey_is_made_anew(raw_dataset, work, damage) -> None:
    dataset = read_dataset(raw_dataset())
    (work / "survey.json").write_text(damage)
    assert _survey(dataset, work).fingerprint == fingerprint_dataset(dataset)
    assert len(json.loads((work / "survey.json").read_text())["cases"]) == 4


def test_faulty_cases_are_listed_and_read_again(raw_dataset, work, monkeypatch) -> None:
    root = raw_dataset()
    whole = (root / "imagesTr" / "case_1_0000.nii.gz").read_bytes()
    (root / "imagesTr" / "case_1_0000.nii.gz").write_bytes(whole[:100])
    dataset = read_dataset(root)
    found = _survey(dataset, work)
    assert found.valid() == ("case_0", "case_2", "case_3")
    assert [issue.rule for issue in found.issues] == ["gzip-truncated"]
    assert found.fingerprint is not None
    assert [case.name for case in found.fingerprint.cases] == list(found.valid())
    read, check_case = [], module.check_case
    monkeypatch.setattr(module, "check_case", lambda of, case: (read.append(case.name), check_case(of, case))[1])
    assert _survey(dataset, work) == found
    assert read == ["case_1"]


def test_nothing_sound(raw_dataset, work) -> None:
    root = raw_dataset(cases=1)
    (root / "labelsTr" / "case_0.nii.gz").write_bytes(b"")
    found = _survey(read_dataset(root), work)
    assert found.valid() == ()
    assert found.fingerprint is None
    assert not (work / "fingerprint.json").exists()


def test_no_foreground_anywhere_is_a_fault_of_the_dataset(raw_dataset, work, save_nifti) -> None:
    root = raw_dataset(cases=2)
    for index in range(2):
        save_nifti(root / "labelsTr" / f"case_{index}.nii.gz", np.zeros((10, 24 + index, 20), np.uint8), (3, 1, 1))
    found = _survey(read_dataset(root), work)
    assert [issue.rule for issue in found.issues if issue.fatal] == ["no-foreground-anywhere"]
    assert found.fingerprint is None


def test_a_case_beyond_the_memory_is_a_fault(raw_dataset) -> None:
    found = _survey(read_dataset(raw_dataset(cases=2)), memory=10_000)
    assert [issue.rule for issue in found.issues] == ["memory", "memory"]
    assert "raise --memory" in found.issues[0].advice
    assert found.valid() == ()


def test_floats_that_need_a_second_pass(tmp_path: Path, raw_dataset, save_nifti) -> None:
    root = raw_dataset(cases=2)
    for index in range(2):
        chance = np.random.default_rng(index)
        image = (chance.standard_normal((30, 64, 64)) * 10 ** chance.uniform(-3, 3, (30, 64, 64))).astype(np.float32)
        save_nifti(root / "imagesTr" / f"case_{index}_0000.nii.gz", image, (3, 1, 1))
        save_nifti(root / "labelsTr" / f"case_{index}.nii.gz", np.ones(image.shape, np.uint8), (3, 1, 1))
    dataset = read_dataset(root)
    found = _survey(dataset, counters=1 << 16)
    assert found.fingerprint == fingerprint_dataset(dataset)


def test_the_order_of_threads_does_not_matter(raw_dataset, tmp_path) -> None:
    dataset = read_dataset(raw_dataset(cases=5))
    texts = []
    for number, threads in enumerate((1, 4)):
        folder = tmp_path / str(number)
        folder.mkdir()
        scan_dataset(dataset, folder, Budget(1 << 30), threads=threads)
        texts.append([(folder / name).read_bytes() for name in ("fingerprint.json", "survey.json")])
    assert texts[0] == texts[1]


def _edited(work: Path, change) -> None:
    content = json.loads((work / "survey.json").read_text())
    change(content)
    (work / "survey.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["cases"]["case_0"]["classes"].append(True),  # of another dataset
        lambda content: content["cases"]["case_0"]["print"].update(name="case_1"),
        lambda content: content["cases"]["case_0"]["print"].update(shape=[0, 1, 1]),
        lambda content: content["cases"]["case_0"].update(issues=[{"file": 3}]),
        lambda content: content["cases"]["case_1"].update(print=None),
        lambda content: content.update(cases=[]),
        lambda content: content.update(statistics=content["statistics"][:40]),
        lambda content: content.update(statistics="ä"),
    ],
)
def test_a_survey_that_was_changed_is_made_anew(raw_dataset, work, change) -> None:
    dataset = read_dataset(raw_dataset())
    first = _survey(dataset, work)
    _edited(work, change)
    again = _survey(dataset, work)
    assert (again.cases, again.fingerprint) == (first.cases, first.fingerprint)
