"""Metrics of every epoch: a CSV always, TensorBoard when it is installed."""

import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from distangle.commit import commit_text


@runtime_checkable
class Logger(Protocol):
    """Takes the metrics after every epoch."""

    def epoch(self, rows: Sequence[Mapping[str, int | float]]) -> None:
        """Take the rows of all epochs so far, the newest last."""

    def close(self) -> None:
        """Finish."""


class CsvLogger:
    """Writes `metrics.csv` anew after every epoch: whole or not at all, and right after a resume."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def epoch(self, rows: Sequence[Mapping[str, int | float]]) -> None:
        """Write all rows."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _short(value) for name, value in row.items()} for row in rows)
        commit_text(self._path, text.getvalue())

    def close(self) -> None:
        """Nothing is open."""


class TensorBoardLogger:
    """Writes event files beside the CSV."""

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(folder, purge_step=purge_step)

    def epoch(self, rows: Sequence[Mapping[str, int | float]]) -> None:
        """Write the newest row."""
        row = rows[-1]
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(row["epoch"]))

    def close(self) -> None:
        """Flush the event file."""
        self._writer.close()


def loggers_for(metrics: Path, *, resumed_at: int) -> list[Logger]:
    """Return the loggers that this installation has.

    Args:
        metrics: Path of `metrics.csv`; TensorBoard's folder lies beside it.
        resumed_at: Epochs already done; later ones in old event files are void.
    """
    loggers: list[Logger] = [CsvLogger(metrics)]
    if importlib.util.find_spec("tensorboard") is not None:
        loggers.append(TensorBoardLogger(metrics.parent / "tensorboard", purge_step=resumed_at + 1))
    return loggers


def _short(value: int | float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
