"""Segment the training cases by a cascade's first stage, each by the fold that did not see it, for the second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.io import read_labels
from nnunet_rs.core.labels import encode_labels
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.types import Case
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.data.preprocess import find_configuration
from nnunet_rs.data.previous_labels import on_grid
from nnunet_rs.data.store import StoreLayout, open_store
from nnunet_rs.model.cascade import SegmentationSource, first_stage_sources, lacking, previous_store
from nnunet_rs.plan.files import read_plan
from nnunet_rs.plan.schema import Plan
from nnunet_rs.predict.folder import FolderOptions, predict_cases
from nnunet_rs.predict.predictor import PredictOptions
from nnunet_rs.predict.results import segmentation_path
from nnunet_rs.select.cross_validation import load_held_out, require_scans


def segment_cases(
    work: Path,
    configuration: str,
    *,
    folds: Sequence[int] | None = None,
    device: str = "auto",
    options: PredictOptions | None = None,
    progress: Progress | None = None,
) -> int:
    """Make the first stage's segmentations that a second stage is trained on, where they are missing or outdated.

    Parameters
    ----------
    work
        The work folder. What is made goes to WORK/previous/CONFIGURATION; the segmentations on the images' grids, from
        which it is made, are those of the first stage's validation folders.
    configuration
        The second stage.
    folds
        Of the first stage: only the cases that these hold out; None: all.
    device, options
        As in `Predictor.load`, where cases must be predicted.
    progress
        Shows each case as it is done.

    Returns
    -------
    int
        How many were made.

    Raises
    ------
    CheckpointError
        Folds of the first stage are not trained.
    DatasetError, NnunetError
        As `validate_fold`.

    Notes
    -----
    Training and prediction bring a segmentation to the second stage's grid in the same way: as labels, from the image's
    grid, as references are prepared. (nnU-Net v2 resamples logits for training, and labels for prediction.)
    """
    plan, progress = read_plan(WorkFolder(work).plan_file), progress or Silent()
    first = find_configuration(plan, configuration).previous
    if first is None:
        return 0
    sources = first_stage_sources(work, plan, configuration, folds)
    missing = lacking(previous_store(work, configuration), sources)
    cases = {case.name: case for case in require_scans(work, read_dataset(work), missing)}
    for fold in sorted({sources[name].fold for name in missing}):
        lacks = [cases[name] for name in missing if sources[name].fold == fold]
        folder = WorkFolder(work).model(first, fold).validation_folder
        predictor = load_held_out(work, first, fold, device, options)
        predict_cases(predictor, lacks, folder, FolderOptions(own=True), progress)
        _keep(work, plan, configuration, {case: segmentation_path(case, folder) for case in lacks}, sources)
    return len(missing)


def _keep(
    work: Path,
    plan: Plan,
    configuration: str,
    segmentations: Mapping[Case, Path],
    sources: Mapping[str, SegmentationSource],
) -> None:
    planned, store = plan.configurations[configuration], previous_store(work, configuration)
    prepared, layout = open_store(work, plan, configuration), StoreLayout.of(planned, plan.labels)
    for case, path in segmentations.items():
        labels = encode_labels(read_labels(path).data, plan.labels)
        there = on_grid(labels, prepared.record(case.name).geometry, planned)
        store.write(case.name, there, sources[case.name].key, layout.patch)
