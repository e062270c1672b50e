"""Explain a whole run: choose held-out sites, explain what was predicted, compare with a planted truth."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from distangle.commit import sweep
from distangle.errors import ExplanationError
from distangle.explain.explain import ExplainSettings, explain_sites
from distangle.explain.filters.effect import check_held_out
from distangle.explain.grouped import with_later_means
from distangle.explain.on_cells import on_cells
from distangle.explain.opened import Opened, open_run
from distangle.explain.parts import PARTS, Part, of_the_network, tested
from distangle.explain.seen import remark_on
from distangle.explain.stains.removal import Removal
from distangle.inference import preparation_of
from distangle.progress import Advance, begin_step, no_progress
from distangle.randomness import generator
from distangle.results import Explanation, Faithfulness, RunFolder
from distangle.screen import Screen


def explain_run(
    run: RunFolder,
    screen: Screen,
    *,
    n_sites: int = 96,
    only: Mapping[str, Sequence[str]] | None = None,
    perturbation: str | None = None,
    settings: ExplainSettings | None = None,
    removal: Removal | None = None,
    parts: Sequence[Part] = PARTS,
    nuclear: str | None = None,
    beside: RunFolder | None = None,
    embeddings: Sequence[str] | None = None,
    prune: bool = False,
    seeds: Sequence[RunFolder] = (),
    shuffled: RunFolder | None = None,
    advance: Advance = no_progress,
    say: Advance = no_progress,
) -> Explanation:
    """Explain the predicted perturbation of held-out sites, and write `explanations/`.

    Of a run that held nothing out, sites that it was trained on. `remark` of the settings says so, and likewise of a
    network that was trained on everything after a cross-validation.

    With the parts: put the maps to the tests that a map has to stand, compare the templates, examine the filters.

    Args:
        run: A run that has been predicted.
        screen: Its screen.
        n_sites: How many sites at most, dealt out over the perturbations.
        only: As `choose_rows` takes it; None for any held-out site.
        perturbation: What is to be explained of every site, instead of what was predicted for it.
        settings: None for the defaults.
        removal: What stands in for an absent stain, instead of the settings'. None takes the same stain of an
            untreated well of the same plate where every plate has one, else the channel's mean.
        parts: What else to do; without `templates` and `filters` those of an earlier explanation stay.
        nuclear: Name of the channel that shows nuclei; None to know it by its name, stain or organelle.
        beside: Another run on the same screen, whose templates go into the same maps.
        embeddings: Perturbations whose embeddings are shown; None for the most frequent.
        prune: Try what leaving filters out does to the accuracy; costs several predictions of the held-out fold.
        seeds: Runs on the same screen that differ in their seed: are their maps alike?
        shuffled: A run trained with `shuffle_labels=true`: are its maps others?
        advance: Called after each piece; begins `n_steps` steps.
        say: Told of a `truth.json` that is not of this screen.

    Raises:
        RunError: The run has not been predicted, or the screen does not fit the network.
        ExplanationError: No chosen site can be read, the settings name what is not there, another run held out other
            sites, or nothing was held out to try pruning on.
        WeightsError: The norm statistics of the run are damaged.
    """
    if prune and "filters" in parts:
        check_held_out(run)
    settings = settings or ExplainSettings()
    begin_step(advance, "reading the chosen sites", 0)
    opened = open_run(run, screen, n_sites=n_sites, only=only, perturbation=perturbation, removal=removal, say=say)
    explanation = explain_sites(
        opened.model,
        opened.sites,
        rng=generator(0, "explain"),
        settings=settings.model_copy(update={"removal": opened.removal}),
        channels_of=opened.channels_of,
        places=opened.places,
        advance=advance,
    )
    binning = float(preparation_of(opened.about).binning)
    asked = {"scale": [binning, binning], "asked_layer": settings.layer, "perturbation": perturbation}
    asked["remark"] = remark_on(run, explanation.table)
    explanation = replace(explanation, settings={**explanation.settings, **asked})
    run.explanations.mkdir(parents=True, exist_ok=True)
    sweep(run.explanations)
    explanation = on_cells(explanation, opened.sites, screen.card.channels, nuclear=nuclear)
    if "faithfulness" in parts:
        explanation, written = tested(
            opened,
            explanation,
            run.explanations,
            seeds=[_opened_beside(run, other, screen, opened) for other in seeds],
            shuffled=None if shuffled is None else _opened_beside(run, shuffled, screen, opened),
            advance=advance,
        )
    else:
        written = Faithfulness.remove(run.explanations)  # of other sites
    explanation = with_later_means(explanation)
    written += explanation.write(run.explanations)
    written += of_the_network(
        run, screen, parts=parts, beside=beside, prune=prune, perturbations=embeddings, advance=advance
    )
    run.record(*written)
    return explanation


def n_steps(parts: Sequence[Part]) -> int:
    """Return how many steps `explain_run` has: the sites are read and explained, then each part."""
    return 2 + len(parts)


def _opened_beside(run: RunFolder, other: RunFolder, screen: Screen, opened: Opened) -> Opened:
    """Another run at the same sites; it must not have been trained on them."""
    if run.describe()["folds_sha256"] != other.describe()["folds_sha256"]:
        message = (
            f"{other.root} holds out other sites than {run.root} ({other.describe()['held_out']}), so it may have been "
            "trained on those to be explained. Train it with the same --hold-out, or the same --folds and --fold."
        )
        raise ExplanationError(message)
    return open_run(other, screen, rows=opened.rows, removal=opened.removal)
