"""Run the verb `predict`, and print scores."""

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from distangle.cli.app import command_line
from distangle.cli.arguments import check_exclusive, parse_ray_workers
from distangle.cli.console import (
    BASELINES,
    bracket_notes,
    further_scores,
    print_note,
    print_result,
    print_status,
    print_table,
    score_lines,
)
from distangle.cli.inputs import compute_on, open_own_screen
from distangle.core.progress import progress, show_action, shows_progress

if TYPE_CHECKING:
    from distangle.results import Scores


def print_scores(scores: "Scores") -> None:
    """Print the scores of a run as a table, with their notes."""
    headings = ("level", "views", "wells", "subset", "accuracy", "balanced", "chance", *BASELINES, "n")
    print_table(headings, score_lines(scores), n_names=4)
    for sentence in (*bracket_notes(scores), *further_scores(scores)):
        print_result(sentence)
    for note in scores.notes:
        print_note(note)
    for role, check in scores.controls.items():
        print_note(f"{role.replace('_', ' ')}: {check['verdict']}. {check['sentence']}")


def predict(
    run: Path,
    screen: Path | None = None,
    *,
    out: Path | None = None,
    images: Path | None = None,
    device: str | None = None,
    batch_norm: Literal["running", "plate", "experiment", "controls"] | None = None,
    kaggle: Path | None = None,
    part: str | None = None,
    on: Literal["local", "ray"] = "local",
    workers: int | None = None,
    top: int | None = None,
    half: bool = False,
) -> None:
    """Predict every site and well, and score the held-out ones.

    Predictions use one view and the mean of eight (rotations and flips). A stopped prediction goes on from its last
    part.

    Args:
        run: Folder of a finished run.
        screen: Folder of another screen with the same channels, or of the run's own screen if it was moved; the default
            is the run's own screen.
        out: Folder or URL for the predictions of another screen; the default is RUN/predictions.
        images: Folder of the images, if they were moved after `distangle index`.
        device: Device to compute on: `cpu`, `cuda`, `cuda:1` or `mps`; the default is `cpu`.
        batch_norm: Batch-norm statistics to use; the default is the setting of the run (`batch_norm.statistics`).
        kaggle: New CSV file with `id_code,sirna` of the test wells of RxRx1, for the Kaggle competition.
        part: Predict only share I of N of the plates, as in `3/16`, and score nothing: for array jobs. The same command
            without it then joins the shares.
        on: Where to compute: `local` is this process; `ray` is workers of Ray on this machine, or on the cluster of
            RAY_ADDRESS. The results are the same.
        workers: Number of workers of `--on ray`; the default is one on each core, or on each GPU with `--device cuda`.
        top: Number of the highest logits to store for each row, or 0 for all; the default is all of up to 256 classes,
            else 32.
        half: Store logits and embeddings with half the bytes (float16).
    """
    from distangle.results import RunFolder

    run_folder = RunFolder.open(run)
    from distangle.results import refuse_altered

    refuse_altered(run_folder, "run.json", "config.yaml", "screen.json", "folds.parquet", "image_statistics.npy")
    if on == "local":
        check_exclusive("--on local", {"--workers": workers}, "This process predicts one part after the other.")
    ray_workers = parse_ray_workers(on, workers, device=device)
    compute_on(device if ray_workers is None else None)
    indexed_screen = open_own_screen(run_folder, screen, images, same=out is None)
    show_action("loading the network code")
    from distangle.core.distributed import is_first
    from distangle.inference import predict_run
    from distangle.inference.part_workers import PartWorkers
    from distangle.inference.run import predict_share
    from distangle.inference.stored_parts import Share, check_unlocked, prediction_lock
    from distangle.results.predictions import LogitStorage

    if part is not None:
        check_exclusive(
            f"--part {part}",
            {"--kaggle": kaggle, "--top": top, "--half": half or None},
            "A share is only predicted; the command that joins the shares writes the files.",
        )
    share = None if part is None else Share.parse(part)
    part_workers = None
    if ray_workers is not None:
        part_workers = PartWorkers(weights=run_folder.checkpoints / "model.safetensors", device=device, ray=ray_workers)
        share = share or Share(number=1, total=1)
    folder = out or run_folder.predictions
    if part is not None:
        check_unlocked(folder)
    is_writer = part is None and is_first()
    lock = prediction_lock(folder, say=print_note) if is_writer else contextlib.nullcontext()
    with progress("predict", 100, unit="%") as advance, lock:
        if share is not None:
            parts = predict_share(
                run_folder,
                indexed_screen,
                share,
                out=out,
                statistics_source=batch_norm,
                workers=part_workers,
                advance=advance,
                say=print_note,
            )
        if part is None:
            scores, _ = predict_run(
                run_folder,
                indexed_screen,
                out=out,
                statistics_source=batch_norm,
                kaggle=kaggle,
                storage=LogitStorage(top=top, half=half),
                advance=advance,
                say=print_note,
            )
    if part is not None:
        print_status("next: the same command without `--part`, when all shares are there")
        print_result(str(parts.folder))
        return
    if out is None and shows_progress():
        run_folder.add_command(command_line())
    print_scores(scores)
    if out is None:
        print_status(f"next: `distangle explain {shlex.quote(str(run))}`")
    print_result(str((out or run_folder.predictions) / "scores.json"))
