"""Start the command line and handle signals from the first moment."""

import contextlib
import sys

from distangle.core.allocator import keep_freed_memory
from distangle.core.signals import stop_at_signals
from distangle.errors import StopRequested

# Verbs that go on after a stop, and how they do when it came before there was anything to go on from.
GOES_ON = {
    "train": "Start the same command again, or go on with `distangle train --resume RUN` if the run is there.",
    "ablate": "Start the same command again.",
}
# Verbs that run a network for minutes: arrays of one size, batch after batch.
COMPUTE = ("train", "predict", "explain", "demo", "ablate")


def main() -> None:
    """Run one command.

    A scheduler can send a signal during the imports, which take seconds.
    """
    if sys.argv[1:2] and sys.argv[1] in COMPUTE:
        keep_freed_memory()
    again = GOES_ON.get(sys.argv[1]) if sys.argv[1:] else None
    with contextlib.nullcontext() if again is None else stop_at_signals(again):
        try:
            from distangle import cli

            cli.main()
        except StopRequested as stopped:
            sys.stderr.write(f"error: {stopped}\n")
            sys.exit(stopped.status)


if __name__ == "__main__":
    main()
