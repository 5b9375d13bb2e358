"""A cohort of images: the results are those of `predict_folder`, whoever dies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up import Lines
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.types import Case
from nnunet_rs.predict.folder import cases_of_folder, predict_folder
from nnunet_rs.predict.pipeline import FolderOptions
from nnunet_rs.run.cohort.board import TRIES
from nnunet_rs.run.cohort.claims import Claims, cancel, report_lost
from nnunet_rs.run.cohort.files import COHORT_JSON, this_process
from nnunet_rs.run.cohort.follow import Followed, follow, require_all
from nnunet_rs.run.cohort.predicting import Begun, begin_prediction
from nnunet_rs.run.cohort.worker import work
from nnunet_rs.run.executor import Resources
from nnunet_rs.run.local import InProcess, PerDevice
from nnunet_rs.select.loading import load_predictor
from nnunet_rs.select.prediction import Prediction

NAMES = [f"case_{number}" for number in range(5)]


@pytest.fixture
def images(make_work: Callable[..., Path], tmp_path: Path) -> Path:
    """The five images of the dataset; beside them a work folder with a model."""
    make_work({"3d_fullres": (0,)})
    return tmp_path / "Dataset001_Made" / "imagesTr"


def begun(images: Path, output: Path, **written: Any) -> Begun | None:
    wanted = Prediction(images.parents[1] / "work", output, "cpu", written=FolderOptions(**written))
    predictor = wanted.load(Silent(), networks=False)
    cases, _ = cases_of_folder(images, output, predictor.plan, wanted.written, Silent())
    return begin_prediction(wanted, predictor, cases, 2, Silent())


def followed(cohort: Begun | None, progress: Silent | None = None) -> Followed:
    assert cohort is not None
    return follow(cohort.folder, cohort.cohort, InProcess("cpu", progress or Silent()), 1, progress or Silent())


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_results_are_those_of_a_folder(images: Path, tmp_path: Path) -> None:
    out, alone = tmp_path / "out", tmp_path / "alone"
    found = followed(begun(images, out, save_probabilities=True))
    predict_folder(load_predictor(tmp_path / "work", "cpu"), images, alone, FolderOptions(save_probabilities=True))
    assert (len(found.done), found.failed) == (5, {})
    assert content(out) == content(alone)
    assert begun(images, out, save_probabilities=True) is None
    (out / "case_3.nii.gz").unlink()
    again = begun(images, out, save_probabilities=True)
    assert again is not None
    assert again.folder.names() == ["case_3"]
    assert [path.name for path in again.folder.path.parent.iterdir()] == [again.folder.path.name]  # the old one is gone


def test_a_damaged_image_is_recorded_and_the_others_are_done(images: Path, tmp_path: Path) -> None:
    (images / "case_1_0000.nii.gz").write_bytes(b"nothing")
    cohort = begun(images, tmp_path / "out")
    assert cohort is not None
    found = followed(cohort)
    assert (len(found.done), list(found.failed)) == (4, [1])
    with pytest.raises(NnunetError, match=r"1 of 5 cases failed, 4 are done: case_1: .*case_1_0000\.nii\.gz"):
        require_all(found, cohort.folder.names(), "out")
    again = begun(images, tmp_path / "out")
    assert again is not None
    assert again.folder.names() == ["case_1"]  # is tried again where the command is given again


def test_an_image_that_is_not_there_is_tried_elsewhere_before_it_is_recorded(images: Path, tmp_path: Path) -> None:
    cohort = begun(images, tmp_path / "out")
    assert cohort is not None
    (images / "case_1_0000.nii.gz").unlink()
    found = followed(cohort)
    assert len(found.done) == 4
    assert "case_1_0000.nii.gz: is not there on " in found.failed[1]
    assert len(cohort.folder.board(cohort.cohort).failures[1]) == TRIES


def die_with(cohort: Begun, case: int) -> None:
    """A worker takes all it can get, has a case in hand, and ends without a word."""
    claims = Claims(cohort.folder.path, cohort.cohort.sizes, cohort.cohort.groups, this_process("dead"))
    while (claim := claims.take()) is not None and claims.board.block_of(case) != claim.block:
        pass
    claims.begin(case)
    claims.journal.close()
    report_lost(cohort.folder.path, [claims.token])


def test_what_a_dead_worker_had_is_done_by_others(images: Path, tmp_path: Path) -> None:
    cohort = begun(images, tmp_path / "out")
    assert cohort is not None
    die_with(cohort, 2)
    found = followed(cohort)
    assert (len(found.done), found.failed) == (5, {})
    predict_folder(load_predictor(tmp_path / "work", "cpu"), images, tmp_path / "alone")
    assert content(tmp_path / "out") == content(tmp_path / "alone")


def test_a_case_that_ends_its_workers_is_recorded(images: Path, tmp_path: Path) -> None:
    cohort = begun(images, tmp_path / "out")
    assert cohort is not None
    for _ in range(TRIES):
        die_with(cohort, 2)
    found = followed(cohort)
    assert len(found.done) == 4
    assert "ended without a word, 3 times" in found.failed[2]


def test_the_same_command_joins_what_is_not_finished(images: Path, tmp_path: Path) -> None:
    cohort, again = begun(images, tmp_path / "out"), begun(images, tmp_path / "out")
    assert cohort is not None
    assert again is not None
    assert again.folder == cohort.folder
    cancel(cohort.folder.path)
    found = followed(cohort)
    assert (found.cancelled, found.done) == (True, {})
    other = begun(images, tmp_path / "out")
    assert other is not None
    assert other.folder != cohort.folder


def test_models_are_loaded_once_a_worker(images: Path, tmp_path: Path) -> None:
    cohort = begun(images, tmp_path / "out")
    assert cohort is not None
    assert work(cohort.folder.path, "worker 1", Resources("cpu", 1), Silent()).loaded == 1
    assert work(cohort.folder.path, "worker 2", Resources("cpu", 1), Silent()).loaded == 0  # nothing is left


def test_another_version_or_another_model_is_told(images: Path, tmp_path: Path) -> None:
    cohort = begun(images, tmp_path / "out")
    assert cohort is not None
    file = cohort.folder.path / COHORT_JSON
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "library": "0.0.1"}))
    told = work(cohort.folder.path, "worker", Resources("cpu", 1), Silent()).problem
    assert "was made by nnunet_rs 0.0.1, and " in told
    assert "install the same version on all nodes" in told
    changed = {**document["work"], "content": json.dumps({"models": {}})}
    file.write_text(json.dumps({**document, "work": changed}))
    told = work(cohort.folder.path, "worker", Resources("cpu", 1), Silent()).problem
    assert "holds other models than when these cases were handed out" in told


def test_files_of_others_are_refused_before_anything_is_handed_out(images: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "case_1.nii.gz").write_text("mine")
    with pytest.raises(NnunetError, match=r"case_1\.nii\.gz: is not known to be made by this tool"):
        begun(images, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("cohort*"))


def test_workers_that_only_die_are_given_up(images: Path, tmp_path: Path) -> None:
    cohort = begun(images, tmp_path / "out")
    assert cohort is not None
    (images.parents[1] / "work").rename(tmp_path / "moved")  # as where nodes do not see it
    console = Lines()
    with pytest.raises(
        NnunetError, match=r"workers ended one after another without a case done, the last: .*work: no such"
    ):
        follow(cohort.folder, cohort.cohort, PerDevice(("cpu", "cpu")), 2, console)
    assert any("no such folder" in line for line in console.said)


@pytest.mark.slow
def test_processes_share_the_cases(images: Path, tmp_path: Path) -> None:
    cohort = begun(images, tmp_path / "out")
    assert cohort is not None
    found = follow(cohort.folder, cohort.cohort, PerDevice(("cpu", "cpu")), 2, Silent())
    assert (len(found.done), found.failed) == (5, {})
    board = cohort.folder.board(cohort.cohort)
    assert all(worker.ended for worker in board.workers.values())


def test_listed_outputs_lie_in_folders(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wanted = Prediction(tmp_path / "work", out, "cpu", written=FolderOptions(save_probabilities=True, masks=True))
    cases = [
        Case(name, (images / f"{name}_0000.nii.gz",), output=f"{name[-1]}/segmentation.nii.gz") for name in NAMES[:2]
    ]
    followed(begin_prediction(wanted, wanted.load(Silent(), networks=False), cases, 1, Silent()))
    files = sorted(
        path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() and path.name[0] != "."
    )
    written = [name for name in files if not name.startswith(".")]
    assert written == [
        *(
            f"{n}/{name}"
            for n in "01"
            for name in (
                "segmentation.b2nd",
                "segmentation.nii.gz",
                "segmentation/large.nii.gz",
                "segmentation/small.nii.gz",
            )
        ),
        "prediction.json",
    ]
