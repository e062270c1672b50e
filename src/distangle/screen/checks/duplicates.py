"""One thing twice: a site, a file, or the same bytes under two names.

Wells and sites that the others of their kind have, and these have not.
"""

from collections import Counter, defaultdict
from typing import Any

from distangle.screen.plates import location_name
from distangle.screen.problems import Problem
from distangle.screen.roles import natural_sort_key
from distangle.screen.screen import KEY_COLUMNS, WELL_COLUMNS, Screen


def check_duplicates(screen: Screen) -> list[Problem]:
    """Find copied files, sites or pages listed twice, and wells in two splits."""
    return [*_same_bytes(screen), *_same_site(screen), *_same_page(screen), *_two_splits(screen)]


def place_of(key: Any) -> Any:
    """Return the parts of a group's key, experiment first, as fields of a problem."""
    return dict(zip(KEY_COLUMNS, map(str, key), strict=False))


def _same_bytes(screen: Screen) -> list[Problem]:
    sites = screen.sites
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(sites["sha256"].tolist()):
        if digest:
            rows_of[digest].append(row)
    found = []
    for rows in rows_of.values():
        if len(rows) < 2:
            continue
        part = sites.iloc[rows]
        both = sorted(set(part["split"]))
        apart = len(both) > 1
        places = [location_name(*key) for key in part[list(KEY_COLUMNS)].itertuples(index=False, name=None)]
        sides = f", in the splits {' and '.join(repr(name) for name in both)}" if apart else ""
        first = part.iloc[0]
        found.append(
            Problem(
                severity="error" if apart else "warning",
                kind="same bytes on both sides of the split" if apart else "same bytes at two sites",
                what=f"{' = '.join(places[:4])}{f' and {len(places) - 4} more' if len(places) > 4 else ''}{sides}",
                experiment=str(first["experiment"]),
                plate=str(first["plate"]),
                well=str(first["well"]),
                site=str(first["site"]),
                file=str(first.get("path_1", "")),
                fix="One of them is a copy under a wrong name: find out which, remove its rows, and index again.",
                count=len(rows),
            )
        )
    return found


def _same_site(screen: Screen) -> list[Problem]:
    repeated = screen.sites[screen.sites.duplicated(list(KEY_COLUMNS), keep=False)]
    return [
        Problem(
            severity="error",
            kind="site in the table twice",
            what=f"{len(group)} rows",
            **place_of(key),
            fix="Index the source again: the table was put together by hand.",
            count=len(group),
        )
        for key, group in repeated.groupby(list(KEY_COLUMNS), sort=False)
    ]


def _same_page(screen: Screen) -> list[Problem]:
    holders: dict[tuple[str, int], list[tuple[int, str]]] = defaultdict(list)
    for k, channel in enumerate(screen.card.channels, start=1):
        pairs = zip(screen.sites[f"path_{k}"].tolist(), screen.sites[f"page_{k}"].tolist(), strict=True)
        for row, (path, page) in enumerate(pairs):
            if path:
                holders[path, int(page)].append((row, channel.name))
    found = []
    for (path, page), held in holders.items():
        if len(held) < 2:
            continue
        first = screen.sites.iloc[held[0][0]]
        places = [
            " ".join(map(str, screen.sites.iloc[row][list(KEY_COLUMNS)])) + f" channel {name}" for row, name in held
        ]
        found.append(
            Problem(
                severity="error",
                kind="file of two channels or sites",
                what=f"{path}{f' page {page}' if page >= 0 else ''} is {' and '.join(places[:4])}",
                experiment=str(first["experiment"]),
                plate=str(first["plate"]),
                well=str(first["well"]),
                site=str(first["site"]),
                channel=held[0][1],
                file=path,
                fix="Correct the paths: every channel of every site has pixels of its own.",
                count=len(held),
            )
        )
    return found


def _two_splits(screen: Screen) -> list[Problem]:
    sites = screen.sites
    n_splits = sites.groupby(list(WELL_COLUMNS))["split"].nunique()
    return [
        Problem(
            severity="error",
            kind="well in two splits",
            what="its sites are in different splits of the table: the same cells on both sides",
            **place_of(key),
            fix="Give all sites of a well one split, better all wells of an experiment.",
        )
        for key in n_splits[n_splits > 1].index.tolist()
    ]


USUAL = 0.8  # share of the plates, or all but one, that have a well: its absence on another is remarkable then


def check_missing(screen: Screen) -> list[Problem]:
    """Find wells that lack sites and plates that lack wells which most have."""
    return [*_sites(screen), *_wells(screen)]


def _sites(screen: Screen) -> list[Problem]:
    sites = screen.sites
    if screen.card.tables_only and not (sites["site"] != 0).any():
        return []
    numbers: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    for experiment, plate, well, site in sites[list(KEY_COLUMNS)].itertuples(index=False):
        numbers[experiment, plate, well].add(int(site))
    sets = Counter(frozenset(own) for own in numbers.values())
    usual, n_usual = max(sets.items(), key=lambda item: (item[1], len(item[0])))
    if 2 * n_usual <= len(numbers):  # single cells, or as many fields as there was time for
        return []
    found = []
    for (experiment, plate, well), own in numbers.items():
        missing = sorted(usual - own)
        if missing:
            listed = ", ".join(map(str, missing))
            found.append(
                Problem(
                    severity="warning",
                    kind="missing sites",
                    what=f"{len(own)} of {len(usual)} sites: no site {listed}; {n_usual} of {len(numbers)} have it",
                    experiment=experiment,
                    plate=plate,
                    well=well,
                    site=listed,
                    fix="Copy the images of these sites and index again; problems.csv says which were refused.",
                    count=len(missing),
                )
            )
    return found


def _wells(screen: Screen) -> list[Problem]:
    wells_of: dict[tuple[str, str], set[str]] = defaultdict(set)
    for experiment, plate, well in screen.sites[list(WELL_COLUMNS)].itertuples(index=False):
        wells_of[experiment, plate].add(well)
    if len(wells_of) < 3:
        return []
    counts = Counter(well for wells in wells_of.values() for well in wells)
    usual = {well for well, n in counts.items() if n >= min(USUAL * len(wells_of), len(wells_of) - 1)}
    found = []
    for (experiment, plate), wells in wells_of.items():
        missing = sorted(usual - wells, key=natural_sort_key)
        if missing:
            listed = ", ".join(missing[:12]) + (f" and {len(missing) - 12} more" if len(missing) > 12 else "")
            found.append(
                Problem(
                    severity="note",
                    kind="missing wells",
                    what=f"{len(missing)} of {len(usual)} wells that most plates have are not here: {listed}. "
                    "The others keep their places: wells go by name",
                    experiment=experiment,
                    plate=plate,
                    well=",".join(missing[:12]),
                    fix="Nothing, if they failed; else add their rows or images and index again.",
                    count=len(missing),
                )
            )
    return found
