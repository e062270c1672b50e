"""Decode in worker processes; replace one that hangs or dies, and name the file.

The processes are spawned (never forked, so no lock of another thread is copied) and exchange lines of JSON.
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

TIME_LIMIT = 60.0  # seconds for the sites of one request, then for each of its files if that was too slow
START_LIMIT = 180.0  # seconds for the start of a process
MAX_HUNG = 5  # hung files after which the limit is a sixth: dead storage must not take days


Site = tuple[Sequence[Path], Sequence[int | None]]
"""Files and pages of the channels."""


class WorkerLost(Exception):  # noqa: N818 - no fault of the caller
    """A decoding process died or was stopped."""

    def __init__(self, message: str, *, was_stopped: bool = False) -> None:
        super().__init__(message)
        self.was_stopped = was_stopped


class DecodePool:
    """Read and measure sites in a pool of processes, for several threads.

    Args:
        read: Reads an image; a module-level function, which the processes import.
        limit: Seconds for the images of a site.
    """

    def __init__(self, read: Read = read_image, *, limit: float = TIME_LIMIT) -> None:
        self._read = f"{read.__module__}:{read.__qualname__}"
        if "<" in self._read or self._read.startswith("__main__:"):
            raise ValueError(f"{self._read} cannot be imported by another process. Expected a function of a module.")
        self._limit = limit
        self._n_hung = 0
        self._free: queue.LifoQueue[_Decoder] = queue.LifoQueue()
        self._decoders: list[_Decoder] = []
        self._closed = False
        self.n_retries = 0  # retried reads of all processes
        self._lock = threading.Lock()

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for decoder in self._decoders:
            decoder.end()

    def measure_sites(self, sites: Sequence[Site], *, grid: tuple[int, int]) -> list[list[PlaneRead]]:
        """Return the result of `measure_site` for every site; a lost file has a reason.

        Small sites are best requested together. A request that ends its process is repeated site by site and file by
        file, to identify the file.

        Args:
            sites: Files and pages of the channels of each site.
            grid: Rows and columns of the profiles.

        Raises:
            ImageError: No process can be started.
            MemoryError: A process has too little memory for the pixels.
        """
        try:
            return self._request(sites, grid)
        except WorkerLost:
            return [self._measure_one_by_one(paths, pages, grid) for paths, pages in sites]

    def _measure_one_by_one(
        self, paths: Sequence[Path], pages: Sequence[int | None], grid: tuple[int, int]
    ) -> list[PlaneRead]:
        planes: list[PlaneRead] = []
        reasons: dict[Path, str] = {}  # no other page of a file that killed a process is tried
        for path, page in zip(paths, pages, strict=True):
            if path not in reasons:
                try:
                    planes += self._request([([path], [page])], grid)[0]
                    continue
                except WorkerLost as lost:
                    reasons[path] = f"{path}: {lost}"
                    self._n_hung += lost.was_stopped
            planes.append(PlaneRead(measures={}, reason=reasons[path]))
        return planes

    def _request(self, sites: Sequence[Site], grid: tuple[int, int]) -> list[list[PlaneRead]]:
        limit = self._limit if self._n_hung < MAX_HUNG else self._limit / 6
        site_list = [{"paths": [str(path) for path in paths], "pages": list(pages)} for paths, pages in sites]
        decoder = self._idle_decoder()
        try:
            reply = decoder.ask({"sites": site_list, "grid": list(grid), "limit": limit}, limit)
        except WorkerLost:
            if self._closed:
                raise ImageError("Reading was interrupted.") from None
            raise
        self._free.put(decoder)
        if "shortage" in reply:
            raise MemoryError(reply["shortage"])
        if "failed" in reply:
            raise WorkerLost(f"its decoder failed ({reply['failed']})")
        with self._lock:
            self.n_retries += reply["again"]
        return [[from_json(plane) for plane in planes] for planes in reply["sites"]]

    def _idle_decoder(self) -> "_Decoder":
        try:
            return self._free.get_nowait()
        except queue.Empty:
            decoder = _Decoder(self._read)
            self._decoders.append(decoder)
            return decoder


class _Decoder:
    """Control one decoding process."""

    def __init__(self, read: str) -> None:
        # -P: no module is imported from the current folder.
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
            WorkerLost: The process died, or was stopped after the time limit.
            ImageError: The process did not start.
        """
        if not self._is_ready:
            reply = self._send(self._read, START_LIMIT)
            if reply is None:
                raise ImageError(
                    f"No process that decodes images can be started ({self._exit_reason()}). Look above for its error."
                )
            self._is_ready = True
        reply = self._send(job, limit)
        if reply is None:
            how = f"did not come to an end in {limit:g} s and was stopped" if self.was_stopped else self._exit_reason()
            raise WorkerLost(f"its decoder {how}", was_stopped=self.was_stopped)
        return reply

    def end(self) -> None:
        """Stop the process."""
        self._process.kill()
        self._process.communicate()

    def _send(self, content: object, limit: float) -> dict[str, Any] | None:
        stop = threading.Timer(limit, self._stop)
        stop.start()
        try:
            assert self._process.stdin is not None  # noqa: S101 - for mypy
            assert self._process.stdout is not None  # noqa: S101 - for mypy
            self._process.stdin.write(json.dumps(content) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (OSError, ValueError):  # the process ended, or the pool was closed
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

    def _exit_reason(self) -> str:
        status = self._process.wait()
        if status >= 0:
            return f"ended its process with status {status}"
        name = signal.Signals(-status).name
        return f"was killed by {name}" + (": memory may have run out" if name == "SIGKILL" else ", so it crashed")
