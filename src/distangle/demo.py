"""Run the whole workflow on a synthetic screen with planted effects."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from distangle.core.progress import by_percent, progress, show_action
from distangle.errors import RunError
from distangle.explain import PARTS, SiteSelection, explain_run, n_steps, sentences
from distangle.images import probe_image
from distangle.inference import predict_run
from distangle.profiles.compute import ProfileOptions
from distangle.profiles.run import profile_run
from distangle.report import build_report
from distangle.results import ProfileResult, ScoreRow, Scores
from distangle.screen import conservation_line, hold_out, index, read_screen, write_screen
from distangle.synthetic import SimulationConfig, Truth, read_truth, simulate
from distangle.training import resolve_config, start_run, train

EPOCHS = 24
N_EXPLAINED = 60


@dataclass(frozen=True)
class DemoResult:
    """Sentences for a terminal, the table of hits, and the path of the report."""

    sentences: tuple[str, ...]
    profiles: ProfileResult
    report: Path


def run_demo(out: Path, *, seed: int, say: Callable[[str], None]) -> DemoResult:
    """Simulate, index, train, predict, explain, profile and report.

    Args:
        out: New folder for the screen and the run.
        seed: Random seed of the simulation and of the training.
        say: Receives progress messages.

    Raises:
        RunError: The folder is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty. Choose a new folder with `--out FOLDER`, or delete this one.")
    config = SimulationConfig(
        seed=seed, experiments_per_cell_type=3, n_treatments=10, n_inactive_treatments=2, wells_per_treatment=2
    )
    with progress("simulate", 100, unit="%") as advance:
        simulate(out / "plates", config, workers=2, progress=by_percent(advance))
    show_action("indexing the plates")
    screen = index(out / "plates", layout="rxrx1", probe=probe_image)
    write_screen(screen, out / "screen")
    say(f"index: {conservation_line(screen)}")
    screen = read_screen(out / "screen")
    held_out = [max(names) for names in _experiments_by_cell_type(screen.sites).values()]
    folds = hold_out(screen, column="experiment", values=held_out)
    run = start_run(screen, folds, resolve_config("scratch", ["batch_size=16"], seed=seed, epochs=EPOCHS), out / "run")
    with progress("train", EPOCHS, unit="epoch") as advance:
        train(run, advance=advance, say=say)
    with progress("predict", 100, unit="%") as advance:
        scores, _ = predict_run(run, screen, advance=advance)
    with progress("explain", 0, n_steps=n_steps(PARTS)) as advance:
        explanation = explain_run(run, screen, selection=SiteSelection(n_sites=N_EXPLAINED), advance=advance)
    show_action("comparing profiles")
    profiles = profile_run(run, ProfileOptions(seed=seed))
    report = build_report(run, screen, progress=lambda part: show_action("writing the report", part))
    lines = [
        _score_sentence(scores, held_out=held_out),
        *sentences(explanation),
        _hit_sentence(profiles, read_truth(out / "plates")),
    ]
    return DemoResult(sentences=tuple(lines), profiles=profiles, report=report)


def _experiments_by_cell_type(sites: pd.DataFrame) -> dict[str, list[str]]:
    pairs = sites[["cell_type", "experiment"]].drop_duplicates()
    return {str(name): sorted(group["experiment"]) for name, group in pairs.groupby("cell_type")}


def _score_sentence(scores: Scores, *, held_out: list[str]) -> str:
    row: ScoreRow = next(
        row for row in scores.rows if (row.level, row.views, row.subset, row.metric) == ("well", 8, "all", "accuracy")
    )
    return (
        f"accuracy: {row.value:.0%} of {row.n} wells in the held-out experiments {', '.join(held_out)} are predicted "
        f"correctly ({row.wells}, mean of sites and eight views; chance {row.chance:.0%})."
    )


def _hit_sentence(profiles: ProfileResult, truth: Truth) -> str:
    """Compare the hits with the perturbations that were planted."""
    names = set(profiles.hits["perturbation"])
    hits = set(profiles.hits.loc[profiles.hits["q"] <= profiles.settings["q"], "perturbation"])
    active = {name for name in names if truth.perturbations[name].channels}
    false = sorted(hits - active)
    return (
        f"hits: {len(hits & active)} of {len(active)} perturbations that were planted with an effect, and {len(false)} "
        f"of {len(names - active)} that were planted without one{': ' + ', '.join(false) if false else ''} "
        f"(false discovery rate {profiles.settings['q']:.0%})."
    )
