"""Start the command line and handle signals from the first moment."""

import contextlib
import sys

from distangle.core.allocator import keep_freed_memory
from distangle.core.signals import stop_at_signals
from distangle.errors import StoppedError

# Verbs that can continue after a stop, and how to continue if it came before anything was written.
RESUME_HINTS = {
    "train": "Run the same command again, or `distangle train --resume RUN` if the run exists.",
    "ablate": "Run the same command again.",
}
# Verbs that run a network for minutes. They allocate arrays of the same size in every batch.
COMPUTE_VERBS = ("train", "predict", "explain", "demo", "ablate")


def main() -> None:
    """Run one command.

    A scheduler can send a signal during the imports, which take seconds.
    """
    if sys.argv[1:2] and sys.argv[1] in COMPUTE_VERBS:
        keep_freed_memory()
    resume_hint = RESUME_HINTS.get(sys.argv[1]) if sys.argv[1:] else None
    with contextlib.nullcontext() if resume_hint is None else stop_at_signals(resume_hint):
        try:
            from distangle import cli

            cli.main()
        except StoppedError as stopped:
            sys.stderr.write(f"error: {stopped}\n")
            sys.exit(stopped.status)


if __name__ == "__main__":
    main()
