"""A run with every part that the viewer shows, and its server on a port of this machine."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np

from distangle.results import Predictions
from distangle.web.app import make_app
from distangle.web.security import allowed_hosts, new_token
from distangle.web.serve import bind, make_server, serve
from distangle.web.source import ViewSource, open_source
from profile_results import profile_result
from report_run import Plan, PlantedRun, make_run


@dataclass(frozen=True)
class Visit:
    """A running viewer.

    Attributes:
        base: The URL without a path.
        port: Its port.
        token: Its secret.
        cookie: Name and value of the cookie, as a header.
    """

    base: str
    port: int
    token: str
    cookie: str

    def client(self) -> httpx.Client:
        """Return a client with the cookie."""
        return httpx.Client(base_url=self.base, headers={"Cookie": self.cookie}, timeout=20, trust_env=False)

    def send(self, request: bytes, *, timeout: float = 5.0) -> tuple[int, bytes]:
        """Send bytes as they are; return status (0 without an answer) and everything that came back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            received = b""
            with contextlib.suppress(OSError):
                connection.sendall(request)
                while part := connection.recv(65536):
                    received += part
        match = re.match(rb"HTTP/1\.1 (\d{3})", received)
        return (int(match[1]) if match else 0), received


@contextlib.contextmanager
def visit(source: ViewSource, other: ViewSource | None = None) -> Iterator[Visit]:
    """Serve a source, or two runs to compare, from a thread until the end of the `with`."""
    bound, address = bind("127.0.0.1", 0)
    token = new_token()
    hosts = allowed_hosts(address.host, address.port)
    app, _ = make_app(source, token=token, hosts=hosts, port=address.port, other=other)
    server, is_ready = make_server(app), threading.Event()
    thread = threading.Thread(target=serve, args=(server, bound), kwargs={"when_ready": is_ready.set}, daemon=True)
    thread.start()
    try:
        assert is_ready.wait(20)
        cookie = f"{app.cookie}={token}"
        yield Visit(base=address.url.rstrip("/"), port=address.port, token=token, cookie=cookie)
    finally:
        server.should_exit = True
        thread.join(20)
        bound.close()


def make_viewed_run(folder: Path, plan: Plan) -> PlantedRun:
    """Make a run with predictions of sites and wells, scores, an explanation, profiles and metrics."""
    planted_run = make_run(folder, plan)
    table = planted_run.wells.table.copy()
    table.insert(3, "Metadata_Site", 1)
    embedding = np.random.default_rng(2).normal(size=(len(table), 4)).astype(np.float32)
    embedding[planted_run.wells.table["reason"] != ""] = np.nan
    wells = replace(planted_run.wells, embedding=embedding)
    sites = Predictions(
        level="site", table=table, logits=wells.logits, embedding=embedding, perturbations=wells.perturbations, views=1
    )
    planted_run.run.record(*wells.write(planted_run.run.predictions), *sites.write(planted_run.run.predictions))
    names = [name for name in planted_run.screen.metadata.perturbations if name != "EMPTY"]
    result = profile_result(names)
    # The rows of the profiles are wells of the screen.
    rows = planted_run.screen.sites.iloc[: len(result.wells)]
    profile_table = result.wells.table.assign(
        Metadata_Experiment=rows["experiment"].to_numpy(),
        Metadata_Plate=rows["plate"].to_numpy(),
        Metadata_Well=rows["well"].to_numpy(),
        Metadata_Perturbation=rows["perturbation"].to_numpy(),
    )
    result = replace(result, wells=replace(result.wells, table=profile_table))
    planted_run.run.record(*result.write(planted_run.run.profiles))
    return replace(planted_run, wells=wells)


def open_planted(planted_run: PlantedRun) -> ViewSource:
    """Open a planted run as the viewer does."""
    return open_source(planted_run.run.root)
