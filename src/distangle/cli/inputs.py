"""Opening what a verb is given: the screen, and its images where they lie now."""

from pathlib import Path
from typing import TYPE_CHECKING

from distangle.cli.console import print_note
from distangle.core.progress import show_action
from distangle.errors import ScreenError

if TYPE_CHECKING:
    from distangle.results import RunFolder
    from distangle.screen import Screen


def open_screen(folder: Path, images: Path | None = None, *, needed: bool = True) -> "Screen":
    """Read a screen, and check that its images are there before hours are spent on it.

    Args:
        folder: Of the screen.
        images: Stands in for the folder that was indexed; None when nothing was moved.
        needed: Whether the verb cannot do without images; else a remark says that they are gone.

    Raises:
        ScreenError: The folder is no screen, or its images are gone and needed.
    """
    check_folder(folder)
    show_action("reading the screen")
    from distangle.screen import allowed_sources, read_screen, with_images

    screen = read_screen(folder)
    # Who names the folder of the images has allowed it.
    screen = allowed_sources(screen) if images is None else with_images(screen, images)
    _check_images(screen, needed=needed)
    return screen


def open_own_screen(
    run: "RunFolder", folder: Path | None, images: Path | None = None, *, same: bool = True, needed: bool = True
) -> "Screen":
    """Read the screen of a run, and check that its images are there.

    Args:
        run: The run.
        folder: Where a person says that the screen is now; None for where the run says.
        images: Stands in for the folder that was indexed; None when nothing was moved.
        same: Refuse a screen that is another.
        needed: Whether the verb cannot do without images; else a remark says that they are gone.

    Raises:
        RunError: It is not where it was, or it is another.
        ScreenError: It is damaged; its images are gone and needed, or lie elsewhere and nobody has allowed it.
    """
    check_folder(run.screen_folder(folder))
    show_action("reading the screen")
    from distangle.results.run_screen import own_screen

    screen = own_screen(run, folder, images=images, same=same)
    _check_images(screen, needed=needed)
    return screen


def _check_images(screen: "Screen", *, needed: bool) -> None:
    from distangle.screen import check_images

    try:
        gone = check_images(screen)
    except ScreenError as error:
        if needed:
            raise
        gone = f"{error} Without them there are no pictures of cells."
    if gone:
        print_note(gone)


def check_folder(folder: Path) -> None:
    """Check that a folder is a screen before the code that reads it is loaded, which takes seconds.

    Raises:
        ScreenError: It is none.
    """
    if not (folder / "screen.json").is_file():
        raise ScreenError(
            f"{folder} is not a screen: no screen.json in it. `distangle index SOURCE --out {folder}` makes one."
        )


def compute_on(device: str | None) -> None:
    """Compute on a device from now on.

    Args:
        device: As typed; None leaves the choice to the verb.

    Raises:
        ConfigError: There is no such device.
    """
    show_action("loading the network code")
    if device is None:
        return
    from distangle.model.device import set_device

    set_device(device)
