"""What each of two ranks does in `test_ranks.py`; started by torch.distributed.run, writes its results to a file."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from distangle.cli import main as distangle
from distangle.core.distributed import (
    assert_same_on_all_ranks,
    check_once,
    init_process_group,
    n_ranks,
    rank,
    shard,
    sum_gradients,
    wait_for_all,
)
from distangle.errors import RunError
from distangle.training.step import RunningStatistics

BATCHES = 5  # of one step: three for the first rank, two for the second


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.ReLU(), nn.Linear(4, 2), nn.BatchNorm1d(2)
    )


def batch(number: int) -> torch.Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(number)) * (1 + number) + number


def step() -> dict[str, list[float]]:
    """Run one step over the batches of this rank; return its gradients and buffers."""
    model = network()
    statistics = RunningStatistics(model)
    numbers = range(BATCHES)
    statistics.snapshot()
    for number in shard(numbers):
        (model(batch(number)).square().sum() / BATCHES).backward()
    sum_gradients(model.parameters(), where="the step")
    statistics.merge([len(shard(numbers, of=one)) for one in range(n_ranks())], where="the step")
    tensors = {f"gradient {name}": value.grad for name, value in model.named_parameters()} | dict(model.named_buffers())
    return {name: tensor.double().flatten().tolist() for name, tensor in tensors.items() if tensor is not None}


def refusal(call: Callable[[], Any]) -> str:
    try:
        call()
    except RunError as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    with init_process_group():
        visits = np.zeros(7, dtype=np.int64)
        visits[list(shard(range(7)))] += 1
        check_once(visits, range(7), where="nothing")
        twice = np.array([1, 0, 0]) if rank() else np.array([1, 1, 0])
        same_list = refusal(lambda: assert_same_on_all_ranks(b"a", name="list", where="nothing"))
        result = {
            "step": step(),
            "share": list(shard(range(7))),
            "same": same_list,
            "other": refusal(
                lambda: assert_same_on_all_ranks(b"ab"[: rank() + 1], name="class list", where="the beginning")
            ),
            "twice": refusal(lambda: check_once(twice, range(3), where="the prediction")),
        }
        wait_for_all("the middle")
        (folder / f"{rank()}.json").write_text(json.dumps(result))
        for arguments in json.loads((folder / "words.json").read_text()):
            distangle(arguments)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        torch.distributed.init_process_group("gloo")  # as Ray's launcher has done when the work begins
    main(Path(sys.argv[1]))
    if len(sys.argv) > 2:
        torch.distributed.destroy_process_group()  # we started the group, so it must still exist
