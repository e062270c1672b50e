"""Compute the partitions of a task on workers of Ray, and go on when one fails."""

import contextlib
import importlib
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from distangle import __version__
from distangle.core.progress import show_action
from distangle.errors import ConfigError, DistangleError, RunError

Partition = TypeVar("Partition")
Result = TypeVar("Result")
MAX_STARTS = 3  # of a worker in vain, before the command gives up
MAX_RETRIES = 2  # of a partition whose worker died: a third death is the fault of the partition
CONNECT_S = 20.0  # seconds for an answer of the cluster of RAY_ADDRESS
POLL_S = 0.5  # seconds after which a wait looks for Ctrl-C


@dataclass(frozen=True, kw_only=True)
class RayWorkers:
    """How many workers Ray starts, and what each of them has.

    Attributes:
        n: Number of workers; None for one on each core, or on each GPU, of the cluster.
        with_gpu: Whether each worker has a GPU for itself.

    Raises:
        ConfigError: `n` is below 1.
    """

    n: int | None = None
    with_gpu: bool = False

    def __post_init__(self) -> None:
        if self.n is not None and self.n < 1:
            raise ConfigError(f"--workers {self.n}: expected 1 or more.")


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[Result]):
    """What became of one partition.

    Attributes:
        number: Of the partition.
        result: What the work returned; None after a failure.
        error: Why it failed; None if it did not.
    """

    number: int
    result: Result | None = None
    error: DistangleError | None = None


def map_on_ray(
    open_work: Callable[[], Callable[[Partition], Result]],
    partitions: Iterable[tuple[int, Partition]],
    *,
    workers: RayWorkers,
) -> Generator[Outcome[Result], None, None]:
    """Compute partitions on workers of Ray, and yield each outcome as it comes.

    The workers are actors: each opens its work once and computes one partition after the other. If a worker dies,
    another is started, here or on another node, and the partition is computed again. A partition that fails does not
    stop the others. Closing the iterator stops the workers.

    Args:
        open_work: Called once in each worker; returns the function of a partition. It is pickled for the workers, where
            its arrays are read-only.
        partitions: Number and content of each partition; taken one at a time, when a worker is free.
        workers: How many workers.

    Yields:
        One outcome for each partition.

    Raises:
        ConfigError: Ray is not installed.
        RunError: The cluster of RAY_ADDRESS cannot be reached.
    """
    with _connection(workers) as ray:
        pool = _Pool(ray, open_work, workers)
        try:
            yield from pool.outcomes(partitions)
        finally:
            pool.close()


def in_order(outcomes: Iterable[Outcome[Result]], failures: dict[int, DistangleError]) -> Iterator[tuple[int, Result]]:
    """Yield number and result of partitions in the order of their numbers, from 0.

    After a failure no later result is yielded; the outcomes are still taken to their end.

    Args:
        outcomes: From `map_on_ray`, in any order.
        failures: Receives the error of each partition that failed.
    """
    early: dict[int, Result] = {}
    number = 0
    for outcome in outcomes:
        if outcome.error is not None:
            failures[outcome.number] = outcome.error
        else:
            early[outcome.number] = outcome.result  # type: ignore[assignment]
        while not failures and number in early:
            yield number, early.pop(number)
            number += 1


class _Worker:
    """Open the work on the first partition, and compute partitions; an actor of Ray."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._work: Callable[[Any], Any] | None = None

    def ready(self) -> None:
        """Return when the worker has started."""

    def compute(self, shared: tuple[Any], partition: Any) -> tuple[Any, DistangleError | None]:
        """Return the result of a partition, or the error that explains why there is none.

        Args:
            shared: Reference to the function that opens the work; in a tuple, so that it is fetched only when needed.
            partition: The partition.
        """
        try:
            if self._version != __version__:
                raise RunError(
                    f"the worker has distangle {__version__}, this machine has {self._version}. Install one version on "
                    "all nodes."
                )
            if self._work is None:
                self._work = importlib.import_module("ray").get(shared[0])()
            return self._work(partition), None
        except DistangleError as error:
            return None, error.with_traceback(None)
        except OSError as error:
            return None, RunError(str(error))


class _Pool:
    """Give one partition at a time to every worker that has started."""

    def __init__(self, ray: Any, open_work: Callable[[], Callable[[Any], Any]], workers: RayWorkers) -> None:
        self._ray = ray
        unit = "GPU" if workers.with_gpu else "CPU"
        self._n_workers = workers.n or max(1, int(ray.cluster_resources().get(unit, 1)))
        # Ray's own restarts and retries are not used: after the loss of a node it uses up all retries of a partition
        # before it knows that the node is lost.
        self._actor = ray.remote(num_cpus=1, num_gpus=int(workers.with_gpu), max_restarts=0)(_Worker)
        self._open_work = ray.put(open_work)
        self._workers: list[Any] = []
        self._calls: dict[Any, tuple[Any, int | None]] = {}  # worker and number of the partition, by call
        self._n_failed_starts = 0  # since the last worker that started

    def outcomes(self, partitions: Iterable[tuple[int, Any]]) -> Iterator[Outcome[Any]]:
        waiting = iter(partitions)
        running: dict[int, Any] = {}  # partitions, by number
        again: list[int] = []  # numbers of those whose worker died
        n_deaths: Counter[int] = Counter()
        is_exhausted = False
        show_action("starting the workers of Ray")
        for _ in range(self._n_workers):
            self._start_worker()
        while running or not is_exhausted:
            ended, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=POLL_S)
            for call in ended:
                worker, number = self._calls.pop(call)
                if number is None:
                    if not self._has_started(call):
                        self._replace_worker(worker)
                        continue
                elif isinstance(outcome := self._read(call, number), Outcome):
                    del running[number]
                    yield outcome
                else:
                    self._replace_worker(worker)
                    n_deaths[number] += 1
                    if n_deaths[number] <= MAX_RETRIES:
                        again.append(number)
                        continue
                    del running[number]
                    death = RunError(f"its worker died {n_deaths[number]} times: {_first_line(outcome)}")
                    yield Outcome(number=number, error=death)
                    continue
                if again:
                    number = again.pop(0)
                elif (following := next(waiting, None)) is not None:
                    number, running[following[0]] = following
                else:
                    is_exhausted = True
                    self._stop_worker(worker)
                    continue
                self._calls[worker.compute.remote((self._open_work,), running[number])] = worker, number

    def close(self) -> None:
        """Stop all workers."""
        for worker in list(self._workers):
            self._stop_worker(worker)

    def _start_worker(self) -> None:
        worker = self._actor.remote(__version__)
        self._workers.append(worker)
        self._calls[worker.ready.remote()] = worker, None

    def _replace_worker(self, worker: Any) -> None:
        self._stop_worker(worker)
        self._start_worker()

    def _stop_worker(self, worker: Any) -> None:
        self._workers.remove(worker)
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker)

    def _has_started(self, call: Any) -> bool:
        """Return whether a worker has started.

        Raises:
            RunError: None has, however often it was tried.
        """
        try:
            self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            self._n_failed_starts += 1
            if self._n_failed_starts >= MAX_STARTS * self._n_workers:
                raise RunError(f"--on ray: no worker starts: {_first_line(error)} See the logs of Ray.") from error
            return False
        self._n_failed_starts = 0
        return True

    def _read(self, call: Any, number: int) -> Outcome[Any] | Exception:
        """Return the outcome of a partition, or the error of Ray if its worker died."""
        errors = self._ray.exceptions
        try:
            result, problem = self._ray.get(call)
        except errors.RayTaskError as error:  # an error in the code: the worker lives
            return Outcome(number=number, error=RunError(f"{type(error.cause).__name__}: {error.cause}"))
        except errors.RayError as error:
            return error  # type: ignore[no-any-return]
        return Outcome(number=number, result=result, error=problem)


@contextlib.contextmanager
def _connection(workers: RayWorkers) -> Iterator[Any]:
    """Yield Ray, connected to the cluster of RAY_ADDRESS or to workers on this machine.

    Raises:
        ConfigError: Ray is not installed.
        RunError: The cluster cannot be reached.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            f"--on ray needs the package ray ({error}). Install it: `pip install 'distangle[ray]'`."
        ) from error
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send nothing to the makers of Ray
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the default that Ray has announced
    address = os.environ.get("RAY_ADDRESS")
    show_action("connecting to Ray" if address else "starting Ray")
    options: dict[str, Any] = {} if address else {"address": "local", "num_cpus": workers.n, "include_dashboard": False}
    try:
        if address:
            _connect(address)
        ray.init(logging_level=logging.WARNING, **options)
    except (OSError, RuntimeError, ValueError) as error:
        where = f"the cluster of RAY_ADDRESS={address} cannot be reached" if address else "Ray cannot be started"
        raise RunError(f"--on ray: {where} ({_first_line(error)}). Start it, or remove RAY_ADDRESS.") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    """Connect to the port of a cluster once, because Ray itself tries for minutes.

    Raises:
        OSError: Nothing answers at this address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
