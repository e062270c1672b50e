"""Wells and sites that the others of their kind have, and these have not."""

from collections import Counter, defaultdict

from distangle.screen.perturbation import natural_key
from distangle.screen.problems import Problem
from distangle.screen.table import KEY_COLUMNS, WELL_COLUMNS, Screen

USUAL = 0.8  # share of the plates, or all but one, that have a well: its absence on another is remarkable then


def check_gaps(screen: Screen) -> list[Problem]:
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
        missing = sorted(usual - wells, key=natural_key)
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
