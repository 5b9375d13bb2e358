"""One process at a time in a folder, on one machine or several that share it; who is kept out learns by whom.

Two things keep others out. The system's lock on the file `.lock` (flock; on Windows a locked byte) goes with the
process, however it ends. But some file systems have no such locks, and on others they hold on one machine alone. So the
file also holds a record of who is at work, and is touched while they are: a record that stays still belongs to a
process that was killed. Signs of life are compared with each other, never with a clock: those of two machines differ.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.workspace import LOCK

_SIGN = 5.0  # seconds between two signs of life
_SILENCE = 25.0  # seconds without one, after which a process counts as gone; network file systems show times late
_LOOK = 0.5  # seconds between two looks
_HELD = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}  # flock's, NFS's and Windows' ways to say that another has it


@dataclass(frozen=True, slots=True)
class Holder:
    """Who is at work in a folder."""

    doing: str
    host: str
    process: int
    since: str  # local time of the host, with its offset
    token: str  # tells two records apart

    @classmethod
    def this(cls, doing: str) -> Holder:
        """Describe this process."""
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        return cls(doing, socket.gethostname(), os.getpid(), since, secrets.token_hex(8))

    def __str__(self) -> str:
        return f"{self.doing} (process {self.process} on {self.host}, since {self.since})"


class HeldError(NnunetError):
    """Another process is at work in the folder."""


def holder_of(folder: Path) -> tuple[Holder, float] | None:
    """Return who is at work in a folder, and when their last sign of life was (time of the file's drive); or nobody."""
    holder = _read(folder / LOCK)
    if holder is None or (holder.host == socket.gethostname() and not _exists(holder.process)):
        return None
    return holder, _touched(folder / LOCK) / 1e9


def _exists(process: int) -> bool:
    """Whether this machine has a process of this number; its container may not, where another's has."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def is_held(folder: Path) -> bool:
    """Whether another process, or another part of this one, is at work in a folder."""
    try:
        with exclusive(folder, "a look"):
            return False
    except HeldError:
        return True


@contextmanager
def exclusive(folder: Path, doing: str = "another process", progress: Progress | None = None) -> Iterator[None]:
    """Keep other processes that ask for it out of a folder, which is made if it is not there.

    Parameters
    ----------
    folder
        The folder; the file `.lock` in it stays there, empty.
    doing
        What others are told that is being done there: "preprocess", "training of 3d_fullres, fold 0".
    progress
        Is told where the file system has no locks, and where a killed process of another machine is waited for.

    Raises
    ------
    HeldError
        Another process is at work there; the text says what it does, where and since when.
    NnunetError
        The folder cannot be made or written.
    """
    path, me, told = folder / LOCK, Holder.this(doing), progress or Silent()
    descriptor = _open(path)
    try:
        lacking = _lock(descriptor, path)
        before = _read(path)
        if before is not None and (lacking or before.host != me.host):
            _require_silence(path, before, told)
        _write(descriptor, me)
        if lacking:
            told.say(f"warning: {folder}: its file system has no locks ({lacking}); {LOCK} tells others who is there")
            _require_first(path, me)
        with _signs_of_life(path):
            yield
    finally:
        if _read(path) == me:
            _write(descriptor, None)
        os.close(descriptor)  # which unlocks


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # not emptied: it may be another's
    except OSError as error:
        raise NnunetError(
            f"{path.parent}: cannot be written: {error.strerror}; check the folder's permissions"
        ) from error


def _lock(descriptor: int, path: Path) -> str:
    """Take the system's lock; returns why there is none, or nothing."""
    try:
        _try_lock(descriptor)
    except OSError as error:
        if error.errno in _HELD:
            raise _held(path, _read(path)) from None
        return error.strerror or str(error)
    return ""


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # beyond the record, which others read: there a lock forbids it
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _read(path: Path) -> Holder | None:
    """Return who the record names; None if nobody, or if it is no record."""
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _write(descriptor: int, holder: Holder | None) -> None:
    """Write the record in place: the lock is on this file. Without it (a full disk) the lock holds all the same."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        if holder is not None:
            os.write(descriptor, json.dumps(asdict(holder)).encode())
        os.fsync(descriptor)  # for other machines to see it


def _held(path: Path, holder: Holder | None) -> HeldError:
    who = "another process is" if holder is None else f"{holder} is"
    return HeldError(f"{path.parent}: {who} at work there; wait for it, or choose another folder")


def _require_silence(path: Path, holder: Holder, progress: Progress) -> None:
    """Raise if a process gives signs of life that the system's lock cannot tell of."""
    progress.say(f"{path.parent}: {holder} has not ended properly; waiting {_SILENCE:.0f} s for a sign of life")
    began, last = time.monotonic(), _touched(path)
    while time.monotonic() - began < _SILENCE:
        time.sleep(_LOOK)
        now = _read(path)
        if now is None:  # it has ended
            return
        if now != holder or _touched(path) != last:
            raise _held(path, now)


def _require_first(path: Path, me: Holder) -> None:
    """Raise if another process wrote its record at the same moment: the last one stays."""
    time.sleep(_LOOK)
    now = _read(path)
    if now is not None and now != me:
        raise _held(path, now)


def _touched(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@contextmanager
def _signs_of_life(path: Path) -> Iterator[None]:
    """Touch the file from time to time while the block runs."""
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(_SIGN):
            with suppress(OSError):
                os.utime(path)

    # A daemon, for nothing else would end it in a process that dies within the block; it imports nothing and calls
    # nothing that an ending interpreter could not cut off.
    thread = threading.Thread(target=touch, name="lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
