"""The Python lines of the README run as they stand, in their order."""

import re
from pathlib import Path

import pytest

from distangle.cli import main

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_python_block_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [
        "image_size=64",
        "n_treatments=3",
        "n_positive_controls=1",
        "n_negative_controls=2",
        "plates_per_experiment=1",
    ]
    main(["simulate", "plates", "--workers", "1", *(word for pair in settings for word in ("--set", pair))])
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)  # noqa: S102 - the README is ours
    assert Path("runs/second/report/index.html").exists()
    assert len(names["explanation"].table) == 12  # type: ignore[attr-defined]


def test_every_command_of_the_readme_is_a_verb_with_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    commands = re.findall(r"^    distangle (\w+)(.*?)(?:#.*)?$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {verb for verb, _ in commands} == {"index", "train", "predict", "explain", "figures", "report"}
    for verb, words in commands:
        main([verb, "--help"])
        said = capsys.readouterr().out
        for flag in re.findall(r"--[\w-]+", words):
            assert flag in said, f"{verb} has no {flag}"
