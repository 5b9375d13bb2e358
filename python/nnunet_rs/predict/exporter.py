"""A thread that makes labels of scores while a device computes the next ones, of the same case or the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

AHEAD = 3  # parts of cases that wait, or are being done, while a device computes the next: each holds scores

T = TypeVar("T")
Part = Callable[[], T]


class Exporter:
    """Does the parts of cases in order; a context manager.

    No more than AHEAD parts are under way, of however many cases: a case's last ones take no memory that its own would
    not have taken. Parts come from one thread, which waits where there are too many.
    """

    def __init__(self) -> None:
        """Begin with none; the thread begins with the first part."""
        self._thread = ThreadPoolExecutor(1, "export")
        self._under_way: deque[Future[Any]] = deque()

    def __enter__(self) -> Exporter:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do no further part."""
        self.stop()

    @property
    def busy(self) -> bool:
        """Whether a part is under way, of whatever case."""
        return any(not future.done() for future in self._under_way)

    def submit(self, part: Part[T]) -> Future[T]:
        """Have a part done after all others, and wait until there is room for the next one to be made."""
        future = self._thread.submit(part)
        self._under_way.append(future)
        self._wait(AHEAD - 1)
        return future

    def do(self, parts: Iterable[Part[object]], whole: Part[T]) -> Part[T]:
        """Have all parts of a case done as they are made; return what waits for the last ones, in any thread.

        That returns `whole()`. An error of a part is raised here if it is known in time, else there; none of the case's
        other parts is done after that.
        """
        left: deque[Future[object]] = deque()
        try:
            for part in parts:
                left.append(self.submit(part))
                del part  # what it holds is gone before the next is made
                while left and left[0].done():
                    left.popleft().result()
        except BaseException:
            _drop(left)
            raise

        def finish() -> T:
            try:
                while left:
                    left.popleft().result()
            except BaseException:
                _drop(left)
                raise
            return whole()

        return finish

    def wait(self) -> None:
        """Wait until no part is under way."""
        self._wait(0)

    def stop(self) -> None:
        """Finish the part that is being done, and drop those that wait: who waits for them gets a CancelledError."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _wait(self, left: int) -> None:
        while len(self._under_way) > left:
            _ended(self._under_way.popleft())


def do_parts(parts: Iterable[Part[object]], whole: Part[T], exporter: Exporter | None) -> Part[T]:
    """Have all parts of a case done and return what then returns `whole()`; without an exporter all is done here."""
    if exporter is not None:
        return exporter.do(parts, whole)
    for part in parts:
        part()
        del part  # what it holds is gone before the next is made
    made = whole()
    return lambda: made


def in_order(parts: Iterator[Part[T]], *, beside: bool) -> Iterator[T]:
    """Yield what each part returns, in order; `beside` lets a thread of its own do it while the next parts are made.

    `parts` keeps none that it has given, as a generator expression would: parts hold scores. No more than AHEAD are
    under way. An error of a part is raised here, and ends the making.
    """
    if not beside:
        for part in parts:
            yield part()
            del part
        return
    with Exporter() as exporter:
        left: deque[Future[T]] = deque()
        for part in parts:
            left.append(exporter.submit(part))
            del part
            while left and left[0].done():
                yield left.popleft().result()
        while left:
            yield left.popleft().result()


def _drop(futures: Iterable[Future[Any]]) -> None:
    """Let none of these parts be done, or go on, any more."""
    for future in futures:
        future.cancel()
    for future in futures:
        _ended(future)


def _ended(future: Future[Any]) -> None:
    """Wait for a part, whatever comes of it."""
    with suppress(CancelledError):
        future.exception()
