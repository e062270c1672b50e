"""Log the metrics of every epoch to CSV, TensorBoard, MLflow or Weights & Biases."""

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
    """Receives the metrics after every epoch."""

    def epoch(self, rows: Rows) -> None:
        """Log the rows of all epochs so far, the newest last."""

    def close(self) -> None:
        """Finish the log."""


class CsvLogger:
    """Writes `metrics.csv` again after every epoch.

    The file is whole or not written at all, and correct after a resume.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def epoch(self, rows: Rows) -> None:
        """Write all rows."""
        text = io.StringIO(newline="")
        # Some metrics start at a later epoch, such as those of pseudo labels: earlier cells are empty.
        names = list(dict.fromkeys(name for row in reversed(rows) for name in row))
        writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _format(value) for name, value in row.items()} for row in rows)
        write_text(self._path, text.getvalue())

    def close(self) -> None:
        """Do nothing: no file is open."""


class TensorBoardLogger:
    """Writes TensorBoard event files."""

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


class RemoteLogger(abc.ABC):
    """Logs to a service that may be unreachable for a while.

    Rows that the service missed are sent again after the next epoch.

    Args:
        run: Folder of the run. It stores the service's id of the run, so that a resume continues it.
        settings: The resolved configuration.
        resumed_at: Number of epochs that the service has.
        say: Called with a message if the service missed an epoch.
    """

    name = ""
    failures: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, run: Path, *, settings: Mapping[str, Any], resumed_at: int, say: Callable[[str], None]) -> None:
        self._run, self._settings, self._n_sent, self._say = run, settings, resumed_at, say
        self._is_open = False

    def epoch(self, rows: Rows) -> None:
        """Send every row that is not sent yet; on failure only report it."""
        with self._report_failures(f"did not take epoch {len(rows)}; metrics.csv has it"):
            if not self._is_open:
                self._open()
                self._is_open = True
            for row in rows[self._n_sent :]:
                self._log({name: float(value) for name, value in row.items() if name != "epoch"}, int(row["epoch"]))
                self._n_sent += 1

    def close(self) -> None:
        """Send pending rows, and end the run of the service."""
        if self._is_open:
            with self._report_failures("could not close its run"):
                self._end()

    @contextlib.contextmanager
    def _report_failures(self, problem: str) -> Iterator[None]:
        try:
            yield
        except self.failures as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._say(f"{self.name} {problem} ({reason}).")

    @abc.abstractmethod
    def _open(self) -> None:
        """Start a run of the service, or continue the stored one."""

    @abc.abstractmethod
    def _log(self, row: dict[str, float], epoch: int) -> None:
        """Send the metrics of one epoch."""

    @abc.abstractmethod
    def _end(self) -> None:
        """Send pending rows, and end the run of the service."""


class MlflowLogger(RemoteLogger):
    """Logs to the server of `$MLFLOW_TRACKING_URI`, experiment `distangle`."""

    name = "MLflow"

    def _open(self) -> None:
        import mlflow
        from mlflow.exceptions import MlflowException

        self.failures = (MlflowException, OSError)
        self._client: Any = mlflow.MlflowClient()
        run_id = _stored_id(self._run, "mlflow")
        if run_id is not None:
            self._id = run_id
            return
        experiment = self._client.get_experiment_by_name(PROJECT)
        experiment = experiment.experiment_id if experiment else self._client.create_experiment(PROJECT)
        run = self._client.create_run(experiment, run_name=self._run.resolve().name)
        self._id = str(run.info.run_id)
        for name, value in _flatten(self._settings):
            self._client.log_param(self._id, name, value)
        _store_id(self._run, "mlflow", self._id)

    def _log(self, row: dict[str, float], epoch: int) -> None:
        for name, value in row.items():
            self._client.log_metric(self._id, name, value, step=epoch)

    def _end(self) -> None:
        self._client.set_terminated(self._id)


class WandbLogger(RemoteLogger):
    """Logs to Weights & Biases, project `distangle`.

    With `$WANDB_MODE=offline` everything stays in the run folder.
    """

    name = "Weights & Biases"

    def _open(self) -> None:
        import wandb

        self.failures = (wandb.Error, OSError)
        run_id = _stored_id(self._run, "wandb")
        self._open_run: Any = wandb.init(
            project=PROJECT,
            name=self._run.resolve().name,
            id=run_id,
            resume=None if run_id is None else "allow",
            dir=str(self._run),
            config=dict(_flatten(self._settings)),
        )
        if run_id is None:
            _store_id(self._run, "wandb", str(self._open_run.id))

    def _log(self, row: dict[str, float], epoch: int) -> None:
        self._open_run.log(row, step=epoch)

    def _end(self) -> None:
        self._open_run.finish()


SERVICES: Mapping[str, type[RemoteLogger]] = {"mlflow": MlflowLogger, "wandb": WandbLogger}


def check_loggers(names: Iterable[str]) -> None:
    """Check that the configured services are installed.

    Raises:
        ConfigError: A service is not installed; the message says how to install it.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"loggers names {name}, which is not installed. Install it (`pip install '.[{name}]'`) "
                f"or leave it out; metrics.csv is always written."
            )


def allow_services(run: RunFolder) -> None:
    """Store that a user of this machine started a run or trusts it.

    The run may then send its metrics to its services.
    """
    marker = _trust_marker(run)
    make_folder(marker.parent)
    marker.touch()


def allowed_services(run: RunFolder, names: Sequence[str], *, say: Callable[[str], None]) -> tuple[str, ...]:
    """Return the services that a run may report to.

    A run from another machine names the services of its author, but would report to the account of the user who resumes
    it. So its services are allowed only after the user trusts the run.

    Args:
        run: The run.
        names: Services in its configuration.
        say: Called with a message on services that are not allowed.
    """
    if not names or _trust_marker(run).exists():
        return tuple(names)
    say(
        f"{run.config} reports to {', '.join(names)}, but this run was not started on this machine: nothing is sent. "
        f"To allow it: `distangle trust {run.root}`."
    )
    return ()


def _trust_marker(run: RunFolder) -> Path:
    content = run.config.read_bytes() + run.require("folds_sha256")["folds_sha256"].encode()
    return cache_folder() / "runs" / hashlib.sha256(content).hexdigest()


def loggers_for(
    metrics: Path, *, resumed_at: int, names: Iterable[str], settings: Mapping[str, Any], say: Callable[[str], None]
) -> list[Logger]:
    """Open the CSV, TensorBoard if it is installed, and the configured services.

    Args:
        metrics: Path of `metrics.csv`, in the run folder; the TensorBoard folder lies beside it.
        resumed_at: Number of epochs done; later ones in old event files are void.
        names: Names of `SERVICES`.
        settings: The resolved configuration, for the tables of the services.
        say: Called with a message if a service missed an epoch.

    Raises:
        ConfigError: A service is not installed.
    """
    check_loggers(names)
    loggers: list[Logger] = [CsvLogger(metrics)]
    if importlib.util.find_spec("tensorboard") is not None:
        loggers.append(TensorBoardLogger(metrics.parent / "tensorboard", purge_step=resumed_at + 1))
    loggers += [SERVICES[name](metrics.parent, settings=settings, resumed_at=resumed_at, say=say) for name in names]
    return loggers


def _stored_id(run: Path, name: str) -> str | None:
    """Return the id that a service gave this run when it was started."""
    path = run / "loggers.json"
    ids = read_json(path, fix=_REMOVE_FILE) if path.exists() else {}
    run_id = ids.get(name)
    return run_id if isinstance(run_id, str) else None


_REMOVE_FILE = "Remove it; the services then start a new run."


def _store_id(run: Path, name: str, run_id: str) -> None:
    path = run / "loggers.json"
    ids = read_json(path, fix=_REMOVE_FILE) if path.exists() else {}
    write_json(path, {**ids, name: run_id})


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _format(value: int | float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
