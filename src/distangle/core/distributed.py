"""Join the processes that `torchrun` started into one group.

In a single process (no `WORLD_SIZE`, or 1) every function works alone and no group is joined.
"""

import contextlib
import datetime
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from distangle.errors import ConfigError, RunError

TIMEOUT_S = 20.0  # to wait for a rank at a step; with the 30 s that torchrun grants it to end, under a minute
TIMEOUT_VARIABLE = "DISTANGLE_RANK_TIMEOUT_S"
BARRIER_TIMEOUT_S = 3600.0  # for a rank that sends heartbeats: reading and saving take ranks unequal times
POLL_S = 0.02
BACKENDS = {False: "gloo", True: "cpu:gloo,cuda:nccl"}
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

Item = TypeVar("Item")
_group: "ProcessGroup | None" = None
_joins = 0  # of this process; keys in the store must differ between two joins


def rank() -> int:
    """Return the number of this process; 0 in a single process."""
    return 0 if _group is None else _group.rank


def n_ranks() -> int:
    """Return the number of processes in the group."""
    return 1 if _group is None else _group.size


def is_first() -> bool:
    """Return whether this process writes files and prints to the terminal."""
    return rank() == 0


@contextlib.contextmanager
def init_process_group() -> Iterator[None]:
    """Join the ranks that a launcher started for the length of a `with`.

    Do nothing in a single process or in a process that has joined already.

    Raises:
        ConfigError: The launcher set some of its variables and not others.
        RunError: The other ranks did not join.
    """
    global _group
    if os.environ.get("WORLD_SIZE", "1") == "1" or _group is not None:
        yield
        return
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set. Start the ranks with "
            f"`torchrun --nproc-per-node N -m distangle ...`, or unset WORLD_SIZE."
        )
    _group = ProcessGroup()
    try:
        yield
        wait_for_all("the end")
    finally:
        _group.close()
        _group = None


def shard(items: Sequence[Item], of: int | None = None) -> Sequence[Item]:
    """Return a rank's contiguous part of a sequence.

    The first ranks take the remainder.

    Args:
        items: The same sequence on every rank.
        of: Number of the rank; None for this one.
    """
    each, over = divmod(len(items), n_ranks())
    number = rank() if of is None else of
    start = number * each + min(number, over)
    return items[start : start + each + (number < over)]


def sum_gradients(parameters: Iterable[nn.Parameter], *, where: str) -> None:
    """Add up the gradients of all ranks, in place and in one message.

    Args:
        parameters: The same on every rank; a missing gradient counts as zero.
        where: Name of the step, for error messages.

    Raises:
        RunError: A rank did not reach the step.
    """
    if n_ranks() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    sum_tensor(flat, where=where)
    for gradient, piece in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(piece.view_as(gradient))


def sum_tensor(tensor: Tensor, *, where: str) -> None:
    """Add up a tensor over all ranks, in place.

    Raises:
        RunError: A rank did not reach this call.
    """
    if _group is not None:
        with _group.collective(where):
            dist.all_reduce(tensor, group=_group.group)


def all_gather(value: Any, *, where: str) -> list[Any]:
    """Return the values of all ranks in their order, the same list on every rank.

    Args:
        value: Any value that JSON can store.
        where: Name of the step, for error messages.

    Raises:
        RunError: A rank did not reach the step.
    """
    content = json.dumps(value).encode()
    if n_ranks() == 1:
        return [json.loads(content)]
    lengths = np.zeros(n_ranks(), dtype=np.int64)
    lengths[rank()] = len(content)
    sum_array(lengths, where=where)
    content_by_rank = np.zeros((n_ranks(), int(lengths.max())), dtype=np.uint8)
    content_by_rank[rank(), : len(content)] = np.frombuffer(content, dtype=np.uint8)
    sum_array(content_by_rank, where=where)
    return [json.loads(row[:length].tobytes()) for row, length in zip(content_by_rank, lengths, strict=True)]


def any_rank(*flags: bool, where: str) -> tuple[bool, ...]:
    """Return each flag as true on every rank when it is true on any.

    All ranks then stop or save after the same step.

    Raises:
        RunError: A rank did not reach the step.
    """
    counts = np.array(flags, dtype=np.int64)
    sum_array(counts, where=where)
    return tuple(bool(count) for count in counts)


def sum_array(array: np.ndarray, *, where: str) -> None:
    """Add up an array over all ranks, in place.

    Raises:
        RunError: A rank did not reach the step.
    """
    sum_tensor(torch.from_numpy(array), where=where)


def assert_same_on_all_ranks(content: bytes, *, name: str, where: str) -> None:
    """Check that every rank has the same value.

    Args:
        content: The value on this rank, as bytes.
        name: Name of the value, for error messages.
        where: Name of the step, for error messages.

    Raises:
        RunError: The value of a rank differs from that of the first rank.
    """
    digests = all_gather(hashlib.sha256(content).hexdigest(), where=where)
    others = [number for number, digest in enumerate(digests) if digest != digests[0]]
    if others:
        raise RunError(
            f"Rank {others[0]} of {n_ranks()} has another {name} than the first rank. Check that every node sees the "
            f"same screen and run folder, whole, and runs the same version."
        )


def check_once(visits: np.ndarray, rows: Sequence[int], *, where: str) -> None:
    """Check that the ranks together evaluated every row exactly once.

    Args:
        visits: int64 [row], how often this rank evaluated each row; replaced by the sum over ranks.
        rows: Rows to evaluate.
        where: Name of the step, for error messages.

    Raises:
        RunError: A row is missing or was evaluated twice: the ranks read different files.
    """
    wait_for_all(where)  # reading and predicting take ranks unequal times
    sum_array(visits, where=where)
    expected = np.zeros_like(visits)
    expected[list(rows)] = 1
    wrong = np.flatnonzero(visits != expected)
    if len(wrong):
        raise RunError(
            f"Rank {rank()} on {socket.gethostname()} expected row {wrong[0]} of the screen to be evaluated "
            f"{expected[wrong[0]]} time(s) in {where}, and it was {visits[wrong[0]]} ({len(wrong)} rows in all). The "
            f"ranks do not read the same files; check that every node sees the whole screen."
        )


def wait_for_all(where: str) -> None:
    """Wait until every rank is here, however long, as long as it sends heartbeats.

    Args:
        where: Name of the step, for error messages.

    Raises:
        RunError: A rank ended or stalled.
    """
    if _group is not None:
        with _group.collective(where):
            _group.barrier()


class ProcessGroup:
    """Hold the process group for sums, and a store for heartbeats and positions.

    Heartbeats distinguish a slow rank from a stalled one.
    """

    def __init__(self) -> None:
        global _joins
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # a timeout raises instead of aborting
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self._timeout_s, self._n_barriers = _timeout_s(), 0
        self._name = f"rank {self.rank} on {socket.gethostname()}"
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        self._owns_group = not dist.is_initialized()  # Ray starts its own
        timeout = datetime.timedelta(seconds=self._timeout_s)
        try:
            store, _, _ = next(rendezvous("env://"))
            self._store = dist.PrefixStore(f"distangle {_joins}", store)  # type: ignore[attr-defined]
            if self._owns_group:
                dist.init_process_group(
                    BACKENDS[on_gpu], store=self._store, rank=self.rank, world_size=self.size, timeout=timeout
                )
                self.group = None
            else:
                self.group = dist.new_group(backend=BACKENDS[on_gpu], timeout=timeout)
        except (RuntimeError, ValueError) as error:
            raise RunError(
                f"Rank {self.rank} of {self.size} on {socket.gethostname()} could not join the other ranks at "
                f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} ({_first_line(error)}). Check that every "
                f"node reaches that address and started the same command."
            ) from error
        _joins += 1
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send_heartbeats, name="heartbeat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the heartbeats; end the group if this object started it."""
        self._ended.set()
        self._thread.join()
        if self._owns_group:
            dist.destroy_process_group()

    def _send_heartbeats(self) -> None:
        beats = 0
        while True:
            try:
                self._store.set(f"beat {self.rank}", str(beats))
            except RuntimeError:  # the store has closed, and with it the other ranks
                return
            beats += 1
            if self._ended.wait(self._timeout_s / 5):
                return

    def barrier(self) -> None:
        """Wait until every rank is here; name the rank that is missing."""
        self._n_barriers += 1
        self._store.set(f"meeting {self._n_barriers} {self.rank}", "here")
        for other in range(self.size):
            beat, last_beat_at, start = b"", time.monotonic(), time.monotonic()
            while not self._store.check([f"meeting {self._n_barriers} {other}"]):
                beat_now = self._store.get(f"beat {other}") if self._store.check([f"beat {other}"]) else b""
                if beat_now != beat:
                    beat, last_beat_at = beat_now, time.monotonic()
                if time.monotonic() - last_beat_at > self._timeout_s or time.monotonic() - start > BARRIER_TIMEOUT_S:
                    raise RuntimeError(f"rank {other} sends no heartbeat")
                time.sleep(POLL_S)

    @contextlib.contextmanager
    def collective(self, where: str) -> Iterator[None]:
        """Turn the failure of a collective into an error that names the missing ranks."""
        start = time.monotonic()
        try:
            self._store.set(f"at {self.rank}", f"{self._name}: {where}")
            yield
        except RuntimeError as error:
            raise RunError(
                f"{self._name} of {self.size} waited {time.monotonic() - start:.0f} s at {where}, and another rank did "
                f"not arrive: it ended, stalled or lost its connection ({_first_line(error)}). "
                f"Last positions: {self._last_positions()}. All ranks stop; the last checkpoint is safe. "
                f"Start the same command again with `--resume`; "
                f"if that rank was only slow, with a longer {TIMEOUT_VARIABLE}."
            ) from error

    def _last_positions(self) -> str:
        try:
            names = [f"at {number}" for number in range(self.size)]
            positions = [self._store.get(name).decode() for name in names if self._store.check([name])]
        except RuntimeError:
            positions = []
        return "; ".join(positions) or "unknown, the node of the first rank does not answer"


def _timeout_s() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, str(TIMEOUT_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise ConfigError(f"{TIMEOUT_VARIABLE} is {text!r}. Expected seconds, such as 60.")
    return seconds


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
