"""Check names of labels, and the number, position and role of controls."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
import pandas as pd

from distangle.screen.checks.duplicates import location_fields
from distangle.screen.problems import Problem
from distangle.screen.roles import NEGATIVE, Role, natural_sort_key, ordered_classes_sha256
from distangle.screen.screen import WELL_COLUMNS, Screen

MISSING_NAMES = {"na", "n/a", "nan", "none", "null", "#n/a", "#ref!", "#value!", "-", "?"}
MIN_CONTROLS = 3  # negative controls per plate for standardization by the plate
CONTROL_NAMES = {
    *("dmso", "untreated", "empty", "mock", "vehicle", "negative", "negcon", "neg_control", "negative_control"),
    *("nt", "non-targeting", "scrambled", "sictrl"),
}
_SPREADSHEET_NAME = re.compile(
    r"[0-9](\.[0-9]+)?E[+-]?[0-9]+|[0-9]{1,2}-(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)|(mar|sep|dec)-?[0-9]{1,2}",
    re.IGNORECASE,
)


def check_label_names(screen: Screen, like: Screen | None = None) -> list[Problem]:
    """Find damaged or ambiguous names, and labels that differ from another screen.

    Args:
        screen: The screen.
        like: A screen to compare or train with; wells of the same name show how labels correspond.
    """
    problems = [*_damaged_names(screen), *_spelling_variants(screen), *_mixed_codings(screen)]
    return problems if like is None else [*problems, *_compare_labels(screen, like)]


def _first_well(screen: Screen, column: str, name: str) -> dict[str, str]:
    row = screen.sites[screen.sites[column] == name].iloc[0]
    return {column_name: str(row[column_name]) for column_name in WELL_COLUMNS}


def _wells(screen: Screen) -> pd.DataFrame:
    """Return a row per well, with its role and perturbation."""
    return screen.sites[[*WELL_COLUMNS, "role", "perturbation"]].drop_duplicates(list(WELL_COLUMNS))


def _damaged_names(screen: Screen) -> list[Problem]:
    problems = []
    for column in ("experiment", "plate", "perturbation"):
        for name, n in _count_names(screen, column).items():
            is_missing = name.strip().lower() in MISSING_NAMES
            if is_missing or _SPREADSHEET_NAME.fullmatch(name.strip()):
                suspicion = "means a missing value" if is_missing else "is another name that a spreadsheet converted"
                problems.append(
                    Problem(
                        severity="warning",
                        kind="name of a missing value" if is_missing else "name changed by a spreadsheet",
                        what=f"the {column} {name!r} usually {suspicion}; {n} sites have it",
                        **_first_well(screen, column, name),
                        fix="Nothing, if the name is right; otherwise correct the table and index again.",
                        count=n,
                    )
                )
    return problems


def _count_names(screen: Screen, column: str) -> dict[str, int]:
    """Return the sites of each name, in the order of the table."""
    code, names = pd.factorize(screen.sites[column].astype(str))
    return dict(zip(map(str, names), np.bincount(code, minlength=len(names)).tolist(), strict=True))


def _spelling_variants(screen: Screen) -> list[Problem]:
    problems = []
    for column in ("experiment", "plate", "perturbation", "cell_type"):
        names_by_key: dict[str, set[str]] = defaultdict(set)
        counts = _count_names(screen, column)
        for name in counts.keys() - {""}:
            names_by_key[_spelling_key(name)].add(name)
        for names in names_by_key.values():
            if len(names) > 1:
                ordered = sorted(names, key=natural_sort_key)
                listed = [f"{name!r} ({counts[name]} sites)" for name in ordered]
                rare = min(ordered, key=lambda name: counts[name])
                problems.append(
                    Problem(
                        severity="warning",
                        kind="names that differ by spelling",
                        what=f"{column}: {' and '.join(listed)} kept apart",
                        **_first_well(screen, column, rare),
                        fix="If they are one name, use one spelling in the table and index again.",
                        count=counts[rare],
                    )
                )
    return problems


def _spelling_key(name: str) -> str:
    separated = re.sub(r"(?<=\d)[\s_.-]+(?=\d)", "|", name)  # `1-11` is not `11-1`, and 1.0 is not 10
    folded = re.sub(r"[\s_.-]+", "", separated).casefold()
    # `0012` equals `12`, but `a1` is not `a01`: a spreadsheet drops the zeros of a plate number.
    return folded.lstrip("0") or "0" if folded.isdigit() else folded


def _mixed_codings(screen: Screen) -> list[Problem]:
    names = [name for name in screen.metadata.perturbations if name]
    numbers = [name for name in names if name.isdecimal()]
    if not (len(numbers) >= 3 and len(names) - len(numbers) >= 3):
        return []
    rare = min(numbers, (sorted(set(names) - set(numbers), key=natural_sort_key)), key=len)
    return [
        Problem(
            severity="warning",
            kind="labels of two codings",
            what=f"{len(numbers)} perturbations are numbers ({', '.join(numbers[:3])}, ...), "
            f"{len(names) - len(numbers)} are names: were tables of two versions combined?",
            **_first_well(screen, "perturbation", rare[0]),
            fix="Use tables of one version: a number and a name may be the same perturbation.",
            count=len(rare),
        )
    ]


def _compare_labels(screen: Screen, like: Screen) -> list[Problem]:
    names, other_names = screen.metadata.perturbations, like.metadata.perturbations
    if ordered_classes_sha256(names) == ordered_classes_sha256(other_names):
        return []
    shared = len(set(names) & set(other_names))
    description = f"{len(names)} perturbations here, {len(other_names)} there, {shared} names in common"
    pairs = _label_pairs(screen, like)
    n_wells = sum(pairs.values())
    partners: dict[str, set[str]] = defaultdict(set)
    for label, other_label in pairs:
        partners[label].add(other_label)
    one_to_one = sum(len(others) == 1 for others in partners.values())
    changed = sum(n for (label, other_label), n in pairs.items() if label != other_label)
    if changed:
        example = next(f"{label!r} is {other_label!r} there" for label, other_label in pairs if label != other_label)
        description += f"; of {n_wells} wells in both {changed} have another label ({example})"
        if one_to_one == len(partners):
            description += f": the same {len(partners)} perturbations in another coding"
    return [
        Problem(
            severity="error" if changed or not shared else "warning",
            kind="another coding of the labels" if changed else "another list of perturbations",
            what=description,
            fix="Index both from tables of one version; a network refuses a screen with another class list.",
            count=changed or len(set(names) ^ set(other_names)),
        )
    ]


def _label_pairs(screen: Screen, like: Screen) -> Counter[tuple[str, str]]:
    def labels(of: Screen) -> Iterable[tuple[tuple[str, ...], str]]:
        wells = _wells(of)
        keys = wells[list(WELL_COLUMNS)].astype(str).itertuples(index=False, name=None)
        return zip(keys, wells["perturbation"].tolist(), strict=True)

    other_labels = dict(labels(like))
    return Counter((name, other_labels[key]) for key, name in labels(screen) if name and other_labels.get(key))


def check_control_layout(screen: Screen) -> list[Problem]:
    """Find plates with few controls, controls in a wrong role, names in two roles."""
    return [*_controls_per_plate(screen), *_controls_as_treatments(screen), *_two_roles(screen)]


def _controls_per_plate(screen: Screen) -> list[Problem]:
    wells = _wells(screen)
    negative = wells["role"].isin(NEGATIVE)
    positive = wells["role"] == Role.POSITIVE_CONTROL.value
    if not negative.any():
        return [
            Problem(
                severity="warning",
                kind="no negative control",
                what="no well is a negative control or untreated, to standardize, center or align plates",
                fix="Name them when indexing: --negative-control DMSO.",
                count=len(wells),
            )
        ]
    by = [wells["experiment"], wells["plate"]]
    n_negative, n_positive = negative.groupby(by, sort=False).sum(), positive.groupby(by, sort=False).sum()
    problems = []
    for key, n in n_negative.items():
        if n < MIN_CONTROLS:
            problems.append(
                Problem(
                    severity="note" if n else "warning",
                    kind="few negative controls" if n else "no negative control",
                    what=f"{n} negative control{'s' * (n != 1)} on the plate, standardization needs {MIN_CONTROLS}",
                    **location_fields(key),
                    fix="Standardize by `experiment_controls` or `image`, not by `controls` of the plate.",
                )
            )
    if (n_positive > 0).mean() > 0.5:
        problems += [
            Problem(
                severity="note",
                kind="no positive control",
                what="no positive control on the plate, unlike most plates",
                **location_fields(key),
                fix="Nothing; its predictions cannot be checked by known reagents.",
            )
            for key, n in n_positive.items()
            if n == 0
        ]
    return problems


def _controls_as_treatments(screen: Screen) -> list[Problem]:
    wells = _wells(screen)
    treated = wells[wells["role"] == Role.TREATMENT.value]
    suspects = [name for name in treated["perturbation"].unique() if str(name).strip().lower() in CONTROL_NAMES]
    problems = []
    for name, group in treated[treated["perturbation"].isin(suspects)].groupby("perturbation", sort=True):
        first = group.iloc[0]
        problems.append(
            Problem(
                severity="warning",
                kind="control called a treatment",
                what=f"{str(name)!r} looks like a negative control, but {len(group)} of its wells are treatments",
                experiment=str(first["experiment"]),
                plate=str(first["plate"]),
                well=str(first["well"]),
                fix=f"If it is one, index again with --negative-control {name}.",
                count=len(group),
            )
        )
    return problems


def _two_roles(screen: Screen) -> list[Problem]:
    roles: dict[str, dict[str, tuple[str, str, str]]] = defaultdict(dict)
    wells = _wells(screen)
    counts = wells.groupby(["perturbation", "role"]).size()
    first = wells.drop_duplicates(["perturbation", "role"])
    for name, role, *location in first[["perturbation", "role", *WELL_COLUMNS]].itertuples(index=False):
        if name:
            roles[name].setdefault(role, (str(location[0]), str(location[1]), str(location[2])))
    problems = []
    for name, locations in roles.items():
        if len(locations) > 1:
            rare = min(locations, key=lambda role: int(counts[name, role]))
            experiment, plate, well = locations[rare]
            listed = " and ".join(f"{counts[name, role]} x {role}" for role in sorted(locations))
            problems.append(
                Problem(
                    severity="error",
                    kind="perturbation in two roles",
                    what=f"{name!r} is {listed}: a control is mislabeled, or two perturbations have one name",
                    experiment=experiment,
                    plate=plate,
                    well=well,
                    fix="Correct the role of the rarer wells, or give them another name, and index again.",
                    count=int(counts[name, rare]),
                )
            )
    return problems
