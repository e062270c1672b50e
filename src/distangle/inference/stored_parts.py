"""Predict a screen in parts on disk, so that a stopped prediction goes on."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from distangle.core.io import make_folder
from distangle.core.lock import lock_holder, run_lock
from distangle.core.partitions import Outcome
from distangle.core.progress import show_action
from distangle.errors import ConfigError, DistangleError, OutOfMemoryError, RunError, StorageError
from distangle.inference.part_workers import PartWorkers
from distangle.inference.parts import PartPredictor
from distangle.model import PlateBatchNorm
from distangle.results.prediction_parts import PartFolder
from distangle.screen import Screen
from distangle.screen.screen import PLATE_COLUMNS, SITE_COLUMNS


@dataclass(frozen=True, kw_only=True)
class Share:
    """One of several equal shares of the parts of a prediction.

    Attributes:
        number: Of this share, from 1.
        total: Number of shares.

    Raises:
        ConfigError: `number` is not in 1 to `total`.
    """

    number: int
    total: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.total:
            raise ConfigError(
                f"Share {self.number}/{self.total}: expected I/N with I from 1 to N, such as 3/16. The shares of an "
                "array job are 1/N, 2/N, ... N/N."
            )

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Read `I/N`.

        Raises:
            ConfigError: The text is another.
        """
        number, _, total = text.partition("/")
        if not (number.isdecimal() and total.isdecimal()):
            raise ConfigError(f"Share {text!r}: expected I/N, such as 3/16.")
        return cls(number=int(number), total=int(total))


@contextlib.contextmanager
def prediction_lock(folder: Path, *, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a folder of predictions against a second command.

    Args:
        folder: Folder of the predictions; made if absent, and removed again if it stays empty.
        say: Called with a message when the lock of a dead process is removed.

    Raises:
        RunError: Another process holds the lock; the message names it.
        StorageError: The folder is not writable.
    """
    make_folder(folder)
    try:
        with run_lock(folder, say=say):
            yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def check_unlocked(folder: Path) -> None:
    """Check that no process joins the shares of a folder of predictions.

    Raises:
        RunError: One does, and would remove the share.
    """
    if (holder := lock_holder(folder)) is not None:
        raise RunError(
            f"{folder} is in use by {holder}, which predicts all parts that are missing: a share cannot be added now. "
            "Wait for it."
        )


def part_folder(
    predictor: PartPredictor, folder: Path, *, weights_sha256: str, rows: Sequence[int] | None = None
) -> PartFolder:
    """Return the folder of the parts of a prediction.

    Args:
        predictor: The network and the images.
        folder: Folder of the parts.
        weights_sha256: SHA-256 of the weights of the network.
        rows: Sites of the screen; None for all.
    """
    screen = predictor.store.screen
    origin = {
        "screen": screen_sha256(screen),
        "network": weights_sha256,
        "set of batch-norm statistics": norms_sha256(predictor.norms),
        "number of views": ",".join(map(str, predictor.views)),
    }
    plan = predictor.plan(range(len(screen.sites)) if rows is None else rows)
    return PartFolder(folder, plan, origin)


def predict_missing(
    predictor: PartPredictor,
    parts: PartFolder,
    *,
    share: Share | None = None,
    workers: PartWorkers | None = None,
    report: Callable[[int, int], None],
    say: Callable[[str], None],
) -> None:
    """Predict the parts that have no file yet, each in constant memory.

    A part that fails does not stop the others.

    Args:
        predictor: The network and the images.
        parts: Their folder.
        share: Which of the parts; None for all.
        workers: Predict the parts; None for this process.
        report: Called with the number of predicted sites and their total after every batch, or part of a worker.
        say: Called with messages for the user.

    Raises:
        RunError: Some parts failed, or a part on disk was predicted from something else.
        StorageError: The storage has no room, or filled up; the parts that were written stay.
    """
    share = share or Share(number=1, total=1)
    own_numbers = range(share.number - 1, len(parts.plan), share.total)
    missing = [number for number in parts.missing() if number in own_numbers]
    if len(missing) < len(own_numbers):
        say(f"{len(own_numbers) - len(missing)} of {len(own_numbers)} parts of the prediction are in {parts.folder}.")
    width = len(predictor.card.classes) + predictor.model.config.embedding_size
    parts.check_space(bytes_per_site=4 * width * len(predictor.views))
    if not missing:
        return
    failures: dict[int, DistangleError] = {}
    outcomes = (
        _predict_here(predictor, parts, missing, report=report)
        if workers is None
        else _predict_there(workers, predictor, parts, missing, report=report, say=say)
    )
    try:
        with contextlib.closing(outcomes):
            for outcome in outcomes:
                if outcome.error is None:
                    continue
                if _ends_all(outcome.error):
                    raise outcome.error
                failures[outcome.number] = outcome.error
    except (KeyboardInterrupt, DistangleError):
        say(
            f"stopped: {len(parts.plan) - len(parts.missing())} of {len(parts.plan)} parts of the prediction are in "
            f"{parts.folder}. The same command goes on from there."
        )
        raise
    if failures:
        names = "; ".join(
            f"{_name(predictor.store.screen, parts, number)}: {error}" for number, error in sorted(failures.items())
        )
        raise RunError(
            f"{len(failures)} of {len(missing)} parts failed: {names} The other parts are in {parts.folder}; the same "
            "command goes on from there."
        )


def _predict_here(
    predictor: PartPredictor, parts: PartFolder, missing: Sequence[int], *, report: Callable[[int, int], None]
) -> Generator[Outcome[int], None, None]:
    """Predict parts in this process, one after the other."""
    n_sites, n_done = sum(len(parts.plan[number]) for number in missing), 0
    for number in missing:
        n_in_part = 0

        def add(n: int) -> None:
            nonlocal n_in_part
            n_in_part += n
            report(n_done + n_in_part, n_sites)  # noqa: B023 - called in this round only

        try:
            parts.write(number, predictor.predict(parts.plan[number], report=add))
            outcome = Outcome[int](number=number)
        except (DistangleError, OSError) as error:
            outcome = Outcome(number=number, error=error if isinstance(error, DistangleError) else RunError(str(error)))
        yield outcome
        n_done += len(parts.plan[number])
        report(n_done, n_sites)


def _predict_there(
    workers: PartWorkers,
    predictor: PartPredictor,
    parts: PartFolder,
    missing: Sequence[int],
    *,
    report: Callable[[int, int], None],
    say: Callable[[str], None],
) -> Generator[Outcome[int], None, None]:
    """Predict parts on workers; say at once which of them failed."""
    n_sites = sum(len(parts.plan[number]) for number in missing)
    n_sites_done, n_done, n_retried, start = 0, 0, 0, time.monotonic()
    with contextlib.closing(workers.predict(predictor, parts, missing)) as outcomes:
        for outcome in outcomes:
            if outcome.error is not None:
                say(f"{_name(predictor.store.screen, parts, outcome.number)} failed: {outcome.error}")
            n_done, n_retried = n_done + 1, n_retried + (outcome.result or 0)
            n_sites_done += len(parts.plan[outcome.number])
            rate = n_sites_done / max(time.monotonic() - start, 1e-9)
            show_action("predicting on Ray", f"{n_done:,} of {len(missing):,} parts, {rate:,.1f} sites a second")
            yield outcome
            report(n_sites_done, n_sites)
    if n_retried:
        say(f"Retried reads: {n_retried}, after transient storage errors. Check the network file system.")


def screen_sha256(screen: Screen) -> str:
    """Return a hash of the sites and images of a screen, without their paths."""
    columns = [
        name for name in (*SITE_COLUMNS, "size", "sha256", *screen.metadata.extra_columns) if name in screen.sites
    ]
    digests = pd.util.hash_pandas_object(screen.sites[columns].astype(str), index=False)
    return hashlib.sha256(digests.to_numpy().tobytes()).hexdigest()


def norms_sha256(norms: PlateBatchNorm | None) -> str:
    """Return a hash of batch-norm statistics; `running` for none."""
    if norms is None:
        return "running"
    digest = hashlib.sha256(repr((norms.by, sorted(norms.index_of_plate.items(), key=str))).encode())
    for statistics in norms.statistics:
        for name in sorted(statistics):
            digest.update(name.encode() + statistics[name].detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _ends_all(error: Exception) -> bool:
    """Return whether an error would meet every part, as a full storage."""
    return isinstance(error, StorageError | OutOfMemoryError)


def _name(screen: Screen, parts: PartFolder, number: int) -> str:
    """Return such as `part 2 of 3 (plates E2 1)`."""
    plates = screen.sites[list(PLATE_COLUMNS)].iloc[parts.plan[number]].drop_duplicates().astype(str)
    names = [" ".join(plate) for plate in plates.itertuples(index=False, name=None)]
    return f"part {number + 1} of {len(parts.plan)} (plates {', '.join(names[:4])}{', ...' if len(names) > 4 else ''})"
