"""A thread pool that is recreated after `fork`.

Threads do not survive a fork, so the parent's pool would deadlock the child.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class ForkSafeThreadPool:
    """Run functions in a number of threads of the current process.

    Args:
        n: Number of threads.
        name: Prefix of their names.
    """

    def __init__(self, n: int, *, name: str) -> None:
        self._n, self._name = n, name
        self._start()

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply a function to several items in parallel; yield results in their order."""
        return self._pool().map(work, items)

    def submit(self, work: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Run a function in a thread."""
        return self._pool().submit(work, *arguments)

    def close(self) -> None:
        """Finish running calls, cancel waiting ones, and stop the threads."""
        self._pool().shutdown(wait=True, cancel_futures=True)

    def _pool(self) -> ThreadPoolExecutor:
        if os.getpid() != self._pid:
            self._start()
        return self._executor

    def _start(self) -> None:
        self._pid = os.getpid()
        self._executor = ThreadPoolExecutor(self._n, thread_name_prefix=self._name)
