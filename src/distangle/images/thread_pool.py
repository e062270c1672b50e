"""A thread pool that is recreated after `fork`.

Threads do not survive a fork, so the parent's pool would deadlock the child.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class ForkSafeThreadPool:
    """A number of threads, of the process that uses them.

    Args:
        n: How many.
        name: What they are called.
    """

    def __init__(self, n: int, *, name: str) -> None:
        self._n, self._name = n, name
        self._begin()

    def map(self, work: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
        """Work on several items side by side; give the answers in the order of the items."""
        return self._pool().map(work, items)

    def submit(self, work: Callable[..., Answer], *given: Any) -> Future[Answer]:
        """Work on one thing beside the caller."""
        return self._pool().submit(work, *given)

    def close(self) -> None:
        """Finish what was begun, leave out what was not, and let go of the threads."""
        self._pool().shutdown(wait=True, cancel_futures=True)

    def _pool(self) -> ThreadPoolExecutor:
        if os.getpid() != self._process:
            self._begin()
        return self._executor

    def _begin(self) -> None:
        self._process = os.getpid()
        self._executor = ThreadPoolExecutor(self._n, thread_name_prefix=self._name)
