"""A folder behind a URL and its local copy: what is fetched, published, kept and never removed."""

import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest

from distangle.core import mirror as mirror_module
from distangle.core.mirror import Mirror
from distangle.core.remote import RemotePath, address_of, local_path
from distangle.core.remote_writer import list_files
from distangle.errors import RemoteError

URL = RemotePath("memory:///lab/run")


def fetched(mirror: Mirror) -> tuple[int, list[str]]:
    """Return the number of downloaded files and the messages of a fetch."""
    totals: list[int] = []
    messages: list[str] = []
    mirror.fetch(report=lambda done, total: totals.append(total), say=messages.append)
    return totals[-1], messages


def remote_files(memory: Any) -> dict[str, bytes]:
    return {name.removeprefix("/lab/run/"): memory.cat(name) for name in memory.find("/lab/run")}


def another_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Mirror:
    monkeypatch.setenv("DISTANGLE_CACHE", str(folder))
    return Mirror(URL)


def test_what_changed_is_fetched_again_and_what_vanished_vanishes(memory: Any) -> None:
    memory.pipe({"/lab/run/run.json": b"{}", "/lab/run/a/x": b"1", "/lab/run/a/y": b"2"})
    mirror = Mirror(URL)
    assert fetched(mirror) == (3, [])
    assert (mirror.folder / "a/x").read_bytes() == b"1"
    times = {name: (mirror.folder / name).stat().st_mtime_ns for name in ("run.json", "a/x")}
    memory.pipe("/lab/run/run.json", b'{"a": 1}')
    memory.rm_file("/lab/run/a/y")
    assert fetched(Mirror(URL)) == (1, [])
    assert (mirror.folder / "run.json").read_bytes() == b'{"a": 1}'
    assert (mirror.folder / "a/x").stat().st_mtime_ns == times["a/x"]
    assert not (mirror.folder / "a/y").exists()
    memory.rm_file("/lab/run/a/x")
    assert fetched(Mirror(URL)) == (0, [])
    assert not (mirror.folder / "a").exists(), "an empty folder is no folder of the remote"


def test_a_file_is_a_folder_of_one(memory: Any) -> None:
    memory.pipe("/lab/run", b"one: 1")
    mirror = Mirror(URL)
    assert fetched(mirror) == (1, [])
    assert mirror.folder.read_bytes() == b"one: 1"
    mirror.folder.write_bytes(b"one: 22")
    assert mirror.publish() == 1
    assert memory.cat("/lab/run") == b"one: 22"


@pytest.mark.parametrize("name", ["/etc/passwd", "a/../../x", "a//b", "./x"])
def test_a_name_that_would_leave_the_copy_is_refused_and_nothing_is_written(
    memory: Any, name: str, tmp_path: Path
) -> None:
    memory.store[f"/lab/run/{name}"] = fsspec.implementations.memory.MemoryFile(memory, f"/lab/run/{name}", b"x")
    with pytest.raises(RemoteError, match=r"memory:///lab/run holds '.*', which is no path of a file below it\."):
        fetched(Mirror(URL))
    with pytest.raises(RemoteError, match="is no path of a file below it"):
        URL.local_copy()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_complete_files_are_published_and_others_are_not(memory: Any, tmp_path: Path) -> None:
    mirror = Mirror(URL, is_scratch=lambda name: name == "parts/logits.npy")
    fetched(mirror)
    for name in ("a/x", ".lock", ".a.tmp-12", ".tmpAbc123", ".b.tmp-7/x", "parts/logits.npy", ".begun"):
        path = mirror.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "secret").write_text("secret")
    (mirror.folder / "link").symlink_to(tmp_path / "secret")
    (mirror.folder / "folder").symlink_to(tmp_path, target_is_directory=True)
    assert mirror.publish() == 2
    assert remote_files(memory) == {"a/x": b"a/x", ".begun": b".begun"}
    assert mirror.publish() == 0
    assert mirror.n_pending() == 0


def test_the_files_that_say_complete_come_last_with_the_content_from_before_the_others(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(URL, last=("manifest.json",))
    fetched(mirror)
    mirror.folder.mkdir(parents=True)
    (mirror.folder / "manifest.json").write_text("lists a")
    (mirror.folder / "a").write_text("a")
    order: list[str] = []
    upload, write = mirror_module.upload_file, mirror_module.write_remote

    def uploading(path: Path, file: RemotePath) -> None:
        order.append(file.name)
        upload(path, file)
        if file.name == "a":  # meanwhile the command goes on
            (mirror.folder / "b").write_text("b")
            (mirror.folder / "manifest.json").write_text("lists a, b")

    def writing(file: RemotePath, content: bytes) -> None:
        order.append(file.name)
        write(file, content)

    monkeypatch.setattr(mirror_module, "upload_file", uploading)
    monkeypatch.setattr(mirror_module, "write_remote", writing)
    assert mirror.publish() == 2
    assert order == ["a", "manifest.json"]
    assert remote_files(memory) == {"a": b"a", "manifest.json": b"lists a"}
    assert mirror.publish() == 2
    assert remote_files(memory) == {"a": b"a", "b": b"b", "manifest.json": b"lists a, b"}


def test_files_are_begun_in_the_order_in_which_they_were_written(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(URL)
    fetched(mirror)
    mirror.folder.mkdir(parents=True)
    for n, name in enumerate("cab"):
        (mirror.folder / name).write_text(name)
        os.utime(mirror.folder / name, ns=(n, n))
    order: list[str] = []
    upload = mirror_module.upload_file
    monkeypatch.setattr(mirror_module, "N_TRANSFERS", 1)
    monkeypatch.setattr(
        mirror_module, "upload_file", lambda path, file: (order.append(file.name), upload(path, file))[1]
    )
    mirror.publish()
    assert order == ["c", "a", "b"]


def test_removed_files_are_removed_remotely_but_only_those_of_this_copy(memory: Any) -> None:
    memory.pipe({f"/lab/run/{name}": b"x" for name in "abc"})
    mirror = Mirror(URL)
    fetched(mirror)
    memory.pipe("/lab/run/of-another", b"x")
    (mirror.folder / "a").unlink()
    assert mirror.publish() == 1
    assert set(remote_files(memory)) == {"b", "c", "of-another"}
    (mirror.folder / "b").unlink()
    (mirror.folder / "c").unlink()
    assert mirror.publish() == 0, "most files vanish: perhaps somebody clears the cache"
    assert mirror.publish(is_end=True) == 2
    assert set(remote_files(memory)) == {"of-another"}


def test_a_cache_that_was_cleared_removes_nothing(memory: Any) -> None:
    memory.pipe({f"/lab/run/{name}": b"x" for name in "abc"})
    mirror = Mirror(URL)
    fetched(mirror)
    for name in "abc":
        (mirror.folder / name).unlink()
    mirror.folder.rmdir()
    with pytest.raises(RemoteError, match="The local copy of memory:///lab/run is gone, so nothing is published"):
        mirror.publish(is_end=True)
    assert set(remote_files(memory)) == {"a", "b", "c"}
    assert fetched(Mirror(URL)) == (3, [])
    (mirror.folder / "a").unlink()  # by whoever cleans caches, between two commands
    again = Mirror(URL)
    assert fetched(again) == (1, [])
    assert again.publish(is_end=True) == 0


def test_work_that_was_not_published_is_kept_while_nobody_else_wrote(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/lab/run/a", b"1")
    mirror = Mirror(URL)
    fetched(mirror)
    (mirror.folder / "part-1").write_text("hours")
    later = Mirror(URL)
    downloads, messages = fetched(later)
    assert downloads == 0
    assert messages == [
        "1 files in the local copy of memory:///lab/run are not published yet and are kept, such as part-1."
    ]
    assert (mirror.folder / "part-1").read_text() == "hours"
    assert later.publish() == 1
    (mirror.folder / "part-2").write_text("more hours")

    other = another_machine(monkeypatch, tmp_path / "elsewhere")
    assert fetched(other)[0] == 2
    (other.folder / "scores.json").write_text("done")
    (other.folder / "part-1").unlink()
    other.publish(is_end=True)

    back = another_machine(monkeypatch, tmp_path / "cache")
    downloads, (message,) = fetched(back)
    assert downloads == 1
    assert message == (
        "memory:///lab/run was changed elsewhere since the last command here: 1 files that were not published are "
        "replaced by its state, such as part-2."
    )
    assert sorted(path.name for path in back.folder.iterdir()) == ["a", "scores.json"]


def test_a_copy_without_a_record_is_compared_file_by_file_and_loses_nothing_unknown(memory: Any) -> None:
    memory.pipe("/lab/run/a", b"1")
    mirror = Mirror(URL)
    fetched(mirror)
    (state,) = (mirror.folder.parents[2] / "mirrors").glob("*.json")
    assert json.loads(state.read_text())["url"] == "memory:///lab/run"
    state.write_text("{")
    (mirror.folder / "unknown").write_text("x")
    (mirror.folder / "a").write_text("changed")
    assert fetched(Mirror(URL))[0] == 1
    assert (mirror.folder / "a").read_text() == "1"
    assert (mirror.folder / "unknown").exists()


def test_an_upload_that_arrives_short_is_an_error(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(URL)
    fetched(mirror)
    mirror.folder.mkdir(parents=True)
    (mirror.folder / "a").write_text("whole")
    monkeypatch.setattr(mirror_module, "upload_file", lambda path, file: memory.pipe(file.backend_path, b"wh"))
    with pytest.raises(RemoteError, match="memory:///lab/run/a has 2 bytes after 5 were uploaded"):
        mirror.publish()
    monkeypatch.undo()


def test_a_download_that_arrives_short_is_no_file(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe("/lab/run/a", b"whole")
    monkeypatch.setattr(mirror_module, "download_file", lambda file, path: path.write_bytes(b"wh"))
    mirror = Mirror(URL)
    with pytest.raises(RemoteError, match="memory:///lab/run/a arrived with 2 bytes, but the server reports 5"):
        fetched(mirror)
    assert not (mirror.folder / "a").exists()


def test_a_listing_names_files_only(memory: Any) -> None:
    memory.pipe("/lab/run/a/x", b"12")
    memory.mkdir("/lab/run/empty")
    (only,) = list_files(URL).items()
    assert (only[0], only[1].size) == ("a/x", 2)
    assert list_files(URL / "none") == {}


def test_a_copy_knows_its_address(memory: Any, tmp_path: Path) -> None:
    assert address_of(RemotePath("s3://bucket/runs/a").cache_path) == RemotePath("s3://bucket/runs/a")
    assert local_path("s3://bucket/runs/a") == tmp_path / "cache/s3/bucket/runs/a"
    assert local_path("runs/a") == Path("runs/a")
    for path in (tmp_path / "runs/a", tmp_path / "cache/mirrors/x", tmp_path / "cache/s3"):
        assert address_of(path) is None
