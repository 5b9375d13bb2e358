"""The folds of a work folder: splits.json is followed where it is there, else made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import keep_aside
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.text import counted
from nnunet_rs.data.folds import FOLDS, Fold, count_folds, make_folds, read_splits, require_two_folds, write_splits
from nnunet_rs.data.patients import report_likely_groups


def reconcile_splits(
    path: Path,
    names: Sequence[str],
    progress: Progress,
    *,
    groups: Mapping[str, str] | None = None,
    strata: Mapping[str, str] | None = None,
    num_folds: int | None = None,
) -> tuple[Fold, ...]:
    """Return the folds to follow, and see that splits.json holds them.

    A file that is there is followed as it is, edited or not, unless groups or strata are asked for: by these folds are
    made anew, as many as it has, and it is kept aside. Without a file, and without a number, there are five.

    Parameters
    ----------
    path
        splits.json of the work folder, which may not be there yet.
    names
        The training cases.
    progress
        Told what may surprise.
    groups, strata
        As for `make_folds`.
    num_folds
        How many folds are asked for.

    Raises
    ------
    DatasetError
        The file that is there does not fit the cases, or has another number of folds than is asked for; a case has no
        group or stratum; the number cannot be made of the cases.
    """
    require_number(path, names, groups, num_folds)
    if path.exists() and groups is None and strata is None:
        return _followed(path, names, progress)
    there = _number(path) or 0
    count = num_folds or (there if there > 1 else FOLDS)
    folds = make_folds(names, groups=groups, strata=strata, count=count, progress=progress)
    if groups is None:
        report_likely_groups(folds, progress)
    if path.exists() and not _holds(path, names, folds):
        progress.say(f"{path} had other folds: it is kept as {keep_aside(path).name}")
    write_splits(path, folds)
    return folds


def require_number(path: Path, names: Sequence[str], groups: Mapping[str, str] | None, num_folds: int | None) -> None:
    """Check that as many folds can be had as are asked for; parameters and errors as `reconcile_splits`.

    Cheap: it is asked before a dataset is read.
    """
    if num_folds is None:
        return
    require_two_folds(num_folds)
    units, kind = (set(names), "case") if groups is None else ({groups.get(name, name) for name in names}, "group")
    if len(units) < num_folds:
        raise DatasetError(
            f"number of folds is {num_folds}, and there {'is' if len(units) == 1 else 'are'} only "
            f"{counted(len(units), kind)}: must not be more than those"
        )
    there = _number(path)
    if there is not None and there != num_folds:
        raise DatasetError(
            f"{path} has {counted(there, 'fold')}, and {num_folds} are asked for: leave the number out to keep it, or "
            "move that file away for new folds"
        )


def _followed(path: Path, names: Sequence[str], progress: Progress) -> tuple[Fold, ...]:
    """Return the folds that are there, edited or not."""
    try:
        folds = read_splits(path, names)
    except DatasetError as error:
        raise DatasetError(f"{error}; correct it, or move it away for new folds") from error
    unused = sorted(set(names) - {name for fold in folds for name in (*fold.train, *fold.validation)})
    if unused:
        progress.say(f"warning: {path} leaves out {len(unused)} cases ({unused[0]} …); move it away for new folds")
    return folds


def _number(path: Path) -> int | None:
    """Return how many folds splits.json has; None: it is not there, or damaged, which is told where it is read."""
    try:
        return count_folds(path)
    except DatasetError:
        return None


def _holds(path: Path, names: Sequence[str], folds: tuple[Fold, ...]) -> bool:
    try:
        return read_splits(path, names) == folds
    except DatasetError:
        return False
