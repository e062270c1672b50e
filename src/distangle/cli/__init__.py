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
from distangle.cli.exports import export
from distangle.cli.predictions import predict
from distangle.cli.profiles import profile
from distangle.cli.remote_folders import with_remote_folders
from distangle.cli.runs import demo, report, train
from distangle.cli.screens import folds, index, pack, simulate, statistics
from distangle.cli.views import napari, view
from distangle.core.progress import show_action, show_waiting
from distangle.errors import DistangleError, StoppedError


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
    function.__name__: function
    for function in (
        *(index, check, train, predict, explain, profile, figures, report),
        *(
            simulate,
            statistics,
            folds,
            pack,
            settings,
            view,
            napari,
            export,
            verify,
            trust,
            ablate,
            demo,
            help,
            version,
        ),
    )
}
for position, (name, (group, _)) in enumerate(VERBS.items()):
    app.command(with_remote_folders(FUNCTIONS[name]), group=group, sort_key=position, help_epilogue=example(name))
app["--help"].group = app["--version"].group = PROGRAM
app.register_install_completion_command(
    group=PROGRAM, sort_key=len(VERBS), help="Install shell completion of verbs and options."
)
INTERRUPT_HINTS = {
    "train": "All written files are complete. Run `distangle train --resume RUN` to continue.",
    "pack": "All packed images are complete. Run the same command again to continue.",
    "ablate": "Finished runs are kept. Run the same command again to continue.",
}
TAKE_SETTINGS: dict[str, Callable[..., None]] = {"settings": settings, "train": train, "ablate": ablate}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and turn its error into a message and an exit status.

    The status is 1 after an error, 75 after a stop request, and 130 after Ctrl-C.

    Args:
        arguments: Arguments after `distangle`; None for those of the process.
    """
    # The chosen device and the stored command line apply to this command only.
    contextvars.copy_context().run(_run, list(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: list[str]) -> None:
    keep_command_line(arguments)
    try:
        verb = TAKE_SETTINGS.get(arguments[0]) if arguments else None
        arguments = repeat_flags(arguments)
        if verb is not None:
            arguments = [arguments[0], *expand_setting_flags(arguments[1:], verb)]
        with show_waiting(arguments[0] if arguments else ""), process_group_for(arguments[0] if arguments else ""):
            show_action("loading the program")
            app(arguments, result_action="return_value")
        if {"--help", "-h"} & {*arguments}:
            if verb is not None:
                list_settings(verb)
            elif arguments[0] == "simulate":
                list_simulation()
    except StoppedError as request:
        print_error(str(request))
        sys.exit(request.status)
    except DistangleError as error:
        print_error(str(error))
        sys.exit(1)
    except Exception as error:
        message = name_damaged_file(arguments, error)
        if not message:
            raise
        print_error(message)
        sys.exit(1)
    except KeyboardInterrupt:
        hint = INTERRUPT_HINTS.get(
            arguments[0] if arguments else "", "All written files are complete. Run the command again."
        )
        print_error(f"stopped. {hint}")
        sys.exit(130)
