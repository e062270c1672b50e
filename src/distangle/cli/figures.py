"""The verb that draws the figures of the paper."""

from pathlib import Path

from distangle.cli.console import remark, tell
from distangle.cli.typed import line
from distangle.progress import progress


def figures(run: Path, *, only: list[int] | None = None, screen: Path | None = None) -> None:
    """Draw the paper's figures 1, 5 and 7 to 12 from a run, each with the number that its caption claims.

    Args:
        run: Folder of a run; what a figure needs must have been explained.
        only: Numbers of figures; all when left out.
        screen: Where the screen is now, when it was moved.
    """
    from distangle.report import FIGURES, draw_figures
    from distangle.results import RunFolder
    from distangle.screen import read_screen

    opened = RunFolder.open(run)
    indexed = read_screen(opened.screen_folder(screen))
    with progress("figures", len(only or FIGURES), unit="figure") as advance:
        listed = draw_figures(opened, indexed, only=only or (), advance=advance)
    opened.add_command(line())
    for number in map(str, only or FIGURES):
        said = listed[number]
        if "missing" in said:
            command = f" `{said['command']}` makes it." if said["command"] else ""
            remark(f"Figure {number} is not drawn: {said['missing']}{command}")
        else:
            tell(f"Figure {number}. {said['title']}. {said['caption']}")
    tell(str(opened.explanations / "figures"))
