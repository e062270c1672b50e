"""Take over folds and settings of an earlier run, to train it again.

Start, resume and finish the training of a run.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distangle import __version__
from distangle.core.distributed import is_first, wait_for_all
from distangle.core.io import atomic_write, write_json, write_text
from distangle.core.progress import no_progress
from distangle.core.signals import StopRequest
from distangle.errors import RunError, StoppedError, StorageError
from distangle.model import ModelCard, PerturbationClassifier, save_model
from distangle.results import RunFolder
from distangle.results.run import relative_path
from distangle.results.run_screen import WELLS, own_card, wells_sha256
from distangle.screen import TRAIN, Folds, Screen
from distangle.training.checkpointing.manager import ran_out_of_memory, single_writer
from distangle.training.config import TrainingConfig
from distangle.training.config_parser import write_config
from distangle.training.data.sampler import check_composition
from distangle.training.data.sites import output_names, uses_cell_type
from distangle.training.frozen_features import limit_threads
from distangle.training.initial_state import check_weights, resolve_auto_settings
from distangle.training.loggers import Logger, allow_services, allowed_services, check_loggers, loggers_for
from distangle.training.loop import Callbacks, run_epochs, use_averaged_weights
from distangle.training.pseudo_labels.labeller import summary
from distangle.training.pseudo_labels.unlabelled import check_pseudo_labels
from distangle.training.setup import TrainingData, TrainingSetup, check_ranks, open_data, set_up
from distangle.training.state import TrainingState
from distangle.training.validate import norm_statistics_choice, validate


def without_services(config: TrainingConfig, changes: Iterable[str]) -> tuple[TrainingConfig, str]:
    """Remove the services of an earlier run from its configuration; say so.

    Who made the run chose them for himself; who repeats it names them again.

    Args:
        config: Of the earlier run.
        changes: What is asked for now, such as `loggers=[wandb]`.
    """
    if not config.loggers or any(change.partition("=")[0].strip() == "loggers" for change in changes):
        return config, ""
    named = ", ".join(config.loggers)
    said = f"The earlier run reported to {named}; this one does not, unless you ask: `--set 'loggers=[{named}]'`."
    return config.model_copy(update={"loggers": ()}), said


def load_previous_folds(earlier: RunFolder, screen: Screen) -> Folds:
    """Return the folds of an earlier run, for the screen that it was made of.

    With them and the configuration of the earlier run, training gives the same bytes of weights on the same machine.

    Args:
        earlier: The run to repeat; it needs not be finished.
        screen: Its screen, wherever that lies now.

    Raises:
        RunError: The screen has other classes or other sites than the one of the earlier run.
        FoldError: A site is in no fold, or the folds were changed.
    """
    folds = Folds.read(earlier.folds)
    card = own_card(earlier)
    anew = f"train a new run on this screen: `distangle train SCREEN --config {earlier.config} --out runs/NAME`."
    if card["perturbations_sha256"] != screen.card.perturbations_sha256:
        raise RunError(
            f"{screen.folder} has another class list than the screen of {earlier.root}. Index the original tables "
            f"again, or {anew}"
        )
    folds.of(screen)
    if len(folds.table) != len(screen.sites):
        raise RunError(
            f"{screen.folder} has {len(screen.sites)} sites; {earlier.root} was made with {len(folds.table)}, so this "
            f"would be no repeat. Index all of its images again, or {anew}"
        )
    return folds


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
    """Make a run folder with everything the training needs, without training yet.

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
        raise RunError("The screen lies in no folder yet. Write it first: `distangle index SOURCE --out SCREEN`.")
    classes = output_names(screen, config)
    config = resolve_auto_settings(config, screen, np.flatnonzero(folds.of(screen) == TRAIN).tolist())
    check_loggers(config.loggers)
    check_pseudo_labels(screen, folds, config, classes)
    check_composition(config)
    # Before the folder: a file that cannot be had, or is of another network, leaves nothing behind.
    check_weights(screen, config, n_classes=len(classes), say=say)
    if not is_first():
        wait_for_all(NEW_FOLDER)
        return RunFolder.open(out)
    with RunFolder.begin(out, say=say) as run:
        write_text(run.config, write_config(config))
        write_text(run.screen, (screen.folder / "screen.json").read_text(encoding="utf-8"))
        folds.write(run.folds)
        write_json(
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
    run: RunFolder, *, screen: Screen | None = None, advance: Say, say: Say, stop: StopRequest | None = None
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
    with single_writer(run, say=say), limit_threads():
        return _train(run, screen=screen, advance=advance, say=say, stop=stop or StopRequest())


def _train(run: RunFolder, *, screen: Screen | None, advance: Say, say: Say, stop: StopRequest) -> RunFolder:
    setup = set_up(open_data(run, screen, stop=stop, say=say), stop=stop, say=say)
    data, state = setup.data, setup.state
    loggers = _open_loggers(data, resumed_at=state.epochs_done, say=say)
    check_ranks(setup)
    stop.can_wait = True
    try:
        for done in state.metrics:
            advance(f"loss {done['train_loss']:.3f} (before the resume)")
        run_epochs(
            state, setup.maker, data.sites.labels, data.config, moments=_EpochEnd(setup, loggers, advance).moments()
        )
    except StoppedError as stopped:
        raise setup.keeper.stopped(state, stopped) from None
    except StorageError as error:
        raise setup.keeper.not_stored(error) from error
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        raise setup.keeper.short_of_memory(error) from error
    finally:
        setup.maker.close()
        data.store.close()
        for logger in loggers:
            logger.close()
    if is_first():
        _finish(data, state)
    wait_for_all("the final weights")
    stop.can_wait = False  # what comes next changes no state
    return run


def _open_loggers(data: TrainingData, *, resumed_at: int, say: Say) -> list[Logger]:
    """Open the loggers of a run; of several ranks only the first logs."""
    services = allowed_services(data.run, data.config.loggers, say=say)
    if not is_first():
        return []
    settings = data.config.model_dump(mode="json")
    return loggers_for(data.run.metrics, names=services, settings=settings, resumed_at=resumed_at, say=say)


@dataclass(frozen=True)
class _EpochEnd:
    """Evaluates, logs and saves at the end of every epoch."""

    setup: TrainingSetup
    loggers: Sequence[Logger]
    advance: Say

    def moments(self) -> Callbacks:
        return Callbacks(
            validate=self.validate,
            after_epoch=self.after_epoch,
            after_step=self.setup.keeper.after_step,
            before_epoch=self.setup.before_epoch,
        )

    def validate(self, model: PerturbationClassifier) -> dict[str, float]:
        held_out = self.setup.data.held_out
        return {} if held_out is None else validate(model, held_out.sites, held_out.statistics, self.setup.evaluation)

    def after_epoch(self, state: TrainingState) -> None:
        keeper, data = self.setup.keeper, self.setup.data
        keeper.check_there()
        for logger in self.loggers:
            logger.epoch(state.metrics)
        keeper.after_epoch(state, data.run.metrics)
        row = state.metrics[-1]
        by_chance = f"(controls too; chance {1 / len(np.unique(data.sites.labels)):.3f})"
        held = f", held-out sites {row['held_out_accuracy']:.3f} {by_chance}" if "held_out_accuracy" in row else ""
        self.advance(f"loss {row['train_loss']:.3f}, accuracy {row['train_accuracy']:.3f}{held}")
        if state.epochs_done < data.config.epochs:
            keeper.between_epochs(state)


def _finish(data: TrainingData, state: TrainingState) -> None:
    """Write the final weights, and enter the end of the training into the run."""
    run, config, card = data.run, data.config, data.screen.card
    counts = np.bincount(data.sites.labels, minlength=len(data.classes))
    about = ModelCard(
        target=config.target,
        classes=data.classes,
        class_sites=tuple(counts.tolist()),  # 0: never trained, a junk class
        channels=tuple(channel.name for channel in card.channels),
        cell_types=tuple(card.cell_types) if uses_cell_type(data.screen, config) else (),
        preparation=config.preparation,
        shape=card.shape or None,
        correction=state.classifier.config.correction,
        epochs=state.epochs_done,
        precision=config.precision,
        norms=norm_statistics_choice(config.norms),
    )
    with atomic_write(run.image_statistics) as temporary, temporary.open("wb") as file:
        np.save(file, data.store.statistics if data.features is None else data.features.statistics)
    with use_averaged_weights(state.model, state.average):
        written = save_model(state.classifier, run.checkpoints / "model.safetensors", card=about)
    more = {}
    if config.pseudo_labels.strategy != "none":
        more = {"pseudo_labels": summary(state.notes, config.pseudo_labels)}
    write_json(run.run, {**run.describe(), **more, "finished": True})
    run.record(run.run, run.image_statistics, *written)
