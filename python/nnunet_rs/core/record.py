"""Which files of a folder this tool has written, and what was in them: all others, and edited ones, are the user's.

A hidden folder beside the files holds the record, a file a run. A run appends a line for every file before the file
gets its name, so that whatever a kill interrupts, no file of ours is without its line; a line that was cut off speaks
of a file that never got its name. Runs share nothing that they write: several work side by side in one folder, on one
machine or many, without locks.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Any

from nnunet_rs.core.dicom.listing import lasting
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.workspace import RECORD

PREDICTION = "prediction"
FOLD_DICE = "fold_dice"  # among the notes of a segmentation: how far the folds agree, by structure
TOKEN = 4  # bytes of a run's name, as of temporary files' names
_ENDING = ".jsonl"
_BLOCK = 1 << 20
_LONG_AGO = 24 * 3600.0  # seconds without a line, after which a run that cannot be asked counts as ended


@dataclass(frozen=True, slots=True)
class Made:
    """A file as it was written."""

    name: str  # within the folder, with slashes
    sha256: str
    size: int  # bytes
    modified: int  # ns
    made_with: str  # tells what determines the content: `digest`; empty: unknown
    kind: str = PREDICTION  # what it is; only the same kind replaces it
    sources: tuple[str, ...] = ()  # absolute paths of the files that it was made from, where that was told
    notes: Mapping[str, Any] = field(default_factory=dict)  # what else is known of it

    @classmethod
    def of(
        cls,
        path: Path,
        name: str,
        made_with: str,
        kind: str,
        sources: Sequence[Path] = (),
        notes: Mapping[str, Any] | None = None,
    ) -> Made:
        """Describe a file that is to get the name."""
        stat = path.stat()
        return cls(
            name,
            file_digest(path),
            stat.st_size,
            stat.st_mtime_ns,
            made_with,
            kind,
            tuple(str(lasting(path).absolute()) for path in sources),
            dict(notes or {}),
        )

    def line(self) -> bytes:
        """Return the entry as the record holds it; earlier releases know of no notes."""
        content = {key: value for key, value in asdict(self).items() if key != "notes" or value}
        return (json.dumps(content) + "\n").encode()


class Record:
    """What this tool has written into a folder, of one kind, and one run's part of it.

    `token` is the run's name; the folder and the run's file are made with its first entry.
    """

    def __init__(self, folder: Path, kind: str = PREDICTION) -> None:
        self.token, self.kind = secrets.token_hex(TOKEN), kind
        self._folder, self._home = folder, folder / RECORD
        self._stream: FileIO | None = None
        self._lock = Lock()
        self._made: dict[str, list[Made]] = {}
        self.reload()

    def reload(self) -> None:
        """Read what other runs have written by now."""
        made: dict[str, list[Made]] = {}
        for entry in self._entries():
            if entry.kind == self.kind:
                made.setdefault(entry.name, []).append(entry)
        with self._lock:
            self._made = made

    def made_with(self, path: Path, *, glance: bool = False) -> frozenset[str] | None:
        """Return what a file was made with; None: it is not as this tool wrote it, or not by this tool.

        With `glance` size and time of change are believed where both are as they were; else the content is compared.
        """
        return frozenset(made.made_with for made in self._as_made(path, glance=glance)) or None

    def notes(self, path: Path) -> Mapping[str, Any]:
        """Return what is known of a file besides; nothing where it was edited, or is not of this tool."""
        return next((made.notes for made in reversed(self._as_made(path, glance=True)) if made.notes), {})

    def _as_made(self, path: Path, *, glance: bool) -> list[Made]:
        """List the entries of a file that is as it was written; see `made_with`."""
        try:
            stat = path.stat()
            there = [made for made in self._of(path) if made.size == stat.st_size]
            if not (glance and any(made.modified == stat.st_mtime_ns for made in there)):
                found = file_digest(path) if there else ""
                there = [made for made in there if made.sha256 == found]
        except OSError:
            return []
        return there

    def sources(self, path: Path) -> tuple[Path, ...]:
        """Return the files that the newest version of a file was made from; empty: that was not told."""
        made = self._of(path)
        newest = max(made, key=lambda each: each.modified, default=None)
        return () if newest is None else tuple(Path(source) for source in newest.sources)

    def knows(self, path: Path) -> bool:
        """Whether this tool has ever written a file of this name, edited since or not."""
        return bool(self._of(path))

    def begin(self) -> None:
        """Open the run's own file, which tells others that the run is alive; errors as `add`."""
        with self._lock, self._explained():
            self._opened()

    def add(self, made: Made) -> None:
        """Note a file; on return the disk has the line.

        Raises
        ------
        NnunetError
            The folder cannot be written, or the disk is full.
        """
        with self._lock, self._explained():
            stream = self._opened()
            stream.write(made.line())
            os.fsync(stream.fileno())
            self._made.setdefault(made.name, []).append(made)

    def close(self) -> None:
        """Let go of the run's own file; a run that wrote nothing leaves none."""
        with self._lock:
            if self._stream is None:
                return
            self._stream.close()
            self._stream = None
        own = self._home / f"{self.token}{_ENDING}"
        with suppress(OSError):
            if own.stat().st_size == 0:
                own.unlink()

    def alive(self, token: str) -> bool:
        """Whether another run is still at work."""
        journal = self._home / f"{token}{_ENDING}"
        if token == self.token:
            return True
        try:
            with journal.open("r+b", buffering=0) as stream:
                free = _hold(stream)
                return time.time() - journal.stat().st_mtime < _LONG_AGO if free is None else not free
        except OSError:
            return False

    def _opened(self) -> FileIO:
        if self._stream is None:
            self._home.mkdir(parents=True, exist_ok=True)
            self._stream = (self._home / f"{self.token}{_ENDING}").open("ab", buffering=0)
            _hold(self._stream)
        return self._stream

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = "check the folder's permissions and the space on its disk"
            raise NnunetError(f"{self._folder}: cannot be written: {error.strerror}; {advice}") from error

    def _of(self, path: Path) -> list[Made]:
        with self._lock:
            return list(self._made.get(path.relative_to(self._folder).as_posix(), ()))

    def _entries(self) -> Iterator[Made]:
        for journal in sorted(self._home.glob(f"*{_ENDING}")):
            with suppress(OSError):
                for line in journal.read_bytes().splitlines():
                    with suppress(ValueError, TypeError):  # cut off by a kill
                        yield _made(json.loads(line))


def _made(content: Mapping[str, Any]) -> Made:
    notes = content.get("notes")
    known = {"sources": tuple(content.get("sources", ())), "notes": notes if isinstance(notes, dict) else {}}
    return Made(**{**content, **known})


def digest(content: Mapping[str, Any]) -> str:
    """Return a short text that tells JSON-like contents apart."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def _hold(stream: FileIO) -> bool | None:
    """Take the system's lock on an open file, which goes with the process; None: there are no locks here."""
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True
