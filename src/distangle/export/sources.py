"""Find the profiles of a run or of a folder of profiles."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from distangle.export.folders import check_source, has_profiles, is_run
from distangle.profiles.readers import read_profiles
from distangle.results.profile_result import ProfileResult
from distangle.results.profiles import Profiles
from distangle.results.run import RunFolder
from distangle.results.verify import refuse_altered


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


def read_source(source: Path) -> list[ProfileSource]:
    """Read the profiles of a run or of a folder of profiles.

    A run has the embeddings of its sites, and, if they were computed, the profiles of its wells and perturbations. A
    folder of profiles has the latter two.

    Args:
        source: The folder.

    Raises:
        ProfileError: The folder is neither, or no site can be used.
        RunError: The run has no predictions, or a file is damaged or was changed.
    """
    check_source(source)
    if not is_run(source):
        return _result_of(source)
    run = RunFolder.open(source)
    refuse_altered(run, "run.json", "predictions/sites", "profiles/")
    sources = [ProfileSource(name="embeddings", profiles=read_profiles(source).profiles)]
    return sources + (_result_of(run.profiles) if has_profiles(run.profiles) else [])


def _result_of(folder: Path) -> list[ProfileSource]:
    result = ProfileResult.read(folder)
    return [
        ProfileSource(name="profiles", profiles=result.wells, coordinates=result.coordinates),
        ProfileSource(name="perturbations", profiles=result.perturbations),
    ]
