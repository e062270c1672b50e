"""Compile loops with numba, an optional package: import this module late."""

import contextlib
import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

Function = TypeVar("Function", bound=Callable[..., Any])


class _TolerantCache(FunctionCache):
    """Cache compiled functions on disk; on a storage error the next start recompiles."""

    def load_overload(self, signature: object, target_context: object) -> Any:
        try:
            return super().load_overload(signature, target_context)  # type: ignore[no-untyped-call]
        except OSError as error:
            logging.getLogger(__name__).debug("Compiled loops cannot be loaded: %s", error)
            return None

    def save_overload(self, signature: object, compiled_for: object) -> None:
        try:
            super().save_overload(signature, compiled_for)  # type: ignore[no-untyped-call]
        except OSError as error:
            logging.getLogger(__name__).debug("Compiled loops are not cached: %s", error)


def jit(kernel: Function) -> Function:
    """Compile a function of arrays and numbers that releases the interpreter lock.

    The result is cached on disk for the next start.
    """
    function = inspect.unwrap(kernel)  # without the type checks that tests wrap around it
    dispatcher: Any = numba.njit(nogil=True)(function)
    # As `cache=True`, with a tolerant cache; without a writable folder (read-only container) there is no cache.
    with contextlib.suppress(RuntimeError):
        dispatcher._cache = _TolerantCache(function)  # type: ignore[no-untyped-call]
    return cast(Function, dispatcher)
