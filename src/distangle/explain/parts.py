"""What belongs to the explanation of a run beside its sites: tests of the maps, templates, filters."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from distangle.explain.faithfulness import examine
from distangle.explain.faithfulness.method import map_method
from distangle.explain.filters.examine import examine_filters
from distangle.explain.opened import Opened
from distangle.explain.templates.compare import compare_templates
from distangle.progress import Advance
from distangle.randomness import generator
from distangle.results import Explanation, RunFolder
from distangle.screen import Screen

Part = Literal["faithfulness", "templates", "filters"]
PARTS: tuple[Part, ...] = ("faithfulness", "templates", "filters")


def tested(
    opened: Opened,
    explanation: Explanation,
    folder: Path,
    *,
    seeds: Sequence[Opened],
    shuffled: Opened | None,
    advance: Advance,
) -> tuple[Explanation, list[Path]]:
    """Put the maps of an explanation to the tests that a map has to stand.

    Args:
        opened: What was explained.
        explanation: Of it.
        folder: Of the explanations.
        seeds: Runs of other seeds, opened at the same sites.
        shuffled: A run trained on shuffled labels, likewise.
        advance: Called after each test.

    Returns:
        The explanation with a column per test, NaN where a site was not tested; and the files written.
    """
    said = explanation.settings
    found = examine(
        opened.model,
        opened.sites,
        explanation.maps,
        rng=generator(0, "faithfulness"),
        method=map_method(said["method"], layer=said["asked_layer"], head=said["head"]),
        beside=[(other.model, other.sites) for other in seeds],
        shuffled=None if shuffled is None else (shuffled.model, shuffled.sites),
        advance=advance,
    )
    columns = found.columns(len(explanation.table))
    table = explanation.table.assign(**{str(name): columns[name] for name in columns.columns})
    return dataclasses.replace(explanation, table=table), found.write(folder)


def of_the_network(
    run: RunFolder,
    screen: Screen,
    *,
    parts: Sequence[Part],
    beside: RunFolder | None,
    prune: bool,
    perturbations: Sequence[str] | None,
    advance: Advance,
) -> list[Path]:
    """Compare the templates and examine the filters of a run; return the files written.

    Args:
        run: A run that has been predicted.
        screen: Its screen.
        parts: Which of the two.
        beside: Another run on the same screen, such as one with pseudo labels, in the same maps.
        prune: Try what leaving filters out does to the accuracy; costs several predictions of the held-out fold.
        perturbations: Whose embeddings are shown; None for the most frequent.
        advance: Called after each step.
    """
    written: list[Path] = []
    if "templates" in parts:
        compared = compare_templates(run, screen=screen, beside=beside, perturbations=perturbations, advance=advance)
        written += compared.write(run.explanations)
    if "filters" in parts:
        written += examine_filters(run, screen=screen if prune else None, advance=advance).write(run.explanations)
    return written
