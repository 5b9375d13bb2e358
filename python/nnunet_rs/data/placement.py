"""Where a work folder's prepared cases lie: in it, or in a folder that an environment variable leads to.

Prepared cases are large, can be made again, and are best read from a fast disk; nnU-Net's users copy them to the node's
own before they train, and set nnUNet_preprocessed to the copy. So the work folder remembers the variable, not the place
that it named once. The variable is read here, not in `cli`: processes that a training starts inherit it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nnunet_rs.core.document import Kind
from nnunet_rs.core.workspace import PREPARED_CASE, WorkFolder


@dataclass(frozen=True, slots=True)
class Placement:
    """A folder outside of the work folder."""

    variable: str  # of the environment, which names a folder
    folder: str  # within it
    path: str  # the whole, when cases were last prepared: it holds where the variable is not set

    @classmethod
    def of(cls, variable: str, home: Path, folder: str) -> Placement:
        """Return the placement in a folder of `home`, which the variable names now."""
        return cls(variable, folder, str((home / folder).absolute()))

    def now(self) -> Path:
        """Return the folder, by the variable's present value."""
        home = os.environ.get(self.variable)
        return Path(home, self.folder) if home else Path(self.path)


PLACEMENT = Kind("prepared", Placement, advice="delete it, and run preprocess")


def prepared_folder(work: Path) -> Path:
    """Return the folder with the prepared cases of each configuration; it need not be there.

    Raises
    ------
    DatasetError
        WORK/prepared.json is damaged.
    """
    placement = read_placement(work)
    return WorkFolder(work).own_prepared_folder if placement is None else placement.now()


def prepared_cases(work: Path) -> list[Path]:
    """Return the files of all prepared cases, of every configuration; errors as `prepared_folder`."""
    return sorted(prepared_folder(work).glob(f"*/*{PREPARED_CASE}"))


def read_placement(work: Path) -> Placement | None:
    """Return what WORK/prepared.json says; None where there is none. Errors as `prepared_folder`."""
    path = WorkFolder(work).placement_file
    if not path.exists():
        return None
    return PLACEMENT.load(path)


def place_prepared(work: Path, placement: Placement) -> str:
    """Let prepared cases lie elsewhere from now on; returns a remark, if there is one to make.

    A link WORK/prepared, by which earlier versions did this, goes. Cases that lie in the work folder itself stay there.
    """
    inside, recorded = WorkFolder(work).own_prepared_folder, read_placement(work)
    before = placement.path if recorded is None else recorded.path
    if inside.is_symlink():
        led = str(inside.readlink())
        if not led.endswith(placement.folder):
            return f"{inside}, a link, is followed, and {placement.variable} is not: remove the link for that"
        before = led if recorded is None else before
        inside.unlink()
    elif recorded is None and inside.exists():
        return f"prepared cases stay in {inside}, and {placement.variable} is not followed: move that folder for it"
    if recorded != placement:
        PLACEMENT.save(WorkFolder(work).placement_file, placement)
    if Path(before).resolve() != Path(placement.path).resolve():
        return f"prepared cases lie in {placement.path} now, as {placement.variable} says; before, in {before}"
    return ""


def placement_warning(work: Path, placement: Placement) -> str:
    """Return a warning if the variable leads to no prepared cases, or is not followed; else nothing."""
    if read_placement(work) is None:
        there = WorkFolder(work).own_prepared_folder
        if there.exists() and there.resolve() != placement.now().resolve():
            return f"warning: prepared cases are read from {there.resolve()}, {placement.variable} is not followed"
    elif not placement.now().is_dir():
        before = read_placement(work)
        assert before is not None
        return (
            f"warning: {placement.now()}, where {placement.variable} leads, is not there; cases were prepared in "
            f"{before.path}: copy that folder, or let the variable lead to it"
        )
    return ""
