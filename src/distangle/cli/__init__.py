"""Verbs only: from the words of a command line to one call, and from an error to one sentence."""

import sys
from collections.abc import Sequence

from distangle.cli.app import app
from distangle.cli.console import complain
from distangle.cli.runs import demo, explain, predict, report, train
from distangle.cli.screens import index, simulate, statistics
from distangle.errors import DistangleError

for verb in (index, statistics, simulate, train, predict, explain, report, demo):
    app.command(verb)


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; an error raised on purpose becomes one sentence and exit status 1.

    Args:
        words: The words after `distangle`; those of the process when None.
    """
    try:
        app(words, result_action="return_value")
    except DistangleError as error:
        complain(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        complain("stopped. What was written is whole; `distangle train --resume RUN` goes on with a training.")
        sys.exit(130)
