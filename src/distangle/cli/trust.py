"""The verb that allows a screen or a run from elsewhere what it asks for: trust."""

from pathlib import Path

from distangle.cli.console import tell


def trust(folder: Path) -> None:
    """Allow a screen or a run from elsewhere what it asks for: images that lie elsewhere, or services to report to.

    What was indexed or begun on this machine needs no leave, nor does a screen whose images lie beside it.

    Args:
        folder: A screen or a run, when you know where it comes from.
    """
    from distangle.results import RunFolder
    from distangle.screen import allow, read_screen

    if (folder / "run.json").exists():
        from distangle.training import read_config
        from distangle.training.loggers import allow_services

        run = RunFolder.open(folder)
        named = ", ".join(read_config(run.config).loggers) or "no service"
        allow_services(run)
        tell(f"{folder}: it may report to {named}")
        return
    read = read_screen(folder)
    allow(read)
    tell(f"{folder}: its images are read from {read.source}")
