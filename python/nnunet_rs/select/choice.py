"""What was chosen by cross-validation, as best.json keeps it. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nnunet_rs.core.document import Kind
from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.select.postprocessing import PostProcessing


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration, or two whose probabilities are averaged, and its score."""

    configurations: tuple[str, ...]
    dice: float  # foreground mean over all cases held out in `Choice.folds`; 0 where no class ever occurs
    per_class: dict[str, float | None]  # mean Dice by class name; None where the class never occurs
    cases: int = 0  # that were held out
    cases_in_mean: dict[str, int] = field(default_factory=dict)  # by class: in which reference or prediction has it

    @property
    def name(self) -> str:
        """Names joined."""
        return "+".join(self.configurations)


@dataclass(frozen=True, slots=True)
class Choice:
    """What `predict WORK` follows."""

    configurations: tuple[str, ...]  # one, or two to average
    postprocessing: PostProcessing
    folds: tuple[int, ...]  # that all candidates were scored on
    candidates: tuple[Candidate, ...]  # the best first
    models: dict[str, dict[str, str]] = field(default_factory=dict)  # digests of the chosen: {"2d": {"fold_0": ...}}


CHOICE = Kind("choice", Choice, CheckpointError, "choose again", marked=False)


def read_choice(work: Path) -> Choice:
    """Read what `choose_best` wrote.

    Raises
    ------
    CheckpointError
        If it is missing or damaged.
    """
    return CHOICE.load(WorkFolder(work).best_file)
