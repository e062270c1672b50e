"""The tutorial of profiles runs as printed, in its order, and its numbers are those that it prints."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from distangle.cli import main
from docs_pages import DOCS, code_blocks, distangle_commands

PAGE = DOCS / "tutorial-profiles.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder in which the first Python block of the tutorial was run."""
    root, before = tmp_path_factory.mktemp("tutorial"), Path.cwd()
    os.chdir(root)
    try:
        _run(code_blocks(PAGE, "python")[0])
        yield root
    finally:
        os.chdir(before)


def _run(block: str) -> None:
    exec(compile(block, PAGE.name, "exec"), {})  # noqa: S102 - the pages are ours


def _one_line(text: str) -> str:
    return " ".join(text.split())


def test_the_commands_print_what_the_tutorial_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mistake, hits, labels = code_blocks(PAGE, "text")
    commands = list(distangle_commands(PAGE))
    assert len(commands) == 4
    outputs = []
    for arguments in commands:
        if arguments == commands[0]:
            with pytest.raises(SystemExit):
                main(arguments)
        else:
            main(arguments)
        captured_text = capsys.readouterr()
        outputs.append(captured_text.out + captured_text.err)
    assert _one_line(mistake) in _one_line(outputs[0])
    for line in hits.splitlines():
        assert _close(line, outputs[1]), line
    for line in labels.splitlines():
        assert _close(line, outputs[3]), line
    assert "24 negative controls fit the alignment, and the other 24 are compared" in outputs[2]


def _close(line: str, output: str) -> bool:
    """Return whether a line was printed, up to the last digit of its numbers."""
    number = re.compile(r"\d+\.\d+")
    expected_numbers = [float(text) for text in number.findall(line)]
    similar_lines = [
        other for other in output.splitlines() if number.sub("#", other).split() == number.sub("#", line).split()
    ]
    return any(
        all(abs(a - float(b)) < 0.02 for a, b in zip(expected_numbers, number.findall(other), strict=True))
        for other in similar_lines
    )


def test_the_hits_are_those_that_the_tutorial_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(code_blocks(PAGE, "python")[1])
    assert "cpd12" in capsys.readouterr().out
    hits = pd.read_csv(folder / "profiles/hits.csv").set_index("perturbation")
    active = hits.index.isin([f"cpd{number:02d}" for number in range(1, 13)])
    assert (hits["q"] <= 0.05).tolist() == active.tolist()
    true, others = hits[active], hits[~active]
    for name, least, most in (
        ("mean_average_precision", 1, 0.53),
        ("replicate_agreement", 0.66, 0.22),
        ("effect_size", 5.9, 0.26),
    ):
        assert true[name].min() >= least, name
        assert others[name].max() <= most, name
    assert true["effect_size"].max() == pytest.approx(13.6, abs=0.1)
    columns = {name for row in re.findall(r"^\| (`.*?) \|", PAGE.read_text(), flags=re.MULTILINE)
               for name in re.findall(r"`(\w+)`", row)}  # fmt: skip
    assert {name for name in hits if not name.startswith("Metadata_")} <= columns
