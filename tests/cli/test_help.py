"""Help: verbs in the order of work, each with an example; settings explained; misspelled words corrected."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from distangle import __version__, cli
from distangle.cli import main
from distangle.cli.app import VERBS
from distangle.synthetic import SimulationConfig
from distangle.training import settings
from distangle.training.config_help import MEANINGS

JOB = ("index", "check", "train", "predict", "explain", "profile", "figures", "report")


def run_verb(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(list(arguments))
    return capsys.readouterr().out


def test_verbs_are_listed_in_the_order_of_work(capsys: pytest.CaptureFixture[str]) -> None:
    text = run_verb(capsys, "--help")
    positions = [re.search(rf"^│ {name} ", text, re.MULTILINE).start() for name in VERBS]  # type: ignore[union-attr]
    assert positions == sorted(positions)
    assert tuple(VERBS)[: len(JOB)] == JOB
    assert text.index("Main workflow") < text.index("Screens") < text.index("Program")
    assert "--install-completion" in text


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_an_example_that_the_parser_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    example = VERBS[name][1]
    assert f"Example: {example}" in " ".join(run_verb(capsys, name, "--help").split())
    arguments = example.partition(" > ")[0].split()
    assert arguments[:2] == ["distangle", name]
    _, bound, ignored = cli.app.parse_args(arguments[1:], exit_on_error=False, print_error=False)
    assert not ignored
    assert bound is not None


def test_every_setting_has_a_meaning_and_none_is_left_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(MEANINGS) == {name for name, _ in settings()}
    text = " ".join(run_verb(capsys, "train", "--help").split())
    assert "--optim.lr learning rate at its highest [0.00015 in seed, rcic1st; 0.002 in small, scratch]" in text
    assert "--class-balance how often a class is visited: 0 by its sites, 1 as often as any other [" in text


def test_the_settings_of_a_simulation_are_in_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    text = run_verb(capsys, "simulate", "--help")
    for name, field in SimulationConfig.model_fields.items():
        assert name in text
        assert field.description
    assert "n_treatments                Perturbations without the controls. [12]" in text


def test_version_and_help_are_words_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(capsys, "version").strip() == run_verb(capsys, "--version").strip() == __version__
    assert run_verb(capsys, "help", "predict") == run_verb(capsys, "predict", "--help")
    assert run_verb(capsys, "help") == run_verb(capsys, "--help")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_verbs_and_options(shell: str) -> None:
    script = cli.app.generate_completion(shell=shell)  # type: ignore[arg-type]
    assert all(word in script for word in ("explain", "hold-out", "device"))


def test_wrong_words_and_folders_are_refused_before_tables_and_networks_are_loaded(tmp_path: Path) -> None:
    program = """
import sys
from distangle.cli import main
for words in (["--version"], ["--help"], ["report", "nosuch"], ["predict", "nosuch"], ["explain", "nosuch"],
              ["figures", "nosuch"], ["train", "nosuch", "--out", "x"], ["train", "--resume", "nosuch"],
              ["train", "--from", "nosuch", "--out", "x"], ["check", "nosuch"], ["predcit"]):
    try:
        main(words)
    except SystemExit as ended:
        print(words, ended.code)
    heavy = {"torch", "pandas", "scipy", "sklearn", "matplotlib"} & {*sys.modules}
    assert not heavy, (words, heavy)
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "nosuch is not a run: it has no run.json" in process.stderr
    assert (
        "nosuch is not a screen: it has no screen.json. Run `distangle index SOURCE --out nosuch` to make one."
        in process.stderr
    )
    assert "predict" in process.stderr  # the suggested verb


@pytest.mark.parametrize(
    ("verb", "text"), [("predict", "Run the command again"), ("train", "distangle train --resume RUN")]
)
def test_an_interrupt_says_what_is_left(
    verb: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def raise_interrupt(root: Path) -> None:
        raise KeyboardInterrupt

    from distangle.results.run import RunFolder

    monkeypatch.setattr(RunFolder, "open", raise_interrupt)
    arguments = ["predict", str(tmp_path)] if verb == "predict" else ["train", "--resume", str(tmp_path)]
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 130
    assert text in capsys.readouterr().err
