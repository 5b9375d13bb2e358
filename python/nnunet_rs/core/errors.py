"""What goes wrong by the user's hand; `cli` prints these as one line, without a traceback."""

from __future__ import annotations

import errno
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


# By these texts, in small letters, libraries say that an allocation failed where they have no type of error for it.
_NO_MEMORY = (
    "out of memory",  # the runtimes of CUDA, HIP and MPS; also of pinned memory of the processor
    "not enough memory",  # PyTorch, on processors
    "can't allocate memory",
    "alloc_failed",  # CUDNN_STATUS_ALLOC_FAILED, CUBLAS_STATUS_ALLOC_FAILED and others of NVIDIA's
    "unable to find an engine",  # cuDNN, where no kernel's workspace fits
    "cublas_status_not_initialized",  # cuBLAS, whose handle is often the first that finds no room
    "bad_alloc",  # C++
    "bad allocation",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, of the processor's or of a device's memory: the error, or one that it came from.

    There is `torch.OutOfMemoryError`, but cuDNN, cuBLAS and CUDA's own calls say it by the text of a RuntimeError.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    if isinstance(error, RuntimeError) and any(known in text for known in _NO_MEMORY):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def named(error: BaseException) -> str:
    """Return an error in one line: the text of ours, kind and text of others, with what was being done."""
    text = " ".join(str(error).split())
    if isinstance(error, NnunetError) and text:
        return text
    known = f"{type(error).__name__}: {text.rstrip('.')}" if text else type(error).__name__
    return f"{known}, in {', '.join(noted(error))}" if noted(error) else known


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text; its kind where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def meant(name: str, known: Iterable[str]) -> str:
    """Ask whether another name was meant; empty where none is like it."""
    import difflib

    close = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]}? " if close else ""


def among(name: str, known: Iterable[str]) -> str:
    """Say which names there are, after the one that was probably meant."""
    names = list(known)
    return f"{meant(name, names)}there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"
