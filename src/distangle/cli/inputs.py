"""Open the screen that a verb uses, and check its images."""

from pathlib import Path
from typing import TYPE_CHECKING

from distangle.cli.console import print_note
from distangle.core.progress import show_action
from distangle.errors import ScreenError

if TYPE_CHECKING:
    from distangle.results import RunFolder
    from distangle.screen import Screen


def open_screen(folder: Path, images: Path | None = None, *, needed: bool = True) -> "Screen":
    """Read a screen and check that its images exist.

    Args:
        folder: Folder of the screen.
        images: Folder of the images, if they were moved; None for the indexed folder.
        needed: Whether missing images are an error; otherwise they give a note.

    Raises:
        ScreenError: The folder is not a screen, or needed images are missing.
    """
    check_folder(folder)
    show_action("reading the screen")
    from distangle.screen import allowed_sources, read_screen, with_images

    screen = read_screen(folder)
    # Naming the folder of the images is a permission to read it.
    screen = allowed_sources(screen) if images is None else with_images(screen, images)
    _check_images(screen, needed=needed)
    return screen


def open_own_screen(
    run: "RunFolder", folder: Path | None, images: Path | None = None, *, same: bool = True, needed: bool = True
) -> "Screen":
    """Read the screen of a run and check that its images exist.

    Args:
        run: The run.
        folder: Folder of the screen, if it was moved; None for the folder that the run names.
        images: Folder of the images, if they were moved; None for the indexed folder.
        same: Refuse a screen other than that of the run.
        needed: Whether missing images are an error; otherwise they give a note.

    Raises:
        RunError: The screen is missing, or it is another screen.
        ScreenError: The screen is damaged, needed images are missing, or reading them needs permission.
    """
    check_folder(run.screen_folder(folder))
    show_action("reading the screen")
    from distangle.results.run_screen import own_screen

    screen = own_screen(run, folder, images=images, same=same)
    _check_images(screen, needed=needed)
    return screen


def open_for_drawing(run: Path, screen: Path | None, images: Path | None) -> tuple["RunFolder", "Screen"]:
    """Open a run and its screen for figures and pages; missing images give a note.

    Args:
        run: Folder of the run.
        screen: Folder of the screen, if it was moved.
        images: Folder of the images, if they were moved.

    Raises:
        RunError: The folder is not a run, or files that the pages show were changed since they were listed.
        ScreenError: The screen is damaged, or reading its images needs permission.
    """
    from distangle.results import RunFolder

    run_folder = RunFolder.open(run)
    indexed_screen = open_own_screen(run_folder, screen, images, needed=False)
    show_action("loading the drawing code")
    from distangle.report import REPORT_INPUTS
    from distangle.results import refuse_altered

    refuse_altered(run_folder, *REPORT_INPUTS)
    return run_folder, indexed_screen


def _check_images(screen: "Screen", *, needed: bool) -> None:
    from distangle.screen import check_images

    try:
        problem = check_images(screen)
    except ScreenError as error:
        if needed:
            raise
        problem = f"{error} Without them, pictures of cells are left out."
    if problem:
        print_note(problem)


def check_folder(folder: Path) -> None:
    """Check that a folder is a screen before slow imports.

    Raises:
        ScreenError: The folder has no screen.json.
    """
    if not (folder / "screen.json").is_file():
        raise ScreenError(
            f"{folder} is not a screen: it has no screen.json. Run `distangle index SOURCE --out {folder}` to make one."
        )


def compute_on(device: str | None) -> None:
    """Use a device for all computations of this command.

    Args:
        device: Name of the device; None leaves the choice to the verb.

    Raises:
        ConfigError: The device does not exist.
    """
    show_action("loading the network code")
    if device is None:
        return
    from distangle.model.device import set_device

    set_device(device)
