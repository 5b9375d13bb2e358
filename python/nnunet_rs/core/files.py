"""Files that are whole or absent: atomic writes, and JSON whose issues name file and line."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rs.core.errors import DatasetError, NnunetError

TEMPORARY = ".tmp-"  # how the names of files begin that are not whole yet
_CHANCE = 4  # bytes of the name that keep two writers of one file apart
_PREFIX = len(TEMPORARY) + 2 * _CHANCE + 1  # characters before the file's own name
_LEFT = re.compile(rf"{re.escape(TEMPORARY)}[0-9a-f]{{{2 * _CHANCE}}}-.")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}  # a file system that cannot wait for the disk
_FAILED_WRITES = {errno.EIO, errno.EFBIG, errno.EROFS}  # come without a file name


@contextmanager
def write_atomically(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it becomes `path`, else it is removed.

    The temporary name keeps the ending (writers choose the format by it) and begins with a dot, so that no folder
    listing of this library takes it for data. The file reaches the disk (fsync) before it is renamed,
    unless it need not.

    Parameters
    ----------
    path
        The file to make or replace. Its folder is made when it is not there.
    durable
        Wait until the disk has the file (a few milliseconds); False for the many files that a rerun can make again.

    Yields
    ------
    Path
        Where the block writes.

    Raises
    ------
    NnunetError
        The folder cannot be written, the disk is full, or the block wrote nothing.
    """
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _let_others_read(temporary)
        if durable:
            _sync(temporary)
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise _explained(error, path, temporary) from error
    finally:  # after success too, when the temporary has its name already; and on KeyboardInterrupt
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Return a name for `path` while it is not whole; `remove_leftovers` knows it, and no file of others."""
    return path.with_name(f"{TEMPORARY}{secrets.token_hex(_CHANCE)}-{path.name}")


@contextmanager
def writing(path: Path, temporary: Path) -> Iterator[None]:
    """Explain errors of the system about `path`, which is being written as `temporary`; others pass as they are.

    Raises
    ------
    NnunetError
        The folder cannot be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise _explained(error, path, temporary) from error


def require_writable(folder: Path, path: Path | None = None) -> None:
    """Check that files can be made in a folder, or in the nearest above it that is there, before hours of work.

    Parameters
    ----------
    folder
        Need not be there.
    path
        What is to be written, for the message; None: the folder.

    Raises
    ------
    NnunetError
        They cannot.
    """
    there = next((each for each in (folder, *folder.absolute().parents) if os.path.lexists(each)), folder)
    if not there.is_dir():
        raise NnunetError(f"{there}: cannot be written into: it is a file, not a folder; name another output (-o)")
    probe = there / f"{TEMPORARY}{secrets.token_hex(4)}-probe"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise _explained(error, path or folder, probe) from error


def remove_leftovers(folder: Path, of: Collection[str] | None = None) -> int:
    """Remove the temporary files that a killed process left in `folder`; returns how many.

    `of` names the files whose temporaries these are, None all: call it only where no other process writes them.
    """
    found = [Path(entry.path) for entry in os.scandir(folder) if _LEFT.match(entry.name) and entry.is_file()]
    leftovers = [path for path in found if of is None or path.name[_PREFIX:] in of]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


@contextmanager
def blosc2_writes(folder: Path) -> Iterator[None]:
    """Explain a write that failed: Blosc2 does not say what the system told it."""
    try:
        yield
    except RuntimeError as error:
        free = shutil.disk_usage(folder).free / 1e6
        text = f"{folder}: cannot be written; {free:.1f} MB of the disk are free; make room, and run again"
        raise NnunetError(text) from error


def keep_aside(path: Path) -> Path:
    """Copy a file that is about to be replaced: plan.json to plan.previous.json, or plan.previous-2.json and so on.

    Returns
    -------
    Path
        The copy; one that is there already and holds the same is good enough.

    Raises
    ------
    NnunetError
        The folder cannot be written.
    """
    content, number = path.read_bytes(), 1
    while True:
        kept = path.with_name(f"{path.stem}.previous{'' if number == 1 else f'-{number}'}{path.suffix}")
        if not os.path.lexists(kept):
            write_bytes(kept, content)
            return kept
        if kept.is_file() and kept.read_bytes() == content:
            return kept
        number += 1


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `content` atomically; `durable` and errors as `write_atomically`."""
    with write_atomically(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write `value` as indented UTF-8 JSON, atomically; NumPy numbers and arrays, paths and sets are understood."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_plain)
    write_bytes(path, (text + "\n").encode(), durable=durable)


def read_json(path: Path, error: type[NnunetError] = DatasetError) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path
        The file.
    error
        The exception to raise, by what the file is (DatasetError, PlanError, CheckpointError).

    Raises
    ------
    NnunetError
        As `error`: the file is missing or unreadable, not UTF-8, or not JSON (with line and column), has a key twice,
        is nested too deep, or holds half of a surrogate pair, which no file name and no output can have.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text, object_pairs_hook=_once)
        if _SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()  # a whole pair is one character
        return content
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except OSError as issue:
        raise error(f"{path}: cannot be read: {issue.strerror}") from issue
    except UnicodeDecodeError as issue:
        raise error(f"{path}: is not UTF-8 text (byte {issue.start}); save it as UTF-8") from issue
    except json.JSONDecodeError as issue:
        where = f"line {issue.lineno}, column {issue.colno}"
        raise error(f"{path}: is not JSON: {where}: {issue.msg}; correct that line") from issue
    except UnicodeEncodeError as issue:
        half = f"\\u{ord(issue.object[issue.start]):04x}"
        raise error(f"{path}: holds {half}, half of a character; write the text anew") from issue
    except ValueError as issue:  # a key twice, or a number of thousands of digits
        raise error(f"{path}: {issue}; correct it") from issue
    except RecursionError:
        raise error(f"{path}: lists within lists go too deep to be meant; write the file anew") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its pairs; of a key that stands twice the json module would drop the first value."""
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"has the key {twice[:40]!r} twice in one object")
    return content


def _let_others_read(path: Path) -> None:
    """Give a file that its writer made for this user alone (safetensors does) the mode that new files have here.

    A second new file shows it: `os.umask` can only be read by changing it, for all threads, and a folder may have
    rules of its own.
    """
    if stat.S_IMODE(path.stat().st_mode) & 0o077 or os.name != "posix":
        return
    usual = path.with_name(f"{TEMPORARY}{secrets.token_hex(_CHANCE)}-{path.name}")
    try:
        os.close(os.open(usual, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        path.chmod(stat.S_IMODE(usual.stat().st_mode))
    finally:
        usual.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)  # Windows syncs nothing that is open for reading alone
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Let the disk have the new name too, where the system can: Windows opens no folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _explained(error: OSError, path: Path, temporary: Path) -> Exception:
    """Return `error` as a NnunetError where it is about writing `path`; errors of other files pass as they are."""
    if error.errno in _NO_SPACE:
        return NnunetError(f"{path}: cannot be written: {error.strerror}; free space on this disk and run again")
    own = error.filename and Path(os.fsdecode(error.filename)) in (temporary, path, *path.parents)
    if not own and error.errno not in _FAILED_WRITES:
        return error
    if error.errno == errno.ENOENT:
        return NnunetError(f"{path}: cannot be written: its writer made no file")
    return NnunetError(f"{path}: cannot be written: {error.strerror}; check the disk and the folder's permissions")


def _plain(value: object) -> object:
    """Turn what the json module does not know into what it knows."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
