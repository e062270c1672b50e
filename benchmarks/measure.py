"""Measure variants fairly on a shared machine: the harness of every benchmark here.

One thread, process CPU time, variants interleaved (A B C A B C ...), medians; what counts is the ratio,
printed beside its limit. Wall time on a shared machine wanders by a factor of two, CPU time of one thread by
a few per cent. Memory is the peak resident size of a fresh child process, one per variant: in one process the
allocator keeps what the first variant took, so the second would look free.

How to write a benchmark `benchmarks/NAME.py` (run as `python benchmarks/NAME.py`):

    import measure                      # before numpy and torch: it holds their thread pools at one

    def prepare(kind: str) -> Callable[[], object]:      # top of the file, so that a child process finds it
        model = ...                                      # loaded before the clock and the memory mark
        return lambda: step(model)                       # what is measured

    def main() -> int:
        times = measure.time_variants({"base": prepare("base"), "ours": prepare("ours")}, rounds=5)
        base, ours = (measure.peak_memory(prepare, kind) for kind in ("base", "ours"))
        measure.show_times(times)
        measure.show_memory({"base": base, "ours": ours})
        kept = [
            measure.verdict("time, ours / base", times["ours"].median / times["base"].median, at_most=0.55),
            measure.verdict("added memory, ours / base", ours.added / base.added, at_most=0.40),
        ]
        return 0 if all(kept) else 1

    if __name__ == "__main__":          # needed: the child process imports this file again
        sys.exit(main())

Arguments of `prepare` must be picklable (names and numbers). Memory is read from /proc, so on Linux only.
"""

import gc
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

THREAD_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
for _pool in THREAD_POOLS:
    os.environ[_pool] = "1"


@dataclass(frozen=True)
class Timing:
    """CPU seconds of one variant, one number per round and call."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds in the middle."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Memory:
    """Resident bytes of a child process: after loading, and at the peak of the measured call."""

    loaded: int
    peak: int

    @property
    def added(self) -> int:
        """Bytes that the measured call took beyond what was loaded."""
        return self.peak - self.loaded


def hold_one_thread() -> None:
    """Hold torch at one thread when it is loaded; the other pools are held when this file is imported."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def time_variants(
    variants: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 5,
    warmups: int = 1,
    calls: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Timing]:
    """Time the variants in turn, `rounds` times over.

    Args:
        variants: What to call, by name; the results are thrown away.
        rounds: Measurements per variant.
        warmups: Calls of each variant before the first measurement.
        calls: Calls per measurement, for variants of microseconds.
        clock: Seconds; CPU time of this process unless given.
    """
    hold_one_thread()
    for _ in range(warmups):
        for call in variants.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, call in variants.items():
            gc.collect()
            start = clock()
            for _ in range(calls):
                call()
            seconds[name].append((clock() - start) / calls)
    return {name: Timing(seconds=tuple(values)) for name, values in seconds.items()}


def resident() -> int:
    """Return the memory of this process now, bytes."""
    return _resident("VmRSS")


def peak_resident() -> int:
    """Return the largest memory of this process since its peak was cleared, bytes."""
    return _resident("VmHWM")


def _resident(field: str) -> int:
    # Not getrusage: its maximum survives exec, so a child would start at the peak of its parent.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _measured_in_child(
    prepare: Callable[..., Callable[[], object]],
    arguments: tuple[object, ...],
    calls: int,
    answers: Connection,
) -> None:
    call = prepare(*arguments)
    hold_one_thread()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of loading: start again from here
    start = _resident("VmRSS")
    for _ in range(calls):
        call()
    answers.send((start, _resident("VmHWM")))


def peak_memory(prepare: Callable[..., Callable[[], object]], *arguments: object, calls: int = 2) -> Memory:
    """Return the memory that `prepare(*arguments)()` takes in a fresh process.

    Args:
        prepare: A function at the top of a module; what it returns is called, what it holds counts as loaded.
        arguments: Picklable.
        calls: How often to call; two, because an optimiser makes its state in the first.

    Raises:
        RuntimeError: When the child ends without an answer (its traceback is on stderr).
    """
    fresh = multiprocessing.get_context("spawn")
    receiver, sender = fresh.Pipe(duplex=False)
    child = fresh.Process(target=_measured_in_child, args=(prepare, arguments, calls, sender))
    child.start()
    sender.close()
    try:
        resident_before, peak = receiver.recv()
    except EOFError:
        child.join()
        message = f"The child process measuring {prepare.__name__}{arguments} ended with {child.exitcode}."
        raise RuntimeError(message) from None
    child.join()
    return Memory(loaded=resident_before, peak=peak)


def show_times(times: Mapping[str, Timing]) -> None:
    """Print one line per variant: median, range and ratio to the first."""
    first = next(iter(times.values())).median
    for name, timing in times.items():
        low, high = min(timing.seconds), max(timing.seconds)
        print(
            f"{name:40s} {timing.median:10.4f} s CPU  ({low:.4f} to {high:.4f}, {len(timing.seconds)} rounds)"
            f"  {timing.median / first:6.3f} of the first"
        )


def show_memory(memories: Mapping[str, Memory]) -> None:
    """Print one line per variant: peak, added and ratio to the first."""
    first = next(iter(memories.values())).added
    for name, memory in memories.items():
        print(
            f"{name:40s} {memory.peak / 2**30:8.3f} GiB peak, {memory.added / 2**30:8.3f} GiB added"
            f"  {memory.added / max(first, 1):6.3f} of the first"
        )


def verdict(quantity: str, value: float, *, at_most: float | None = None, at_least: float | None = None) -> bool:
    """Print a figure beside its limit and say whether the limit holds."""
    holds = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    limits = [] if at_most is None else [f"at most {at_most:g}"]
    limits += [] if at_least is None else [f"at least {at_least:g}"]
    print(f"{'holds ' if holds else 'BROKEN'}  {quantity}: {value:.3f} (limit: {' and '.join(limits) or 'none'})")
    return holds
