"""Scores that workers give are those of `evaluate_folders`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from nnunet_rs.core.progress import Silent
from nnunet_rs.core.types import LabelSet
from nnunet_rs.evaluate.folders import evaluate_folders, pair_files
from nnunet_rs.run.cohort.follow import follow
from nnunet_rs.run.cohort.scoring import begin_scoring, summary_of
from nnunet_rs.run.executor import Handle, Job
from nnunet_rs.run.local import InProcess

LABELS = LabelSet(("background", "large", "small", "nowhere"), (0, 1, 2, 3))


def test_scores_are_those_of_one_process(raw_dataset: Callable[..., Path], tmp_path: Path) -> None:
    reference, predictions = raw_dataset(cases=4, shape=(6, 20, 20)) / "labelsTr", tmp_path / "predictions"
    shutil.copytree(reference, predictions)
    shutil.copy(reference / "case_0.nii.gz", tmp_path / "first.nii.gz")
    pairs = pair_files(predictions, reference)
    folder, cohort = begin_scoring(predictions, pairs, LABELS, 1.0, 2)
    found = follow(folder, cohort, InProcess("cpu", Silent()), 1, Silent())
    summary = summary_of(cohort, folder.names(), found.done)
    alone = evaluate_folders(predictions, reference, LABELS)
    assert summary.to_json() == alone.to_json()
    assert np.isnan(summary.values("dice")[:, 2]).all()  # what is undefined comes back as that
    assert begin_scoring(predictions, pairs, LABELS, 1.0, 2)[0] == folder  # scored already
    (predictions / "case_0.nii.gz").write_bytes((predictions / "case_1.nii.gz").read_bytes())
    assert begin_scoring(predictions, pairs, LABELS, 1.0, 2)[0] != folder


def test_a_pair_that_does_not_fit_is_recorded(raw_dataset: Callable[..., Path], tmp_path: Path) -> None:
    reference, predictions = raw_dataset(cases=3, shape=(6, 20, 20)) / "labelsTr", tmp_path / "predictions"
    shutil.copytree(reference, predictions)
    shutil.copy(reference / "case_2.nii.gz", predictions / "case_0.nii.gz")  # of another shape
    folder, cohort = begin_scoring(predictions, pair_files(predictions, reference), LABELS, None, 1)
    found = follow(folder, cohort, InProcess("cpu", Silent()), 1, Silent())
    assert (len(found.done), list(found.failed)) == (2, [0])
    assert "case_0.nii.gz" in found.failed[0]


def test_workers_of_two_cohorts_are_not_named_alike(raw_dataset: Callable[..., Path], tmp_path: Path) -> None:
    """SLURM's executor follows a job of the same name that is queued: an earlier cohort's would do nothing for this."""
    submitted = []

    class Recording(InProcess):
        def submit(self, job: Job) -> Handle:
            submitted.append(job.name)
            return super().submit(job)

    reference, predictions = raw_dataset(cases=2, shape=(6, 20, 20)) / "labelsTr", tmp_path / "predictions"
    shutil.copytree(reference, predictions)
    for tolerance in (None, 1.0):
        cohort = begin_scoring(predictions, pair_files(predictions, reference), LABELS, tolerance, 1)
        follow(*cohort, Recording("cpu", Silent()), 1, Silent())
    assert submitted == [f"evaluate {predictions}, cohort_{number}, worker 1" for number in (1, 2)]


def test_what_failed_is_tried_again_by_the_same_command(raw_dataset: Callable[..., Path], tmp_path: Path) -> None:
    reference, predictions = raw_dataset(cases=2, shape=(6, 20, 20)) / "labelsTr", tmp_path / "predictions"
    shutil.copytree(reference, predictions)
    pairs, hidden = pair_files(predictions, reference), tmp_path / "hidden.nii.gz"
    folder, cohort = begin_scoring(predictions, pairs, LABELS, None, 1)
    (predictions / "case_0.nii.gz").rename(hidden)  # as on a node that does not see it
    assert follow(folder, cohort, InProcess("cpu", Silent()), 1, Silent()).failed.keys() == {0}
    hidden.rename(predictions / "case_0.nii.gz")
    folder, cohort = begin_scoring(predictions, pairs, LABELS, None, 1)
    found = follow(folder, cohort, InProcess("cpu", Silent()), 1, Silent())
    assert (len(found.done), found.failed) == (2, {})
