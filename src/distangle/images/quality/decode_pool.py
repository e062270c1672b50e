"""Decode in processes; stop one that hangs, replace one that dies, name the file.

They are started anew (never forked, so no lock of another thread is copied) and talk in lines of JSON.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from distangle.errors import ImageError
from distangle.images.quality.measure import PlaneRead, Read, from_json
from distangle.images.readers.read import read_image

LIMIT = 60.0  # seconds for what is asked together, then for each file of it when that was too slow
START = 180.0  # seconds that a process may need to be there
PATIENT = 5  # files that hang before the others get a sixth of the time: dead storage must not take days


Site = tuple[Sequence[Path], Sequence[int | None]]
"""Files of the channels, and pages."""


class WorkerLost(Exception):  # noqa: N818 - no fault of the caller
    """A process that decodes images has died or was stopped."""

    def __init__(self, words: str, *, was_stopped: bool = False) -> None:
        super().__init__(words)
        self.was_stopped = was_stopped


class DecodePool:
    """A pool of processes that read and measure sites, for several threads.

    Args:
        read: Reads an image; a function of a module, which the processes import.
        limit: Seconds for the images of a site.
    """

    def __init__(self, read: Read = read_image, *, limit: float = LIMIT) -> None:
        self._read = f"{read.__module__}:{read.__qualname__}"
        if "<" in self._read or self._read.startswith("__main__:"):
            raise ValueError(f"{self._read} cannot be imported by another process. Expected a function of a module.")
        self._limit = limit
        self._n_hung = 0
        self._idle: queue.LifoQueue[_Decoder] = queue.LifoQueue()
        self._started: list[_Decoder] = []
        self._closed = False
        self.n_tried_again = 0  # reads that were tried once more, over all processes
        self._lock = threading.Lock()

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for decoder in self._started:
            decoder.end()

    def measure_sites(self, sites: Sequence[Site], *, grid: tuple[int, int]) -> list[list[PlaneRead]]:
        """Return what `measure_site` does of every site; a lost file has its reason.

        Sites that are small are best asked for together. What ends a process is read once more, site by site and file
        by file, to know which one it is.

        Args:
            sites: Files and pages of the channels of each.
            grid: Rows and columns of the profiles.

        Raises:
            ImageError: No process can be started.
            MemoryError: One has no room for the pixels.
        """
        try:
            return self._ask(sites, grid)
        except WorkerLost:
            return [self._one_by_one(paths, pages, grid) for paths, pages in sites]

    def _one_by_one(self, paths: Sequence[Path], pages: Sequence[int | None], grid: tuple[int, int]) -> list[PlaneRead]:
        planes: list[PlaneRead] = []
        bad: dict[Path, str] = {}  # of a file that ended a process no other page is tried
        for path, page in zip(paths, pages, strict=True):
            if path not in bad:
                try:
                    planes += self._ask([([path], [page])], grid)[0]
                    continue
                except WorkerLost as lost:
                    bad[path] = f"{path}: {lost}"
                    self._n_hung += lost.was_stopped
            planes.append(PlaneRead(measures={}, reason=bad[path]))
        return planes

    def _ask(self, sites: Sequence[Site], grid: tuple[int, int]) -> list[list[PlaneRead]]:
        limit = self._limit if self._n_hung < PATIENT else self._limit / 6
        named = [{"paths": [str(path) for path in paths], "pages": list(pages)} for paths, pages in sites]
        decoder = self._take()
        try:
            reply = decoder.ask({"sites": named, "grid": list(grid), "limit": limit}, limit)
        except WorkerLost:
            if self._closed:
                raise ImageError("Reading was broken off.") from None
            raise
        self._idle.put(decoder)
        if "shortage" in reply:
            raise MemoryError(reply["shortage"])
        if "failed" in reply:
            raise WorkerLost(f"its decoder failed ({reply['failed']})")
        with self._lock:
            self.n_tried_again += reply["again"]
        return [[from_json(plane) for plane in planes] for planes in reply["sites"]]

    def _take(self) -> "_Decoder":
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            decoder = _Decoder(self._read)
            self._started.append(decoder)
            return decoder


class _Decoder:
    """One process."""

    def __init__(self, read: str) -> None:
        # -P: no module is taken from the folder that happens to be the current one.
        paths = [path for path in sys.path if path]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "distangle.images.quality.decode_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="ascii",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        self.was_stopped = False
        self._is_ready = False
        self._read = read

    def ask(self, job: dict[str, Any], limit: float) -> dict[str, Any]:
        """Return the reply to a job.

        Raises:
            _Lost: It gave none in time and was stopped, or died.
            ImageError: It never came to life.
        """
        if not self._is_ready:
            reply = self._exchange(self._read, START)
            if reply is None:
                raise ImageError(
                    f"No process that decodes images can be started ({self._end()}). Look above for its error."
                )
            self._is_ready = True
        reply = self._exchange(job, limit)
        if reply is None:
            how = f"did not come to an end in {limit:g} s and was stopped" if self.was_stopped else self._end()
            raise WorkerLost(f"its decoder {how}", was_stopped=self.was_stopped)
        return reply

    def end(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.communicate()

    def _exchange(self, said: object, limit: float) -> dict[str, Any] | None:
        stop = threading.Timer(limit, self._stop)
        stop.start()
        try:
            assert self._process.stdin is not None  # noqa: S101 - for mypy
            assert self._process.stdout is not None  # noqa: S101 - for mypy
            self._process.stdin.write(json.dumps(said) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (OSError, ValueError):  # it is gone, or was closed by who broke off
            line = ""
        finally:
            stop.cancel()
        if not line.endswith("\n"):
            self._process.kill()
            self._process.wait()
            return None
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _stop(self) -> None:
        self.was_stopped = True
        self._process.kill()

    def _end(self) -> str:
        status = self._process.wait()
        if status >= 0:
            return f"ended its process with status {status}"
        name = signal.Signals(-status).name
        return f"was killed by {name}" + (": memory may have run out" if name == "SIGKILL" else ", so it crashed")
