"""Start, resume and finish the training of a run."""

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
from distangle.results.run_screen import WELLS, own_metadata, wells_sha256
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
from distangle.training.pseudo_labels.unlabelled_wells import check_pseudo_labels
from distangle.training.setup import TrainingData, TrainingSetup, check_ranks, open_data, set_up
from distangle.training.state import TrainingState
from distangle.training.validate import norm_statistics_choice, validate


def without_services(config: TrainingConfig, changes: Iterable[str]) -> tuple[TrainingConfig, str]:
    """Remove the logging services of an earlier run from its configuration.

    The user of the earlier run chose them; the user who repeats the run must name them again.

    Args:
        config: Configuration of the earlier run.
        changes: Settings of the new run, such as `loggers=[wandb]`.

    Returns:
        The configuration, and a note on the removed services, or "".
    """
    if not config.loggers or any(change.partition("=")[0].strip() == "loggers" for change in changes):
        return config, ""
    services = ", ".join(config.loggers)
    note = (
        f"The earlier run reported to {services}; this one does not, unless you set it: `--set 'loggers=[{services}]'`."
    )
    return config.model_copy(update={"loggers": ()}), note


def load_previous_folds(earlier: RunFolder, screen: Screen) -> Folds:
    """Return the folds of an earlier run, for its screen.

    With them and the configuration of the earlier run, training gives bit-equal weights on the same machine.

    Args:
        earlier: The run to repeat; it may be unfinished.
        screen: Its screen, at any path.

    Raises:
        RunError: The screen has other classes or sites than that of the earlier run.
        FoldError: A site is in no fold, or the folds were changed.
    """
    folds = Folds.read(earlier.folds)
    metadata = own_metadata(earlier)
    new_run = f"train a new run on this screen: `distangle train SCREEN --config {earlier.config} --out runs/NAME`."
    if metadata["perturbations_sha256"] != screen.metadata.perturbations_sha256:
        raise RunError(
            f"{screen.folder} has another class list than the screen of {earlier.root}. Index the original tables "
            f"again, or {new_run}"
        )
    folds.of(screen)
    if len(folds.table) != len(screen.sites):
        raise RunError(
            f"{screen.folder} has {len(screen.sites)} sites; {earlier.root} was made with {len(folds.table)}, so this "
            f"would not be a repeat. Index all of its images again, or {new_run}"
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
    """Make a run folder with all inputs of the training, without training yet.

    Args:
        screen: A screen that has been written.
        folds: Training, held-out and unlabelled sites.
        config: Configuration of the training.
        out: A new or empty folder.
        features: Path of the features of a frozen backbone, relative to `out`; None for features of its own.
        say: Called with messages, as on a download.

    Raises:
        RunError: The folder is in use, or the screen was never written.
        FoldError: The target has fewer than two classes, or pseudo labels have no unlabelled site.
        ConfigError: A logger is not installed, pseudo labels would never start, the batches cannot be made, or an extra
            output has the name of a class.
        WeightsError: Pretrained weights are not available.
    """
    if screen.folder is None:
        raise RunError("The screen has no folder yet. Write it first: `distangle index SOURCE --out SCREEN`.")
    classes = output_names(screen, config)
    config = resolve_auto_settings(config, screen, np.flatnonzero(folds.of(screen) == TRAIN).tolist())
    check_loggers(config.loggers)
    check_pseudo_labels(screen, folds, config, classes)
    check_composition(config)
    # Check before the folder is made: missing or wrong weights leave nothing behind.
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
    """Train a run to its last epoch, from the start or from its last checkpoint.

    Args:
        run: From `start_run`, or one that was stopped.
        screen: The screen, if it has moved.
        advance: Called with a message after every epoch.
        say: Called with messages for the user.
        stop: Polled after every step; None never stops.

    Returns:
        The run, with `checkpoints/model.safetensors`.

    Raises:
        RunError: The screen or the folds differ from those of the run, a value is not finite, or another process trains
            this run.
        StorageError: The folder cannot be written to, or its disk is full; the last good state is kept.
        OutOfMemoryError: Memory ran out; names the files of the batch if it did so while they were decoded.
        StoppedError: A stop was requested; the state is saved.
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
        for row in state.metrics:
            advance(f"loss {row['train_loss']:.3f} (before the resume)")
        run_epochs(
            state,
            setup.loader,
            data.sites.labels,
            data.config,
            callbacks=_EpochEnd(setup, loggers, advance).callbacks(),
        )
    except StoppedError as error:
        raise setup.checkpoints.save_stopped(state, error) from None
    except StorageError as error:
        raise setup.checkpoints.storage_error(error) from error
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        raise setup.checkpoints.memory_error(error) from error
    finally:
        setup.loader.close()
        data.store.close()
        for logger in loggers:
            logger.close()
    if is_first():
        _finish(data, state)
    wait_for_all("the final weights")
    stop.can_wait = False  # the next steps change no state
    return run


def _open_loggers(data: TrainingData, *, resumed_at: int, say: Say) -> list[Logger]:
    """Open the loggers of a run; with several ranks only the first logs."""
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

    def callbacks(self) -> Callbacks:
        return Callbacks(
            validate=self.validate,
            after_epoch=self.after_epoch,
            after_step=self.setup.checkpoints.after_step,
            before_epoch=self.setup.before_epoch,
        )

    def validate(self, model: PerturbationClassifier) -> dict[str, float]:
        held_out = self.setup.data.held_out
        return {} if held_out is None else validate(model, held_out.sites, held_out.statistics, self.setup.evaluation)

    def after_epoch(self, state: TrainingState) -> None:
        checkpoints, data = self.setup.checkpoints, self.setup.data
        checkpoints.check_folder()
        for logger in self.loggers:
            logger.epoch(state.metrics)
        checkpoints.after_epoch(state, data.run.metrics)
        row = state.metrics[-1]
        chance = f"(controls too; chance {1 / len(np.unique(data.sites.labels)):.3f})"
        held_out_text = (
            f", held-out sites {row['held_out_accuracy']:.3f} {chance}" if "held_out_accuracy" in row else ""
        )
        self.advance(f"loss {row['train_loss']:.3f}, accuracy {row['train_accuracy']:.3f}{held_out_text}")
        if state.epochs_done < data.config.epochs:
            checkpoints.stop_between_epochs(state)


def _finish(data: TrainingData, state: TrainingState) -> None:
    """Write the final weights, and mark the run as finished."""
    run, config, metadata = data.run, data.config, data.screen.metadata
    counts = np.bincount(data.sites.labels, minlength=len(data.classes))
    model_card = ModelCard(
        target=config.target,
        classes=data.classes,
        class_sites=tuple(counts.tolist()),  # 0: never trained, an unused class
        channels=tuple(channel.name for channel in metadata.channels),
        cell_types=tuple(metadata.cell_types) if uses_cell_type(data.screen, config) else (),
        preprocessing=config.preprocessing,
        shape=metadata.shape or None,
        correction=state.classifier.config.correction,
        epochs=state.epochs_done,
        precision=config.precision,
        batch_norm=norm_statistics_choice(config.batch_norm),
    )
    with atomic_write(run.image_statistics) as temporary, temporary.open("wb") as file:
        np.save(file, data.store.statistics if data.features is None else data.features.statistics)
    with use_averaged_weights(state.model, state.ema):
        files = save_model(state.classifier, run.checkpoints / "model.safetensors", card=model_card)
    extra = {}
    if config.pseudo_labels.strategy != "none":
        extra = {"pseudo_labels": summary(state.hook_values, config.pseudo_labels)}
    write_json(run.run, {**run.describe(), **extra, "finished": True})
    run.record(run.run, run.image_statistics, *files)
