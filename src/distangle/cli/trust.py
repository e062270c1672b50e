"""The verb that allows a screen from elsewhere: trust."""

from pathlib import Path

from distangle.cli.console import tell


def trust(screen: Path) -> None:
    """Allow a screen that was not indexed on this machine to read its images from where it says.

    A screen whose images lie beside it needs no leave, nor does one that was indexed here.

    Args:
        screen: Folder of a screen that you know where it comes from.
    """
    from distangle.screen import allow, read_screen

    read = read_screen(screen)
    allow(read)
    tell(f"{screen}: its images are read from {read.source}")
