"""What a short command imports of other libraries: not the parts of them that it has no use for.

The process is this command's alone, so that nobody misses them; a library that is used from Python imports all of them.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# A library, and what it would import besides, which it does without where that is not installed.
_LEAN = {
    "nibabel": "pydicom",  # for extensions of NIfTI headers that hold DICOM; several times slower than all the rest
    "openvino": "openvino.tools.ovc",  # the conversion of models, and with it OpenVINO's telemetry
}


def import_lean(library: str) -> None:
    """Import one of those libraries without what it would import besides; if it is not installed, do nothing."""
    beside = _LEAN[library]
    if library in sys.modules or beside in sys.modules:
        return
    sys.modules[beside] = None  # type: ignore[assignment]  # Python's own way to say that there is none
    try:
        with suppress(ImportError):
            importlib.import_module(library)
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
