"""The screen of a run: found, known for its own, and read no further than a person has allowed."""

import hashlib
from pathlib import Path
from typing import Any

from distangle.core.untrusted_files import check_type, read_json, read_regular_file
from distangle.errors import RunError
from distangle.results.run import RunFolder
from distangle.screen import Screen, allow_source, allowed_sources, read_screen, with_images
from distangle.screen.screen import SITE_COLUMNS

WELLS = "wells_sha256"  # in `run.json`


def own_screen(
    run: RunFolder,
    given: Path | None = None,
    *,
    images: Path | None = None,
    same: bool = True,
    flag: str = "--screen",
) -> Screen:
    """Read the screen that a run was made of.

    Args:
        run: The run.
        given: Where a person says that it is now; None for where the run says.
        images: Where a person says that the images are now; None for where the screen says.
        same: Refuse a screen that is another.
        flag: With which a person names it.

    Raises:
        RunError: It is not where it was, or it is another.
        ScreenError: It is damaged; or its images lie elsewhere and nobody has allowed it on this machine.
    """
    folder = run.screen_folder(given)
    screen = read_screen(folder)
    if same:
        check_same_screen(run, screen)
    if images is not None:
        return with_images(screen, images)
    if given is None:
        return allowed_sources(screen, again=f"{flag} {folder}")
    allow_source(screen)
    return screen


def check_same_screen(run: RunFolder, screen: Screen) -> None:
    """Check that a screen is the one that a run was made of, so that nothing is shown beside numbers of another.

    Raises:
        RunError: It has other channels, other classes, or other wells; the message says which.
    """
    card, now = own_card(run), screen.card
    channels = [one["name"] for one in card["channels"]], [one.name for one in now.channels]
    what = ""
    if channels[0] != channels[1]:
        what = f"its channels are {', '.join(channels[1])}, the run's are {', '.join(channels[0])}"
    elif card["perturbations_sha256"] != now.perturbations_sha256:
        what = "it has another class list"
    elif not is_own(run, screen, card=card):
        what = "its wells, labels or images are not those that the run was made of"
    if what:
        raise RunError(
            f"{screen.folder} is not the screen of {run.root}: {what}. Name the run's own (`--screen FOLDER`), or "
            f"predict this one as another: `distangle predict {run.root} {screen.folder} --out DIR`."
        )


def is_own(run: RunFolder, screen: Screen, *, card: dict[str, Any] | None = None) -> bool:
    """Whether a screen, or the whole that it is a part of, is the one that a run was made of.

    One that was indexed again, because its files were moved or their dates changed, is the same.

    Args:
        run: The run.
        screen: The screen.
        card: From `own_card`, when it was read before.
    """
    if (card or own_card(run))["sites_sha256"] == screen.card.sites_sha256:
        return True
    known = run.describe().get(WELLS)
    return known is not None and known == wells_sha256(screen)


def own_card(run: RunFolder) -> dict[str, Any]:
    """Return what the run keeps of its screen's `screen.json`.

    Raises:
        RunError: It is absent or damaged.
    """
    fix = f"Restore it from a copy, or copy the screen's own there: `cp SCREEN/screen.json {run.screen}`."
    said = read_json(run.screen, fix=fix)
    with read_regular_file(run.screen, fix=fix):
        for name in ("sites_sha256", "perturbations_sha256"):
            check_type(said[name], str, name=name)
        for one in check_type(said["channels"], list, name="channels"):
            check_type(check_type(one, dict, name="channels")["name"], str, name="name")
    return said


def wells_sha256(screen: Screen) -> str:
    """Return the hash of what a screen says of its sites and their images, wherever those lie."""
    said = screen.sites[[*SITE_COLUMNS, "sha256"]].astype(str).to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(said.encode("utf-8", "surrogateescape")).hexdigest()
