"""Dispatch a command line to one verb, and print an error as one sentence."""

import contextvars
import sys
from collections.abc import Callable, Sequence

from distangle.cli.app import PROGRAM, VERBS, app, example, keep_command_line, process_group_for
from distangle.cli.arguments import expand_setting_flags, list_settings, list_simulation, repeat_flags, settings
from distangle.cli.checks import check, trust, verify
from distangle.cli.console import print_error, print_result
from distangle.cli.damage import name_damaged_file
from distangle.cli.explanations import ablate, explain, figures
from distangle.cli.runs import demo, predict, report, train
from distangle.cli.screens import folds, index, pack, simulate, statistics
from distangle.core.progress import show_action, show_waiting
from distangle.errors import DistangleError, StopRequested


def version() -> None:
    """Print the version of distangle."""
    print_result(app.version if isinstance(app.version, str) else "")


def help(verb: str | None = None) -> None:
    """Print the help of one verb, or the list of all verbs.

    Args:
        verb: Name of a verb, such as `train`. Without it, all verbs are listed.
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
    "train": "runs",
    "pack": "screens",
    "ablate": "explanations",
}
TAKE_SETTINGS: dict[str, Callable[..., None]] = {"settings": settings, "train": train, "ablate": ablate}


def main(words: Sequence[str] | None = None) -> None:
    """Run one command and turn its error into a message and an exit status.

    The status is 1 after an error, 75 after a stop request, and 130 after Ctrl-C.

    Args:
        words: Arguments after `distangle`; None for those of the process.
    """
    # A device that is named, and the words that were typed, hold for this command only.
    contextvars.copy_context().run(_run, list(sys.argv[1:] if words is None else words))


def _run(given: list[str]) -> None:
    keep_command_line(given)
    try:
        verb = TAKE_SETTINGS.get(given[0]) if given else None
        given = repeat_flags(given)
        if verb is not None:
            given = [given[0], *expand_setting_flags(given[1:], verb)]
        with show_waiting(given[0] if given else ""), process_group_for(given[0] if given else ""):
            show_action("loading the program")
            app(given, result_action="return_value")
        if {"--help", "-h"} & {*given}:
            if verb is not None:
                list_settings(verb)
            elif given[0] == "simulate":
                list_simulation()
    except StopRequested as stopped:
        print_error(str(stopped))
        sys.exit(stopped.status)
    except DistangleError as error:
        print_error(str(error))
        sys.exit(1)
    except Exception as error:
        words_on_it = name_damaged_file(given, error)
        if not words_on_it:
            raise
        print_error(words_on_it)
        sys.exit(1)
    except KeyboardInterrupt:
        print_error(f"stopped. {GO_ON.get(given[0] if given else '', 'What was written is whole; start it again.')}")
        sys.exit(130)
