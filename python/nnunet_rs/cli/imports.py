"""What a short command imports of other libraries: not the parts of them that it has no use for.

The process is this command's alone, so that nobody misses them; a library that is used from Python imports all of them.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# A library, and what it would import besides, which it does without where that is not installed.
_LEAN = (
    ("nibabel", "pydicom"),  # for extensions of NIfTI headers that hold DICOM; several times slower than all the rest
    ("openvino", "openvino.tools.ovc"),  # the conversion of models, and with it OpenVINO's telemetry
)


def import_lean() -> None:
    """Import those libraries without what they would import besides; one that is not installed is left out."""
    for library, beside in _LEAN:
        if library in sys.modules or beside in sys.modules:
            continue
        sys.modules[beside] = None  # type: ignore[assignment]  # Python's own way to say that there is none
        try:
            importlib.import_module(library)
        except ImportError:
            continue
        finally:
            del sys.modules[beside]


@contextmanager
def without_collection() -> Iterator[None]:
    """Import without looking for garbage, of which imports make none: the search takes a fifth of their time.

    What was imported is left out of later searches.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
