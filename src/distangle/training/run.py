"""A run from its beginning, or from its last checkpoint: folder, folds, network, loop, final weights."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from distangle import __version__
from distangle.commit import commit_json, commit_text, committed
from distangle.correction import Correction, GroupPrior
from distangle.errors import FoldError, RunError, Stopped, StorageError
from distangle.images import ImageStore, measure_sites
from distangle.model import (
    PerturbationClassifier,
    ReferenceWells,
    measure_numbers,
    reference_wells,
    save_model,
    set_prior,
)
from distangle.model.features import Features
from distangle.progress import doing, no_progress
from distangle.ranks import check_same, is_first, n_ranks, wait_for_all
from distangle.results import RunFolder
from distangle.results.own_screen import WELLS, own_card, own_screen, wells_sha256
from distangle.results.run import relative_path
from distangle.screen import HELD_OUT, TRAIN, Folds, Screen
from distangle.stopping import Stop
from distangle.training.batches.composition import check_composition
from distangle.training.batches.controls import control_sites
from distangle.training.batches.maker import BatchMaker
from distangle.training.batches.sites import (
    TrainingSites,
    labelled_sites,
    output_names,
    uses_cell_type,
    with_shuffled_labels,
)
from distangle.training.config import TrainingConfig
from distangle.training.corrections import choose_correction
from distangle.training.frozen import open_features, threads_kept
from distangle.training.keeping.checkpoints import has_checkpoint
from distangle.training.keeping.keeper import Keeper, alone_in, ran_out_of_memory
from distangle.training.loggers import allow_services, allowed_services, check_loggers, loggers_for
from distangle.training.loop import Moments, averaged_weights, no_pseudo_labels, run_epochs
from distangle.training.network import check_weights, fresh_state, resolved
from distangle.training.pseudo_labels.labeller import summary
from distangle.training.pseudo_labels.unlabelled import check_pseudo_labels, join_unlabelled
from distangle.training.resolve import read_config, write_config
from distangle.training.state import TrainingState
from distangle.training.validate import validate

Say = Callable[[str], None]
NEW_FOLDER = "the new run folder"


def start_run(
    screen: Screen,
    folds: Folds,
    config: TrainingConfig,
    out: Path,
    *,
    features: Path | None = None,
    say: Say = no_progress,
) -> RunFolder:
    """Make a run folder that holds everything the training needs, without training yet.

    Args:
        screen: A screen that has been written.
        folds: Which sites are held out.
        config: How to train.
        out: A new or empty folder.
        features: Folder of the features of a frozen backbone, as seen from `out`; None for one of its own.
        say: Told of a download.

    Raises:
        RunError: The folder is in use, or the screen was never written.
        FoldError: The target has fewer than two classes, or pseudo labels have nobody to go to.
        ConfigError: A logger is not installed, pseudo labels would never begin, the batches asked for cannot be made,
            or an extra output would have the name of a class.
        WeightsError: Published weights are asked for and cannot be had.
    """
    if screen.folder is None:
        message = "The screen lies in no folder yet. Write it first: `distangle index SOURCE --out SCREEN`."
        raise RunError(message)
    classes = output_names(screen, config)
    config = resolved(config, screen, np.flatnonzero(folds.of(screen) == TRAIN).tolist())
    check_loggers(config.loggers)
    check_pseudo_labels(screen, folds, config, classes)
    check_composition(config)
    # Before the folder: a file that cannot be had, or is of another network, leaves nothing behind.
    check_weights(screen, config, n_classes=len(classes), say=say)
    if not is_first():
        wait_for_all(NEW_FOLDER)
        return RunFolder.open(out)
    with RunFolder.begin(out, say=say) as run:
        commit_text(run.config, write_config(config))
        commit_text(run.screen, (screen.folder / "screen.json").read_text(encoding="utf-8"))
        folds.write(run.folds)
        commit_json(
            run.run,
            {
                "distangle": __version__,
                "screen": relative_path(screen.folder, run.root),
                "target": config.target,
                "classes": list(classes),
                "held_out": folds.description,
                "unlabelled": folds.unlabelled,
                "forced": folds.forced,
                "forced_notes": list(folds.notes),
                "folds_sha256": folds.sha256,
                WELLS: wells_sha256(screen),
                "finished": False,
                **({} if features is None else {"features": features.as_posix()}),
            },
        )
        run.record(run.config, run.screen, run.folds, run.run)
    if config.loggers:
        allow_services(run)
    wait_for_all(NEW_FOLDER)
    return run


def train(
    run: RunFolder, *, screen: Screen | None = None, advance: Say, say: Say, stop: Stop | None = None
) -> RunFolder:
    """Train a run to its last epoch, from the beginning or from its last checkpoint.

    Args:
        run: From `start_run`, or one that was stopped.
        screen: Where it is when it has moved.
        advance: Called after every epoch with a few words.
        say: Called with sentences that a person should see.
        stop: Polled after every step; None never stops.

    Returns:
        The run, with `checkpoints/model.safetensors`.

    Raises:
        RunError: The screen or the folds are no longer those of the run, a value is not finite, or another process
            trains this run.
        StorageError: The folder cannot be written to, or its disk is full; the last good state is kept.
        MemoryShortage: Memory ran out; names the files of the batch where it did so while they were decoded.
        Stopped: `stop` asked for it; the state is saved.
    """
    with alone_in(run, say=say), threads_kept():
        return _train(run, screen=screen, advance=advance, say=say, stop=stop or Stop())


def _train(run: RunFolder, *, screen: Screen | None, advance: Say, say: Say, stop: Stop) -> RunFolder:
    config, told = read_config(run.config), run.describe()
    screen = screen or own_screen(run, same=False)
    folds = Folds.read(run.folds)
    _check_same(run, screen, folds, told)
    fold = folds.of(screen)
    store = ImageStore(screen, config.preparation, fold=fold)
    classes = tuple(told["classes"])
    training_rows = np.flatnonzero(fold == TRAIN).tolist()
    features = open_features(run, store, config, look=_stopping(stop), say=say)
    if features is not None:
        torch.set_num_threads(1)  # a head is small: two threads would mostly wait for each other
    sites, n_unlabelled = labelled_sites(store, np.asarray(training_rows), classes, config, features)
    if config.shuffle_labels:
        sites = with_shuffled_labels(sites, screen.sites, seed=config.seed)
        say("labels: dealt out anew within each plate (shuffle_labels=true): a null, not a result.")
    held_out, held_out_statistics = _held_out_sites(store, folds, classes, config, features)
    for row, reason in sorted((store.reasons if features is None else features.reasons).items()):
        say(f"not used, site {row}: {reason}")
    pseudo_labels = config.pseudo_labels.strategy != "none"
    if n_unlabelled and not pseudo_labels:
        say(f"{n_unlabelled} sites of the training fold have no known {config.target} and are not used.")
    resumes = has_checkpoint(run.checkpoints)
    correction = _correction(run, store, features, sites, config, n_classes=len(classes), stop=stop, say=say)
    doing("building the network")
    state = fresh_state(screen, config, n_classes=len(classes), correction=correction, pretrained=not resumes, say=say)
    fingerprint = _fingerprint(write_config(config), told["folds_sha256"], "\x1f".join(classes))
    keeper = Keeper(run, config.saving, fingerprint=fingerprint, stop=stop)
    keeper.begin(state, say=say)
    keeper.check_room(state, average=config.average > 0)
    n_cell_types = len(screen.card.cell_types) if uses_cell_type(screen, config) else 0
    network = cast(PerturbationClassifier, state.model)
    wells = _reference_wells(network, store, features, sites, resumes=resumes)
    beside: dict[str, Any] = {"n_cell_types": n_cell_types, "features": features}
    measured: dict[str, Any] = {**beside, "references": _all_references(wells, screen)}
    on_device = next(network.parameters()).device.type != "cpu"
    everybody, before_epoch = sites, no_pseudo_labels
    if pseudo_labels:
        look = keeper.between_batches
        everybody, labeller = join_unlabelled(
            store, folds, sites, classes, config, **measured, say=say, before_batch=look
        )
        before_epoch = labeller.before_epoch
    controls = control_sites(store, folds, config, say=say)
    maker = BatchMaker(
        store,
        everybody,
        config,
        n_perturbations=len(classes),
        wells=wells,
        controls=controls,
        whole=on_device,
        **beside,
    )
    settings = config.model_dump(mode="json")
    services = allowed_services(run, config.loggers, say=say)
    loggers = (
        loggers_for(run.metrics, names=services, settings=settings, resumed_at=state.epochs_done, say=say)
        if is_first()
        else []
    )
    _check_ranks(everybody, state, fingerprint)

    def after_epoch(now: TrainingState) -> None:
        keeper.check_there()
        for logger in loggers:
            logger.epoch(now.metrics)
        keeper.after_epoch(now, run.metrics)
        row = now.metrics[-1]
        by_chance = f"(controls too; chance {1 / len(np.unique(sites.labels)):.3f})"
        held = f", held-out sites {row['held_out_accuracy']:.3f} {by_chance}" if "held_out_accuracy" in row else ""
        advance(f"loss {row['train_loss']:.3f}, accuracy {row['train_accuracy']:.3f}{held}")
        if now.epochs_done < config.epochs:
            keeper.between_epochs(now)

    def measure(model: Any) -> dict[str, float]:
        if held_out is None:
            return {}
        of_norms: dict[str, Any] = {"norms": config.norms, "training_rows": training_rows}
        look = keeper.between_batches
        return validate(model, store, held_out, held_out_statistics, **measured, **of_norms, before_batch=look)

    stop.can_wait = True
    try:
        for done in state.metrics:
            advance(f"loss {done['train_loss']:.3f} (before the resume)")
        moments = Moments(
            validate=measure, after_epoch=after_epoch, after_step=keeper.after_step, before_epoch=before_epoch
        )
        run_epochs(state, maker, sites.labels, config, moments=moments)
    except Stopped as stopped:
        raise keeper.stopped(state, stopped) from None
    except StorageError as error:
        raise keeper.not_stored(error) from error
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        raise keeper.short_of_memory(error) from error
    finally:
        maker.close()
        store.close()
        for logger in loggers:
            logger.close()
    if is_first():
        seen = store.statistics if features is None else features.statistics
        _finish(run, state, screen=screen, config=config, sites=sites, image_statistics=seen)
    wait_for_all("the final weights")
    stop.can_wait = False  # what comes next changes no state
    return run


def _check_ranks(sites: TrainingSites, state: TrainingState, fingerprint: str) -> None:
    """Wait until every rank has read the screen, and check that all are about to do the same."""
    wait_for_all("the first step")
    place = [fingerprint, state.position, *sites.names, *map(str, sites.labels)]
    check_same("\x1f".join(place).encode(), what="training fold or checkpoint", where="the first step")


def _finish(
    run: RunFolder,
    state: TrainingState,
    *,
    screen: Screen,
    config: TrainingConfig,
    sites: TrainingSites,
    image_statistics: np.ndarray,
) -> None:
    told = run.describe()
    counts = np.bincount(sites.labels, minlength=len(told["classes"]))
    about = {
        "target": config.target,
        "classes": told["classes"],
        "class_sites": counts.tolist(),  # 0: never trained, a junk class
        "channels": [channel.name for channel in screen.card.channels],
        "cell_types": list(screen.card.cell_types) if uses_cell_type(screen, config) else [],
        "preparation": config.preparation.model_dump(mode="json"),
        "shape": list(screen.card.shape) if screen.card.shape else None,
        "correction": state.model.config.correction.model_dump(),  # type: ignore[union-attr, operator]
        "epochs": state.epochs_done,
        "precision": config.precision,
        "norms": config.norms.model_dump(mode="json"),
    }
    with committed(run.image_statistics) as temporary, temporary.open("wb") as file:
        np.save(file, image_statistics)
    with averaged_weights(state.model, state.average):
        written = save_model(state.model, run.checkpoints / "model.safetensors", about=about)  # type: ignore[arg-type]
    told |= (
        {"pseudo_labels": summary(state.notes, config.pseudo_labels)} if config.pseudo_labels.strategy != "none" else {}
    )
    commit_json(run.run, {**told, "finished": True})
    run.record(run.run, run.image_statistics, *written)


def _correction(
    run: RunFolder,
    store: ImageStore,
    features: Features | None,
    sites: TrainingSites,
    config: TrainingConfig,
    *,
    n_classes: int,
    stop: Stop,
    say: Say,
) -> Correction:
    """Return the correction of a run: as its settings say, as was chosen before, or chosen now and kept."""
    if config.correction.method != "auto" or features is None:
        return config.correction.fixed
    if not run.correction.exists():
        look = _stopping(stop)
        doing("comparing corrections of batches")
        if is_first():
            choice = choose_correction(store, features, sites, config, n_classes=n_classes, look=look)
            commit_json(run.correction, choice.as_json())
            run.record(run.correction)
        wait_for_all("the choice of a correction")
    told = json.loads(run.correction.read_text(encoding="utf-8"))
    chosen = Correction.model_validate(told["chosen"])
    say(f"correction: {chosen}. {told['reason']}")
    return chosen


def _reference_wells(
    network: PerturbationClassifier,
    store: ImageStore,
    features: Features | None,
    sites: TrainingSites,
    *,
    resumes: bool,
) -> ReferenceWells | None:
    """Return what the correction of a network rests on; of a new network, keep how much its training groups differ."""
    if network.prior is None:
        return None

    def numbers_of(rows: Sequence[int]) -> tuple[list[int], np.ndarray]:
        return measure_numbers(network, store, rows) if features is None else features.numbers_of(rows)

    given: dict[str, Any] = {"fold": store.fold}
    everybody = range(len(store.screen.sites))
    if not resumes:
        first = reference_wells(
            store.screen, everybody, network.config.correction, numbers_of, training_rows=sites.rows, **given
        )
        set_prior(network, first)
    prior = GroupPrior.from_rows(network.prior.detach().cpu().numpy())
    return reference_wells(store.screen, everybody, network.config.correction, numbers_of, prior=prior, **given)


def _all_references(wells: ReferenceWells | None, screen: Screen) -> np.ndarray | None:
    """Return the references of every site, float32 [site of the screen, reference]."""
    return None if wells is None else wells.of(np.arange(len(screen.sites)))


def _stopping(stop: Stop) -> Callable[[], None]:
    """Return what ends the work between two batches when somebody asks for it; several ranks go on."""
    return stop.check if n_ranks() == 1 else lambda: None


def _held_out_sites(
    store: ImageStore, folds: Folds, classes: tuple[str, ...], config: TrainingConfig, features: Features | None
) -> tuple[TrainingSites | None, np.ndarray]:
    rows = np.flatnonzero(folds.of(store.screen) == HELD_OUT)
    try:
        held_out, _ = labelled_sites(store, rows, classes, config, features)
    except FoldError:
        return None, np.empty(0)  # an unlabelled test fold has no curve
    if features is not None:
        return held_out, np.empty(0)
    _, statistics = measure_sites(store, held_out.rows.tolist())
    return held_out, statistics


def _check_same(run: RunFolder, screen: Screen, folds: Folds, told: dict[str, Any]) -> None:
    if own_card(run)["perturbations_sha256"] != screen.card.perturbations_sha256:
        message = (
            f"{screen.folder} has another class list than the screen that {run.root} was started on. Index the "
            f"original tables again, or train a new run on this screen."
        )
        raise RunError(message)
    if folds.sha256 != told["folds_sha256"]:
        message = f"{run.folds} was changed since the run was started. Restore it, or train into a new folder."
        raise RunError(message)


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\x1e".join(parts).encode()).hexdigest()
