"""Test the choice of the device: accepted names, refusals, and that it holds for one command."""

import contextvars
from pathlib import Path

import pytest
import torch

from distangle.cli import main
from distangle.errors import ConfigError
from distangle.model import device as module
from distangle.model.device import describe_device, inference_device, is_device_set, set_device, training_device


def in_context(name: str | None) -> tuple[torch.device, torch.device, bool]:
    def device_in_context() -> tuple[torch.device, torch.device, bool]:
        set_device(name)
        return training_device(), inference_device(), is_device_set()

    return contextvars.copy_context().run(device_in_context)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    monkeypatch.setattr(torch.version, "cuda", "13.0")


def test_without_a_gpu_everything_is_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert in_context(None) == (torch.device("cpu"), torch.device("cpu"), False)
    assert in_context("cpu") == (torch.device("cpu"), torch.device("cpu"), True)
    assert describe_device(torch.device("cpu")) == "the processor"


def test_a_training_takes_the_gpu_by_itself_and_a_named_device_goes_before(two_gpus: None) -> None:
    assert in_context(None)[0] == torch.device("cuda")
    assert in_context("cpu")[0] == torch.device("cpu")
    assert in_context("cuda:1")[:2] == (torch.device("cuda:1"), torch.device("cuda:1"))
    assert describe_device(torch.device("cuda:1")) == "Some GPU (cuda:1)"
    assert not is_device_set()  # outside nothing was named


@pytest.mark.parametrize("name", ["gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "mps:1", "", "0"])
def test_what_is_no_device_is_refused_with_what_is(name: str) -> None:
    with pytest.raises(ConfigError, match=r"--device .*: expected cpu, cuda, cuda:N \(counted from 0\) or mps\. "):
        in_context(name)


def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(two_gpus: None) -> None:
    with pytest.raises(
        ConfigError, match="--device cuda:7: there is no GPU of that number. Expected one of cuda:0, cuda:1"
    ):
        in_context("cuda:7")


def test_cuda_without_a_gpu_says_whether_torch_or_the_driver_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ConfigError, match="is built without CUDA.*, or use --device cpu"):
        in_context("cuda")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(ConfigError, match=r"\(CUDA 13.0\) finds no GPU. Check `nvidia-smi`, or use --device cpu"):
        in_context("cuda:1")


def test_an_apple_gpu_is_asked_for_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--device mps: torch .* finds no Apple GPU"):
        in_context("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert in_context("mps")[0] == torch.device("mps")


def test_ranks_take_devices_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "n_ranks", lambda: 4)
    with pytest.raises(ConfigError, match="4 ranks run, and each uses its own device. Leave --device out"):
        in_context("cpu")


@pytest.mark.parametrize("verb", ["train", "predict", "explain"])
def test_a_verb_refuses_before_it_writes(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    (tmp_path / "screen.json").write_text("{}")
    arguments = {"train": [str(tmp_path), "--out", str(tmp_path / "new")]}.get(verb, [str(tmp_path / "run")])
    with pytest.raises(SystemExit) as exit_info:
        main([verb, *arguments, "--device", "gpu"])
    assert exit_info.value.code == 1
    assert "--device gpu: expected cpu, cuda, cuda:N" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
