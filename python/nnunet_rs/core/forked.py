"""Libraries that compute in threads of their own, which a fork of the process leaves behind."""

from __future__ import annotations

import os

from nnunet_rs.core.errors import NnunetError


class Unforked:
    """Remembers which process first used a library through this package.

    Parameters
    ----------
    library
        Its name, for the message.
    advice
        What else may be done than to fork before it is used.
    """

    def __init__(self, library: str, *advice: str) -> None:
        self._library = library
        first = "load the model after forking and not before", "start processes by spawn or forkserver"
        self._advice = (*first, *advice)
        self._process: int | None = None

    def require(self) -> None:
        """Check that this process was not forked from one that used the library; to be called before it is used.

        Raises
        ------
        NnunetError
            It was: the library would wait for its threads for ever.
        """
        if self._process is None:
            self._process = os.getpid()
        if self._process != os.getpid():
            *others, last = self._advice
            raise NnunetError(
                f"process {os.getpid()} was forked from one ({self._process}) that had used {self._library} by "
                f"nnunet_rs, and {self._library}'s threads do not survive a fork: {', '.join(others)}, or {last}"
            )
