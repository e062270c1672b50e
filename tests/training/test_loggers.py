"""Every logger against the real thing: files of the CSV and TensorBoard, a local store of MLflow, W&B offline."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from distangle.errors import ConfigError
from distangle.training.loggers import RemoteLogger, check_loggers, loggers_for

ROWS = [{"epoch": k, "train_loss": 1.0 / k, "seconds": 2.5} for k in (1, 2, 3)]
SETTINGS = {"seed": 3, "optim": {"lr": 1e-4}}


def log(folder: Path, *names: str, rows: list[dict[str, Any]], resumed_at: int = 0) -> list[str]:
    messages: list[str] = []
    settings: Any = SETTINGS
    for_run = loggers_for(
        folder / "metrics.csv", names=names, settings=settings, resumed_at=resumed_at, say=messages.append
    )
    for k in range(resumed_at, len(rows)):
        for logger in for_run:
            logger.epoch(rows[: k + 1])
    for logger in for_run:
        logger.close()
    return messages


def test_the_csv_has_one_row_per_epoch_whatever_was_there(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("half a ro")
    log(tmp_path, rows=ROWS)
    assert (tmp_path / "metrics.csv").read_text() == ("epoch,train_loss,seconds\n1,1,2.5\n2,0.5,2.5\n3,0.333333,2.5\n")
    assert list((tmp_path / "tensorboard").glob("events*"))


class Flaky(RemoteLogger):
    """A service whose second call fails."""

    name = "Flaky"

    def _open(self) -> None:
        self.calls, self.seen, self.ended = 0, [], False  # type: ignore[var-annotated]

    def _log(self, row: dict[str, float], epoch: int) -> None:
        self.calls += 1
        if self.calls == 2:
            message = "no route to host\nand more"
            raise ConnectionError(message)
        self.seen.append((epoch, row))

    def _end(self) -> None:
        self.ended = True


def test_a_service_that_is_away_costs_a_remark_and_gets_its_rows_later(tmp_path: Path) -> None:
    messages: list[str] = []
    service = Flaky(tmp_path, settings={}, resumed_at=0, say=messages.append)
    for k in range(3):
        service.epoch(ROWS[: k + 1])
    service.close()
    assert [epoch for epoch, _ in service.seen] == [1, 2, 3]
    assert service.seen[1][1] == {"train_loss": 0.5, "seconds": 2.5}
    assert messages == ["Flaky did not take epoch 2; metrics.csv has it (no route to host)."]
    assert service.ended


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="MLflow is installed")
def test_a_logger_that_is_not_installed_says_how_to_install_it() -> None:
    with pytest.raises(ConfigError, match=r"loggers names mlflow, which is not installed.*\.\[mlflow\]"):
        check_loggers(["mlflow"])


def test_mlflow_takes_settings_and_rows_and_a_resume_goes_on_in_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra [mlflow] is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    assert log(run, "mlflow", rows=ROWS[:2]) == []
    assert log(run, "mlflow", rows=ROWS, resumed_at=2) == []
    client = mlflow.MlflowClient()
    (remote_run,) = client.search_runs([client.get_experiment_by_name("distangle").experiment_id])
    assert remote_run.info.run_name == "a"
    assert remote_run.data.params == {"seed": "3", "optim.lr": "0.0001"}
    history = client.get_metric_history(remote_run.info.run_id, "train_loss")
    assert [(one.step, one.value) for one in history] == [(1, 1.0), (2, 0.5), (3, 1.0 / 3)]
    assert remote_run.info.status == "FINISHED"


def test_wandb_offline_keeps_its_run_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra [wandb] is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert log(tmp_path, "wandb", rows=ROWS) == []
    (log_file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert b"train_loss" in log_file.read_bytes()
    assert '"wandb"' in (tmp_path / "loggers.json").read_text()
