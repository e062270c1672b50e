"""Find the screen of a run, and check that it is the same screen."""

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
    override: Path | None = None,
    *,
    images: Path | None = None,
    same: bool = True,
    flag: str = "--screen",
) -> Screen:
    """Read the screen that a run was trained on.

    Args:
        run: The run.
        override: Folder of the screen; None for the path in the run.
        images: Folder of the images; None for the path in the screen.
        same: Refuse another screen.
        flag: The option that names the screen, for the message.

    Raises:
        RunError: The screen is missing, or it is another one.
        ScreenError: The screen is damaged, or its images lie elsewhere and were not allowed on this machine.
    """
    folder = run.screen_folder(override)
    screen = read_screen(folder)
    if same:
        check_same_screen(run, screen)
    if images is not None:
        return with_images(screen, images)
    if override is None:
        return allowed_sources(screen, allow_command=f"{flag} {folder}")
    allow_source(screen)
    return screen


def check_same_screen(run: RunFolder, screen: Screen) -> None:
    """Check that a screen is the one that a run was trained on.

    Raises:
        RunError: It has other channels, classes or wells; the message names the difference.
    """
    run_metadata, metadata = own_metadata(run), screen.metadata
    channels = (
        [channel["name"] for channel in run_metadata["channels"]],
        [channel.name for channel in metadata.channels],
    )
    difference = ""
    if channels[0] != channels[1]:
        difference = f"its channels are {', '.join(channels[1])}, the run's are {', '.join(channels[0])}"
    elif run_metadata["perturbations_sha256"] != metadata.perturbations_sha256:
        difference = "it has another class list"
    elif not is_own(run, screen, run_metadata=run_metadata):
        difference = "its wells, labels or images are not those that the run was trained on"
    if difference:
        raise RunError(
            f"{screen.folder} is not the screen of {run.root}: {difference}. Name the run's own (`--screen FOLDER`) "
            f"or predict this one as another: `distangle predict {run.root} {screen.folder} --out DIR`."
        )


def is_own(run: RunFolder, screen: Screen, *, run_metadata: dict[str, Any] | None = None) -> bool:
    """Return whether a screen is the one that a run was trained on.

    A screen that was indexed again because its files were moved or their dates changed counts as the same.

    Args:
        run: The run.
        screen: The screen.
        run_metadata: From `own_metadata`, if already read.
    """
    if (run_metadata or own_metadata(run))["sites_sha256"] == screen.metadata.sites_sha256:
        return True
    recorded = run.describe().get(WELLS)
    return recorded is not None and recorded == wells_sha256(screen)


def own_metadata(run: RunFolder) -> dict[str, Any]:
    """Return the run's copy of its screen's `screen.json`.

    Raises:
        RunError: The copy is missing or damaged.
    """
    fix = f"Restore it from a copy, or copy the screen's own there: `cp SCREEN/screen.json {run.screen}`."
    metadata = read_json(run.screen, fix=fix)
    with read_regular_file(run.screen, fix=fix):
        for name in ("sites_sha256", "perturbations_sha256"):
            check_type(metadata[name], str, name=name)
        for channel in check_type(metadata["channels"], list, name="channels"):
            check_type(check_type(channel, dict, name="channels")["name"], str, name="name")
    return metadata


def wells_sha256(screen: Screen) -> str:
    """Return a hash of the sites and images of a screen, without their paths."""
    rows = screen.sites[[*SITE_COLUMNS, "sha256"]].astype(str).to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(rows.encode("utf-8", "surrogateescape")).hexdigest()
