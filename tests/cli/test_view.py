"""The verb `view`: its messages, a real process, and no torch."""

import gc
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from distangle.cli import main, views
from report_run import Plan, make_run, make_screen
from viewing import make_viewed_run


def test_a_process_serves_a_screen_until_it_is_stopped(tmp_path: Path) -> None:
    make_screen(tmp_path, Plan(size=32, cell_types=("",), plates=1))
    code = (
        "import sys; from distangle.__main__ import main; sys.argv[1:] = ['view', 'screen', '--no-browser']; main(); "
        "import gc; print('torch' in sys.modules, 'numba' in sys.modules, gc.isenabled())"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert lines[0].startswith("screen: ")
        url = lines[1].strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", url)
        with httpx.Client(follow_redirects=True, trust_env=False) as client:
            assert client.get(url).status_code == 200
            assert client.get(f"{url.partition('?')[0]}api/sites/0/thumbnail.png").status_code == 200
        process.terminate()
        rest = process.stdout.read()
    assert process.returncode == 0
    assert "The viewer has ended." in rest
    assert "False False True" in rest


def test_the_verb_needs_a_folder_or_a_demonstration(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["view"], ["view", "x", "--demo"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "`distangle view FOLDER` or `distangle view --demo`" in capsys.readouterr().err


def test_a_folder_that_cannot_be_viewed_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["view", str(tmp_path)])
    assert gc.isenabled()
    assert "cannot be viewed: it has none of run.json, screen.json or profile.json" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(views, "PACKAGES", ("starlette", "no_such_package"))
    with pytest.raises(SystemExit):
        main(["view", "screen"])
    assert "needs no_such_package. Install the extra `view`: `pip install 'distangle[view]'`" in capsys.readouterr().err


def test_every_network_is_refused_before_the_screen_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["view", "nothing", "--listen", "0.0.0.0"])
    assert "is refused" in capsys.readouterr().err


def test_a_process_serves_two_runs(tmp_path: Path) -> None:
    plan = Plan(size=32, cell_types=("HUVEC",), plates=1)
    roots = [make_viewed_run(tmp_path / name, plan).run.root for name in ("one", "two")]
    command = [sys.executable, "-m", "distangle", "view", *map(str, roots), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "token=" not in lines[-1]:
            lines.append(process.stdout.readline())
        assert any(line.startswith("pilot and pilot: ") for line in lines)
        url = lines[-1].strip()
        with httpx.Client(follow_redirects=True, trust_env=False) as client:
            assert client.get(url).status_code == 200
            pair = client.get(f"{url.partition('?')[0]}api/pair").json()
        process.terminate()
        process.communicate()
    assert pair["titles"] == ["pilot (first)", "pilot (second)"]
    assert pair["n_compared"] > 10


def test_a_run_beside_a_screen_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted_run = make_run(tmp_path, Plan(size=32, cell_types=("",), plates=1), parts=("predictions",))
    with pytest.raises(SystemExit):
        main(["view", str(planted_run.run.root), str(tmp_path / "screen")])
    assert "is a folder of kind screen: only two runs can be compared" in capsys.readouterr().err
