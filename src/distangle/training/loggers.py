"""Log the metrics of every epoch.

A CSV always, TensorBoard when it is installed, MLflow and Weights & Biases when asked.
"""

import abc
import contextlib
import csv
import hashlib
import importlib.util
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from distangle.core.io import make_folder, write_json, write_text
from distangle.core.remote import cache_folder
from distangle.core.untrusted_files import read_json
from distangle.errors import ConfigError
from distangle.results import RunFolder

Rows = Sequence[Mapping[str, int | float]]
PROJECT = "distangle"


@runtime_checkable
class Logger(Protocol):
    """Takes the metrics after every epoch."""

    def epoch(self, rows: Rows) -> None:
        """Take the rows of all epochs so far, the newest last."""

    def close(self) -> None:
        """Finish."""


class CsvLogger:
    """Writes `metrics.csv` anew after every epoch.

    The file is whole or not written at all, and right after a resume.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def epoch(self, rows: Rows) -> None:
        """Write all rows."""
        text = io.StringIO(newline="")
        # Some are first counted later, such as those of pseudo labels: empty before, never shifted.
        names = list(dict.fromkeys(name for row in reversed(rows) for name in row))
        writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _short(value) for name, value in row.items()} for row in rows)
        write_text(self._path, text.getvalue())

    def close(self) -> None:
        """Nothing is open."""


class TensorBoardLogger:
    """Writes event files beside the CSV."""

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(folder, purge_step=purge_step)

    def epoch(self, rows: Rows) -> None:
        """Write the newest row."""
        row = rows[-1]
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(row["epoch"]))

    def close(self) -> None:
        """Flush the event file."""
        self._writer.close()


class Remote(abc.ABC):
    """A service that may be unreachable for a while.

    Rows that it did not take are offered again after the next epoch.

    Args:
        run: Folder of the run; the service's own name of the run is kept there, so that a resume goes on in it.
        settings: The resolved configuration.
        resumed_at: Epochs that the service has seen.
        say: Told when it did not take an epoch.
    """

    name = ""
    failures: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, run: Path, *, settings: Mapping[str, Any], resumed_at: int, say: Callable[[str], None]) -> None:
        self._run, self._settings, self._taken, self._say = run, settings, resumed_at, say
        self._is_open = False

    def epoch(self, rows: Rows) -> None:
        """Offer every row not taken yet; an unreachable service costs a remark only."""
        with self._tolerant(f"did not take epoch {len(rows)}; metrics.csv has it"):
            if not self._is_open:
                self._open()
                self._is_open = True
            for row in rows[self._taken :]:
                self._log({name: float(value) for name, value in row.items() if name != "epoch"}, int(row["epoch"]))
                self._taken += 1

    def close(self) -> None:
        """Send what waits and say that the run is over."""
        if self._is_open:
            with self._tolerant("could not close its run"):
                self._end()

    @contextlib.contextmanager
    def _tolerant(self, what: str) -> Iterator[None]:
        try:
            yield
        except self.failures as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._say(f"{self.name} {what} ({reason}).")

    @abc.abstractmethod
    def _open(self) -> None:
        """Begin a run of the service, or go on in the one that it has."""

    @abc.abstractmethod
    def _log(self, row: dict[str, float], epoch: int) -> None:
        """Hand over the numbers of one epoch."""

    @abc.abstractmethod
    def _end(self) -> None:
        """Send what waits, and end the run of the service."""


class MlflowLogger(Remote):
    """Writes to the server of `$MLFLOW_TRACKING_URI`, experiment `distangle`."""

    name = "MLflow"

    def _open(self) -> None:
        import mlflow
        from mlflow.exceptions import MlflowException

        self.failures = (MlflowException, OSError)
        self._client: Any = mlflow.MlflowClient()
        known = _remembered(self._run, "mlflow")
        if known is not None:
            self._id = known
            return
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = found.experiment_id if found else self._client.create_experiment(PROJECT)
        made = self._client.create_run(experiment, run_name=self._run.resolve().name)
        self._id = str(made.info.run_id)
        for name, value in _flat(self._settings):
            self._client.log_param(self._id, name, value)
        _remember(self._run, "mlflow", self._id)

    def _log(self, row: dict[str, float], epoch: int) -> None:
        for name, value in row.items():
            self._client.log_metric(self._id, name, value, step=epoch)

    def _end(self) -> None:
        self._client.set_terminated(self._id)


class WandbLogger(Remote):
    """Writes to Weights & Biases, project `distangle`.

    With `$WANDB_MODE=offline` all of it stays in the run folder.
    """

    name = "Weights & Biases"

    def _open(self) -> None:
        import wandb

        self.failures = (wandb.Error, OSError)
        known = _remembered(self._run, "wandb")
        self._open_run: Any = wandb.init(
            project=PROJECT,
            name=self._run.resolve().name,
            id=known,
            resume=None if known is None else "allow",
            dir=str(self._run),
            config=dict(_flat(self._settings)),
        )
        if known is None:
            _remember(self._run, "wandb", str(self._open_run.id))

    def _log(self, row: dict[str, float], epoch: int) -> None:
        self._open_run.log(row, step=epoch)

    def _end(self) -> None:
        self._open_run.finish()


REMOTE: Mapping[str, type[Remote]] = {"mlflow": MlflowLogger, "wandb": WandbLogger}


def check_loggers(names: Iterable[str]) -> None:
    """Check that the services asked for are installed.

    Raises:
        ConfigError: One is not; the message says how to install it.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"loggers names {name}, which is not installed. Install it (`pip install 'distangle[{name}]'`) "
                f"or leave it out; metrics.csv is always written."
            )


def allow_services(run: RunFolder) -> None:
    """Remember that a person here began a run, or allowed its services by name.

    Then what the run asks for may be sent away.
    """
    mark = _mark(run)
    make_folder(mark.parent)
    mark.touch()


def allowed_services(run: RunFolder, names: Sequence[str], *, say: Callable[[str], None]) -> tuple[str, ...]:
    """Return the services that a run may report to.

    Those it asks for, where a person here began it.

    A run from elsewhere asks in the name of who made it, and would report to the account of who resumes it.

    Args:
        run: The run.
        names: That its configuration asks for.
        say: Told of those that are left out.
    """
    if not names or _mark(run).exists():
        return tuple(names)
    say(
        f"{run.config} asks to report to {', '.join(names)}, and this run was not begun on this machine: nothing is "
        f"sent. If you want it: `distangle trust {run.root}`."
    )
    return ()


def _mark(run: RunFolder) -> Path:
    said = run.config.read_bytes() + run.require("folds_sha256")["folds_sha256"].encode()
    return cache_folder() / "runs" / hashlib.sha256(said).hexdigest()


def loggers_for(
    metrics: Path, *, resumed_at: int, names: Iterable[str], settings: Mapping[str, Any], say: Callable[[str], None]
) -> list[Logger]:
    """Open the CSV, TensorBoard when it is installed, and the services asked for.

    Args:
        metrics: Path of `metrics.csv`, in the run folder; TensorBoard's folder lies beside it.
        resumed_at: Epochs already done; later ones in old event files are void.
        names: Of `REMOTE`.
        settings: The resolved configuration, for the services' tables.
        say: Told when a service did not take an epoch.

    Raises:
        ConfigError: A service is not installed.
    """
    check_loggers(names)
    loggers: list[Logger] = [CsvLogger(metrics)]
    if importlib.util.find_spec("tensorboard") is not None:
        loggers.append(TensorBoardLogger(metrics.parent / "tensorboard", purge_step=resumed_at + 1))
    loggers += [REMOTE[name](metrics.parent, settings=settings, resumed_at=resumed_at, say=say) for name in names]
    return loggers


def _remembered(run: Path, name: str) -> str | None:
    """Return the name that a service gave this run when it was started."""
    path = run / "loggers.json"
    known = read_json(path, fix=_FORGET) if path.exists() else {}
    given = known.get(name)
    return given if isinstance(given, str) else None


_FORGET = "Remove it: then the services begin a run of their own anew."


def _remember(run: Path, name: str, given: str) -> None:
    path = run / "loggers.json"
    known = read_json(path, fix=_FORGET) if path.exists() else {}
    write_json(path, {**known, name: given})


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _short(value: int | float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
