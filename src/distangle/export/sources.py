"""Find the profiles of a run or of a folder of profiles."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from distangle.errors import ProfileError
from distangle.profiles.readers import read_profiles
from distangle.results.profile_result import JSON_FILE, ProfileResult
from distangle.results.profiles import Profiles
from distangle.results.run import RunFolder


@dataclass(frozen=True, kw_only=True)
class ProfileSource:
    """Profiles to be exported.

    Attributes:
        name: Name of the file, without its ending: `embeddings`, `profiles` or `perturbations`.
        profiles: The profiles.
        coordinates: 2-D map of the rows; None without one.
    """

    name: str
    profiles: Profiles
    coordinates: pd.DataFrame | None = None


def is_run(source: Path) -> bool:
    """Return whether a folder is a run."""
    return (source / "run.json").is_file()


def check_source(source: Path) -> None:
    """Check that a folder is a run or a folder of profiles.

    Raises:
        ProfileError: It is neither.
    """
    if is_run(source) or (source / JSON_FILE).is_file():
        return
    found = "it does not exist" if not source.exists() else f"it has neither run.json nor {JSON_FILE}"
    raise ProfileError(
        f"{source} cannot be exported: {found}. Expected the folder of a run or its folder of profiles. `distangle "
        "train SCREEN --out RUN` makes a run."
    )


def read_source(source: Path) -> list[ProfileSource]:
    """Read the profiles of a run or of a folder of profiles.

    A run has the embeddings of its sites, and, if they were computed, the profiles of its wells and perturbations. A
    folder of profiles has the latter two.

    Args:
        source: The folder.

    Raises:
        ProfileError: The folder is neither, or no site can be used.
        RunError: The run has no predictions, or a file is damaged.
    """
    check_source(source)
    if not is_run(source):
        return _result_of(source)
    run = RunFolder.open(source)
    sources = [ProfileSource(name="embeddings", profiles=read_profiles(source).profiles)]
    return sources + (_result_of(run.profiles) if (run.profiles / JSON_FILE).is_file() else [])


def _result_of(folder: Path) -> list[ProfileSource]:
    result = ProfileResult.read(folder)
    return [
        ProfileSource(name="profiles", profiles=result.wells, coordinates=result.coordinates),
        ProfileSource(name="perturbations", profiles=result.perturbations),
    ]
