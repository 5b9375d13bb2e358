"""A user's own functions: found by name, called, and their errors told as the user's."""

from __future__ import annotations

import copy
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from nnunet_rs.core.errors import NnunetError, PluginError, is_out_of_memory, named
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.plan.schema import Configuration

if TYPE_CHECKING:  # a name for the types' sake
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from nnunet_rs.model.history import History

# (configuration, input channels, output channels, options) → a network of (b, inputs, *patch_size) to logits
NetworkFunction: TypeAlias = Callable[[Configuration, int, int, NetworkOptions], "nn.Module"]
# (logits (b, outputs, *size), class indices (b, *size)) → a scalar
LossFunction: TypeAlias = Callable[["Tensor", "Tensor"], "Tensor"]
OptimiserFunction: TypeAlias = "Callable[[Iterable[nn.Parameter]], Optimizer]"

# (all epochs so far) → nothing
EpochFunction: TypeAlias = "Callable[[History], object]"

CONTEXT = "context"  # a parameter of this name is given what the training is about


@dataclass(frozen=True, slots=True, eq=False)
class Plugin:
    """A user's own function or class, which is called like it; another process finds it again by its name."""

    function: Callable[..., Any]
    option: str  # network, loss, optimiser, augmentation, on-epoch, function
    name: str = ""  # module:function or /path/file.py:function, as it can be found again; empty: given in Python
    context: Any = None  # for a parameter of that name

    def __call__(self, *arguments: Any) -> Any:
        """Call it; `context` is passed by name where there is such a parameter.

        Raises
        ------
        PluginError
            In place of whatever it raises, but for errors of nnunet_rs and memory that does not suffice.
        """
        named = {CONTEXT: self.context} if self.context is not None and self.asks() else {}
        with self.errors_named():
            return self.function(*arguments, **named)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel by name: the module of a file exists in this process alone."""
        if self.name:
            return own_function, (self.option, self.name)
        return Plugin, (self.function, self.option)

    def __deepcopy__(self, memo: dict[int, Any]) -> Plugin:
        """Copy what the function itself remembers."""
        return replace(self, function=copy.deepcopy(self.function, memo))

    def __str__(self) -> str:
        """Name option and function, as the user gave them."""
        if not self.name:
            return f"{self.option} {name_of(self.function)}"
        place, _, function = self.name.rpartition(":")
        return f"--{self.option} {Path(place).name if place.endswith('.py') else place}:{function}"

    def with_context(self, context: Any) -> Plugin:
        """Return the same, bound to what a training is about."""
        return replace(self, context=context)

    def made(self) -> Plugin:
        """Return an instance of a class, with the context where it takes one; a function as it is."""
        if not inspect.isclass(self.function):
            return self
        return replace(self, function=self(), context=None)

    def wrong(self, what: str) -> PluginError:
        """Return an error that says what is wrong with what it returned, and where it stands."""
        return PluginError(f"{self}: {what}{self._where()}")

    @contextmanager
    def errors_named(self) -> Iterator[None]:
        """Raise errors of the block as this function's."""
        try:
            yield
        except NnunetError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise PluginError(f"{self}: {named(error)}{_at(error) or self._where()}") from error

    def asks(self) -> bool:
        """Whether it has a parameter for the context."""
        try:
            parameter = inspect.signature(self.function).parameters.get(CONTEXT)
        except (TypeError, ValueError):  # some functions in C do not tell
            return False
        return parameter is not None

    def _where(self) -> str:
        """Say where the function begins."""
        try:
            plain = inspect.unwrap(self.function)
            plain = plain if inspect.isfunction(plain) or inspect.isclass(plain) else type(plain)
            return f" ({inspect.getsourcefile(plain)}, line {inspect.getsourcelines(plain)[1]})"
        except (OSError, TypeError):
            return ""


def own_function(option: str, name: str) -> Plugin:
    """Import what a user named for an option: `module:function` or `file.py:function`; errors as `function_named`."""
    return Plugin(function_named(name), option, _lasting(name))


def _lasting(name: str) -> str:
    """Return a name that holds in another folder too."""
    place, _, function = name.rpartition(":")
    return f"{Path(place).resolve()}:{function}" if place.endswith(".py") else name


def is_own(value: object) -> bool:
    """Whether an option is a function of the user's own, given or named, and not the name of a built-in one."""
    return callable(value) or (isinstance(value, str) and ":" in value)


def same_function(one: object, other: object) -> bool:
    """Whether two names, as `spelled` gives them, are of one function, though its file may have moved."""
    return is_own(one) and is_own(other) and plain_name(str(one)) == plain_name(str(other))


def plain_name(name: str) -> str:
    """Return a function's name without the folder of its file: module:function."""
    place, _, function = name.rpartition(":")
    return f"{Path(place).stem if place.endswith('.py') else place}:{function}"


_NAMELESS = ("network", "optimiser", "on-epoch")  # of which there are no names to choose by


def as_plugin(option: str, value: object) -> Plugin | None:
    """Return the function that an option is, given or named as `module:function`; None: it is a built-in one's name.

    Raises
    ------
    NnunetError
        There is no such function.
    """
    if isinstance(value, str):
        named = is_own(value) or option in _NAMELESS
        return own_function(option, value) if named else None
    return as_own(option, value if callable(value) else None)


def as_own(option: str, function: Callable[..., Any] | None) -> Plugin | None:
    """Return a function that a program gave as what is called and told as the user's; None of None."""
    return function if function is None or isinstance(function, Plugin) else Plugin(function, option)


@contextmanager
def plugin_errors_named(functions: Sequence[Plugin | None]) -> Iterator[None]:
    """Name an error that comes out of code of the user's, whoever called it: a network's layers, a transform.

    Raises
    ------
    PluginError
        In place of an error that went through such code: through a file outside the libraries, or in the functions'
        own package.
    """
    given = [own for own in functions if own is not None]
    try:
        yield
    except PluginError:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, NnunetError) else error  # a loader names the case
        if not given or cause is None or is_out_of_memory(cause) or not _through(cause, given):
            raise
        during = f"{error}: " if cause is not error else ""
        raise PluginError(f"{', '.join(map(str, given))}: {during}{named(cause)}{_at(cause)}") from cause


def _through(error: BaseException, functions: Sequence[Plugin]) -> bool:
    """Whether an error went through code of the user's, or of the package that a function is from."""
    packages = {(name_of(own) or "").partition(":")[0].partition(".")[0] for own in functions}
    within = tuple(f"{os.sep}{package}{os.sep}" for package in packages)
    return any(not _is_installed(file) or any(part in file for part in within) for file in _files(error))


def function_named(name: str) -> Callable[..., Any]:
    """Import `module:function` or `file.py:function`.

    Parameters
    ----------
    name
        As the user typed it; a name from a file that somebody else wrote must not come here, for importing runs code.

    Raises
    ------
    NnunetError
        The text has another form, there is no such module or function, or the module cannot be run.
    """
    place, colon, function = name.rpartition(":")
    if not (place and colon and function):
        raise NnunetError(f"{name!r}: write module:function or file.py:function, as in my_networks.big:build")
    module = _module(name, place)
    found = getattr(module, function, None)
    if found is None:
        raise NnunetError(f"{name}: module {place} has no {function}")
    if not callable(found):
        raise NnunetError(f"{name}: is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def _module(name: str, place: str) -> ModuleType:
    try:
        return _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ImportError as error:
        advice = "is it on PYTHONPATH? A file is named with its ending, as in my_networks.py:build"
        raise NnunetError(f"{name}: module {place} cannot be imported ({error}){_at(error)}; {advice}") from error
    except FileNotFoundError as error:
        raise NnunetError(f"{name}: there is no file {error.filename}{_at(error)}") from error
    except Exception as error:
        raise PluginError(f"{name}: cannot be imported: {named(error)}{_at(error)}") from error


def _from_file(path: Path) -> ModuleType:
    """Run a file as a module, which may import what lies beside it; a second time gives the first one's module."""
    path = path.resolve()
    for known in list(sys.modules.values()):
        if getattr(known, "__file__", None) == str(path):
            return known
    name = path.stem
    while name in sys.modules or name in sys.stdlib_module_names:
        name = f"own_{name}"  # a file may be called as a module that others need
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def name_of(function: object) -> str | None:
    """Return module:function of a function, None of None."""
    if isinstance(function, Plugin):
        function = function.function
    if function is None:
        return None
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', type(function).__name__)}"


def spelled(function: object) -> str:
    """Return how the command line names a function: module:function, or file.py:function if it is on no path."""
    if isinstance(function, str):
        return _lasting(function)
    if isinstance(function, Plugin) and function.name:
        return function.name
    module, _, name = (name_of(function) or "").rpartition(":")
    file = getattr(sys.modules.get(module), "__file__", None)
    importable = "." in module or importlib.machinery.PathFinder.find_spec(module) is not None
    return f"{module}:{name}" if importable or file is None else f"{file}:{name}"


def _at(error: BaseException) -> str:
    """Say where the deepest line of the user's code stands that an error went through; empty where there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}, line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame.filename)]
    frames.sort(key=lambda frame: not _is_installed(frame.filename))  # stable: the deepest of what is not installed
    return f" ({frames[-1].filename}, line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""


def _files(error: BaseException) -> list[str]:
    files = (frame.filename for frame in traceback.extract_tb(error.__traceback__))
    return [file for file in files if not _is_library(file)]


def _is_installed(file: str) -> bool:
    return "site-packages" in file or "dist-packages" in file


def _is_library(file: str) -> bool:
    """Whether a file belongs to nnunet_rs, to PyTorch or to Python itself."""
    path = os.path.realpath(file)
    if file.startswith("<frozen") or path.startswith(_libraries()):
        return True
    return path.startswith(_PYTHON) and not _is_installed(path)


@cache
def _libraries() -> tuple[str, ...]:
    """Return the folders of nnunet_rs and PyTorch."""
    specs = (importlib.util.find_spec(name) for name in ("nnunet_rs", "torch"))
    return tuple(f"{Path(spec.origin).resolve().parent}{os.sep}" for spec in specs if spec and spec.origin)


_PYTHON = f"{Path(sysconfig.get_paths()['stdlib']).resolve()}{os.sep}"
