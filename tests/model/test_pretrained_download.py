"""Test the download of published weights from a real server on this machine."""

import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from distangle.errors import WeightsError
from distangle.model import pretrained
from distangle.model.pretrained import DOWNLOADS, published_weights

CONTENT = os.urandom(3 << 20)
PIN = hashlib.sha256(CONTENT).hexdigest()[:8]
NAME = f"tiny-{PIN}.pth"


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serve one file; can stop early, ignore ranges, or serve other content."""

    content = CONTENT
    breaks_after: tuple[int, ...] = ()  # bytes of the first answers
    knows_ranges = True
    asked: list[str | None]

    def do_GET(self) -> None:
        range_header = self.headers.get("Range")
        self.asked.append(range_header)
        if self.path != f"/models/{NAME}":
            self.send_error(404)
            return
        start = int(range_header.removeprefix("bytes=").removesuffix("-")) if range_header and self.knows_ranges else 0
        if start >= len(self.content):
            self.send_error(416)
            return
        rest = self.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.end_headers()
        n = len(self.asked) - 1
        self.wfile.write(rest[: self.breaks_after[n]] if n < len(self.breaks_after) else rest)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Mirror]]:
    """A handler class to change, served at the address in the variable."""
    handler = type("Handler", (Mirror,), {"asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("DISTANGLE_WEIGHTS_URL", f"http://127.0.0.1:{server.server_address[1]}/models/")
    monkeypatch.setitem(DOWNLOADS, "tiny", NAME)
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def download(folder: Path, messages: list[str] | None = None) -> Path:
    return published_weights("tiny", folder=folder, say=(messages if messages is not None else []).append)


def test_the_file_is_downloaded_once_and_said_aloud(mirror: type[Mirror], tmp_path: Path) -> None:
    messages: list[str] = []
    path = download(tmp_path, messages)
    assert path == tmp_path / NAME
    assert path.read_bytes() == CONTENT
    assert download(tmp_path, messages) == path
    assert mirror.asked == [None]
    assert len(messages) == 1
    assert messages[0].startswith("downloading http://127.0.0.1:")
    assert not (tmp_path / f"{NAME}.partial").exists()


def test_the_cache_is_that_of_torch_hub(mirror: type[Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    assert published_weights("tiny", say=lambda messages: None) == tmp_path / "hub" / "checkpoints" / NAME


def test_a_wrong_hash_is_refused_and_nothing_is_kept(mirror: type[Mirror], tmp_path: Path) -> None:
    mirror.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(WeightsError, match=rf"SHA-256 \w{{16}}\.\.\., expected one starting with {PIN}\. It was rem"):
        download(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.lock"]


def test_a_damaged_file_in_the_cache_is_replaced(mirror: type[Mirror], tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT[:1000])
    messages: list[str] = []
    assert download(tmp_path, messages).read_bytes() == CONTENT
    assert "does not match the hash in its name; downloading it again" in messages[0]


def test_a_broken_connection_goes_on_where_it_ended(mirror: type[Mirror], tmp_path: Path) -> None:
    mirror.breaks_after = (1 << 20, 1 << 19)
    assert download(tmp_path).read_bytes() == CONTENT
    assert mirror.asked == [None, f"bytes={1 << 20}-", f"bytes={(1 << 20) + (1 << 19)}-"]


def test_a_half_download_of_an_earlier_try_goes_on(mirror: type[Mirror], tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.partial").write_bytes(CONTENT[:12345])
    assert download(tmp_path).read_bytes() == CONTENT
    assert mirror.asked == ["bytes=12345-"]


def test_a_server_without_ranges_starts_again(mirror: type[Mirror], tmp_path: Path) -> None:
    mirror.knows_ranges = False
    (tmp_path / f"{NAME}.partial").write_bytes(CONTENT[:12345])
    assert download(tmp_path).read_bytes() == CONTENT


def test_a_half_download_longer_than_the_file_starts_again(mirror: type[Mirror], tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.partial").write_bytes(CONTENT + b"more")
    assert download(tmp_path).read_bytes() == CONTENT


def test_a_connection_that_keeps_breaking_keeps_what_came(mirror: type[Mirror], tmp_path: Path) -> None:
    mirror.breaks_after = (100, 100, 100)
    with pytest.raises(WeightsError, match="could not be downloaded: .* 300 bytes are kept; the next attempt resumes"):
        download(tmp_path)
    assert not (tmp_path / NAME).exists()
    assert download(tmp_path).read_bytes() == CONTENT


def test_offline_names_the_address_the_place_and_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTANGLE_WEIGHTS_URL", "http://127.0.0.1:9/models")  # nothing listens on "discard"
    with pytest.raises(WeightsError) as error:
        published_weights("densenet161", folder=tmp_path, say=lambda messages: None)
    messages = str(error.value)
    assert "http://127.0.0.1:9/models/densenet161-8d451a50.pth could not be downloaded" in messages
    assert f"copy the file to {tmp_path / 'densenet161-8d451a50.pth'}" in messages
    assert "`--weights FILE`" in messages
    assert "DISTANGLE_WEIGHTS_URL" in messages


def test_a_file_that_is_not_there_is_asked_for_once(
    mirror: type[Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DOWNLOADS, "tiny", f"other-{PIN}.pth")
    with pytest.raises(WeightsError, match="HTTP 404"):
        download(tmp_path)
    assert len(mirror.asked) == 1


def test_a_backbone_without_a_published_file_is_named() -> None:
    with pytest.raises(WeightsError, match=r"No ImageNet weights are published for resnet_small.*resnet18"):
        published_weights("resnet_small", say=lambda messages: None)


def test_two_processes_download_once(mirror: type[Mirror], tmp_path: Path) -> None:
    threads = [threading.Thread(target=download, args=(tmp_path,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mirror.asked == [None]


def test_every_published_file_carries_its_pin() -> None:
    assert all(pretrained.HASH_IN_NAME.search(name) for name in DOWNLOADS.values())
    assert DOWNLOADS["densenet161"] == "densenet161-8d451a50.pth"
