"""Partitions on workers of Ray: all are computed, deaths and failures are named, nothing hangs."""

import contextlib
import importlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distangle.core import partitions as partitions_module
from distangle.core.partitions import Outcome, RayWorkers, in_order, map_on_ray
from distangle.errors import ConfigError, DistangleError, ImageError, RunError

TWO = RayWorkers(n=2)


def by_number(outcomes: Iterator[Outcome[str]]) -> dict[int, Outcome[str]]:
    all_outcomes = list(outcomes)
    result = {outcome.number: outcome for outcome in all_outcomes}
    assert len(result) == len(all_outcomes), "no partition comes twice"
    return result


def work_in(folder: Path) -> Callable[[], Callable[[str], str]]:
    """Return a function that opens the work; nested, so that it is pickled by value."""

    def open_work() -> Callable[[str], str]:
        (folder / f"opened-{os.getpid()}").touch()

        def work(word: str) -> str:
            if word == "die once" and not (folder / "died").exists():
                (folder / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if word == "die always":
                with (folder / "deaths").open("a") as file:
                    file.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
            if word == "image":
                raise ImageError("E1 is damaged.")
            if word == "disk":
                raise OSError(5, "Input/output error")
            if word == "fault":
                return str({}["key"])
            return word.upper()

        return work

    return open_work


@pytest.mark.usefixtures("ray_workers")
def test_every_partition_has_one_outcome_whatever_became_of_the_workers(tmp_path: Path) -> None:
    tasks = ["a", "die once", "b", "die always", "image", "disk", "fault", "c"]
    outcomes = by_number(map_on_ray(work_in(tmp_path), ((10 + k, word) for k, word in enumerate(tasks)), workers=TWO))
    assert sorted(outcomes) == list(range(10, 18))
    results = {tasks[number - 10]: outcome.result for number, outcome in outcomes.items()}
    errors = {tasks[number - 10]: outcome.error for number, outcome in outcomes.items() if outcome.error}
    assert {word: result for word, result in results.items() if result} == {
        "a": "A",
        "b": "B",
        "c": "C",
        "die once": "DIE ONCE",
    }
    assert (tmp_path / "deaths").read_text() == "xxx"
    assert str(errors.pop("die always")).startswith("its worker died 3 times: ")
    assert isinstance(errors["image"], ImageError)
    assert {word: str(error) for word, error in errors.items()} == {
        "image": "E1 is damaged.",
        "disk": "[Errno 5] Input/output error",
        "fault": "KeyError: 'key'",
    }


@pytest.mark.usefixtures("ray_workers")
def test_partitions_are_taken_when_a_worker_is_free_and_closing_stops_the_rest(tmp_path: Path) -> None:
    started_numbers: list[int] = []

    def tasks() -> Iterator[tuple[int, str]]:
        for number in range(1000):
            started_numbers.append(number)
            yield number, "a"

    with contextlib.closing(map_on_ray(work_in(tmp_path), tasks(), workers=TWO)) as outcomes:
        assert next(outcomes).result == "A"
    assert len(started_numbers) <= 3
    assert len(list(tmp_path.glob("opened-*"))) <= 2, "each worker opens the work once"


@pytest.mark.usefixtures("ray_workers")
def test_no_partition_and_work_that_cannot_be_opened(tmp_path: Path) -> None:
    def refuse() -> Callable[[str], str]:
        raise RunError("the weights are gone.")

    assert list(map_on_ray(work_in(tmp_path), iter(()), workers=RayWorkers(n=1))) == []
    outcomes = by_number(map_on_ray(refuse, enumerate("ab"), workers=RayWorkers(n=1)))
    assert [str(outcomes[k].error) for k in range(2)] == ["the weights are gone."] * 2


@pytest.mark.usefixtures("ray_workers")
def test_workers_that_never_start_end_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead:
        def __init__(self, version: str) -> None:
            pass

        def ready(self) -> None:
            raise ValueError("no worker today")

    monkeypatch.setattr(partitions_module, "_Worker", Dead)
    with pytest.raises(RunError, match=r"--on ray: no worker starts: .*See the logs of Ray"):
        list(map_on_ray(work_in(tmp_path), enumerate("ab"), workers=RayWorkers(n=1)))


def test_without_ray_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=r"--on ray needs the package ray .*: `pip install 'distangle\[ray\]'`"):
        list(map_on_ray(lambda: str, enumerate("ab"), workers=TWO))


class StubRay:
    """Replace Ray where no cluster is needed."""

    def __init__(self, error: Exception | None = None) -> None:
        self.options: dict[str, object] = {}
        self.error, self.is_down = error, False

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: object) -> None:
        self.options = options
        if self.error is not None:
            raise self.error

    def shutdown(self) -> None:
        self.is_down = True


@pytest.mark.parametrize(
    ("address", "expected"),
    [("", {"address": "local", "num_cpus": 2, "include_dashboard": False}), ("10.0.0.7:6379", {})],
)
def test_ray_address_names_the_cluster_and_without_it_ray_starts_here(
    monkeypatch: pytest.MonkeyPatch, address: str, expected: dict[str, object]
) -> None:
    stub = StubRay()
    monkeypatch.setattr(importlib, "import_module", lambda name: stub)
    monkeypatch.setattr(partitions_module, "_connect", lambda address: None)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with partitions_module._connection(TWO) as client:
        assert client is stub
    stub.options.pop("logging_level")
    assert stub.options == expected
    assert stub.is_down


def test_a_cluster_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: StubRay(ConnectionError("refused\nmore")))
    monkeypatch.setattr(partitions_module, "_connect", lambda address: None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.7:6379")
    with (
        pytest.raises(RunError, match=r"the cluster of RAY_ADDRESS=10\.0\.0\.7:6379 cannot be reached \(refused\)"),
        partitions_module._connection(TWO),
    ):
        pass


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_where_nothing_answers_is_named_at_once(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(importlib, "import_module", lambda name: StubRay())
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(RunError) as caught, partitions_module._connection(TWO):
        pass
    message = str(caught.value)
    assert message.startswith(f"--on ray: the cluster of RAY_ADDRESS={address} cannot be reached (")
    assert message.endswith("refused). Start it, or remove RAY_ADDRESS.")


def test_results_come_in_order_and_end_with_the_first_failure() -> None:
    failures: dict[int, DistangleError] = {}
    results = [Outcome(number=k, result=str(k)) for k in (2, 0, 3, 1, 4)]
    assert list(in_order(results, failures)) == [(k, str(k)) for k in range(5)]
    assert failures == {}
    error = RunError("no disk")
    broken = [*results[:2], Outcome[str](number=1, error=error), *results[2:3], results[4]]
    assert list(in_order(broken, failures)) == [(0, "0")]
    assert failures == {1: error}


def test_a_number_of_workers_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="--workers 0: expected 1 or more"):
        RayWorkers(n=0)


def test_a_worker_with_another_version_says_so() -> None:
    result, error = partitions_module._Worker("0.0.1").compute((None,), "a")
    assert result is None
    assert str(error).endswith("this machine has 0.0.1. Install one version on all nodes.")
