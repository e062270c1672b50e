"""End a training on a signal as soon as possible, with a scheduler's exit code."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from distangle.errors import StopRequested

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT", "SIGHUP") if hasattr(signal, name))

_current: "StopRequest | None" = None  # of this process


class StopRequest:
    """Whether somebody asked for a stop.

    Attributes:
        by: Name of the signal, such as `SIGTERM`; empty while nobody asked.
        can_wait: Whether a stop is to wait for the next `check`, because a state is being changed.
        next_step: What to do after a stop that need not wait; who makes it wait says it better.
    """

    def __init__(self, next_step: str = "") -> None:
        self.by = ""
        self.can_wait = False
        self.next_step = next_step

    def ask(self, by: str) -> None:
        """Ask for a stop.

        Raises:
            Stopped: At once, unless it can wait.
        """
        self.by = by
        if not self.can_wait:
            self.check()

    def check(self) -> None:
        """Stop here if a stop was asked for.

        Raises:
            Stopped: It was.
        """
        if self.by:
            self.now()

    def now(self) -> None:
        """Stop here.

        Raises:
            Stopped: Always.
        """
        message = f"Stopped by {self.by or 'another rank'}."
        if self.next_step and not self.can_wait:
            message = f"{message} {self.next_step}"
        raise StopRequested(message)


@contextlib.contextmanager
def stop_at_signals(next_step: str = "") -> Iterator[StopRequest]:
    """Turn SIGTERM, SIGUSR1, SIGINT and SIGHUP into a stop during a `with`.

    A second signal ends the process at once.
    A signal that the process was told to ignore (by `nohup`, say) stays ignored. Within another such `with` the stop is
    that of the outer one: a signal that came earlier still counts.

    Args:
        next_step: What to do after a stop that need not wait, a sentence.
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
            # As after a kill: every file is whole, and what was done since the last save is done again.
            os._exit(StopRequested.status)
        if stop.can_wait:
            # Written past the buffers: a signal may come while one of them is being written to.
            os.write(2, f"{name}: finishing this step, then saving. A second signal ends at once.\n".encode())
        stop.ask(name)

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
