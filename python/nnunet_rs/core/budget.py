"""Cases side by side within a memory budget: work is admitted by its estimate, so that the sum stays within."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

from nnunet_rs.core.errors import DatasetError, doing
from nnunet_rs.core.resources import available_memory, resident_memory

SHARE = 0.8  # of the free memory that is used where the user sets no limit
_OVERHEAD = 32 << 20  # bytes a thread may hold besides its case: small arrays, caches of the allocator
_LEAST = 64 << 20  # bytes that there must be for cases

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class StoppedError(Exception):
    """The work was called off while a thread waited for memory."""


class Budget:
    """Bytes that are shared out.

    Parameters
    ----------
    total
        Bytes in all.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._stopped = False
        self._changed = threading.Condition()

    @property
    def free(self) -> int:
        """Bytes that nobody holds."""
        return self._free

    @property
    def stopped(self) -> bool:
        """Whether the work was called off."""
        return self._stopped

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Wait until `size` bytes are free, and hold them for the block.

        Raises
        ------
        ValueError
            More than there is in all: it would wait for ever.
        StoppedError
            `stop` was called.
        """
        self._take(size)
        try:
            yield
        finally:
            self.give_back(size)

    def try_hold(self, size: int) -> bool:
        """Hold `size` bytes until `give_back`, if they are free now."""
        with self._changed:
            if size > self._free or self._stopped:
                return False
            self._free -= size
            return True

    def give_back(self, size: int) -> None:
        """Free bytes that were held."""
        with self._changed:
            self._free += size
            self._changed.notify_all()

    def stop(self) -> None:
        """Refuse all further requests, and wake those that wait."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _take(self, size: int) -> None:
        if size > self.total:
            raise ValueError(f"{size} bytes are more than the {self.total} that are shared out")
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or size <= self._free)
            if self._stopped:
                raise StoppedError
            self._free -= size


def memory_for_cases(allowed: int | None, threads: int, reserved: int = 0) -> int:
    """Return the bytes that cases may take: what is allowed, less the program itself and what else it will hold.

    Parameters
    ----------
    allowed
        Bytes that this process may hold; None: most of what the system can spare.
    threads
        Cases at the same time.
    reserved
        Bytes for other things than cases.

    Raises
    ------
    DatasetError
        So little is left that nothing could be read.
    """
    held = resident_memory()
    rest = int(SHARE * available_memory()) if allowed is None else allowed - held
    reserved += threads * _OVERHEAD
    rest -= reserved
    if rest < _LEAST:
        least = held + reserved + _LEAST
        raise DatasetError(
            f"the memory allowed, {(allowed or available_memory()) / 1e9:.2f} GB, does not suffice: the program itself "
            f"holds {held / 1e9:.2f} GB; allow {least / 1e9:.1f} GB at least (--memory), or use fewer threads"
        )
    return rest


def in_parallel(
    work: Callable[[_Item], _Result], items: Iterable[_Item], threads: int, budget: Budget
) -> Iterator[tuple[_Item, _Result]]:
    """Do `work` on each item in threads, giving item and result as they end.

    An error, Ctrl-C, or a caller that takes no more results, drops the items not begun, calls off those that wait
    for `budget`, and waits for those in hand.
    """

    def named(item: _Item) -> _Result:
        with doing(getattr(item, "name", item)):
            return work(item)

    with ThreadPoolExecutor(threads, thread_name_prefix="case") as pool:
        try:
            futures = {pool.submit(named, item): item for item in items}
            for future in as_completed(futures):
                yield futures.pop(future), future.result()
        except BaseException:
            budget.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
