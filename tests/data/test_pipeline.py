from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import DatasetError, NnunetError, PlanError
from nnunet_rs.core.io import read_labels, read_volume
from nnunet_rs.core.issues import IssueError
from nnunet_rs.core.locks import exclusive
from nnunet_rs.core.progress import Silent
from nnunet_rs.data import runner
from nnunet_rs.data.folds import Fold, make_folds, read_splits, write_splits
from nnunet_rs.data.pipeline import PrepareOptions, PrepareSummary, plan_dataset, prepare_dataset
from nnunet_rs.data.preprocess import prepare
from nnunet_rs.data.store import Store, open_store, prepared_name
from nnunet_rs.plan.files import read_plan, write_plan
from nnunet_rs.plan.planner import PlanOverrides

OVERRIDES = PlanOverrides(patch_size=(8, 16, 16), batch_size=2)


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def _prepare(root: Path, work: Path, listener: Silent | None = None, **options) -> PrepareSummary:
    return prepare_dataset(read_dataset(root), work, PrepareOptions(**{"threads": 2, **options}), listener)


def _files(folder: Path) -> dict[str, bytes]:
    """Content of all files below a folder by their places in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("layout", ["raw_dataset", "decathlon_dataset"])
def test_prepares_what_prepare_prepares(layout, request, tmp_path) -> None:
    root = request.getfixturevalue(layout)(channels=("T1", "T2"))
    work = tmp_path / "work"
    summary = _prepare(root, work, overrides=OVERRIDES)
    dataset, plan = read_dataset(root), read_plan(work / "plan.json")
    assert summary.configurations == tuple(plan.configurations) == ("2d", "3d_fullres")
    assert (summary.cases, summary.made, summary.found) == (4, 8, 0)
    assert summary.voxels == 2 * 10 * 20 * (24 + 25 + 26 + 27)
    assert summary.bytes_written > 0
    assert summary.skipped == ()
    for name in plan.configurations:
        store = open_store(work, plan, name)
        assert store.names() == ("case_0", "case_1", "case_2", "case_3")
        for case in dataset.training:
            labels = read_labels(case.label).data.astype(np.uint8)
            expected = prepare(read_volume(case.images), plan, name, labels)
            image, classes, _ = store.read_patch(case.name, (0, 0, 0), expected.image.shape[1:])
            np.testing.assert_array_equal(image, expected.image)
            np.testing.assert_array_equal(classes, expected.labels)
            assert store.record(case.name).geometry == expected.geometry


def test_the_work_folder_reads_as_a_dataset(raw_dataset, decathlon_dataset, tmp_path) -> None:
    for number, root in enumerate((raw_dataset(), decathlon_dataset(channels=("T1", "T2")))):
        work = tmp_path / f"work{number}"
        _prepare(root, work)
        one, other = read_dataset(root), read_dataset(work)
        assert other.labels == one.labels
        assert other.channels == one.channels
        assert [case.name for case in other.training] == [case.name for case in one.training]
        assert [case.label.samefile(again.label) for case, again in zip(one.training, other.training, strict=True)]


def test_plan_first_then_go_on(raw_dataset, tmp_path) -> None:
    root = raw_dataset()
    _prepare(root, tmp_path / "at once", overrides=OVERRIDES)
    work = tmp_path / "in two steps"
    fingerprint, plan = plan_dataset(read_dataset(root), work, PrepareOptions(overrides=OVERRIDES))
    assert read_plan(work / "plan.json") == plan
    assert [case.name for case in fingerprint.cases] == ["case_0", "case_1", "case_2", "case_3"]
    assert not (work / "prepared").exists()
    _prepare(root, work)
    assert _files(work) == _files(tmp_path / "at once")


def test_folds_are_written_and_edited_ones_followed(raw_dataset, tmp_path) -> None:
    root, listener = raw_dataset(cases=6), Listener()
    _prepare(root, tmp_path / "work", listener)
    names = [f"case_{index}" for index in range(6)]
    splits = tmp_path / "work" / "splits.json"
    assert read_splits(splits, names) == make_folds(names)
    edited = (Fold(("case_0", "case_1"), ("case_2",)),)
    write_splits(splits, edited)
    _prepare(root, tmp_path / "work", listener)
    assert read_splits(splits, names) == edited
    assert "leaves out 3 cases (case_3 …)" in listener.said[-1]
    groups = {name: str(index // 2) for index, name in enumerate(names)}
    _prepare(root, tmp_path / "work", groups=groups)
    assert read_splits(splits, names) == make_folds(names, groups=groups)
    splits.write_text('[{"train": ["x"], "val": ["case_1"]}]')
    with pytest.raises(DatasetError, match=r"names 'x'.*correct it, or move it away for new folds"):
        _prepare(root, tmp_path / "work")


def test_a_rerun_makes_nothing_and_changes_nothing(raw_dataset, tmp_path) -> None:
    root, work = raw_dataset(), tmp_path / "work"
    _prepare(root, work)
    before = _files(work)
    again = _prepare(root, work)
    assert (again.made, again.found, again.bytes_written) == (0, 8, 0)
    assert _files(work) == before
    anew = _prepare(root, work, resume=False, threads=1)
    assert (anew.made, anew.found) == (8, 0)
    assert _files(work) == before


def test_a_rerun_makes_what_is_missing_or_changed(raw_dataset, tmp_path) -> None:
    root, work = raw_dataset(), tmp_path / "work"
    _prepare(root, work)
    before = _files(work)
    broken = work / "prepared" / "2d" / "case_1.zip"
    content = broken.read_bytes()
    broken.unlink()  # the other configuration's name for it stays whole
    broken.write_bytes(content[:-1])
    (work / "prepared" / "3d_fullres" / "case_2.zip").unlink()
    assert _prepare(root, work).made == 2
    assert _files(work) == before
    os.utime(root / "labelsTr" / "case_0.nii.gz", (1, 1))
    assert _prepare(root, work).made == 2


def test_an_edited_plan_makes_what_it_concerns(raw_dataset, tmp_path) -> None:
    root, work, listener = raw_dataset(), tmp_path / "work", Listener()
    _prepare(root, work)
    plan = read_plan(work / "plan.json")
    full = replace(plan.configurations["3d_fullres"], spacing=(3.0, 2.0, 2.0))
    write_plan(work / "plan.json", replace(plan, configurations={**plan.configurations, "3d_fullres": full}))
    summary = _prepare(root, work, listener)
    assert (summary.made, summary.found) == (4, 4)
    assert "followed as it is" in listener.said[0]
    assert open_store(work, plan, "3d_fullres").shape("case_0")[1] < 15


def _same_file(work: Path, case: str) -> bool:
    one, other = (work / "prepared" / name / f"{case}.zip" for name in ("2d", "3d_fullres"))
    return one.samefile(other)


def test_configurations_share_what_is_not_resampled(raw_dataset, tmp_path, monkeypatch) -> None:
    root = raw_dataset(channels=("T1", "T2"))
    summary = _prepare(root, tmp_path / "work", overrides=OVERRIDES)
    case = read_dataset(root).training[0].name
    assert _same_file(tmp_path / "work", case)
    first = Store(tmp_path / "work/prepared/2d")
    assert summary.bytes_written == sum(path.stat().st_size for path in first.folder.iterdir())

    # One configuration after the other, in either order, gives the same.
    for name, others in (("apart", ["3d_fullres", "2d"]), ("turned", ["2d", "3d_fullres"])):
        for configuration in others:
            _prepare(root, tmp_path / name, overrides=OVERRIDES, configurations=(configuration,))
        assert _same_file(tmp_path / name, case)
        assert _files(tmp_path / name / "prepared") == _files(tmp_path / "work/prepared")

    # A disk without links.
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    _prepare(root, tmp_path / "copies", overrides=OVERRIDES)
    assert not _same_file(tmp_path / "copies", case)
    assert _files(tmp_path / "copies/prepared") == _files(tmp_path / "work/prepared")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, NnunetError("disk full")])
def test_an_interrupted_run_goes_on_and_ends_the_same(raw_dataset, tmp_path, monkeypatch, stop) -> None:
    root = raw_dataset(cases=5)
    _prepare(root, tmp_path / "whole")
    write, written = Store.write, []

    def interrupted(self, case, *arguments):
        if len(written) == 2:  # cases, each for both configurations
            raise stop
        written.append(case)
        return write(self, case, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", interrupted)
        with pytest.raises(type(stop) if isinstance(stop, Exception) else stop):
            _prepare(root, tmp_path / "broken", threads=1)
    summary = _prepare(root, tmp_path / "broken")
    assert (summary.made, summary.found) == (6, 4)
    assert _files(tmp_path / "broken") == _files(tmp_path / "whole")


def test_killed_without_warning(raw_dataset, tmp_path) -> None:
    root = raw_dataset(cases=12, shape=(24, 60, 60))
    _prepare(root, tmp_path / "whole")
    code = (
        "from pathlib import Path; import sys\n"
        "from nnunet_rs.core.dataset import read_dataset\n"
        "from nnunet_rs.data.pipeline import PrepareOptions, prepare_dataset\n"
        "prepare_dataset(read_dataset(Path(sys.argv[1])), Path(sys.argv[2]), PrepareOptions(threads=2))\n"
    )
    work = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", code, str(root), str(work)])
    while process.poll() is None and not list(work.glob("prepared/*/[!.]*.zip")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(work.glob("prepared/*/[!.]*.zip")))
    summary = _prepare(root, work)
    assert summary.found == done
    assert _files(work) == _files(tmp_path / "whole")


def test_faults_stop_or_are_skipped(raw_dataset, tmp_path) -> None:
    root, work = raw_dataset(cases=6), tmp_path / "work"
    image, label = root / "imagesTr" / "case_1_0000.nii.gz", root / "labelsTr" / "case_3.nii.gz"
    image.write_bytes(image.read_bytes()[:200])
    label.unlink()
    with pytest.raises(DatasetError) as error:
        _prepare(root, work)
    assert "; 1 more problem, see `check`; --skip-faulty goes on without such cases" in str(error.value)
    assert not (work / "prepared").exists()
    summary = _prepare(root, work, skip_faulty=True)
    assert summary.cases == 4
    assert {issue.rule for issue in summary.skipped} == {"gzip-truncated", "label-missing"}
    assert [case.name for case in read_dataset(work).training] == ["case_0", "case_2", "case_4", "case_5"]
    assert Store(work / "prepared" / "2d").names() == ("case_0", "case_2", "case_4", "case_5")


def test_nothing_to_use(raw_dataset, tmp_path) -> None:
    root = raw_dataset(cases=1)
    (root / "labelsTr" / "case_0.nii.gz").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"no training case can be used, the first problem: .*file-empty"):
        _prepare(root, tmp_path / "work", skip_faulty=True)


def test_labels_of_background_only_are_told_as_the_fault_that_check_tells(raw_dataset, tmp_path, save_nifti) -> None:
    root = raw_dataset(cases=1)
    save_nifti(root / "labelsTr" / "case_0.nii.gz", np.zeros((10, 24, 20), np.uint8), (3, 1, 1))
    with pytest.raises(DatasetError, match=r"dataset\.json: no-foreground-anywhere: no label file holds any of"):
        _prepare(root, tmp_path / "work", skip_faulty=True)


def test_a_case_that_cannot_be_prepared(raw_dataset, tmp_path, monkeypatch) -> None:
    root, work = raw_dataset(channels=("rgb_to_0_1",)), tmp_path / "work"  # values beyond 255
    with pytest.raises(
        IssueError, match=r"case_\d_0000\.nii\.gz: preparation: channel 0: values from .* expects 0 … 255"
    ):
        _prepare(root, work)
    summary = _prepare(root, work, skip_faulty=True)
    assert summary.cases == 0
    assert len(summary.skipped) == 4


def test_configurations_half_and_unknown_names(raw_dataset, tmp_path) -> None:
    root, work = raw_dataset(), tmp_path / "work"
    summary = _prepare(root, work, configurations=("3d_fullres",), half=True)
    assert summary.configurations == ("3d_fullres",)
    assert [path.name for path in (work / "prepared").iterdir()] == ["3d_fullres"]
    assert _prepare(root, work, configurations=("3d_fullres",)).made == 4  # not half any more
    with pytest.raises(PlanError, match="no configuration '3d'; there are 2d, 3d_fullres"):
        _prepare(root, work, configurations=("3d",))


def test_a_cascade_shares_what_is_prepared(raw_dataset, tmp_path) -> None:
    root, work = raw_dataset(), tmp_path / "work"
    _prepare(root, work)
    plan = read_plan(work / "plan.json")
    full = plan.configurations["3d_fullres"]
    low = replace(full, name="3d_lowres", spacing=(3.0, 2.0, 2.0))
    last = replace(full, name="3d_cascade_fullres", previous="3d_lowres")
    plan = replace(plan, configurations={**plan.configurations, "3d_lowres": low, "3d_cascade_fullres": last})
    write_plan(work / "plan.json", plan)
    assert prepared_name(plan, "3d_cascade_fullres") == "3d_fullres"
    assert _prepare(root, work).configurations == ("2d", "3d_fullres", "3d_lowres")
    assert _prepare(root, work, configurations=("3d_cascade_fullres",)).configurations == ("3d_fullres",)


def test_the_memory_decides_who_waits_not_what_comes_out(raw_dataset, tmp_path, monkeypatch) -> None:
    root = raw_dataset(cases=6)
    _prepare(root, tmp_path / "free")
    monkeypatch.setattr(runner, "_WRITING", 0)
    monkeypatch.setattr("nnunet_rs.data.pipeline.memory_for_cases", lambda *_: 400_000)  # less than two cases
    _prepare(root, tmp_path / "tight", threads=4)
    assert _files(tmp_path / "tight") == _files(tmp_path / "free")


def test_too_little_memory(raw_dataset, tmp_path, monkeypatch) -> None:
    root = raw_dataset()
    with pytest.raises(DatasetError, match=r"the memory allowed, 0\.01 GB, does not suffice"):
        _prepare(root, tmp_path / "work", memory=10 << 20)
    monkeypatch.setattr("nnunet_rs.data.pipeline.memory_for_cases", lambda *_: 1 << 20)
    with pytest.raises(IssueError, match=r"memory: the case may take .* raise --memory"):
        _prepare(root, tmp_path / "work")


@pytest.mark.parametrize(
    ("factor", "rule", "text"),
    [
        (1000, "memory", r"become \(8000, 24000, 18000\) of \(3, 1, 1\) mm for 3d_fullres: the case may take"),
        (0.001, "preparation", r"become \(8, 1, 1\) of \(0\.003, 1, 1\) mm for 2d: a single voxel a slice"),
    ],
)
def test_one_spacing_in_another_unit(raw_dataset, save_nifti, tmp_path, factor, rule, text) -> None:
    root = raw_dataset(cases=5)
    for name in ("imagesTr/case_2_0000.nii.gz", "labelsTr/case_2.nii.gz"):
        image = nibabel.load(root / name)
        voxels = np.asarray(image.dataobj).transpose(2, 1, 0)
        save_nifti(root / name, voxels, (3 * factor, factor, factor))
    with pytest.raises(IssueError, match=rf"case_2_0000\.nii\.gz: {rule}: .*{text}"):
        _prepare(root, tmp_path / "work")
    summary = _prepare(root, tmp_path / "work", skip_faulty=True)
    assert [(issue.case, issue.rule) for issue in summary.skipped] == [("case_2", rule)]
    assert ("case_2", "spacing-outlier") in [(issue.case, issue.rule) for issue in summary.warnings]


def test_one_process_at_a_time(raw_dataset, tmp_path) -> None:
    told = r"work: training of 3d_fullres, fold 0 \(process \d+ on .*, since .*\) is at work there; wait for it"
    with exclusive(tmp_path / "work", "training of 3d_fullres, fold 0"), pytest.raises(NnunetError, match=told):
        _prepare(raw_dataset(), tmp_path / "work")


def test_progress_counts_each_case_once_it_is_prepared_or_left_out(raw_dataset, tmp_path) -> None:
    root = raw_dataset(cases=5)
    (root / "labelsTr" / "case_3.nii.gz").write_bytes(b"")

    class Counter(Silent):
        total, count = 0.0, 0.0

        def task(self, name, total):
            Counter.total += total
            return super().task(name, total)

        def advance(self, count: float = 1, note: str = "") -> None:
            Counter.count += count

    _prepare(root, tmp_path / "work", Counter(), skip_faulty=True)
    assert Counter.count == Counter.total == 5


def test_leftovers_are_removed(raw_dataset, tmp_path) -> None:
    root, work = raw_dataset(), tmp_path / "work"
    _prepare(root, work)
    before = _files(work)
    (work / ".tmp-01234567-plan.json").write_text("{")
    (work / "prepared" / "2d" / ".tmp-01234567-case_0.zip").write_text("x")
    _prepare(root, work)
    assert _files(work) == before


def test_real_anisotropic_cases(shared, tmp_path) -> None:
    root = shared / "data" / "Dataset027_ACDC"
    if not root.is_dir():
        pytest.skip("no folder Dataset027_ACDC among the shared data")
    dataset = read_dataset(root)
    few = replace(dataset, training=dataset.training[:3])
    summary = prepare_dataset(few, tmp_path / "work", PrepareOptions(configurations=("3d_fullres",)))
    assert summary.cases == 3
    store = Store(tmp_path / "work" / "prepared" / "3d_fullres")
    for case in few.training:
        geometry = store.record(case.name).geometry
        assert geometry.resampled[0] == geometry.cropped_shape[0] or geometry.spacing[0] < 10
        assert sorted(store.class_locations(case.name).spans) == [1, 2, 3]


def test_written_json_is_plain(raw_dataset, tmp_path) -> None:
    _prepare(raw_dataset(), tmp_path / "work")
    for name in ("dataset.json", "survey.json", "fingerprint.json", "plan.json", "splits.json"):
        json.loads((tmp_path / "work" / name).read_text())
