"""Bind the port of a viewer, and run its server until it is stopped."""

import contextlib
import ipaddress
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from distangle.errors import ConfigError
from distangle.web.protocol import MAX_HEAD_BYTES, PatientProtocol

MAX_CONNECTIONS = 512
KEEP_ALIVE_SECONDS = 20


@dataclass(frozen=True)
class Address:
    """Where a viewer listens.

    Attributes:
        host: A numeric address.
        port: The port.
    """

    host: str
    port: int

    @property
    def url(self) -> str:
        """The URL without a token."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback


def bind(host: str, port: int) -> tuple[socket.socket, Address]:
    """Return a socket that is bound to an address.

    Args:
        host: Numeric address of this machine, or `localhost`.
        port: The port; 0 for any free one.

    Raises:
        ConfigError: The port is in use, or the address is not one of this machine.
    """
    address = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        is_any = ipaddress.ip_address(address).is_unspecified
    except ValueError as error:
        raise ConfigError(
            f"--listen {host}: expected the number of an address of this machine, such as 127.0.0.1 or 10.1.2.3."
        ) from error
    if is_any:
        raise ConfigError(
            f"--listen {host} means every network of this machine, and is refused. Name the one address that others "
            "use to reach it, such as --listen 10.1.2.3."
        )
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port {port}: expected a number from 1 to 65535, or 0 for any free port.")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # With the protocol named, asyncio sends the head and the body of an answer without a wait of 40 ms between them.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"Port {port} of {address} cannot be used: {(error.strerror or str(error)).lower()}. Is another viewer "
            "running there? Leave `--port` out to take any free port."
        ) from error
    return bound, Address(address, bound.getsockname()[1])


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Return a server with the limits of a viewer.

    Args:
        app: The application.
    """
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    return uvicorn.Server(config)


def serve(server: uvicorn.Server, bound: socket.socket, *, when_ready: Callable[[], None]) -> None:
    """Answer requests until Ctrl-C, SIGTERM, or `should_exit` of the server.

    Args:
        server: From `make_server`.
        bound: From `bind`.
        when_ready: Called in a thread once requests are answered.
    """

    def wait_and_call() -> None:
        while not server.started and not server.should_exit:
            event.wait(0.01)
        if server.started:
            when_ready()

    event = threading.Event()
    threading.Thread(target=wait_and_call, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        if threading.current_thread() is threading.main_thread():
            # The server stops, then passes the signal on: as Ctrl-C, so that temporary folders are removed.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        server.run(sockets=[bound])


def can_open_browser() -> bool:
    """Return whether a browser would show a page to the person who typed the command."""
    if any(name in os.environ for name in ("SSH_CONNECTION", "SSH_TTY", "SLURM_JOB_ID")):
        return False
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_browser(url: str) -> None:
    """Open a page in the browser of the user, if there is one."""
    with contextlib.suppress(webbrowser.Error, OSError):
        webbrowser.open(url)
