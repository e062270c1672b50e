"""Profile a run: hits, neighbors and batch effects in its folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from distangle.core.progress import no_progress
from distangle.core.result_files import MissingResultError, rebuild_hint
from distangle.core.untrusted_files import read_regular_file
from distangle.profiles.alignment import Alignment
from distangle.profiles.alignment_file import FILE, write_alignment
from distangle.profiles.compute import ProfileOptions, compute_profiles
from distangle.profiles.readers import ProfilesFile, read_profiles
from distangle.profiles.run_reader import RunRows
from distangle.results.explanation import Explanation
from distangle.results.profile_result import ProfileResult
from distangle.results.run import RunFolder

OWN_ROWS = RunRows(features="auto", wells="auto")


def profile_run(
    run: RunFolder,
    options: ProfileOptions,
    *,
    file: ProfilesFile | None = None,
    edges: Sequence[tuple[str, str]] | None = None,
    alignment: Alignment | None = None,
    advance: Callable[[str], None] = no_progress,
) -> ProfileResult:
    """Compute the profiles of a run and write them into its folder.

    Args:
        run: A run with predictions.
        options: What to compute.
        file: Profiles that `read_profiles` read from the run; None for those of `OWN_ROWS`.
        edges: Known relations, pairs of perturbations.
        alignment: Chain that was fitted on other plates.
        advance: Called with the name of every stage that is done.

    Raises:
        ProfileError: There is no control or no perturbation, or a step cannot be done.
        RunError: The run has no predictions, or a file of it is damaged.
    """
    file = file or read_profiles(run.root, of_run=OWN_ROWS)
    result, fitted = compute_profiles(
        file, options, channels=channels_of_run(run), edges=edges, alignment=alignment, advance=advance
    )
    run.record(*write_profiles(result, fitted, run.profiles))
    return result


def write_profiles(result: ProfileResult, alignment: Alignment, folder: Path) -> list[Path]:
    """Write profiles and their alignment into a folder.

    The JSON file of earlier profiles is removed first, so that an alignment never lies beside profiles of another one.

    Returns:
        The paths of all files.
    """
    ProfileResult.remove(folder)
    return [write_alignment(alignment, folder / FILE), *result.write(folder)]


def channels_of_run(run: RunFolder) -> dict[str, tuple[str, float]]:
    """Return the channel with the largest Shapley value of every perturbation.

    The value is the mean over cell types, weighted by the wells that were explained.

    Returns:
        Name of the channel and the value, by perturbation; empty where the run was not explained.

    Raises:
        RunError: The explanation is damaged.
    """
    try:
        explanation = Explanation.read(run.explanations)
    except MissingResultError:
        return {}
    if explanation.perturbations is None:
        return {}
    with read_regular_file(run.explanations / "perturbations.parquet", fix=rebuild_hint(run.explanations)):
        return _channels_that_moved(explanation.perturbations, list(explanation.settings.get("channels", ())))


def _channels_that_moved(table: pd.DataFrame, names: list[str]) -> dict[str, tuple[str, float]]:
    moved: dict[str, tuple[str, float]] = {}
    for name, rows in table.groupby("explained", sort=False) if names else ():
        weights = rows["wells"].to_numpy(dtype=np.float64)
        values = rows[[f"shapley_{k + 1}" for k in range(len(names))]].to_numpy(dtype=np.float64)
        mean = (weights[:, None] * values).sum(axis=0) / weights.sum()
        top = int(mean.argmax())
        if np.isfinite(mean).all() and mean[top] > 0:
            moved[str(name)] = (str(names[top]), float(mean[top]))
    return moved
