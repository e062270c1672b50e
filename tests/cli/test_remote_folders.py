"""Verbs whose folders are URLs, in one process: the files of local folders, what is fetched, printed and refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from distangle.cli import FUNCTIONS, app, main, remote_folders
from distangle.core import publication, remote_lock
from distangle.core.mirror import Mirror
from distangle.core.remote import RemotePath
from distangle.screen import read_screen
from tiny_run import TRAINING, fingerprints, tiny_screen

LAB = "memory:///lab"
SETTINGS = [word for setting in TRAINING for word in ("--set", setting)]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_lock, "SETTLE_S", 0.0)
    monkeypatch.setattr(publication, "PUBLISH_EVERY_S", 0.05)


@pytest.fixture
def plates(memory: Any, tmp_path: Path) -> str:
    """The URL of the table of a screen of 24 sites."""
    tiny_screen(tmp_path / "made")
    memory.put(str(tmp_path / "made/plates"), "/lab/plates", recursive=True)
    return f"{LAB}/plates/table.csv"


def index(plates: str, out: str) -> None:
    main(["index", plates, "--layout", "table", "--channels", "DNA,actin", "--out", out])


def stored(memory: Any, folder: str, where: Path) -> Path:
    for name in memory.find(f"/lab/{folder}"):
        path = where / name.removeprefix(f"/lab/{folder}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(memory.cat(name))
    return where


def refusal(arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="1"):
        main(arguments.split())
    return " ".join(capsys.readouterr().err.split()).partition("error: ")[2]


def test_the_files_behind_a_url_are_those_of_local_folders(
    memory: Any, plates: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for lab in (LAB, str(tmp_path / "lab")):
        index(plates, f"{lab}/screen")
        options = ["--preset", "scratch", "--hold-out", "experiment=E3", "--epochs", "1", *SETTINGS]
        main(["train", f"{lab}/screen", "--out", f"{lab}/runs/a", *options])
        main(["predict", f"{lab}/runs/a"])
    for name in ("screen", "runs/a"):
        there = fingerprints(stored(memory, name, tmp_path / "there" / name))
        assert there == fingerprints(tmp_path / "lab" / name)
        assert there
    assert not [name for name in memory.find("/lab") if ".lock" in name or ".tmp" in name]
    printed = capsys.readouterr()
    assert f"{LAB}/runs/a/predictions/scores.json" in printed.out
    assert f"next: `distangle explain {LAB}/runs/a`" in printed.err
    assert "cache/memory" not in printed.out + printed.err

    monkeypatch.setenv("DISTANGLE_CACHE", str(tmp_path / "another machine"))  # has neither run nor screen
    main(["export", f"{LAB}/runs/a", "--format", "pycytominer", "--out", f"{LAB}/exported"])
    assert memory.exists("/lab/exported/embeddings/assembled.parquet")
    main(["report", f"{LAB}/runs/a"])
    page = memory.cat("/lab/runs/a/report/index.html").decode()
    assert f"distangle train {LAB}/screen" in memory.cat("/lab/runs/a/report/provenance.html").decode()
    assert "another machine" not in page
    assert json.loads(memory.cat("/lab/runs/a/manifest.json"))["files"].keys() >= {"predictions/scores.json"}
    capsys.readouterr()
    main(["verify", f"{LAB}/runs/a"])
    assert "all unchanged" in capsys.readouterr().out
    memory.pipe("/lab/runs/a/predictions/scores.json", b"{}")
    with pytest.raises(SystemExit):
        main(["verify", f"{LAB}/runs/a"])
    assert "1 differ" in capsys.readouterr().out


def test_files_are_arguments_and_outputs_too(memory: Any, plates: str, tmp_path: Path) -> None:
    index(plates, f"{LAB}/screen")
    main(["folds", f"{LAB}/screen", "--hold-out", "experiment=E3", "--out", f"{LAB}/folds.parquet"])
    main(["folds", f"{LAB}/screen", "--hold-out", "experiment=E3", "--out", str(tmp_path / "folds.parquet")])
    assert memory.cat("/lab/folds.parquet") == (tmp_path / "folds.parquet").read_bytes()
    main(["check", f"{LAB}/screen", "--fold-file", f"{LAB}/folds.parquet", "--sample", "1"])
    assert memory.exists("/lab/screen/checks/checks.json")


def test_the_screen_of_a_run_is_fetched_from_its_own_bucket_only(memory: Any, tmp_path: Path) -> None:
    run = RemotePath(f"{LAB}/runs/a")
    for screen, url in (
        ("../../screen", f"{LAB}/screen"),
        ("../../../../s3/other/screen", None),
        ("/etc", None),
        (7, None),
    ):
        memory.pipe("/lab/runs/a/run.json", json.dumps({"screen": screen}).encode())
        Mirror(run).fetch(report=lambda done, total: None, say=print)
        assert remote_folders._screen_of(run) == (None if url is None else RemotePath(url))


def test_images_beside_a_screen_behind_a_url_need_no_permission_and_others_do(
    memory: Any, plates: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index(plates, f"{LAB}/screen")
    monkeypatch.setenv("DISTANGLE_CACHE", str(tmp_path / "another machine"))
    main(["pack", f"{LAB}/screen", "--out", f"{LAB}/packed", "--format", "records"])
    assert len([name for name in memory.find("/lab/packed") if name.endswith(".dsi") or "_s" in name]) == 24
    for name in ("screen.json", "sites.parquet", "problems.csv"):
        memory.pipe(f"/elsewhere/{name}", memory.cat(f"/lab/screen/{name}"))
    message = refusal("pack memory:///elsewhere --out memory:///out", capsys)
    assert "memory:///elsewhere/screen.json says that its images lie at memory:///lab/plates, outside" in message
    assert "allow it: `distangle trust memory:///elsewhere`" in message
    assert read_screen(RemotePath("memory:///elsewhere").cache_path).folder is not None
    main(["trust", "memory:///elsewhere"])
    main(["pack", "memory:///elsewhere", "--out", "memory:///out", "--format", "records"])
    assert memory.exists("/out/screen.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("verify memory:///none", "memory:///none does not exist, or is empty. Check the address."),
        (
            f"train {LAB}/screen --out https://host/run",
            "https://host/run cannot be written: web servers are only read.",
        ),
        (f"train {LAB}/screen --out s3://bucket", "s3://bucket is a whole bucket or container. Name a folder in it"),
        (f"train {LAB}/screen --out ftp://host/run", "ftp://host/run cannot be read. Expected a path, or a URL of s3"),
        (f"predict {LAB}/none", f"{LAB}/none is not a run: it has no run.json."),
        (f"index {LAB}/plates --out {LAB}/plates", f"--out {LAB}/plates is the source folder: the tables"),
    ],
)
def test_what_cannot_be_is_refused_with_its_url(
    memory: Any, plates: str, arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = memory.find("/")
    assert refusal(arguments, capsys).startswith(message)
    assert memory.find("/") == before


def test_a_missing_package_is_refused_with_the_command_that_installs_it(
    memory: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("distangle.core.remote._file_system", lambda scheme, netloc: (None, "the package x is absent"))
    message = refusal("train screen --out gs://bucket/runs/a", capsys)
    assert message == "gs://bucket/runs/a/.lock cannot be written: the package x is absent."


def test_a_second_driver_is_refused_before_it_fetches(
    memory: Any, plates: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.pipe("/lab/packed/.lock", b'{"pid": 7, "host": "far"}')
    message = refusal(f"pack {LAB}/screen --out {LAB}/packed", capsys)
    assert message.startswith(f"{LAB}/packed is in use by process 7 on far.")
    assert message.endswith(f"If it no longer exists, remove {LAB}/packed/.lock.")
    assert not (tmp_path / "cache/memory/lab/screen").exists()


def test_every_verb_with_a_path_to_write_names_it() -> None:
    """A verb whose output is not in the table would write to the cache alone."""
    for name, verb in FUNCTIONS.items():
        paths = {argument.names[0] for argument in app[name].assemble_argument_collection() if _is_path(argument.hint)}
        if "--out" in paths or re.search(r"^def .*\bout: Path", _source(verb), flags=re.MULTILINE):
            assert "out" in remote_folders.OUTPUTS[name]
    reading = {"view", "napari", "verify", "trust", "settings", "help", "version"}
    assert remote_folders.OUTPUTS.keys() == FUNCTIONS.keys() - reading


def _is_path(hint: object) -> bool:
    return "Path" in str(hint)


def _source(verb: object) -> str:
    import inspect

    return inspect.getsource(verb)  # type: ignore[arg-type]
