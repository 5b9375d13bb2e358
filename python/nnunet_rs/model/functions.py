"""A user's own functions, by name: module:function."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from nnunet_rs.core.errors import NnunetError


def function_named(name: str) -> Callable[..., Any]:
    """Import `module:function` or `file.py:function`, for `--network`, `--loss`, `--optimiser`, `--augmentation`.

    Parameters
    ----------
    name
        As the user typed it; a name from a file that somebody else wrote must not come here, for importing runs code.

    Raises
    ------
    NnunetError
        The text has another form, or there is no such module or function.
    """
    place, colon, function = name.rpartition(":")
    if not (place and colon and function):
        raise NnunetError(f"{name!r}: write module:function or file.py:function, as in my_networks.big:build")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        found = getattr(module, function)
    except ImportError as error:
        advice = "is it on PYTHONPATH? A file is named with its ending, as in my_networks.py:build"
        raise NnunetError(f"{name}: module {place} cannot be imported ({error}); {advice}") from error
    except FileNotFoundError as error:
        raise NnunetError(f"{name}: there is no file {error.filename}") from error
    except AttributeError:
        raise NnunetError(f"{name}: module {place} has no {function}") from None
    if not callable(found):
        raise NnunetError(f"{name}: is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def _from_file(path: Path) -> ModuleType:
    """Run a file as the module of its name; a second time gives the first one's module."""
    known = sys.modules.get(path.stem)
    if known is not None and known.__file__ is not None and Path(known.__file__) == path.resolve():
        return known
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def name_of(function: object) -> str | None:
    """Return module:function of a function, None of None."""
    if function is None:
        return None
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', type(function).__name__)}"


def spelled(function: object) -> str:
    """Return how the command line names a function: module:function, or file.py:function if it is on no path."""
    module, _, name = (name_of(function) or "").rpartition(":")
    file = getattr(sys.modules.get(module), "__file__", None)
    importable = "." in module or importlib.machinery.PathFinder.find_spec(module) is not None
    return f"{module}:{name}" if importable or file is None else f"{file}:{name}"
