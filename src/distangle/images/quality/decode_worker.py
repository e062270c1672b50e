"""Run the worker process of `Decoders`, which reads and measures sites."""

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

GRACE = 30.0  # seconds beyond its limit after which a process ends itself, for nobody may be left to stop it


def serve() -> None:
    """Answer every line of the standard input with a line, until there is none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that asked stops this one
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a library prints must not stand among the replies
    read = _found(json.loads(sys.stdin.readline()))
    _say(replies, {"ready": True})
    for line in sys.stdin:
        job = json.loads(line)
        faulthandler.dump_traceback_later(job["limit"] + GRACE, exit=True)
        reply = _reply(read, job)
        faulthandler.cancel_dump_traceback_later()
        _say(replies, reply)


def _reply(read: Read, job: dict[str, Any]) -> dict[str, Any]:
    before = n_retries()
    grid = job["grid"][0], job["grid"][1]
    try:
        sites = [
            measure_site(read, [Path(path) for path in site["paths"]], site["pages"], grid=grid)
            for site in job["sites"]
        ]
    except MemoryError as error:
        return {"shortage": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises is said of its file, and the next is read
        return {"failed": f"{type(error).__name__}: {error}"}
    return {"sites": [[to_json(plane) for plane in planes] for planes in sites], "again": n_retries() - before}


def _found(name: str) -> Read:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    read: Read = found
    return read


def _say(replies: IO[str], reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    serve()
