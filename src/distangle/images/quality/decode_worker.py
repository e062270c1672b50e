"""Run the worker process of `DecodePool`, which reads and measures sites."""

import faulthandler
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

from distangle.images.quality.measure import Read, measure_site, to_json
from distangle.images.readers.common import n_retries

EXTRA_S = 30.0  # seconds after the limit at which a process ends itself, if its parent is gone


def serve() -> None:
    """Answer every line of the standard input with a line, until its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent stops this one
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # output of libraries must not mix with the replies
    read = _import_function(json.loads(sys.stdin.readline()))
    _send(replies, {"ready": True})
    for line in sys.stdin:
        job = json.loads(line)
        faulthandler.dump_traceback_later(job["limit"] + EXTRA_S, exit=True)
        reply = _reply_to(read, job)
        faulthandler.cancel_dump_traceback_later()
        _send(replies, reply)


def _reply_to(read: Read, job: dict[str, Any]) -> dict[str, Any]:
    before = n_retries()
    grid = job["grid"][0], job["grid"][1]
    try:
        sites = [
            measure_site(read, [Path(path) for path in site["paths"]], site["pages"], grid=grid)
            for site in job["sites"]
        ]
    except MemoryError as error:
        return {"shortage": str(error)}
    except Exception as error:  # noqa: BLE001 - any error of a decoder is reported for its file
        return {"failed": f"{type(error).__name__}: {error}"}
    return {"sites": [[to_json(plane) for plane in planes] for planes in sites], "again": n_retries() - before}


def _import_function(name: str) -> Read:
    module, _, path = name.partition(":")
    value: Any = importlib.import_module(module)
    for part in path.split("."):
        value = getattr(value, part)
    read: Read = value
    return read


def _send(replies: IO[str], reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    serve()
