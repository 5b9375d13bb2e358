"""One training at a time in a fold's folder; what lies there is kept aside, whole, before another one begins."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.files import remove_leftovers, require_writable
from nnunet_rs.core.locks import exclusive
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.workspace import ModelFolder


@contextmanager
def fold_lock(folder: Path, progress: Progress, *, is_rank_0: bool = True) -> Iterator[None]:
    """Keep other trainings out of a fold's folder, and put in order what a killed one left.

    Parameters
    ----------
    folder
        WORK/models/CONFIGURATION/fold_K; it is made.
    progress
        Told where the file system has no locks.
    is_rank_0
        Whether this process, of those that train one network, is the one that writes.

    Raises
    ------
    HeldError
        Another process trains there; the text says which.
    NnunetError
        The folder cannot be written.
    """
    if not is_rank_0:
        yield
        return
    with exclusive(folder, f"the training of {folder.parent.name}, {folder.name.replace('_', ' ')}", progress):
        require_writable(folder)
        remove_leftovers(folder)
        _put_in_order(ModelFolder(folder))
        yield


def _put_in_order(model: ModelFolder) -> None:
    """Carry on what a kill interrupted: keeping a model aside, or a finished cycle's taking its place."""
    following = model.next_cycle
    taken = following.is_finished() and not following.has_checkpoint()
    if following.path.is_dir() and not taken and not following.has_checkpoint():
        shutil.rmtree(following.path, ignore_errors=True)  # killed in its first epoch: nothing to resume from
    if model.moving_folder.is_dir():
        _finish(model, (following.path.name,) if taken else ())
    if taken or model.taking_folder.is_dir():
        take_next_cycle(model)


def take_next_cycle(model: ModelFolder) -> Path | None:
    """Let the finished next cycle be the fold's model, and keep the model that was there aside.

    A kill on the way is made good by the next `fold_lock`: there is always one whole model, in one of three places.

    Returns
    -------
    Path or None
        Where the earlier model is now.

    Raises
    ------
    NnunetError
        The folder cannot be written.
    """
    aside, following, taking = None, model.next_cycle.path, model.taking_folder
    try:
        if not taking.is_dir():
            aside = keep_aside(model.path, stay=(following.name,))
            following.rename(taking)
        contents = sorted(taking.iterdir(), key=lambda path: path.name == model.metadata_file.name)  # that one last
        for path in contents:
            path.rename(model.path / path.name)
        taking.rmdir()
    except OSError as error:
        raise NnunetError(
            f"{model.path}: the new model cannot take its place: {error.strerror}; check the folder's permissions, "
            "then train --resume does it"
        ) from error
    return aside


def keep_aside(folder: Path, stay: Collection[str] = ()) -> Path | None:
    """Move all that a fold's folder holds into a new folder in it, previous_N.

    Parameters
    ----------
    folder
        The fold's folder, which this process has locked.
    stay
        Names of what stays.

    Returns
    -------
    Path or None
        Where it is now; None: there was nothing. A kill on the way is made good by the next `fold_lock`.

    Raises
    ------
    NnunetError
        The folder cannot be written.
    """
    model = ModelFolder(folder)
    if not model.contents(stay):
        return None
    model.moving_folder.mkdir()
    return _finish(model, stay)


def _finish(model: ModelFolder, stay: Collection[str] = ()) -> Path:
    try:
        for path in model.contents(stay):
            path.rename(model.moving_folder / path.name)
        return model.moving_folder.rename(model.next_aside())
    except OSError as error:
        raise NnunetError(
            f"{model.path}: cannot be kept aside: {error.strerror}; check the folder's permissions"
        ) from error
