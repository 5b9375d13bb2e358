"""What goes wrong by the user's hand; `cli` prints these as one line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


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


class PluginError(NnunetError):
    """A user's own function or network fails, or returns what cannot be used; the text names it, its file and line."""


@contextmanager
def doing(what: object) -> Iterator[None]:
    """Note what was being done on an error that nobody foresaw, for whoever tells it; `noted` gives the notes."""
    try:
        yield
    except NnunetError:
        raise  # says what is wrong with what
    except Exception as error:
        error.__notes__ = [*noted(error), str(what)]  # as add_note, of Python 3.11
        raise


def noted(error: BaseException) -> tuple[str, ...]:
    """Return what was being done when an error came, the innermost first."""
    return tuple(getattr(error, "__notes__", ()))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, by Python, by PyTorch, or on a device (`torch.OutOfMemoryError`)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    known = ("not enough memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in known)


def named(error: BaseException) -> str:
    """Return an error in one line: the text of ours, kind and text of others, with what was being done."""
    text = " ".join(str(error).split())
    if isinstance(error, NnunetError) and text:
        return text
    known = f"{type(error).__name__}: {text.rstrip('.')}" if text else type(error).__name__
    return f"{known}, in {', '.join(noted(error))}" if noted(error) else known


def among(name: str, known: Iterable[str]) -> str:
    """Say which names there are, after the one that was probably meant."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"
