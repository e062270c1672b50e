"""Refuse alignments that have no wells to use, or that would erase perturbations."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from distangle.errors import ProfileError, brief, did_you_mean
from distangle.results.profiles import PLATE, Profiles
from distangle.screen.roles import NEGATIVE

Group = Literal["plate", "experiment"]
GROUP_COLUMNS: Mapping[Group, tuple[str, ...]] = {"plate": PLATE, "experiment": PLATE[:1]}
"""Columns that name a group of rows that are aligned together."""


def group_names(profiles: Profiles, group: Group, codes: np.ndarray) -> list[str]:
    """Return the name of every group, in the order of its number."""
    _, first = np.unique(codes, return_index=True)
    rows = profiles.table[list(GROUP_COLUMNS[group])].iloc[first]
    return ["/".join(str(part) for part in row if part) for row in rows.itertuples(index=False)]


def listing(names: Sequence[str]) -> str:
    """Return the first names and the number of the others."""
    return ", ".join(map(brief, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def check_names(steps: Sequence[str], *, known: Iterable[str]) -> None:
    """Refuse steps that do not exist."""
    names = list(known)
    for name in steps:
        if name not in names:
            raise ProfileError(f"There is no step {brief(name)!r} of alignment. {did_you_mean(name, names)}")


def check_profiles(profiles: Profiles) -> None:
    """Refuse profiles without plates or rows, and values that are not finite."""
    if profiles.level == "perturbation":
        raise ProfileError(
            "These are profiles of perturbations, which are of no plate. Expected sites or wells; align first."
        )
    if not len(profiles):
        raise ProfileError("There are no profiles to align. Expected at least one row; check the selection of wells.")
    bad = np.flatnonzero(~np.isfinite(profiles.features).all(axis=0))
    if len(bad):
        names = listing([profiles.feature_names[number] for number in bad])
        raise ProfileError(f"The features {names} have values that are not finite. Expected numbers; leave them out.")


def check_counts(step: str, names: Sequence[str], counts: np.ndarray, *, least: int, wells: str) -> None:
    """Refuse groups that have too few rows for an estimate; `wells` names the rows."""
    few = [f"{name} ({count})" for name, count in zip(names, counts.tolist(), strict=True) if count < least]
    if few:
        raise ProfileError(
            f"Step {step!r} has too few {wells} on {listing(few)}. Expected at least {least} on each; "
            "leave these plates out or use another step."
        )


def check_perturbations(step: str, profiles: Profiles, codes: np.ndarray, names: Sequence[str]) -> None:
    """Refuse groups of one perturbation: their mean is the perturbation.

    A group of negative controls alone is none: there is nothing to erase.
    """
    perturbations = profiles.codes("Metadata_Perturbation")
    if "Metadata_Role" in profiles.table:
        is_control = profiles.table["Metadata_Role"].isin(list(NEGATIVE)).to_numpy(dtype=bool)
    else:
        is_control = np.zeros(len(profiles), dtype=bool)
    labels = profiles.table["Metadata_Perturbation"].astype(str).to_numpy()
    single = []
    for code, name in enumerate(names):
        rows = np.flatnonzero(codes == code)
        if len(np.unique(perturbations[rows])) == 1 and labels[rows[0]] and not is_control[rows].all():
            single.append(f"{name} ({brief(labels[rows[0]])})")
    if single:
        raise ProfileError(
            f"Step {step!r} would erase the perturbation, as there is only one on {listing(single)}. "
            "Expected two perturbations or more; use a step of the controls, such as 'center-controls'."
        )


def check_positions(step: str, profiles: Profiles) -> None:
    """Refuse layouts where the position of a well decides its perturbation."""
    n_plates = int(profiles.codes(PLATE).max()) + 1
    if n_plates < 2:
        raise ProfileError(
            f"Step {step!r} has {n_plates} plate. Expected 2 plates or more with different layouts; leave it out."
        )
    profiles.codes("Metadata_Perturbation")
    table = profiles.table[["Metadata_Well", "Metadata_Perturbation"]].astype(str)
    counts = table[table["Metadata_Perturbation"] != ""].value_counts()
    n_at = table["Metadata_Well"].value_counts()
    n_positions = counts.groupby("Metadata_Perturbation").size()
    fixed = sorted(
        f"{brief(perturbation)} ({well})"
        for well, perturbation, count in counts.reset_index().itertuples(index=False)
        if n_positions[perturbation] == 1 and count > n_at[well] / 2
    )
    if fixed:
        raise ProfileError(
            f"Step {step!r} would erase {len(fixed)} of {len(n_positions)} perturbations, as the position decides "
            f"them: {listing(fixed)}. Expected perturbations at different positions; leave this step out."
        )
