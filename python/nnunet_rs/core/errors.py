"""What goes wrong by the user's hand; `cli` prints these as one line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NnunetError(Exception):
    """A fact that stops the work: what, where, which rule, which value, what to do."""


class DatasetError(NnunetError):
    """A dataset, an image or a label file breaks a rule."""


class PlanError(NnunetError):
    """A plan or a fingerprint cannot be made, read or followed."""


class CheckpointError(NnunetError):
    """A model folder or checkpoint is missing, damaged or of another plan."""


class TrainingError(NnunetError):
    """A training cannot go on: its loss is no number, or memory is exhausted."""


def among(name: str, known: Iterable[str]) -> str:
    """Say which names there are, after the one that was probably meant."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"
