"""Nothing is lost between two stages: the sums that must come out, in figures.

All checks that need no pixel.
"""

from collections import Counter
from collections.abc import Mapping

from distangle.errors import ScreenError, did_you_mean
from distangle.screen.checks.duplicates import check_duplicates, check_missing
from distangle.screen.checks.edits import check_provenance
from distangle.screen.checks.label_names import check_control_layout, check_label_names
from distangle.screen.checks.placement import check_placement
from distangle.screen.problems import CheckReport, Invariant, Problem, index_findings
from distangle.screen.screen import KEY_COLUMNS, Screen
from distangle.screen.statistics import EntityCounts, statistics

COUNTED = tuple(EntityCounts.model_fields)
"""What a total can be given of: experiments, plates, wells, sites, planes."""
SIZES = 4  # of wells, by sites, that a sum names one by one


def conservation(screen: Screen) -> list[Invariant]:
    """Return the sums of the index: everything found is indexed or refused."""
    card, sites = screen.card, screen.sites
    refused = int(screen.problems.loc[screen.problems["severity"] == "refused", "count"].sum())
    laws = [
        Invariant(
            stage="index",
            equation=f"found {card.found} = indexed {len(sites)} + refused {refused}",
            holds=card.found == len(sites) + refused,
        )
    ]
    wells = sites.drop_duplicates(list(KEY_COLUMNS[:3]))
    for column in ("role", "split", "cell_type"):
        parts = wells[column].value_counts().sort_index()
        if len(parts) < 2:
            continue
        named = [f"{name or 'without'} {n}" for name, n in parts.items()]
        said = f"wells {len(wells)} = {' + '.join(named)} by {column.replace('_', ' ')}"
        laws.append(Invariant(stage="table", equation=said, holds=int(parts.sum()) == len(wells)))
    if not screen.card.tables_only:
        per_well = sorted(Counter(sites.groupby(list(KEY_COLUMNS[:3])).size().tolist()).items())
        total = sum(size * n for size, n in per_well)
        listed = [f"{n} well{'s' * (n != 1)} x {size}" for size, n in per_well[:SIZES]]
        if len(per_well) > SIZES:
            rest = per_well[SIZES:]
            n_rest = sum(size * n for size, n in rest)
            listed.append(f"{n_rest} of {sum(n for _, n in rest)} wells with {rest[0][0]} or more")
        said = " + ".join(listed)
        laws.append(Invariant(stage="table", equation=f"sites {len(sites)} = {said}", holds=total == len(sites)))
    return laws


def reconcile(screen: Screen, expected: Mapping[str, int] | None = None) -> list[Problem]:
    """Find totals that are not the sums of their parts, or not what was expected.

    Args:
        screen: The screen.
        expected: Totals that a paper or a table states, by name, such as `{"wells": 62755}`.

    Raises:
        ScreenError: A total of something that is not counted.
    """
    known = (*COUNTED, "classes", "refused")
    for name in expected or {}:
        if name not in known:
            raise ScreenError(f"No total of {name!r} to expect. {did_you_mean(name, known)}")
    try:
        counted = statistics(screen)
    except ScreenError as error:
        fix = "Correct the rows that say two things of a well, and index again."
        return [Problem(severity="error", kind="totals do not reconcile", what=str(error), fix=fix)]
    there = {**counted.all.model_dump(), "classes": counted.n_treatment_classes, "refused": screen.card.refused}
    return [
        Problem(
            severity="error",
            kind="totals do not reconcile",
            what=f"{there[name]} {name} counted, {total} expected: {there[name] - total:+d}",
            fix="Wells are no images: each has several sites of several planes. See problems.csv for what was refused.",
        )
        for name, total in (expected or {}).items()
        if there[name] != total
    ]


def check_tables(
    screen: Screen, *, like: Screen | None = None, expected: Mapping[str, int] | None = None
) -> CheckReport:
    """Check what the tables of a screen say.

    Args:
        screen: As `distangle index` wrote it.
        like: Another screen whose labels must be of the same coding; None for none.
        expected: Totals that somebody states, such as `{"wells": 62755}`.

    Raises:
        ScreenError: A total of something that is not counted.
    """
    findings = [
        *index_findings(screen),
        *check_provenance(screen),
        *check_placement(screen),
        *check_duplicates(screen),
        *check_missing(screen),
        *check_label_names(screen, like),
        *check_control_layout(screen),
        *reconcile(screen, expected),
    ]
    looked = {"sites": len(screen.sites), "refused": screen.card.refused, "sites_sha256": screen.card.sites_sha256}
    return CheckReport(findings=tuple(findings), invariants=tuple(conservation(screen)), scope=looked)
