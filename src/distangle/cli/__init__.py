"""Verbs only: from the words of a command line to one call, and from an error to one sentence."""

import contextvars
import sys
from collections.abc import Callable, Sequence

from distangle.cli.ablations import ablate
from distangle.cli.altered import blame
from distangle.cli.app import app
from distangle.cli.checks import check
from distangle.cli.console import complain, tell
from distangle.cli.explanations import explain, figures
from distangle.cli.folding import folds
from distangle.cli.order import PROGRAM, VERBS, example
from distangle.cli.runs import demo, predict, report, train
from distangle.cli.screens import index, pack, simulate, statistics
from distangle.cli.settings import as_words, list_settings, list_simulation, settings
from distangle.cli.together import joined_for
from distangle.cli.trust import trust
from distangle.cli.typed import keep
from distangle.cli.verify import verify
from distangle.cli.words import repeat_flags
from distangle.errors import DistangleError, Stopped
from distangle.progress import attended, doing


def version() -> None:
    """Print the version."""
    tell(app.version if isinstance(app.version, str) else "")


def help(verb: str | None = None) -> None:
    """Print the help of a verb, or of all.

    Args:
        verb: Such as `train`; all are listed when left out.
    """
    _run([*([] if verb is None else [verb]), "--help"])


FUNCTIONS: dict[str, Callable[..., None]] = {
    one.__name__: one
    for one in (
        *(index, check, train, predict, explain, figures, report),
        *(simulate, statistics, folds, pack, settings, verify, trust, ablate, demo, help, version),
    )
}
for place, (name, (group, _)) in enumerate(VERBS.items()):
    app.command(FUNCTIONS[name], group=group, sort_key=place, help_epilogue=example(name))
app["--help"].group = app["--version"].group = PROGRAM
app.register_install_completion_command(
    group=PROGRAM, sort_key=len(VERBS), help="Let the shell complete verbs and options."
)
GO_ON = {
    "train": "What was written is whole; `distangle train --resume RUN` goes on with it.",
    "pack": "What is packed is whole; the same command goes on with it.",
    "ablate": "What is finished is kept; the same command goes on with it.",
}
TAKE_SETTINGS: dict[str, Callable[..., None]] = {"settings": settings, "train": train, "ablate": ablate}


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; an error raised on purpose becomes one sentence and exit status 1, a stop status 75.

    Args:
        words: The words after `distangle`; those of the process when None.
    """
    # A device that is named, and the words that were typed, hold for this command only.
    contextvars.copy_context().run(_run, list(sys.argv[1:] if words is None else words))


def _run(given: list[str]) -> None:
    keep(given)
    try:
        verb = TAKE_SETTINGS.get(given[0]) if given else None
        given = repeat_flags(given)
        if verb is not None:
            given = [given[0], *as_words(given[1:], verb)]
        with attended(given[0] if given else ""), joined_for(given[0] if given else ""):
            doing("loading the program")
            app(given, result_action="return_value")
        if {"--help", "-h"} & {*given}:
            if verb is not None:
                list_settings(verb)
            elif given[0] == "simulate":
                list_simulation()
    except Stopped as stopped:
        complain(str(stopped))
        sys.exit(stopped.status)
    except DistangleError as error:
        complain(str(error))
        sys.exit(1)
    except Exception as error:
        words_on_it = blame(given, error)
        if not words_on_it:
            raise
        complain(words_on_it)
        sys.exit(1)
    except KeyboardInterrupt:
        complain(f"stopped. {GO_ON.get(given[0] if given else '', 'What was written is whole; start it again.')}")
        sys.exit(130)
