"""Check controls: how many each plate has, where, and under which role."""

from collections import defaultdict

from distangle.screen.checks.copies import place_of
from distangle.screen.perturbation import NEGATIVE, Role
from distangle.screen.problems import Problem
from distangle.screen.table import WELL_COLUMNS, Screen

FEW = 3  # negative controls below which a plate cannot be standardised by its own
NAMES = {"dmso", "untreated", "empty", "mock", "vehicle", "negative", "negcon", "neg_control", "negative_control", "nt",
         "non-targeting", "scrambled", "siCtrl".lower()}  # fmt: skip


def check_controls(screen: Screen) -> list[Problem]:
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
