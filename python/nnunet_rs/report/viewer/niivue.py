"""NiiVue's build out of the `ipyniivue` wheel, as a module that a page can import: no copy of it lies here."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from nnunet_rs.core.errors import NnunetError

_MADE = re.compile(r'"Creating new Niivue instance"\).{0,200}?=new ([\w$]+)\(', re.DOTALL)
_EXPORT = re.compile(r"export\s*\{\s*[\w$]+ as default\s*\};?\s*\Z")
_INSTALL = "pip install 'nnunet-rs[view]'"


@cache
def niivue_module() -> bytes:
    """Return the text of a JavaScript module that exports `Niivue`.

    The wheel's module exports a widget only, and holds the class under a short name; that is read off where the widget
    makes its instance, and exported as well.

    Raises
    ------
    NnunetError
        ipyniivue is not installed, or its module is built in another way.
    """
    spec = find_spec("ipyniivue")
    if spec is None or spec.origin is None:
        raise NnunetError(f"the viewer rests on NiiVue, which is not installed; {_INSTALL}")
    path = Path(spec.origin).parent / "static" / "widget.js"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NnunetError(f"{path}: cannot be read: {error.strerror}; {_INSTALL}") from error
    made, export = _MADE.search(text), _EXPORT.search(text)
    if made is None or export is None:
        raise NnunetError(f"{path}: is of a version of ipyniivue that is not known; {_INSTALL}")
    return f"{text[: export.start()]}export {{ {made[1]} as Niivue }};\n".encode()
