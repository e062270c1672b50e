"""An S3 server of moto in a process of its own, for commands in other processes."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REASON = "needs an S3 server and client: pip install 'moto[s3]' flask flask-cors s3fs"
SOURCE = Path(__file__).resolve().parents[2] / "src"


@dataclass(frozen=True)
class S3Server:
    """A server with one bucket, `bucket`.

    Attributes:
        options: Of `s3fs.S3FileSystem`.
        files: The file system of this process.
    """

    options: dict[str, Any]
    files: Any

    def environment(self, cache: Path, **options: Any) -> dict[str, str]:
        """Return the environment of a machine whose cache is a folder; options replace those of the client."""
        variables = {
            "DISTANGLE_CACHE": str(cache),
            "FSSPEC_S3": json.dumps({**self.options, **options}),
            "PYTHONPATH": str(SOURCE),
            "OMP_NUM_THREADS": "1",
        }
        return {**os.environ, **variables}

    def run(self, *arguments: str, cache: Path, status: int = 0, **options: Any) -> str:
        """Run a command line to its end; return its output and errors on one line."""
        command = [sys.executable, "-m", "distangle", *arguments]
        done = subprocess.run(command, env=self.environment(cache, **options), capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    def names(self, folder: str) -> list[str]:
        """Return the relative names of the objects below a folder of the bucket."""
        self.files.invalidate_cache()
        return sorted(name.removeprefix(f"bucket/{folder}/") for name in self.files.find(f"bucket/{folder}/"))

    def contents(self, folder: str) -> dict[str, bytes]:
        """Return the bytes of the objects below a folder of the bucket, by relative name."""
        return {name: self.files.cat_file(f"bucket/{folder}/{name}") for name in self.names(folder)}


@contextlib.contextmanager
def s3_server(log: Path) -> Iterator[S3Server]:
    """Yield a server; skip the test where it is not installed."""
    pytest.importorskip("moto.server", reason=REASON)
    s3fs = pytest.importorskip("s3fs", reason=REASON)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=output, stderr=output
        )
    try:
        end = time.monotonic() + 60
        while not _answers(port):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        options = {"endpoint_url": f"http://127.0.0.1:{port}", "key": "x", "secret": "y"}
        files = s3fs.S3FileSystem(**options)
        files.mkdir("bucket")
        yield S3Server(options, files)
    finally:
        server.kill()
        server.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
