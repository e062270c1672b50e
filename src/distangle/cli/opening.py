"""Opening what a verb is given: the screen, and its images where they lie now."""

from pathlib import Path
from typing import TYPE_CHECKING

from distangle.cli.console import remark
from distangle.errors import ScreenError

if TYPE_CHECKING:
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
    from distangle.screen import check_images, read_screen, with_images

    screen = read_screen(folder)
    if images is not None:
        screen = with_images(screen, images)
    try:
        gone = check_images(screen)
    except ScreenError as error:
        if needed:
            raise
        gone = f"{error} Without them there are no pictures of cells."
    if gone:
        remark(gone)
    return screen
