"""Compile loops with numba, which is optional: import this module late."""

import contextlib
import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

Loops = TypeVar("Loops", bound=Callable[..., Any])


class _ForgivingCache(FunctionCache):
    """A cache of compiled functions on disk; without room the next start recompiles."""

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
            logging.getLogger(__name__).debug("Compiled loops are not kept: %s", error)


def jit(loops: Loops) -> Loops:
    """Compile a function of arrays and numbers, without the interpreter lock.

    The result is cached on disk for the next start.
    """
    plain = inspect.unwrap(loops)  # without the checks of types that tests lay around it
    dispatcher: Any = numba.njit(nogil=True)(plain)
    # What `cache=True` does, with a cache that forgives; without any folder for it, as in a read-only container,
    # there is none.
    with contextlib.suppress(RuntimeError):
        dispatcher._cache = _ForgivingCache(plain)  # type: ignore[no-untyped-call]
    return cast(Loops, dispatcher)
