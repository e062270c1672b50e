"""The verbs around a run: train, predict, report, demo."""

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
    limit: Annotated[int | None, Parameter(name="--dry-run")] = None,
    resume: Path | None = None,
) -> None:
    """Train a network on a screen, and judge it on wells that it has not seen.

    With a frozen backbone (preset `small`) the default is a cross-validation, then a network trained on everything.
    Other presets train for days on large screens: their default is one network, a fifth of the experiments held out.
    What a setting is, is said by the preset, then by the file of `--config`, then by the flags.

    Args:
        screen: Folder from `distangle index`.
        out: Folder of the run, such as runs/NAME.
        preset: `seed` (the paper, and the default), `rcic1st` (the code it grew from),
            `small` (two CPU cores: published filters) or `scratch` (two CPU cores: filters of its own).
        config: YAML file with settings; `distangle settings` prints one.
        from_: Repeat this run: its screen, folds and settings, which the flags may change.
        cross_validate: Train this many folds, keep what each predicts of the wells it did not see, then train on
            everything.
        expect: What new data will be: `plates` of the experiments that are known, or `experiments` of their own. Folds
            are made of these, and the batch correction is chosen for them.
        hold_out: Wells to hold out by a column: `experiment=HUVEC-02,RPE-01` or `replicate=2`; or `wilds=test`; or
            `none` to train on everything and score nothing.
        unlabelled: Wells whose labels are hidden, for pseudo labels: `experiment=HUVEC-03` or `split=test`.
        folds: Without `--hold-out`: number of folds of whole experiments; five, or as many as there are.
        fold: Which of them is held out, from 0.
        group: Keep experiments, plates or wells whole instead, every label spread evenly over the folds.
        fold_file: Folds that `distangle folds` wrote; they are taken as they are, or refused where they leak.
        force_split: Allow a split inside plates; every score is then marked.
        target: Column to learn instead of the perturbation, such as `cell_type`.
        epochs: Instead of the preset's.
        seed: Of weights, order and views.
        weights: `imagenet` (the published file of the backbone, downloaded once) or a local file.
        set: Any other setting, such as `optim.lr=1e-4`; `--optim.lr 1e-4` is the same.
        images: Where the images are now, when they were moved after `distangle index`.
        device: `cpu`, `cuda`, `cuda:1` or `mps`; a CUDA GPU where there is one when left out.
        limit: Do only so many steps, write nothing, and say how long all of it takes and how much memory.
        resume: Go on with this run from its last checkpoint; nothing else is needed.
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
        others = {**folding, **setting, "--out": out, "--from": from_, "--set": set or None, "--dry-run": limit}
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
            others = {**folding, "--cross-validate": None, "--unlabelled": None, "--dry-run": limit}
            check_exclusive(f"--cross-validate {cross_validate}", others, "Cross-validation makes folds of its own.")
            indexed = open_screen(source, images)
            _cross_validate(indexed, asked, Path(str(out)), n_folds=cross_validate, hidden=unlabelled)
            return
        else:
            indexed = open_screen(source, images)
            divided = make_folds(indexed, folding, label=asked.target, seed=asked.seed)
        labels = class_coverage(indexed, divided, asked.target)
        for said in labels.missing_label_notes():
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
    """Cross-validate on a screen, train on all of it, and say what the folds scored."""
    from distangle.screen import class_coverage, hold_nothing_out
    from distangle.training import start_cross_validation

    class_coverage(indexed, hold_nothing_out(indexed), asked.target)
    run = start_cross_validation(indexed, asked, out, n_folds=n_folds, hidden_labels=hidden, say=print_note)
    plan = run.describe()["cross_validation"]
    print_result(
        f"cross-validation: {plan['n_folds']} folds of whole {plan['expect']} ({plan['why']}), then one network "
        "trained on everything. `--hold-out COLUMN=VALUE` holds out what you name instead."
    )
    _train_on(run, indexed)


def make_folds(indexed: "Screen", folding: Mapping[str, Any], *, label: str, seed: int) -> "Folds":
    """Take the folds of a file, or make those that the flags ask for, and say what leaks.

    Raises:
        ConfigError: Flags beside the file.
        ScreenError: The screen cannot be divided so.
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
    """Train a run that was begun to its end, or until a signal stops it."""
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
        print_note(f"{role.replace('_', ' ')}: {check['verdict']}. {check['sentence']}")


def predict(
    run: Path,
    screen: Path | None = None,
    *,
    out: Path | None = None,
    images: Path | None = None,
    device: str | None = None,
    batch_norm: Literal["running", "plate", "experiment", "controls"] | None = None,
) -> None:
    """Predict every site and well, with one view and with eight, and score what was held out.

    Args:
        run: Folder of a finished run.
        screen: Another screen with the same channels, or the run's own where it was moved; left out, the run's own
            where it was.
        out: Folder for the predictions of another screen; `RUN/predictions` when left out.
        images: Where the images are now, when they were moved after `distangle index`.
        device: `cpu`, `cuda`, `cuda:1` or `mps`; the processor when left out.
        batch_norm: Whose statistics the batch norms use, instead of `batch_norm.statistics` of the run.
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
        scores, _ = predict_run(opened, indexed, out=out, at_test=batch_norm, advance=advance, say=print_note)
    if out is None and shows_progress():
        opened.add_command(command_line())
    _tell_scores(scores)
    if out is None:
        print_status(f"next: `distangle explain {shlex.quote(str(run))}`")
    print_result(str((out or opened.predictions) / "scores.json"))


def report(run: Path, *, screen: Path | None = None, images: Path | None = None) -> None:
    """Write one HTML folder to mail to a colleague.

    Args:
        run: Folder of a run.
        screen: Where the screen is now, when it was moved.
        images: Where the images are now, when they were moved after `distangle index`.
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
    """Run the main job on a synthetic screen with a planted truth, and say what was found.

    Args:
        out: A new folder for the screen and the run.
        seed: Of the cells and of the training.
    """
    from distangle.demo import run_demo

    found = run_demo(out, seed=seed, say=print_note)
    for sentence in found.sentences:
        print_result(sentence)
    print_result(f"report: {found.report}")
