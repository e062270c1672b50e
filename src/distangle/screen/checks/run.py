"""Run all checks that need only the tables of a screen."""

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
"""Entities with totals: experiments, plates, wells, sites, planes."""
MAX_SIZES = 4  # numbers of sites per well that a balance lists


def conservation(screen: Screen) -> list[Invariant]:
    """Return the balances of the index: every entry found is indexed or refused."""
    metadata, sites = screen.metadata, screen.sites
    refused = int(screen.problems.loc[screen.problems["severity"] == "refused", "count"].sum())
    invariants = [
        Invariant(
            stage="index",
            equation=f"found {metadata.found} = indexed {len(sites)} + refused {refused}",
            holds=metadata.found == len(sites) + refused,
        )
    ]
    wells = sites[[*KEY_COLUMNS[:3], "role", "split", "cell_type"]].drop_duplicates(list(KEY_COLUMNS[:3]))
    for column in ("role", "split", "cell_type"):
        parts = wells[column].value_counts().sort_index()
        if len(parts) < 2:
            continue
        counts = [f"{name or 'without'} {n}" for name, n in parts.items()]
        equation = f"wells {len(wells)} = {' + '.join(counts)} by {column.replace('_', ' ')}"
        invariants.append(Invariant(stage="table", equation=equation, holds=int(parts.sum()) == len(wells)))
    if not screen.metadata.tables_only:
        per_well = sorted(Counter(sites.groupby(list(KEY_COLUMNS[:3])).size().tolist()).items())
        total = sum(size * n for size, n in per_well)
        listed = [f"{n} well{'s' * (n != 1)} x {size}" for size, n in per_well[:MAX_SIZES]]
        if len(per_well) > MAX_SIZES:
            rest = per_well[MAX_SIZES:]
            n_rest = sum(size * n for size, n in rest)
            listed.append(f"{n_rest} of {sum(n for _, n in rest)} wells with {rest[0][0]} or more")
        equation = " + ".join(listed)
        invariants.append(
            Invariant(stage="table", equation=f"sites {len(sites)} = {equation}", holds=total == len(sites))
        )
    return invariants


def reconcile(screen: Screen, expected: Mapping[str, int] | None = None) -> list[Problem]:
    """Find totals that differ from the sums of their parts or from expected ones.

    Args:
        screen: The screen.
        expected: Published totals by name, such as `{"wells": 62755}`.

    Raises:
        ScreenError: A total of something that is not counted.
    """
    names = (*COUNTED, "classes", "refused")
    for name in expected or {}:
        if name not in names:
            raise ScreenError(f"No total of {name!r} to expect. {did_you_mean(name, names)}")
    try:
        counts = statistics(screen)
    except ScreenError as error:
        fix = "Correct the rows that contradict each other on a well, and index again."
        return [Problem(severity="error", kind="totals do not reconcile", what=str(error), fix=fix)]
    totals = {**counts.all.model_dump(), "classes": counts.n_treatment_classes, "refused": screen.metadata.refused}
    return [
        Problem(
            severity="error",
            kind="totals do not reconcile",
            what=f"{totals[name]} {name} counted, {total} expected: {totals[name] - total:+d}",
            fix="A well is not an image: it has several sites of several planes. problems.csv lists what was refused.",
        )
        for name, total in (expected or {}).items()
        if totals[name] != total
    ]


def check_tables(
    screen: Screen, *, like: Screen | None = None, expected: Mapping[str, int] | None = None
) -> CheckReport:
    """Check the tables of a screen.

    Args:
        screen: As written by `distangle index`.
        like: Another screen whose labels must use the same coding; None for none.
        expected: Published totals, such as `{"wells": 62755}`.

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
    scope = {
        "sites": len(screen.sites),
        "refused": screen.metadata.refused,
        "sites_sha256": screen.metadata.sites_sha256,
    }
    return CheckReport(findings=tuple(findings), invariants=tuple(conservation(screen)), scope=scope)
