"""Define the command-line application, its verbs, and their process group."""

import contextlib
import contextvars
import os
import shlex
from collections.abc import Iterator, Sequence

import cyclopts
from cyclopts import Group

from distangle import __version__
from distangle.errors import ConfigError

app = cyclopts.App(
    name="distangle",
    version=__version__,
    suppress_keyboard_interrupt=False,  # `main` prints how to continue
    help="Train a classifier of perturbations on multi-channel microscopy plates, correct for batch effects, and "
    "report which image regions and channels drive each prediction. Folders may be URLs, such as s3://BUCKET/screen.",
)


WORK = Group("Main workflow, in order", sort_key=1)
SCREEN = Group("Screens", sort_key=2)
RUN = Group("Runs", sort_key=3)
PROGRAM = Group("Program", sort_key=4)

# Every verb with its group and an example.
VERBS: dict[str, tuple[Group, str]] = {
    "index": (WORK, "distangle index plates --out screen"),
    "check": (WORK, "distangle check screen"),
    "train": (WORK, "distangle train screen --preset small --out runs/first"),
    "predict": (WORK, "distangle predict runs/first"),
    "explain": (WORK, "distangle explain runs/first --n-sites 48"),
    "profile": (WORK, "distangle profile runs/first"),
    "figures": (WORK, "distangle figures runs/first"),
    "report": (WORK, "distangle report runs/first"),
    "simulate": (SCREEN, "distangle simulate plates --set n_treatments=8"),
    "statistics": (SCREEN, "distangle statistics screen --out card"),
    "folds": (SCREEN, "distangle folds screen --hold-out experiment=HUVEC-02 --out folds.parquet"),
    "pack": (SCREEN, "distangle pack screen --out packed"),
    "settings": (RUN, "distangle settings --preset small > my.yaml"),
    "view": (RUN, "distangle view runs/first"),
    "napari": (RUN, "distangle napari runs/first HUVEC-01/1/B02"),
    "export": (RUN, "distangle export runs/first --format h5ad --out exported"),
    "verify": (RUN, "distangle verify runs/first"),
    "trust": (RUN, "distangle trust from-a-colleague/screen"),
    "ablate": (RUN, "distangle ablate screen --out ablation --preset scratch --seeds 0,1,2"),
    "demo": (PROGRAM, "distangle demo --out demo"),
    "help": (PROGRAM, "distangle help train"),
    "version": (PROGRAM, "distangle version"),
}


def example(name: str) -> str:
    """Return the example at the end of the help of a verb."""
    return f"Example: `{VERBS[name][1]}`"


DISTRIBUTED_VERBS = ("train", "predict")


@contextlib.contextmanager
def process_group_for(verb: str) -> Iterator[None]:
    """Join the process group of a launcher such as `torchrun`, if there is one.

    Args:
        verb: First word of the command line.

    Raises:
        ConfigError: The verb cannot run in several processes.
        RunError: The other processes did not join.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    if verb not in DISTRIBUTED_VERBS:
        raise ConfigError(
            f"`distangle {verb}` runs in one process, but WORLD_SIZE is {os.environ['WORLD_SIZE']}. Start it without "
            f"torchrun; only {' and '.join(DISTRIBUTED_VERBS)} can run in several processes."
        )
    from distangle.core.distributed import init_process_group

    with init_process_group():
        yield


_command_line: contextvars.ContextVar[str] = contextvars.ContextVar("command line", default="")


def keep_command_line(arguments: Sequence[str]) -> None:
    """Store the arguments after `distangle` for `command_line`."""
    _command_line.set(shlex.join(["distangle", *arguments]))


def command_line() -> str:
    """Return the command line, quoted for a shell."""
    return _command_line.get()
