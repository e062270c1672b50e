"""End a training on a signal as soon as possible, with a scheduler's exit code."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from distangle.errors import StoppedError

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT", "SIGHUP") if hasattr(signal, name))

_current: "StopRequest | None" = None  # of this process


class StopRequest:
    """Hold a request to stop the training.

    Attributes:
        by: Name of the signal, such as `SIGTERM`; empty without a request.
        can_wait: Whether a stop waits for the next `check`, because a state is being changed.
        next_step: Sentence for the user after a stop that need not wait.
    """

    def __init__(self, next_step: str = "") -> None:
        self.by = ""
        self.can_wait = False
        self.next_step = next_step

    def request(self, by: str) -> None:
        """Request a stop.

        Raises:
            StoppedError: Immediately, unless the stop can wait.
        """
        self.by = by
        if not self.can_wait:
            self.check()

    def check(self) -> None:
        """Stop here if a stop was requested.

        Raises:
            StoppedError: A stop was requested.
        """
        if self.by:
            self.stop_now()

    def stop_now(self) -> None:
        """Stop here.

        Raises:
            StoppedError: Always.
        """
        message = f"Stopped by {self.by or 'another rank'}."
        if self.next_step and not self.can_wait:
            message = f"{message} {self.next_step}"
        raise StoppedError(message)


@contextlib.contextmanager
def stop_at_signals(next_step: str = "") -> Iterator[StopRequest]:
    """Turn SIGTERM, SIGUSR1, SIGINT and SIGHUP into a stop during a `with`.

    A second signal ends the process at once. A signal that the process ignores (by `nohup`, for example) stays ignored.
    A nested call uses the request of the outer one, so an earlier signal still counts.

    Args:
        next_step: A sentence for the user after a stop that need not wait.
    """
    global _current
    if _current is not None:
        outer, _current.next_step = _current.next_step, next_step
        try:
            yield _current
        finally:
            _current.next_step = outer
        return
    stop = _current = StopRequest(next_step)

    def on_signal(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if stop.by:
            # As after a kill: every file is whole, and the steps since the last save are repeated.
            os._exit(StoppedError.status)
        if stop.can_wait:
            # Bypasses the buffers: a signal may arrive while one of them is being written to.
            os.write(2, f"{name}: finishing this step, then saving. A second signal ends at once.\n".encode())
        stop.request(name)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, on_signal)
        yield stop
    finally:
        _current = None
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
