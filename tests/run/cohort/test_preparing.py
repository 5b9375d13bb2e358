"""Cases that workers prepare are those of `prepare_dataset`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.progress import Silent
from nnunet_rs.data.pipeline import PrepareOptions, prepare_dataset
from nnunet_rs.run.cohort.follow import follow, run_job
from nnunet_rs.run.cohort.preparing import begin_preparing, planning_job
from nnunet_rs.run.local import InProcess


def prepared(work: Path) -> dict[str, bytes]:
    home = work / "prepared"
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*.zip")}


def test_prepared_cases_are_those_of_one_process(raw_dataset: Callable[..., Path], tmp_path: Path) -> None:
    data, work, options = raw_dataset(cases=5, spacing=(3, 1, 1.5)), tmp_path / "work", PrepareOptions()
    work.mkdir()
    executor = InProcess("cpu", Silent())
    assert run_job(executor, planning_job(data, work, options, {}), Silent()) == 5
    begun = begin_preparing(work, options, 2, Silent())
    assert begun is not None
    found = follow(*begun, executor, 1, Silent())
    assert (len(found.done), found.failed) == (5, {})
    prepare_dataset(read_dataset(data), tmp_path / "alone")
    assert prepared(work) == prepared(tmp_path / "alone")
    assert begin_preparing(work, options, 2, Silent()) is None
    done = prepare_dataset(read_dataset(data), work)
    assert (done.made, done.found) == (0, 5 * len(done.configurations))


def test_a_case_that_cannot_be_prepared_is_recorded(raw_dataset: Callable[..., Path], tmp_path: Path) -> None:
    data, work, options = raw_dataset(cases=4), tmp_path / "work", PrepareOptions()
    work.mkdir()
    executor = InProcess("cpu", Silent())
    run_job(executor, planning_job(data, work, options, {}), Silent())
    (data / "imagesTr" / "case_1_0000.nii.gz").write_bytes(b"nothing")
    begun = begin_preparing(work, options, 2, Silent())
    assert begun is not None
    found = follow(*begun, executor, 1, Silent())
    assert (len(found.done), [begun[0].names()[case] for case in found.failed]) == (3, ["case_1"])
