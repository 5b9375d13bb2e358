"""A user's own functions, by name: module:function."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from nnunet_rs.core.errors import NnunetError


def function_named(name: str) -> Callable[..., Any]:
    """Import `module:function`, for `--network`, `--loss` and `--optimiser`.

    Parameters
    ----------
    name
        As the user typed it; a name from a file that somebody else wrote must not come here, for importing runs code.

    Raises
    ------
    NnunetError
        The text has another form, or there is no such module or function.
    """
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise NnunetError(f"{name!r}: write module:function, as in my_networks.big:build")
    try:
        found = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise NnunetError(f"{name}: module {module} cannot be imported ({error}); is it on PYTHONPATH?") from error
    except AttributeError:
        raise NnunetError(f"{name}: module {module} has no {function}") from None
    if not callable(found):
        raise NnunetError(f"{name}: is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def name_of(function: object) -> str | None:
    """Return module:function of a function, None of None."""
    if function is None:
        return None
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', type(function).__name__)}"
