"""Check labels: names changed by a spreadsheet, two spellings, another coding."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from distangle.screen.perturbation import class_list_sha256, natural_key
from distangle.screen.problems import Problem
from distangle.screen.table import WELL_COLUMNS, Screen

MISSING = {"na", "n/a", "nan", "none", "null", "#n/a", "#ref!", "#value!", "-", "?"}
_CHANGED = re.compile(
    r"[0-9](\.[0-9]+)?E[+-]?[0-9]+|[0-9]{1,2}-(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)|(mar|sep|dec)-?[0-9]{1,2}",
    re.IGNORECASE,
)


def check_coding(screen: Screen, like: Screen | None = None) -> list[Problem]:
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
                said = sorted(names, key=natural_key)
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
    rare = min(numbers, (sorted(set(names) - set(numbers), key=natural_key)), key=len)
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
    if class_list_sha256(ours) == class_list_sha256(theirs):
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
