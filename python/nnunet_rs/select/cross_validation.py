"""Score a trained fold on the cases that it did not see, from their files and in full."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.errors import CheckpointError, DatasetError
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.types import Case, Dataset
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.data.folds import read_folds, require_fold
from nnunet_rs.evaluate.folders import TOLERANCE, CasePair, evaluate_pairs
from nnunet_rs.evaluate.summary import Summary
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.predict.folder import FolderOptions, predict_cases
from nnunet_rs.predict.predictor import PredictOptions, Predictor
from nnunet_rs.predict.results import segmentation_path


def validate_fold(
    work: str | Path,
    configuration: str,
    fold: int,
    *,
    device: str = "auto",
    options: PredictOptions | None = None,
    tolerance: float | None = TOLERANCE,
    progress: Progress | None = None,
) -> Summary:
    """Predict a fold's validation cases by the full sliding window, from the original files, and score them.

    Parameters
    ----------
    work
        The work folder: dataset.json, splits.json, models/CONFIGURATION/fold_FOLD.
    configuration, fold
        Which model. A cascade's first stage is taken from the same fold, which did not see the cases either.
    device
        As in `Predictor.load`.
    options
        As in `Predictor.load`.
    tolerance
        Of the normalised surface Dice, in mm; None measures no distances.
    progress
        Shows each case as it is done.

    Returns
    -------
    Summary
        Also written to models/CONFIGURATION/fold_FOLD/validation/summary.json, beside the segmentations; those that
        are finished are not made again.

    Raises
    ------
    CheckpointError
        There is no such model, or splits.json now holds out a case that it was trained on.
    DatasetError
        The work folder lacks its dataset or splits, or files of cases are gone.
    NnunetError
        Cases that failed, after all others.
    """
    work = Path(work)
    predictor = load_held_out(work, configuration, fold, device, options)
    dataset = read_dataset(work)
    cases = validation_cases(work, dataset, fold)
    model = WorkFolder(work).model(configuration, fold)
    folder = model.validation_folder
    predict_cases(predictor, cases, folder, FolderOptions(own=True), progress)
    summary = evaluate_pairs(pairs_of(cases, folder), dataset.labels, tolerance=tolerance, progress=progress)
    summary.write(model.summary_file)
    return summary


def load_held_out(
    work: Path,
    configuration: str,
    fold: int,
    device: str = "auto",
    options: PredictOptions | None = None,
    *,
    networks: bool = True,
) -> Predictor:
    """Load the networks that did not see the cases that a fold holds out, those of a cascade's first stage included.

    Parameters and errors as in `validate_fold`; `networks` as in `Predictor.load`.
    """
    found = Predictor.load(
        work,
        device,
        [fold],
        configuration=configuration,
        options=options or PredictOptions(),
        previous_folds=[fold],
        networks=networks,
    )
    for predictor in (found,) if found.previous is None else (found, found.previous):
        _require_unseen(work, predictor.all_metadata[0])
    return found


def _require_unseen(work: Path, metadata: ModelMetadata) -> None:
    """Check that splits.json, which may have been edited since, holds out no case that the model was trained on."""
    if metadata.fold == "all":
        raise CheckpointError(f"{work}: this network was trained on every case; there is nothing that it did not see")
    if metadata.cases is None:
        return
    path, folds = WorkFolder(work).splits_file, read_folds(work)
    seen = {name for fold in folds[metadata.fold : metadata.fold + 1] for name in {*fold.validation} - {*fold.train}}
    seen &= {*metadata.cases.train}
    if seen:
        raise CheckpointError(
            f"{path}: fold {metadata.fold} holds out {min(seen)}, which {metadata.configuration}, fold "
            f"{metadata.fold}, was trained on: its score would be too good; restore the file, or train this fold again"
        )


def validation_cases(work: Path, dataset: Dataset, fold: int) -> tuple[Case, ...]:
    """List the cases that a fold holds out; errors as `validate_fold`."""
    held_out = require_fold(WorkFolder(work).splits_file, read_folds(work), fold)
    return require_scans(work, dataset, held_out.validation)


def require_scans(work: Path, dataset: Dataset, names: Sequence[str]) -> tuple[Case, ...]:
    """Return cases of a work folder, whose files must be where they were when they were prepared.

    Raises
    ------
    DatasetError
        A file is gone: scans are moved, or mounted elsewhere.
    """
    cases = {case.name: case for case in dataset.training}
    missing = [name for name in names if name not in cases]
    if not missing:
        return tuple(cases[name] for name in names)
    gone = next((str(issue.file) for issue in dataset.issues if issue.case == missing[0] and issue.fatal), "its image")
    more = f" (and those of {len(missing) - 1} more cases)" if missing[1:] else ""
    raise DatasetError(
        f"{gone}: there is no such file{more}; {missing[0]} is predicted and scored from it. Put the files back, or "
        f"run nnunet-rs preprocess DATA -o {work} with the folder where they are now: nothing is prepared twice"
    )


def pairs_of(cases: Sequence[Case], folder: Path) -> tuple[CasePair, ...]:
    """Match the segmentations in a folder with the cases' labels; a case without labels cannot be scored."""
    return tuple(
        CasePair(case.name, segmentation_path(case, folder), case.label, case.unannotated)
        for case in cases
        if case.label
    )
