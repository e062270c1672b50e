"""Run the verbs for runs: train, predict, report and demo."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from distangle.cli.app import command_line
from distangle.cli.arguments import RepeatedOption, check_exclusive
from distangle.cli.console import (
    print_note,
    print_result,
    print_status,
)
from distangle.cli.inputs import check_folder, compute_on, open_for_drawing, open_own_screen, open_screen
from distangle.cli.predictions import print_scores
from distangle.cli.profiles import print_profiles
from distangle.core.progress import progress, show_action, shows_progress
from distangle.errors import ConfigError, brief

if TYPE_CHECKING:
    from distangle.results import RunFolder
    from distangle.screen import Folds, Screen
    from distangle.training import TrainingConfig

MAX_NAMES = 20  # of labels in a note


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
    set: RepeatedOption = (),
    images: Path | None = None,
    device: str | None = None,
    limit: Annotated[int | None, Parameter(name="--dry-run")] = None,
    resume: Path | None = None,
) -> None:
    """Train a network on a screen and evaluate it on held-out wells.

    With a frozen backbone (preset `small`), the default is a cross-validation followed by a network trained on all
    wells. Other presets train for days on large screens, so their default is one network with a fifth of the
    experiments held out. Settings come from the preset, then `--config`, then command-line flags; later ones win.

    Args:
        screen: Folder from `distangle index`.
        out: Folder of the run, such as runs/NAME, or a URL, such as s3://BUCKET/runs/NAME.
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
    expect_setting = (f"expect={expect}",) if expect else ()
    weights_setting = () if weights is None else (f"network.weights={json.dumps(weights)}",)
    fold_flags = {
        "--cross-validate": cross_validate,
        "--hold-out": hold_out,
        "--unlabelled": unlabelled,
        "--folds": folds,
        "--fold": fold,
        "--group": group,
        "--fold-file": fold_file,
        "--force-split": force_split or None,
    }
    setting_flags = {
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
        others = {
            **fold_flags,
            **setting_flags,
            "--out": out,
            "--from": from_,
            "--set": set or None,
            "--dry-run": limit,
        }
        check_exclusive(
            f"--resume {resume}",
            others,
            "A resumed run keeps its settings and folds; `--from` starts a new run with changes.",
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
        indexed_screen = open_own_screen(run, screen, images, same=False)
    elif source is None or (out is None and limit is None):
        raise ConfigError(
            "Name the screen and the new run: `distangle train SCREEN --out runs/NAME` (or `--from RUN --out "
            "runs/NAME`, or `--resume RUN`)."
        )
    else:
        previous = None if from_ is None else RunFolder.open(source)
        if previous is not None:
            from distangle.results import refuse_altered

            refuse_altered(previous, "config.yaml", "run.json")
        changes = (*weights_setting, *expect_setting, *set)
        base = None
        if previous is not None:
            base, note = without_services(read_config(previous.config), changes)
            if note:
                print_note(note)
        training_config = resolve_config(
            preset, changes, file=config, base=base, target=target, epochs=epochs, seed=seed
        )
        if previous is not None:
            check_exclusive(f"--from {from_}", fold_flags, "The folds of that run are reused.")
            indexed_screen = open_own_screen(previous, screen, images, same=False)
            split = load_previous_folds(previous, indexed_screen)
            if limit is None and (plan := previous.describe().get("cross_validation")):
                _cross_validate(
                    indexed_screen, training_config, Path(str(out)), n_folds=plan["n_folds"], hidden=plan["hidden"]
                )
                return
        elif cross_validate is not None or (
            training_config.uses_features
            and limit is None
            and all(v is None for k, v in fold_flags.items() if k != "--unlabelled")
        ):
            others = {**fold_flags, "--cross-validate": None, "--unlabelled": None, "--dry-run": limit}
            check_exclusive(f"--cross-validate {cross_validate}", others, "Cross-validation makes its own folds.")
            indexed_screen = open_screen(source, images)
            _cross_validate(indexed_screen, training_config, Path(str(out)), n_folds=cross_validate, hidden=unlabelled)
            return
        else:
            indexed_screen = open_screen(source, images)
            split = make_folds(indexed_screen, fold_flags, label=training_config.target, seed=training_config.seed)
        coverage = class_coverage(indexed_screen, split, training_config.target)
        for note in coverage.missing_label_notes():
            print_note(note)
        if coverage.never_trained:
            names = ", ".join(map(brief, coverage.never_trained[:MAX_NAMES]))
            n_others = len(coverage.never_trained) - MAX_NAMES
            print_note(
                f"labels without a training well, not scored: {names}{f' and {n_others} more' if n_others > 0 else ''}"
            )
        if out is None or limit is not None:
            for sentence in dry_run(indexed_screen, split, training_config, limit=limit or 0).sentences():
                print_result(sentence)
            return
        run = start_run(indexed_screen, split, training_config, out, say=print_note)
    _train_on(run, indexed_screen)


def _cross_validate(
    screen: "Screen", config: "TrainingConfig", out: Path, *, n_folds: int | None, hidden: str | None
) -> None:
    """Cross-validate on a screen, train on all wells, and print the scores."""
    from distangle.screen import class_coverage, hold_nothing_out
    from distangle.training import start_cross_validation

    class_coverage(screen, hold_nothing_out(screen), config.target)
    run = start_cross_validation(screen, config, out, n_folds=n_folds, hidden_labels=hidden, say=print_note)
    plan = run.describe()["cross_validation"]
    print_result(
        f"cross-validation: {plan['n_folds']} folds of whole {plan['expect']} ({plan['why']}), then one network "
        "trained on all wells. To hold out certain wells instead, use `--hold-out COLUMN=VALUE`."
    )
    _train_on(run, screen)


def make_folds(screen: "Screen", flags: Mapping[str, Any], *, label: str, seed: int) -> "Folds":
    """Read the folds of a file, or make those that the flags describe; print leaks.

    Raises:
        ConfigError: Other flags of folds are given with the file.
        ScreenError: The screen cannot be split in this way.
    """
    from distangle.screen import Folds, folds_from_options, validate_folds
    from distangle.screen.checks.leaks import find_leaks

    file = flags["--fold-file"]
    if file is not None:
        others = {**flags, "--fold-file": None, "--force-split": None}
        check_exclusive(f"--fold-file {file}", others, "The file determines the held-out wells.")
        split = validate_folds(screen, Folds.read(file), force=bool(flags["--force-split"]))
    else:
        split = folds_from_options(
            screen,
            by=flags["--hold-out"],
            hidden=flags["--unlabelled"],
            n_folds=flags["--folds"],
            fold=flags["--fold"],
            group=flags["--group"],
            label=label,
            seed=seed,
            force=bool(flags["--force-split"]),
        )
    for finding in find_leaks(screen, split, label=label):
        if finding.severity != "note":
            print_note(f"{finding.kind}: {finding.what}. {finding.fix}")
    return split


def _train_on(run: "RunFolder", screen: "Screen") -> None:
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
        print_status(preview(run, screen))
        if warning := is_slow_here(run):
            print_note(warning)
    resume_hint = f"To continue, run `distangle train --resume {run.root}`."
    with (
        stop_at_signals(resume_hint) as stop,
        single_writer(run, say=print_note),
        progress("train", epochs, unit="epoch") as advance,
    ):
        stop.check()
        if shows_progress():
            run.add_command(command_line())
        train_run(run, screen=screen, advance=advance, say=print_note, stop=stop)
    for line in retry_summary():
        print_note(line)
    if n_folds:
        from distangle.inference import predict_run

        with progress("predict", 100, unit="%") as advance:
            scores, _ = predict_run(run, screen, advance=advance, say=print_note)
        print_scores(scores)
        print_status(f"next: `distangle explain {shlex.quote(str(run.root))}`")
    else:
        print_status(f"next: `distangle predict {shlex.quote(str(run.root))}`")
    print_result(str(run.root))


def report(run: Path, *, screen: Path | None = None, images: Path | None = None, one_file: bool = False) -> None:
    """Write a report of a run as an HTML folder that works offline.

    Args:
        run: Folder of a run.
        screen: Folder of the screen, if it was moved.
        images: Folder of the images, if they were moved after `distangle index`.
        one_file: Write report.html as well: the whole report in one file, to mail and to open by a double click.
    """
    run_folder, indexed_screen = open_for_drawing(run, screen, images)
    from distangle.report import build_report

    page = build_report(
        run_folder,
        indexed_screen,
        one_file=one_file,
        say=print_note,
        progress=lambda part: show_action("writing the report", part),
    )
    print_result(str(page))


def demo(*, out: Path = Path("demo"), seed: int = 0) -> None:
    """Run the whole workflow on a synthetic screen with planted effects.

    Args:
        out: New folder or URL for the screen and the run.
        seed: Random seed of the simulation and of the training.
    """
    from distangle.demo import run_demo

    result = run_demo(out, seed=seed, say=print_note)
    print_profiles(result.profiles)
    for sentence in result.sentences:
        print_result(sentence)
    print_result(f"report: {result.report}")
