"""Check wells and options before profiles are computed, and say what is unusual."""

from collections.abc import Sequence

import numpy as np

from distangle.errors import ProfileError, brief
from distangle.profiles.alignment import CONTROL_STEPS, STEPS
from distangle.profiles.alignment_checks import GROUP_COLUMNS, Group, check_names, group_names, listing
from distangle.profiles.hits import COMPOUND, NAME
from distangle.profiles.readers import PERTURBATION_COLUMNS
from distangle.profiles.sphering import control_mask
from distangle.results.profiles import Profiles

MIN_MIXTURE = 8  # perturbations of a plate; with fewer, its mean is no reference for all of them
_SHOWN = 8


def check_wells(wells: Profiles, *, steps: Sequence[str], columns: Sequence[str]) -> None:
    """Check that wells can be aligned and compared, before anything is computed.

    Args:
        wells: Profiles of wells.
        steps: Steps of the alignment.
        columns: Columns that will be read; "" is skipped.

    Raises:
        ProfileError: A step or a column is unknown, there is no negative control or no other perturbation, or all
            profiles are equal.
    """
    check_names(steps, known=STEPS)
    for column in columns:
        if column and column not in wells.table:
            names = [str(name) for name in wells.table if not str(name).startswith("Metadata_N_")]
            raise ProfileError(
                f"The profiles have no column {brief(column)!r}. Expected one of: {', '.join(map(brief, names))}. "
                "Name one, or add it by a table: `--metadata TABLE`."
            )
    controls = control_mask(wells)
    named = (wells.table[NAME] != "").to_numpy(dtype=bool)
    if not named.any() and not controls.any():
        raise ProfileError(
            f"None of {len(wells)} wells has a perturbation. Expected its name in a column such as "
            f"{PERTURBATION_COLUMNS[0]}. Name the column: `--perturbation COLUMN`, or add it by a table of plates and "
            "wells: `--metadata TABLE`."
        )
    if not controls.any():
        names = sorted({name for name in wells.table[NAME] if name})
        raise ProfileError(
            f"None of {len(wells)} wells is a negative control; the perturbations are "
            f"{', '.join(map(brief, names[:_SHOWN]))}{' and others' if len(names) > _SHOWN else ''}. Expected controls "
            "on every plate. Name them: `--negative-control NAME`, or give a column Metadata_Role with "
            "negative_control."
        )
    if not (named & ~controls).any():
        raise ProfileError(
            f"None of {len(wells)} wells has a perturbation that is no negative control. Expected some. "
            "Name the column of the perturbation: `--perturbation COLUMN`."
        )
    if not _varies(wells).any():
        n = len(wells.feature_names)
        raise ProfileError(
            f"All {n} feature{'' if n == 1 else 's'} of all {len(wells)} wells {'is' if n == 1 else 'are'} constant. "
            "Expected profiles that differ. Compute the features again."
        )


def check_fit_on(fit_on: Sequence[str], steps: Sequence[str]) -> None:
    """Check that a step uses the wells that were named to fit on.

    Args:
        fit_on: Conditions of the wells.
        steps: Steps of the alignment.

    Raises:
        ProfileError: No step uses them.
    """
    if fit_on and not set(steps) & CONTROL_STEPS:
        raise ProfileError(
            f"No step of the alignment ({', '.join(steps) or 'none'}) is fitted on the wells with "
            f"{' or '.join(map(brief, fit_on))}: it uses all wells of a plate or experiment. Expected one of "
            f"{', '.join(step for step in STEPS if step in CONTROL_STEPS)}, such as `--align center-controls`."
        )


def well_notes(wells: Profiles) -> list[str]:
    """Return sentences on plates without controls and on features that say nothing.

    Args:
        wells: Profiles of wells.
    """
    notes = []
    codes = wells.codes(GROUP_COLUMNS["plate"])
    names = group_names(wells, "plate", codes)
    n_controls = np.bincount(codes[control_mask(wells)], minlength=len(names))
    without = [name for name, n in zip(names, n_controls, strict=True) if not n]
    if without:
        n_wells = int((n_controls[codes] == 0).sum())
        notes.append(
            f"{len(without)} of {len(names)} plates {'has' if len(without) == 1 else 'have'} no negative control: "
            f"{listing(without)}. {n_wells} wells there count as replicates to be found, but search for none."
        )
    constant = [name for name, varies in zip(wells.feature_names, _varies(wells), strict=True) if not varies]
    if constant:
        notes.append(
            f"{len(constant)} of {len(wells.feature_names)} features {'is' if len(constant) == 1 else 'are'} constant "
            f"and {'tells' if len(constant) == 1 else 'tell'} no wells apart: {listing(constant)}."
        )
    if len(wells.feature_names) == 1:
        notes.append("There is one feature, so every cosine is 1 or -1. Use more features.")
    return notes


def mixture_note(wells: Profiles, steps: Sequence[str]) -> str:
    """Return a sentence on plates of few perturbations; "" without any.

    Args:
        wells: Profiles of wells.
        steps: Steps of the alignment.
    """
    means = [step for step in steps if step in ("center-plate", "mad-plate", "center-experiment")]
    if not means:
        return ""
    group: Group = "experiment" if "experiment" in means[0] else "plate"
    treated = wells.select(~control_mask(wells) & (wells.table[NAME] != "").to_numpy(dtype=bool))
    column = COMPOUND if COMPOUND in treated.table else NAME
    codes, names = treated.codes(GROUP_COLUMNS[group]), treated.codes(column)
    n = float(np.median([len(np.unique(names[codes == code])) for code in np.unique(codes)]))
    if n >= MIN_MIXTURE:
        return ""
    return (
        f"Half of the {group}s hold {n:g} perturbations or fewer. The mean of their wells holds a large part of each, "
        f"which {means[0]} removes. Compare with `--align none` or steps of the controls, such as `center-controls`."
    )


def _varies(wells: Profiles) -> np.ndarray:
    return np.asarray((wells.features != wells.features[:1]).any(axis=0))


def check_edges(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> None:
    """Check that at least one known relation joins two perturbations with profiles.

    Args:
        names: Perturbations with a profile.
        edges: Known relations.

    Raises:
        ProfileError: There is none.
    """
    known = set(names)
    if any(a in known and b in known for a, b in edges):
        return
    unknown = [name for pair in edges for name in pair if name not in known]
    raise ProfileError(
        f"None of {len(edges)} known relations joins two perturbations with profiles; unknown names: "
        f"{listing(unknown)}. The perturbations are {', '.join(map(brief, sorted(known)[:_SHOWN]))}"
        f"{' and others' if len(known) > _SHOWN else ''}. Write the names as the profiles have them."
    )


def label_note(wells: Profiles, label: str) -> str:
    """Return a sentence on perturbations whose wells have several labels, or "".

    Args:
        wells: Profiles of wells, each with a perturbation.
        label: Column of the labels.
    """
    n_labels = wells.table.groupby(NAME)[label].nunique()
    several = [str(name) for name in n_labels.index[n_labels > 1]]
    if not several:
        return ""
    return (
        f"{len(several)} of {len(n_labels)} perturbations have several values of {label} in their wells and count as "
        f"without label: {listing(several)}."
    )
