"""Join the processes that `torchrun` started into one group.

Alone (no `WORLD_SIZE`, or 1) every function does what one process does, and nothing is joined.
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

PATIENCE_S = 20.0  # for a rank that does not come to a step; with the 30 s torchrun gives it to end, under a minute
PATIENCE_VARIABLE = "DISTANGLE_RANK_TIMEOUT_S"
LONG_PATIENCE_S = 3600.0  # for one that lives: reading the screen and saving take ranks unequal times
POLL_S = 0.02
BACKENDS = {False: "gloo", True: "cpu:gloo,cuda:nccl"}
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

Item = TypeVar("Item")
_others: "ProcessGroup | None" = None
_joins = 0  # of this process; the names in the store of two joins must differ


def rank() -> int:
    """Return which of the processes this is; 0 alone."""
    return 0 if _others is None else _others.rank


def n_ranks() -> int:
    """Return how many processes work as one."""
    return 1 if _others is None else _others.count


def is_first() -> bool:
    """Whether this process writes files and speaks to a person."""
    return rank() == 0


@contextlib.contextmanager
def init_process_group() -> Iterator[None]:
    """Join the ranks that a launcher started for the length of a `with`.

    Alone, or joined already, do nothing.

    Raises:
        ConfigError: The launcher set some of its variables and not others.
        RunError: The others did not come.
    """
    global _others
    if os.environ.get("WORLD_SIZE", "1") == "1" or _others is not None:
        yield
        return
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set. Start the ranks with "
            f"`torchrun --nproc-per-node N -m distangle ...`, or unset WORLD_SIZE."
        )
    _others = ProcessGroup()
    try:
        yield
        wait_for_all("the end")
    finally:
        _others.leave()
        _others = None


def shard(items: Sequence[Item], of: int | None = None) -> Sequence[Item]:
    """Return a rank's contiguous part of a sequence.

    The first ranks take what is left over.

    Args:
        items: The same on every rank.
        of: Which rank; this one when None.
    """
    each, over = divmod(len(items), n_ranks())
    number = rank() if of is None else of
    start = number * each + min(number, over)
    return items[start : start + each + (number < over)]


def sum_gradients(parameters: Iterable[nn.Parameter], *, where: str) -> None:
    """Add up the gradients of all ranks, in place and in one message.

    Args:
        parameters: The same on every rank; a gradient that a rank does not have counts as zero.
        where: The step, for the message of an error.

    Raises:
        RunError: A rank did not come.
    """
    if n_ranks() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    together = torch.cat([gradient.reshape(-1) for gradient in gradients])
    sum_tensor(together, where=where)
    for gradient, piece in zip(
        gradients, torch.split(together, [gradient.numel() for gradient in gradients]), strict=True
    ):
        gradient.copy_(piece.view_as(gradient))


def sum_tensor(tensor: Tensor, *, where: str) -> None:
    """Add up a tensor over all ranks, in place.

    Raises:
        RunError: A rank did not come.
    """
    if _others is not None:
        with _others.together(where):
            dist.all_reduce(tensor, group=_others.group)


def any_rank(value: Any, *, where: str) -> list[Any]:
    """Return the values of all ranks in their order, the same list on every rank.

    Args:
        value: Anything JSON can say.
        where: For the message of an error.

    Raises:
        RunError: A rank did not come.
    """
    said = json.dumps(value).encode()
    if n_ranks() == 1:
        return [json.loads(said)]
    lengths = np.zeros(n_ranks(), dtype=np.int64)
    lengths[rank()] = len(said)
    sum_array(lengths, where=where)
    letters = np.zeros((n_ranks(), int(lengths.max())), dtype=np.uint8)
    letters[rank(), : len(said)] = np.frombuffer(said, dtype=np.uint8)
    sum_array(letters, where=where)
    return [json.loads(row[:length].tobytes()) for row, length in zip(letters, lengths, strict=True)]


def broadcast_from_first(*wishes: bool, where: str) -> tuple[bool, ...]:
    """Return each flag as true on every rank when it is on any.

    So all stop or save after the same step.

    Raises:
        RunError: A rank did not come.
    """
    counts = np.array(wishes, dtype=np.int64)
    sum_array(counts, where=where)
    return tuple(bool(count) for count in counts)


def sum_array(array: np.ndarray, *, where: str) -> None:
    """Add up an array over all ranks, in place.

    Raises:
        RunError: A rank did not come.
    """
    sum_tensor(torch.from_numpy(array), where=where)


def assert_same_on_all_ranks(content: bytes, *, what: str, where: str) -> None:
    """Check that every rank has the same value.

    Args:
        content: Of this rank.
        what: Its name, for the message of an error.
        where: When, for the message of an error.

    Raises:
        RunError: A rank has another one.
    """
    digests = any_rank(hashlib.sha256(content).hexdigest(), where=where)
    others = [number for number, digest in enumerate(digests) if digest != digests[0]]
    if others:
        raise RunError(
            f"Rank {others[0]} of {n_ranks()} has another {what} than the first rank. Check that every node sees the "
            f"same screen and run folder, whole, and runs the same version."
        )


def check_once(visits: np.ndarray, rows: Sequence[int], *, where: str) -> None:
    """Check that the ranks together evaluated every row once, and no other.

    Args:
        visits: int64 [row], how often this rank evaluated each; changed to the sum over ranks.
        rows: Those to be evaluated.
        where: For the message of an error.

    Raises:
        RunError: A row was left out or evaluated twice: the ranks do not see the same files.
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
    """Wait until every rank is here; one may take long as long as it lives.

    Args:
        where: For the message of an error.

    Raises:
        RunError: One ended or stalled.
    """
    if _others is not None:
        with _others.together(where):
            _others.barrier()


class ProcessGroup:
    """The process group for sums, and a store for signs of life and positions.

    The signs tell a slow rank from a stalled one.
    """

    def __init__(self) -> None:
        global _joins
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # waiting in vain is to be an error, not an abort
        self.rank, self.count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self._patience_s, self._meetings = _patience_s(), 0
        self._own = f"rank {self.rank} on {socket.gethostname()}"
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        self._began_group = not dist.is_initialized()  # Ray begins one of its own
        patience = datetime.timedelta(seconds=self._patience_s)
        try:
            store, _, _ = next(rendezvous("env://"))
            self._store = dist.PrefixStore(f"distangle {_joins}", store)  # type: ignore[attr-defined]
            if self._began_group:
                dist.init_process_group(
                    BACKENDS[on_gpu], store=self._store, rank=self.rank, world_size=self.count, timeout=patience
                )
                self.group = None
            else:
                self.group = dist.new_group(backend=BACKENDS[on_gpu], timeout=patience)
        except (RuntimeError, ValueError) as error:
            raise RunError(
                f"Rank {self.rank} of {self.count} on {socket.gethostname()} could not join the others at "
                f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} ({_first_line(error)}). Check that every "
                f"node reaches that address and started the same command."
            ) from error
        _joins += 1
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="signs of life", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Stop the signs of life; end the group that this object began."""
        self._over.set()
        self._thread.join()
        if self._began_group:
            dist.destroy_process_group()

    def _beat(self) -> None:
        beats = 0
        while True:
            try:
                self._store.set(f"beat {self.rank}", str(beats))
            except RuntimeError:  # the store has ended, and the others with it
                return
            beats += 1
            if self._over.wait(self._patience_s / 5):
                return

    def barrier(self) -> None:
        """Wait until every rank is here; name the rank that stays away."""
        self._meetings += 1
        self._store.set(f"meeting {self._meetings} {self.rank}", "here")
        for other in range(self.count):
            beat, since, began = b"", time.monotonic(), time.monotonic()
            while not self._store.check([f"meeting {self._meetings} {other}"]):
                newest = self._store.get(f"beat {other}") if self._store.check([f"beat {other}"]) else b""
                if newest != beat:
                    beat, since = newest, time.monotonic()
                if time.monotonic() - since > self._patience_s or time.monotonic() - began > LONG_PATIENCE_S:
                    raise RuntimeError(f"rank {other} gives no sign of life")
                time.sleep(POLL_S)

    @contextlib.contextmanager
    def together(self, where: str) -> Iterator[None]:
        """Turn the failure of a collective into words on who was missing."""
        began = time.monotonic()
        try:
            self._store.set(f"at {self.rank}", f"{self._own}: {where}")
            yield
        except RuntimeError as error:
            raise RunError(
                f"{self._own} of {self.count} waited {time.monotonic() - began:.0f} s at {where} and another rank did "
                f"not come: it ended, stalled or was cut off ({_first_line(error)}). Last seen: {self._last_seen()}. "
                f"All ranks stop; the last checkpoint is safe. Start the same command again with `--resume`; "
                f"if that rank was only slow, with a longer {PATIENCE_VARIABLE}."
            ) from error

    def _last_seen(self) -> str:
        try:
            names = [f"at {number}" for number in range(self.count)]
            known = [self._store.get(name).decode() for name in names if self._store.check([name])]
        except RuntimeError:
            known = []
        return "; ".join(known) or "nothing is known, the node of the first rank does not answer"


def _patience_s() -> float:
    given = os.environ.get(PATIENCE_VARIABLE, str(PATIENCE_S))
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise ConfigError(f"{PATIENCE_VARIABLE} is {given!r}. Expected seconds, such as 60.")
    return seconds


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
