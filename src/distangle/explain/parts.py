"""Optional analyses of a run: tests of its maps, its templates and its filters."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distangle.explain.chosen import NetworkSites
from distangle.explain.faithfulness import FaithfulnessSettings, OtherNetworks, examine
from distangle.explain.faithfulness.method import map_method
from distangle.explain.filters.examine import examine_filters
from distangle.explain.opened import Opened
from distangle.explain.templates.compare import compare_templates
from distangle.explain.words import PARTS, Part
from distangle.progress import Advance
from distangle.randomness import generator
from distangle.results import Explanation, RunFolder
from distangle.screen import Screen


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions:
    """What `explain_run` does beside explaining single sites.

    Attributes:
        parts: Which analyses; without `templates` and `filters` those of an earlier explanation stay.
        nuclear: Name of the channel that shows nuclei; None to recognise it by its name, stain or organelle.
        beside: Another run on the same screen, whose templates go into the same maps.
        embeddings: Perturbations whose embeddings are shown; None for the most frequent.
        prune: Measure what leaving filters out does to the accuracy; costs several predictions of the held-out fold.
        seeds: Runs on the same screen from other seeds, whose maps are compared.
        shuffled: A run trained with `shuffle_labels=true`, whose maps are compared.
    """

    parts: Sequence[Part] = PARTS
    nuclear: str | None = None
    beside: RunFolder | None = None
    embeddings: Sequence[str] | None = None
    prune: bool = False
    seeds: Sequence[RunFolder] = ()
    shuffled: RunFolder | None = None


def tested(
    opened: Opened,
    explanation: Explanation,
    folder: Path,
    *,
    seeds: Sequence[Opened],
    shuffled: Opened | None,
    advance: Advance,
) -> tuple[Explanation, list[Path]]:
    """Test the maps of an explanation.

    Channel scores are tested with the removal of the explanation.

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
        settings=FaithfulnessSettings(removal=said["removal"]),
        method=map_method(said["method"], layer=said["asked_layer"], head=said["head"]),
        others=OtherNetworks(
            seeds=[NetworkSites(other.model, other.sites) for other in seeds],
            shuffled=None if shuffled is None else NetworkSites(shuffled.model, shuffled.sites),
        ),
        advance=advance,
    )
    columns = found.columns(len(explanation.table))
    table = explanation.table.assign(**{str(name): columns[name] for name in columns.columns})
    return dataclasses.replace(explanation, table=table), found.write(folder)


def of_the_network(run: RunFolder, screen: Screen, options: AnalysisOptions, *, advance: Advance) -> list[Path]:
    """Compare templates and examine filters of a run; return the files written.

    Args:
        run: A run that has been predicted.
        screen: Its screen.
        options: Which of the two, and how.
        advance: Called after each step.
    """
    written: list[Path] = []
    if "templates" in options.parts:
        compared = compare_templates(
            run, screen=screen, beside=options.beside, perturbations=options.embeddings, advance=advance
        )
        written += compared.write(run.explanations)
    if "filters" in options.parts:
        found = examine_filters(run, screen=screen if options.prune else None, advance=advance)
        written += found.write(run.explanations)
    return written
