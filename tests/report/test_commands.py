"""Commands on a page and in a terminal can be typed: with the path of the run, and with every changed setting."""

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
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = make_run(tmp_path, Plan(explained=4))
    (made.run.explanations / "explanation.json").unlink()
    made.run.record(*(path for path in made.run.explanations.iterdir() if path.is_file()))  # and no longer listed
    monkeypatch.chdir(made.run.root.parent.parent)
    return made.run.root.relative_to(Path.cwd())


def test_figures_names_the_run_as_it_was_given(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (made, made.resolve()):
        main(["figures", str(given), "--only", "12"])
        assert f"Run `distangle explain {shlex.quote(str(given))}` first." in capsys.readouterr().err


def test_a_page_names_the_run_from_here_and_never_tells_where_a_folder_lies(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distangle.results import RunFolder
    from distangle.screen import read_screen

    run = RunFolder.open(made.resolve())
    data = load(run, read_screen(run.screen_folder()))
    assert data.command_path == str(made)
    monkeypatch.chdir("/")
    (name := made.name)
    assert data.command_path in (name, str(run.root.relative_to("/")))
    assert not data.command_path.startswith("/")


def test_a_command_names_a_run_elsewhere_as_it_was_given(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distangle.report import build_report
    from distangle.results import RunFolder
    from distangle.screen import read_screen

    absolute = made.resolve()
    screen = read_screen(RunFolder.open(absolute).screen_folder())
    elsewhere = absolute.parents[2] / "else where"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for given in (absolute, Path("..") / absolute.relative_to(elsewhere.parent)):
        text = html.unescape(build_report(RunFolder.open(given), screen).read_text(encoding="utf-8"))
        typed = re.findall("<code>(distangle (?:explain|verify) [^<]+)</code>", text)
        assert len(typed) >= 3
        for command in typed:
            assert Path(shlex.split(command)[2]).samefile(absolute), command


@pytest.mark.parametrize(
    "changes",
    [("batch_size=16",), ("optim.lr=0.001", "views.turn=true"), ("target=cell_type", "network.neck_dropout=0.25"), ()],
)
def test_the_command_of_a_run_has_every_setting_that_differs_from_its_preset(
    changes: tuple[str, ...], made: Path
) -> None:
    from distangle.results import RunFolder
    from distangle.screen import read_screen

    run = RunFolder.open(made)
    config = resolve_config("scratch", [*changes, "precision=bf16", "preparation.binning=2"], epochs=3)
    run.config.write_text(write_config(config))
    train = next(
        typed for typed in _typical_commands(load(run, read_screen(run.screen_folder()))) if " train " in typed
    )
    words = shlex.split(train)
    assert [words[k + 1] for k, word in enumerate(words) if word == "--set"] == sorted(changes, reverse=True)
    again = resolve_config("scratch", [words[k + 1] for k, word in enumerate(words) if word == "--set"], epochs=3)
    assert again.model_copy(update={"precision": "bf16"}) == config.model_copy(
        update={"preparation": again.preparation}
    )
