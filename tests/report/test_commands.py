"""Printed commands can be typed as they are: with the path of the run and every changed setting."""

import html
import re
import shlex
from pathlib import Path

import pytest

from distangle.cli import main
from distangle.report.data import load
from distangle.report.sections.provenance import _typical_commands
from distangle.training import resolve_config, write_config
from report_run import Plan, make_run


@pytest.fixture
def run_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run_data = make_run(tmp_path, Plan(explained=4))
    (run_data.run.explanations / "explanation.json").unlink()
    run_data.run.record(
        *(path for path in run_data.run.explanations.iterdir() if path.is_file())
    )  # and no longer listed
    monkeypatch.chdir(run_data.run.root.parent.parent)
    return run_data.run.root.relative_to(Path.cwd())


def test_figures_names_the_run_as_it_was_given(run_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (run_data, run_data.resolve()):
        main(["figures", str(path), "--only", "12"])
        assert f"Run `distangle explain {shlex.quote(str(path))}` first." in capsys.readouterr().err


def test_a_page_names_the_run_from_here_and_never_tells_where_a_folder_lies(
    run_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distangle.results import RunFolder
    from distangle.screen import read_screen

    run = RunFolder.open(run_data.resolve())
    data = load(run, read_screen(run.screen_folder()))
    assert data.command_path == str(run_data)
    monkeypatch.chdir("/")
    (name := run_data.name)
    assert data.command_path in (name, str(run.root.relative_to("/")))
    assert not data.command_path.startswith("/")


def test_a_command_names_a_run_elsewhere_as_it_was_given(run_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distangle.report import build_report
    from distangle.results import RunFolder
    from distangle.screen import read_screen

    absolute = run_data.resolve()
    screen = read_screen(RunFolder.open(absolute).screen_folder())
    other_folder = absolute.parents[2] / "else where"
    other_folder.mkdir()
    monkeypatch.chdir(other_folder)
    for path in (absolute, Path("..") / absolute.relative_to(other_folder.parent)):
        index = build_report(RunFolder.open(path), screen)
        text = html.unescape("".join(page.read_text(encoding="utf-8") for page in index.parent.glob("*.html")))
        commands = re.findall("<code>(distangle (?:explain|verify) [^<]+)</code>", text)
        assert len(commands) >= 3
        for command in commands:
            assert Path(shlex.split(command)[2]).samefile(absolute), command


@pytest.mark.parametrize(
    "changes",
    [
        ("batch_size=16",),
        ("augmentation.any_angle=true", "optim.lr=0.001"),
        ("target=cell_type", "network.neck_dropout=0.25"),
        (),
    ],
)
def test_the_command_of_a_run_has_every_setting_that_differs_from_its_preset(
    changes: tuple[str, ...], run_data: Path
) -> None:
    from distangle.results import RunFolder
    from distangle.screen import read_screen

    run = RunFolder.open(run_data)
    config = resolve_config("scratch", [*changes, "precision=bf16", "preprocessing.binning=2"], epochs=3)
    run.config.write_text(write_config(config))
    train = next(
        commands for commands in _typical_commands(load(run, read_screen(run.screen_folder()))) if " train " in commands
    )
    arguments = shlex.split(train)
    assert sorted(arguments[k + 1] for k, word in enumerate(arguments) if word == "--set") == sorted(changes)
    second = resolve_config(
        "scratch", [arguments[k + 1] for k, word in enumerate(arguments) if word == "--set"], epochs=3
    )
    assert second.model_copy(update={"precision": "bf16"}) == config.model_copy(
        update={"preprocessing": second.preprocessing}
    )
