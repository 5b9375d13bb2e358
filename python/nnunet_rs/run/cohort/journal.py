"""A worker's journal: lines that it alone appends, which are its signs of life too."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nnunet_rs.core.errors import NnunetError

SIGN = 5.0  # seconds between two signs of life
ENDING = ".jsonl"


class Journal:
    """The file of one worker; others read it, and nobody else writes it.

    An open descriptor in append mode: a line is there for others on this machine at once, and for other machines when
    the file is synchronised, which every sign of life does.

    Parameters
    ----------
    path
        Must not be there.
    alive
        Whether a thread gives signs of life, until `close`.

    Raises
    ------
    NnunetError
        The folder cannot be written.
    """

    def __init__(self, path: Path, *, alive: bool = True) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._quiet = True  # nothing was written since the last sign of life
        self._torn = False  # the last line is not whole
        self._ended = threading.Event()
        self._descriptor = self._opened()
        self._thread = threading.Thread(target=self._signs_of_life, name="journal", daemon=True)
        if alive:
            self._thread.start()

    def _opened(self) -> int:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, entry: Mapping[str, Any], *, durable: bool = False) -> None:
        """Append a line; with `durable` other machines see it on return.

        Raises
        ------
        NnunetError
            The disk is full, or the folder is gone.
        """
        with self._lock:
            try:
                self._append(entry)
                if durable:
                    os.fsync(self._descriptor)
            except OSError as error:
                raise self._unwritable(error) from error

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = (json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
        line = b"\n" + line if self._torn else line
        self._torn, self._quiet = True, False
        self._torn = os.write(self._descriptor, line) != len(line)
        if self._torn:
            raise OSError(28, "No space left on device")

    def beat(self) -> None:
        """Give a sign of life: the file grows, and other machines see what was written."""
        with self._lock, suppress(OSError):  # who gives none counts as gone, and nothing is lost
            if self._quiet:
                self._append({})
            self._quiet = True
            os.fsync(self._descriptor)

    def _signs_of_life(self) -> None:
        while not self._ended.wait(SIGN):
            self.beat()

    def close(self) -> None:
        """Give no further signs of life; twice is once."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(OSError):
            os.fsync(self._descriptor)
        os.close(self._descriptor)

    def _unwritable(self, error: OSError) -> NnunetError:
        advice = "check the folder's permissions and the space on its disk"
        return NnunetError(f"{self.path}: cannot be written: {error.strerror}; {advice}")
