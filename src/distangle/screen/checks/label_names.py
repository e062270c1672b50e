"""Check labels: names changed by a spreadsheet, two spellings, another coding.

Check controls: how many each plate has, where, and under which role.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from distangle.screen.checks.duplicates import place_of
from distangle.screen.problems import Problem
from distangle.screen.roles import NEGATIVE, Role, natural_sort_key, ordered_classes_sha256
from distangle.screen.screen import WELL_COLUMNS, Screen

MISSING = {"na", "n/a", "nan", "none", "null", "#n/a", "#ref!", "#value!", "-", "?"}
_CHANGED = re.compile(
    r"[0-9](\.[0-9]+)?E[+-]?[0-9]+|[0-9]{1,2}-(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)|(mar|sep|dec)-?[0-9]{1,2}",
    re.IGNORECASE,
)


def check_label_names(screen: Screen, like: Screen | None = None) -> list[Problem]:
    """Find labels changed on the way, or coded unlike those of another screen.

    Args:
        screen: The screen.
        like: One that it will be compared or trained together with; wells of the same name tell what became of a label.
    """
    found = [*_changed(screen), *_spellings(screen), *_two_codings(screen)]
    return found if like is None else [*found, *_against(screen, like)]


def _first(screen: Screen, column: str, name: str) -> dict[str, str]:
    row = screen.sites[screen.sites[column] == name].iloc[0]
    return {place: str(row[place]) for place in WELL_COLUMNS}


def _changed(screen: Screen) -> list[Problem]:
    found = []
    for column in ("experiment", "plate", "perturbation"):
        for name, n in Counter(screen.sites[column].astype(str)).items():
            lost = name.strip().lower() in MISSING
            if lost or _CHANGED.fullmatch(name.strip()):
                what = "stands for a missing value" if lost else "is what a spreadsheet makes of another name"
                found.append(
                    Problem(
                        severity="warning",
                        kind="name of a missing value" if lost else "name changed by a spreadsheet",
                        what=f"the {column} {name!r} usually {what}; {n} sites have it",
                        **_first(screen, column, name),
                        fix="If it is a true name, nothing; else correct the table, best as text, and index again.",
                        count=n,
                    )
                )
    return found


def _spellings(screen: Screen) -> list[Problem]:
    found = []
    for column in ("experiment", "plate", "perturbation", "cell_type"):
        alike: dict[str, set[str]] = defaultdict(set)
        for name in set(screen.sites[column].astype(str)) - {""}:
            alike[_plain(name)].add(name)
        for names in alike.values():
            if len(names) > 1:
                said = sorted(names, key=natural_sort_key)
                counts = Counter(screen.sites[column].astype(str))
                rare = min(said, key=lambda name: counts[name])
                found.append(
                    Problem(
                        severity="warning",
                        kind="names that differ by spelling",
                        what=f"{column}: {' and '.join(f'{one!r} ({counts[one]} sites)' for one in said)} kept apart",
                        **_first(screen, column, rare),
                        fix="If they are one, write them alike in the table and index again.",
                        count=counts[rare],
                    )
                )
    return found


def _plain(name: str) -> str:
    parted = re.sub(r"(?<=\d)[\s_.-]+(?=\d)", "|", name)  # `1-11` is not `11-1`, nor 1.0 10
    folded = re.sub(r"[\s_.-]+", "", parted).casefold()
    # `0012` and `12`, not `a1` and `a01`: a plate's number loses its zeros in a spreadsheet.
    return folded.lstrip("0") or "0" if folded.isdigit() else folded


def _two_codings(screen: Screen) -> list[Problem]:
    names = [name for name in screen.card.perturbations if name]
    numbers = [name for name in names if name.isdecimal()]
    if not (len(numbers) >= 3 and len(names) - len(numbers) >= 3):
        return []
    rare = min(numbers, (sorted(set(names) - set(numbers), key=natural_sort_key)), key=len)
    return [
        Problem(
            severity="warning",
            kind="labels of two codings",
            what=f"{len(numbers)} perturbations are numbers ({', '.join(numbers[:3])}, ...), "
            f"{len(names) - len(numbers)} are names: tables of two versions put together?",
            **_first(screen, "perturbation", rare[0]),
            fix="Use tables of one version: a number and a name may be one perturbation.",
            count=len(rare),
        )
    ]


def _against(screen: Screen, like: Screen) -> list[Problem]:
    ours, theirs = screen.card.perturbations, like.card.perturbations
    if ordered_classes_sha256(ours) == ordered_classes_sha256(theirs):
        return []
    shared = len(set(ours) & set(theirs))
    what = f"{len(ours)} perturbations here, {len(theirs)} there, {shared} names in common"
    pairs = _renamed(screen, like)
    n_wells = sum(pairs.values())
    partners: dict[str, set[str]] = defaultdict(set)
    for here, there in pairs:
        partners[here].add(there)
    one_to_one = sum(len(names) == 1 for names in partners.values())
    changed = sum(n for (here, there), n in pairs.items() if here != there)
    if changed:
        example = next(f"{here!r} is {there!r} there" for here, there in pairs if here != there)
        what += f"; of {n_wells} wells in both {changed} have another label ({example})"
        if one_to_one == len(partners):
            what += f": the same {len(partners)} perturbations in another coding"
    return [
        Problem(
            severity="error" if changed or not shared else "warning",
            kind="another coding of the labels" if changed else "another list of perturbations",
            what=what,
            fix="Index both from tables of one version; a network refuses a screen with another class list.",
            count=changed or len(set(ours) ^ set(theirs)),
        )
    ]


def _renamed(screen: Screen, like: Screen) -> Counter[tuple[str, str]]:
    def labels(of: Screen) -> Iterable[tuple[tuple[str, ...], str]]:
        wells = of.sites.drop_duplicates(list(WELL_COLUMNS))
        keys = wells[list(WELL_COLUMNS)].astype(str).itertuples(index=False, name=None)
        return zip(keys, wells["perturbation"].tolist(), strict=True)

    there = dict(labels(like))
    return Counter((name, there[key]) for key, name in labels(screen) if name and there.get(key))


FEW = 3  # negative controls below which a plate cannot be standardised by its own
NAMES = {"dmso", "untreated", "empty", "mock", "vehicle", "negative", "negcon", "neg_control", "negative_control", "nt",
         "non-targeting", "scrambled", "siCtrl".lower()}  # fmt: skip


def check_control_layout(screen: Screen) -> list[Problem]:
    """Find plates with few controls, controls in a wrong role, names in two roles."""
    return [*_per_plate(screen), *_misnamed(screen), *_two_roles(screen)]


def _per_plate(screen: Screen) -> list[Problem]:
    wells = screen.sites.drop_duplicates(list(WELL_COLUMNS))
    negative = wells["role"].isin(NEGATIVE)
    positive = wells["role"] == Role.POSITIVE_CONTROL.value
    if not negative.any():
        return [
            Problem(
                severity="warning",
                kind="no negative control",
                what="no well is a negative control or untreated: nothing to standardise, centre or align by",
                fix="Name them when indexing: --negative-control DMSO.",
                count=len(wells),
            )
        ]
    by = [wells["experiment"], wells["plate"]]
    n_negative, n_positive = negative.groupby(by, sort=False).sum(), positive.groupby(by, sort=False).sum()
    found = []
    for key, n in n_negative.items():
        if n < FEW:
            found.append(
                Problem(
                    severity="note" if n else "warning",
                    kind="few negative controls" if n else "no negative control",
                    what=f"{n} negative control{'s' * (n != 1)} on the plate, {FEW} are the least to standardise by",
                    **place_of(key),
                    fix="Standardise by `experiment_controls` or `image`, not by `controls` of the plate.",
                )
            )
    if (n_positive > 0).mean() > 0.5:
        found += [
            Problem(
                severity="note",
                kind="no positive control",
                what="no positive control on the plate, as most plates have",
                **place_of(key),
                fix="Its predictions cannot be checked by known reagents.",
            )
            for key, n in n_positive.items()
            if n == 0
        ]
    return found


def _misnamed(screen: Screen) -> list[Problem]:
    wells = screen.sites.drop_duplicates(list(WELL_COLUMNS))
    treated = wells[wells["role"] == Role.TREATMENT.value]
    found = []
    for name, group in treated.groupby("perturbation", sort=True):
        if str(name).strip().lower() in NAMES:
            first = group.iloc[0]
            found.append(
                Problem(
                    severity="warning",
                    kind="control called a treatment",
                    what=f"{str(name)!r} sounds like a negative control, but {len(group)} of its wells are treatments",
                    experiment=str(first["experiment"]),
                    plate=str(first["plate"]),
                    well=str(first["well"]),
                    fix=f"If it is one, index again with --negative-control {name}.",
                    count=len(group),
                )
            )
    return found


def _two_roles(screen: Screen) -> list[Problem]:
    roles: dict[str, dict[str, tuple[str, str, str]]] = defaultdict(dict)
    wells = screen.sites.drop_duplicates(list(WELL_COLUMNS))
    counts = wells.groupby(["perturbation", "role"]).size()
    for name, role, *place in wells[["perturbation", "role", *WELL_COLUMNS]].itertuples(index=False):
        if name:
            roles[name].setdefault(role, (str(place[0]), str(place[1]), str(place[2])))
    found = []
    for name, places in roles.items():
        if len(places) > 1:
            rare = min(places, key=lambda role: int(counts[name, role]))
            experiment, plate, well = places[rare]
            said = " and ".join(f"{counts[name, role]} x {role}" for role in sorted(places))
            found.append(
                Problem(
                    severity="error",
                    kind="perturbation in two roles",
                    what=f"{name!r} is {said}: a control is mislabelled, or two things have one name",
                    experiment=experiment,
                    plate=plate,
                    well=well,
                    fix="Correct the role of the rarer ones, or give them a name of their own, and index again.",
                    count=int(counts[name, rare]),
                )
            )
    return found
