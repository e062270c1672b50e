"""Find duplicate sites, files and pages, and missing wells and sites."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from distangle.screen.plates import location_name
from distangle.screen.problems import Problem
from distangle.screen.roles import natural_sort_key
from distangle.screen.screen import KEY_COLUMNS, PLATE_COLUMNS, WELL_COLUMNS, Screen

MIN_PRESENCE = 0.8  # share of plates with a well (or all but one) above which its absence is reported


def check_duplicates(screen: Screen) -> list[Problem]:
    """Find copied files, sites or pages listed twice, and wells in two splits."""
    return [*_same_bytes(screen), *_same_site(screen), *_same_page(screen), *_two_splits(screen)]


def location_fields(key: Any) -> Any:
    """Return a key (experiment, plate, ...) as location fields of a problem."""
    return dict(zip(KEY_COLUMNS, map(str, key), strict=False))


def _same_bytes(screen: Screen) -> list[Problem]:
    repeated = screen.sites[(screen.sites["sha256"] != "") & screen.sites.duplicated("sha256", keep=False)]
    problems = []
    for _, part in repeated.groupby("sha256", sort=False):
        splits = sorted(set(part["split"]))
        crosses_split = len(splits) > 1
        locations = [location_name(*key) for key in part[list(KEY_COLUMNS)].itertuples(index=False, name=None)]
        split_text = f", in the splits {' and '.join(repr(name) for name in splits)}" if crosses_split else ""
        more = f" and {len(locations) - 4} more" if len(locations) > 4 else ""
        first = part.iloc[0]
        problems.append(
            Problem(
                severity="error" if crosses_split else "warning",
                kind="same bytes on both sides of the split" if crosses_split else "same bytes at two sites",
                what=f"{' = '.join(locations[:4])}{more}{split_text}",
                experiment=str(first["experiment"]),
                plate=str(first["plate"]),
                well=str(first["well"]),
                site=str(first["site"]),
                file=str(first.get("path_1", "")),
                fix="One of them is a copy under a wrong name: remove its rows and index again.",
                count=len(part),
            )
        )
    return problems


def _same_site(screen: Screen) -> list[Problem]:
    repeated = screen.sites[screen.sites.duplicated(list(KEY_COLUMNS), keep=False)]
    return [
        Problem(
            severity="error",
            kind="site in the table twice",
            what=f"{len(group)} rows",
            **location_fields(key),
            fix="Index the source again: the table was edited by hand.",
            count=len(group),
        )
        for key, group in repeated.groupby(list(KEY_COLUMNS), sort=False)
    ]


def _same_page(screen: Screen) -> list[Problem]:
    users_of_page: dict[tuple[str, int], list[tuple[int, str]]] = defaultdict(list)
    for k, row in _pages_used_twice(screen):
        page_of_path = str(screen.sites[f"path_{k}"].iat[row]), int(screen.sites[f"page_{k}"].to_numpy()[row])
        users_of_page[page_of_path].append((row, screen.metadata.channels[k - 1].name))
    problems = []
    for (path, page), users in users_of_page.items():
        first = screen.sites.iloc[users[0][0]]
        locations = [
            " ".join(map(str, screen.sites.iloc[row][list(KEY_COLUMNS)])) + f" channel {name}" for row, name in users
        ]
        problems.append(
            Problem(
                severity="error",
                kind="file of two channels or sites",
                what=f"{path}{f' page {page}' if page >= 0 else ''} is {' and '.join(locations[:4])}",
                experiment=str(first["experiment"]),
                plate=str(first["plate"]),
                well=str(first["well"]),
                site=str(first["site"]),
                channel=users[0][1],
                file=path,
                fix="Correct the paths: every channel of every site needs a separate image.",
                count=len(users),
            )
        )
    return problems


def _pages_used_twice(screen: Screen) -> list[tuple[int, int]]:
    """Return channel, from 1, and row of every use of a page that has two, channel by channel."""
    channels = range(1, len(screen.metadata.channels) + 1)
    if not channels:
        return []
    paths = pd.concat([screen.sites[f"path_{k}"] for k in channels], ignore_index=True)
    pages = np.concatenate([screen.sites[f"page_{k}"].to_numpy(dtype=np.int64) for k in channels])
    code = pd.factorize(paths)[0] * (int(pages.max(initial=0)) + 2) + pages + 1
    used_twice = np.flatnonzero(pd.Series(code).duplicated(keep=False).to_numpy() & (paths != "").to_numpy())
    return [(cell // len(screen.sites) + 1, cell % len(screen.sites)) for cell in used_twice.tolist()]


def _two_splits(screen: Screen) -> list[Problem]:
    sites = screen.sites
    n_splits = sites.groupby(list(WELL_COLUMNS))["split"].nunique()
    return [
        Problem(
            severity="error",
            kind="well in two splits",
            what="its sites are in different splits of the table: the same cells on both sides",
            **location_fields(key),
            fix="Use one split for all sites of a well, or better for all wells of an experiment.",
        )
        for key in n_splits[n_splits > 1].index.tolist()
    ]


def check_missing(screen: Screen) -> list[Problem]:
    """Find wells that lack sites and plates that lack wells which most have."""
    return [*_missing_sites(screen), *_missing_wells(screen)]


def _missing_sites(screen: Screen) -> list[Problem]:
    sites = screen.sites
    if screen.metadata.tables_only and not (sites["site"] != 0).any():
        return []
    numbers = _values_by_key(sites, WELL_COLUMNS, "site")
    sets = Counter(sites_of_well for _, sites_of_well in numbers)
    common, n_common = max(sets.items(), key=lambda item: (item[1], len(item[0])))
    if 2 * n_common <= len(numbers):  # single cells, or a varying number of fields
        return []
    problems = []
    for (experiment, plate, well), sites_of_well in numbers:
        missing = sorted(common - sites_of_well)
        if missing:
            listed = ", ".join(map(str, missing))
            problems.append(
                Problem(
                    severity="warning",
                    kind="missing sites",
                    what=f"{len(sites_of_well)} of {len(common)} sites: no site {listed}; "
                    f"{n_common} of {len(numbers)} have it",
                    experiment=experiment,
                    plate=plate,
                    well=well,
                    site=listed,
                    fix="Copy the images of these sites and index again; problems.csv lists the refused ones.",
                    count=len(missing),
                )
            )
    return problems


def _missing_wells(screen: Screen) -> list[Problem]:
    wells_of = _values_by_key(screen.sites.drop_duplicates(list(WELL_COLUMNS)), PLATE_COLUMNS, "well")
    if len(wells_of) < 3:
        return []
    counts = Counter(well for _, wells in wells_of for well in wells)
    common_wells = {well for well, n in counts.items() if n >= min(MIN_PRESENCE * len(wells_of), len(wells_of) - 1)}
    problems = []
    for (experiment, plate), wells in wells_of:
        missing = sorted(common_wells - wells, key=natural_sort_key)
        if missing:
            listed = ", ".join(missing[:12]) + (f" and {len(missing) - 12} more" if len(missing) > 12 else "")
            problems.append(
                Problem(
                    severity="note",
                    kind="missing wells",
                    what=f"{len(missing)} of {len(common_wells)} wells of most plates are missing: {listed}. "
                    "The other wells keep their positions",
                    experiment=experiment,
                    plate=plate,
                    well=",".join(missing[:12]),
                    fix="Nothing, if they failed; otherwise add their rows or images and index again.",
                    count=len(missing),
                )
            )
    return problems


def _values_by_key(
    sites: pd.DataFrame, columns: Sequence[str], value: str
) -> list[tuple[tuple[str, ...], frozenset[Any]]]:
    """Return the values of a column for each key, in the order of the table; equal sets are one object."""
    code = sites.groupby([sites[name] for name in columns], sort=False, dropna=False).ngroup().to_numpy()
    order = np.argsort(code, kind="stable")
    values = sites[value].to_numpy()[order].tolist()
    first = np.flatnonzero(np.diff(code[order], prepend=-1)).tolist()
    part = sites.iloc[order[first]]
    keys = zip(*(part[name].tolist() for name in columns), strict=True)
    sets: dict[tuple[Any, ...], frozenset[Any]] = {}
    lists = (tuple(values[start:end]) for start, end in zip(first, [*first[1:], len(values)], strict=True))
    return [(key, sets.setdefault(cells, frozenset(cells))) for key, cells in zip(keys, lists, strict=True)]
