"""Loops compiled by numba; only rooms that are opened late import this one, for numba is no requirement."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Loops = TypeVar("Loops", bound=Callable[..., Any])


def compiled(loops: Loops) -> Loops:
    """Compile a function of arrays and numbers; it lets other threads run, and is kept on disk for the next start."""
    plain = inspect.unwrap(loops)  # without the checks of types that tests lay around it
    try:
        return cast(Loops, numba.njit(nogil=True, cache=True)(plain))
    except RuntimeError:  # no folder to keep it in, as in a read-only container
        return cast(Loops, numba.njit(nogil=True)(plain))
