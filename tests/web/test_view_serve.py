"""Ports, addresses and host names of the viewer."""

import socket

import pytest

from distangle.errors import ConfigError
from distangle.web.security import allowed_hosts, new_token
from distangle.web.serve import bind, can_open_browser


def test_a_port_in_use_is_named_with_the_next_step() -> None:
    first, address = bind("127.0.0.1", 0)
    with first, pytest.raises(ConfigError, match=f"Port {address.port} of 127.0.0.1 cannot be used: .* in use"):
        bind("127.0.0.1", address.port)


def test_two_viewers_take_two_ports() -> None:
    (first, one), (second, two) = bind("127.0.0.1", 0), bind("localhost", 0)
    with first, second:
        assert one.port != two.port
        assert one.url == f"http://127.0.0.1:{one.port}/"
        assert one.is_local
        assert first.proto == socket.IPPROTO_TCP  # otherwise every answer is delayed by 40 ms


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]"])
def test_every_network_at_once_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="means every network of this machine, and is refused"):
        bind(host, 0)


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("example.org", 0, "expected the number of an address"),
        ("", 0, "expected the number of an address"),
        ("127.0.0.1", 70000, "expected a number from 1 to 65535"),
        ("127.0.0.1", -1, "expected a number from 1 to 65535"),
        ("203.0.113.9", 0, "cannot be used"),  # reserved for documentation; no machine has it
    ],
)
def test_an_address_that_cannot_be_is_explained(host: str, port: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind(host, port)


def test_only_the_names_of_the_address_are_hosts() -> None:
    assert allowed_hosts("127.0.0.1", 80) == {"127.0.0.1:80", "localhost:80", "[::1]:80"}
    assert allowed_hosts("10.1.2.3", 80) == {"10.1.2.3:80"}
    assert allowed_hosts("fe80::1", 80) == {"[fe80::1]:80"}


def test_tokens_have_256_bits_and_differ() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 43


def test_no_browser_is_opened_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    for name in ("SSH_CONNECTION", "SSH_TTY", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    assert can_open_browser()
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")
    assert not can_open_browser()
