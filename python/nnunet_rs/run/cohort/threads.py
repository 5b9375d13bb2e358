"""Cases side by side in threads, each begun only when there is room for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from nnunet_rs.run.cohort.files import Item
from nnunet_rs.run.cohort.work import ItemSettled


def side_by_side(items: Iterator[Item], settled: ItemSettled, threads: int, do: Callable[[Item], Any]) -> None:
    """Do cases in threads, and tell of each, in this thread, what came of it.

    After Ctrl-C those in hand become whole, and no other is begun.
    """
    waiting: dict[Future[Any], Item] = {}

    def settle(most: int) -> None:
        while len(waiting) > most:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                item, error = waiting.pop(future), future.exception()
                settled(item, error, None if error is not None else future.result())

    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting[pool.submit(do, item)] = item
            settle(threads)
        settle(0)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
