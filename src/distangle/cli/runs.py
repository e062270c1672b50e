"""Run the verbs for runs: train, predict, report and demo."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from distangle.cli.app import command_line
from distangle.cli.arguments import BASELINES, Words, check_exclusive, of_few_groups, score_lines
from distangle.cli.console import print_note, print_result, print_status, print_table
from distangle.cli.inputs import check_folder, compute_on, open_own_screen, open_screen
from distangle.core.progress import progress, show_action, shows_progress
from distangle.errors import ConfigError, brief

if TYPE_CHECKING:
    from distangle.results import RunFolder, Scores
    from distangle.screen import Folds, Screen
    from distangle.training import TrainingConfig

MOST_NAMES = 20  # of labels in a remark


def train(
    screen: Path | None = None,
    *,
    out: Path | None = None,
    preset: str | None = None,
    config: Path | None = None,
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    cross_validate: int | None = None,
    expect: Literal["plates", "experiments"] | None = None,
    hold_out: str | None = None,
    unlabelled: str | None = None,
    folds: int | None = None,
    fold: int | None = None,
    group: Literal["experiment", "plate", "well"] | None = None,
    fold_file: Path | None = None,
    force_split: bool = False,
    target: str | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    weights: str | None = None,
    set: Words = (),
    images: Path | None = None,
    device: str | None = None,
    limit: int | None = None,
    resume: Path | None = None,
) -> None:
    """Train a network on a screen and evaluate it on held-out wells.

    With a frozen backbone (preset `small`), the default is a cross-validation followed by a network trained on all
    wells. Other presets train for days on large screens, so their default is one network with a fifth of the
    experiments held out. Settings come from the preset, then `--config`, then command-line flags; later ones win.

    Args:
        screen: Folder from `distangle index`.
        out: Folder of the run, such as runs/NAME.
        preset: Preset of the settings: `seed` (the paper; the default), `rcic1st` (the code that the paper extends),
            `small` (pretrained frozen backbone, for two CPU cores) or `scratch` (small network, for two CPU cores).
        config: YAML file with settings; `distangle settings` prints one.
        from_: Run to repeat with its screen, folds and settings; flags change the settings.
        cross_validate: Number of cross-validation folds; every well is predicted out of fold, and a final network is
            trained on all wells.
        expect: Kind of new data: `plates` of known experiments, or new `experiments`. It decides the unit of the folds
            and the batch correction.
        hold_out: Wells to hold out by a column, such as `experiment=HUVEC-02,RPE-01` or `replicate=2`; `wilds=test` for
            the WILDS split; `none` to train on all wells without a score.
        unlabelled: Wells whose labels are hidden for pseudo-labels, such as `experiment=HUVEC-03` or `split=test`.
        folds: Number of folds of whole experiments without `--hold-out`; the default is five, or fewer if there are
            fewer experiments.
        fold: Index of the held-out fold, from 0.
        group: Unit that stays whole in a fold, with every label spread evenly over the folds.
        fold_file: File from `distangle folds`; it is used unchanged, and refused if it leaks.
        force_split: Allow a split inside plates; every score is marked.
        target: Column to predict; the default is `perturbation`.
        epochs: Number of epochs; the default is that of the preset.
        seed: Random seed of the weights, the order of the sites and the augmentation.
        weights: Pretrained weights of the backbone: `imagenet` (downloaded once) or a local file.
        set: Setting to change, such as `optim.lr=1e-4`. `--optim.lr 1e-4` does the same.
        images: Folder of the images, if they were moved after `distangle index`.
        device: Device to compute on: `cpu`, `cuda`, `cuda:1` or `mps`; the default is a CUDA GPU if there is one.
        limit: Number of steps of a dry run; it writes nothing and reports the expected time and memory.
        resume: Run to continue from its last checkpoint; it needs no other option.
    """
    chosen = (f"expect={expect}",) if expect else ()
    pretrained = () if weights is None else (f"network.weights={json.dumps(weights)}",)
    folding = {
        "--cross-validate": cross_validate,
        "--hold-out": hold_out,
        "--unlabelled": unlabelled,
        "--folds": folds,
        "--fold": fold,
        "--group": group,
        "--fold-file": fold_file,
        "--force-split": force_split or None,
    }
    setting = {
        "--preset": preset,
        "--config": config,
        "--target": target,
        "--expect": expect,
        "--epochs": epochs,
        "--seed": seed,
        "--weights": weights,
    }
    source = screen if from_ is None else from_
    if resume is not None:
        others = {**folding, **setting, "--out": out, "--from": from_, "--set": set or None, "--limit": limit}
        check_exclusive(
            f"--resume {resume}", others, "A resumed run keeps what it was begun with; `--from` changes it."
        )
    from distangle.results import RunFolder

    if resume is not None or from_ is not None:
        RunFolder.open(Path(str(resume or from_)))
    elif screen is not None:
        check_folder(screen)
    from distangle.screen import class_coverage
    from distangle.training import (
        dry_run,
        load_previous_folds,
        read_config,
        resolve_config,
        start_run,
        without_services,
    )

    compute_on(device)
    if resume is not None:
        run = RunFolder.open(resume)
        indexed = open_own_screen(run, screen, images, same=False)
    elif source is None or (out is None and limit is None):
        raise ConfigError(
            "Name the screen and the new run: `distangle train SCREEN --out runs/NAME` (or `--from RUN --out "
            "runs/NAME`, or `--resume RUN`)."
        )
    else:
        earlier = None if from_ is None else RunFolder.open(source)
        if earlier is not None:
            from distangle.results import refuse_altered

            refuse_altered(earlier, "config.yaml", "run.json")
        changes = (*pretrained, *chosen, *set)
        base = None
        if earlier is not None:
            base, said = without_services(read_config(earlier.config), changes)
            if said:
                print_note(said)
        asked = resolve_config(preset, changes, file=config, base=base, target=target, epochs=epochs, seed=seed)
        if earlier is not None:
            check_exclusive(f"--from {from_}", folding, "The folds of that run are kept.")
            indexed = open_own_screen(earlier, screen, images, same=False)
            divided = load_previous_folds(earlier, indexed)
            if limit is None and (plan := earlier.describe().get("cross_validation")):
                _cross_validate(indexed, asked, Path(str(out)), n_folds=plan["n_folds"], hidden=plan["hidden"])
                return
        elif cross_validate is not None or (
            asked.uses_features and limit is None and all(v is None for k, v in folding.items() if k != "--unlabelled")
        ):
            others = {**folding, "--cross-validate": None, "--unlabelled": None, "--limit": limit}
            check_exclusive(f"--cross-validate {cross_validate}", others, "Cross-validation makes folds of its own.")
            indexed = open_screen(source, images)
            _cross_validate(indexed, asked, Path(str(out)), n_folds=cross_validate, hidden=unlabelled)
            return
        else:
            indexed = open_screen(source, images)
            divided = make_folds(indexed, folding, label=asked.target, seed=asked.seed)
        labels = class_coverage(indexed, divided, asked.target)
        for said in labels.blanks():
            print_note(said)
        if labels.never_trained:
            named = ", ".join(map(brief, labels.never_trained[:MOST_NAMES]))
            more = len(labels.never_trained) - MOST_NAMES
            print_note(f"held out but never trained, so not scored: {named}{f' and {more} more' if more > 0 else ''}")
        if out is None or limit is not None:
            for sentence in dry_run(indexed, divided, asked, limit=limit or 0).sentences():
                print_result(sentence)
            return
        run = start_run(indexed, divided, asked, out, say=print_note)
    _train_on(run, indexed)


def _cross_validate(
    indexed: "Screen", asked: "TrainingConfig", out: Path, *, n_folds: int | None, hidden: str | None
) -> None:
    """Cross-validate on a screen, train on all wells, and print the scores."""
    from distangle.screen import class_coverage, hold_nothing_out
    from distangle.training import start_cross_validation

    class_coverage(indexed, hold_nothing_out(indexed), asked.target)
    run = start_cross_validation(indexed, asked, out, n_folds=n_folds, hidden=hidden, say=print_note)
    plan = run.describe()["cross_validation"]
    print_result(
        f"cross-validation: {plan['n_folds']} folds of whole {plan['expect']} ({plan['why']}), then one network "
        "trained on everything. `--hold-out COLUMN=VALUE` holds out what you name instead."
    )
    _train_on(run, indexed)


def make_folds(indexed: "Screen", folding: Mapping[str, Any], *, label: str, seed: int) -> "Folds":
    """Read the folds of a file, or make those that the flags describe; print leaks.

    Raises:
        ConfigError: Other flags of folds are given with the file.
        ScreenError: The screen cannot be split in this way.
    """
    from distangle.screen import Folds, folds_from_options, validate_folds
    from distangle.screen.checks.leaks import find_leaks

    file = folding["--fold-file"]
    if file is not None:
        others = {**folding, "--fold-file": None, "--force-split": None}
        check_exclusive(f"--fold-file {file}", others, "The file says what is held out.")
        divided = validate_folds(indexed, Folds.read(file), force=bool(folding["--force-split"]))
    else:
        divided = folds_from_options(
            indexed,
            by=folding["--hold-out"],
            hidden=folding["--unlabelled"],
            n_folds=folding["--folds"],
            fold=folding["--fold"],
            group=folding["--group"],
            label=label,
            seed=seed,
            force=bool(folding["--force-split"]),
        )
    for finding in find_leaks(indexed, divided, label=label):
        if finding.severity != "note":
            print_note(f"{finding.kind}: {finding.what}. {finding.fix}")
    return divided


def _train_on(run: "RunFolder", indexed: "Screen") -> None:
    """Train a run to its end, or until a signal stops it."""
    from distangle.images.readers.common import retry_summary
    from distangle.training import (
        is_slow_here,
        preview,
        read_config,
        single_writer,
        stop_at_signals,
        train_cross_validation,
    )
    from distangle.training import train as train_one

    n_folds = int(run.describe().get("cross_validation", {}).get("n_folds", 0))
    train_run = train_cross_validation if n_folds else train_one
    epochs = read_config(run.config).epochs * (n_folds + 1)
    if shows_progress():
        print_status(preview(run, indexed))
        if slow := is_slow_here(run):
            print_note(slow)
    again = f"Go on with `distangle train --resume {run.root}`."
    with (
        stop_at_signals(again) as stop,
        single_writer(run, say=print_note),
        progress("train", epochs, unit="epoch") as advance,
    ):
        stop.check()
        if shows_progress():
            run.add_command(command_line())
        train_run(run, screen=indexed, advance=advance, say=print_note, stop=stop)
    for said in retry_summary():
        print_note(said)
    if n_folds:
        from distangle.inference import predict_run

        with progress("predict", 8, unit="view") as advance:
            scores, _ = predict_run(run, indexed, advance=advance, say=print_note)
        _tell_scores(scores)
        print_status(f"next: `distangle explain {shlex.quote(str(run.root))}`")
    else:
        print_status(f"next: `distangle predict {shlex.quote(str(run.root))}`")
    print_result(str(run.root))


def _tell_scores(scores: "Scores") -> None:
    heads = ("level", "views", "wells", "subset", "accuracy", "balanced", "chance", *BASELINES, "n")
    print_table(heads, score_lines(scores), n_names=4)
    for sentence in of_few_groups(scores):
        print_result(sentence)
    for note in scores.notes:
        print_note(note)
    for role, check in scores.controls.items():
        print_note(f"{role.replace('_', ' ')}: {check['verdict']}. {check['words']}")


def predict(
    run: Path,
    screen: Path | None = None,
    *,
    out: Path | None = None,
    images: Path | None = None,
    device: str | None = None,
    norms: Literal["running", "plate", "experiment", "controls"] | None = None,
) -> None:
    """Predict every site and well, and score the held-out ones.

    Predictions use one view and the mean of eight (rotations and flips).

    Args:
        run: Folder of a finished run.
        screen: Folder of another screen with the same channels, or of the run's own screen if it was moved; the default
            is the run's own screen.
        out: Folder for the predictions of another screen; the default is RUN/predictions.
        images: Folder of the images, if they were moved after `distangle index`.
        device: Device to compute on: `cpu`, `cuda`, `cuda:1` or `mps`; the default is `cpu`.
        norms: Batch-norm statistics to use; the default is the setting of the run (`norms.at_test`).
    """
    from distangle.results import RunFolder

    opened = RunFolder.open(run)
    from distangle.results import refuse_altered

    refuse_altered(opened, "run.json", "config.yaml", "screen.json", "folds.parquet", "image_statistics.npy")
    compute_on(device)
    indexed = open_own_screen(opened, screen, images, same=out is None)
    show_action("loading the network code")
    from distangle.inference import predict_run

    with progress("predict", 8, unit="view") as advance:
        scores, _ = predict_run(opened, indexed, out=out, at_test=norms, advance=advance, say=print_note)
    if out is None and shows_progress():
        opened.add_command(command_line())
    _tell_scores(scores)
    if out is None:
        print_status(f"next: `distangle explain {shlex.quote(str(run))}`")
    print_result(str((out or opened.predictions) / "scores.json"))


def report(run: Path, *, screen: Path | None = None, images: Path | None = None) -> None:
    """Write a report of a run as an HTML folder that works offline.

    Args:
        run: Folder of a run.
        screen: Folder of the screen, if it was moved.
        images: Folder of the images, if they were moved after `distangle index`.
    """
    from distangle.results import RunFolder

    opened = RunFolder.open(run)
    indexed = open_own_screen(opened, screen, images, needed=False)
    show_action("loading the drawing code")
    from distangle.report import SHOWN, build_report
    from distangle.results import refuse_altered

    refuse_altered(opened, *SHOWN)
    written = build_report(
        opened, indexed, say=print_note, progress=lambda part: show_action("writing the report", part)
    )
    print_result(str(written))


def demo(*, out: Path = Path("demo"), seed: int = 0) -> None:
    """Run the whole workflow on a synthetic screen with planted effects.

    Args:
        out: New folder for the screen and the run.
        seed: Random seed of the simulation and of the training.
    """
    from distangle.demo import run_demo

    found = run_demo(out, seed=seed, say=print_note)
    for sentence in found.sentences:
        print_result(sentence)
    print_result(f"report: {found.report}")
