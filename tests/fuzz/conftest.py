"""What every fuzzed input must get: a right result or a named error, within bounds of time and memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from nnunet_rs.core.errors import NnunetError

SECONDS = 20.0  # generous: it finds what never returns, not what is slow on a busy machine
MEBIBYTES = 512.0  # by which one input may raise the process's peak

Answered = Callable[..., AbstractContextManager[None]]


@pytest.fixture(scope="session")
def answered() -> Answered:
    """`with answered(ValueError, ...):` passes where the block ends, or raises a NnunetError or one of these."""
    return _answered


@contextmanager
def _answered(*errors: type[BaseException]) -> Iterator[None]:
    begun, peak, said = time.monotonic(), _peak(), "a result"
    try:
        yield
    except (NnunetError, *errors) as error:
        said = str(error)
    assert said.strip(), "an error must say what is wrong"
    assert "should not happen" not in said
    assert time.monotonic() - begun < SECONDS
    assert _peak() - peak < MEBIBYTES


def _peak() -> float:
    """Peak memory of this process, MiB; 0 on Windows, which does not tell it this way."""
    if sys.platform == "win32":
        return 0.0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
