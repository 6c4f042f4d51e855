"""Work on a stream by threads, in order and with a bounded number of items in memory."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ordered(
    pool: Executor, work: Callable[[A], B], items: Iterable[A], ahead: int
) -> Iterator[B]:
    """work(item) of every item in order, up to `ahead` of them under way at once.

    Items are drawn only as they are begun. An exception of `work` is raised in its turn.
    """
    waiting: collections.deque[Future[B]] = collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
