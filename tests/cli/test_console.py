"""What is printed in a terminal of 80 columns and of 120, and in a pipe: no number is cut, no word is broken."""

import io
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console

from distangle.cli import console
from distangle.cli.console import score_lines
from distangle.results import Calibration, ScoreRow, Scores

HEADINGS = (
    "level",
    "views",
    "wells",
    "subset",
    "accuracy",
    "balanced",
    "chance",
    "position",
    "plate",
    "intensity",
    "n",
)
ROW = (
    "site",
    "1",
    "treatments",
    "all",
    "0.250 (0.201-0.299)",
    "0.251 (0.202-0.298)",
    "0.111",
    "0.000",
    "0.063",
    "0.375",
    "16",
)


def replace_output(monkeypatch: pytest.MonkeyPatch, *, width: int, terminal: bool = True) -> io.StringIO:
    file = io.StringIO()
    replacement = Console(file=file, width=width, force_terminal=terminal, highlight=False, color_system=None)
    monkeypatch.setattr(console, "_out", replacement)
    return file


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_every_number_of_a_table_is_printed_whole_at_any_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    file = replace_output(monkeypatch, width=width)
    console.print_table(HEADINGS, [ROW, ("well", *ROW[1:])], n_names=4)
    text = file.getvalue()
    for cell in ROW[4:]:
        assert text.count(cell) >= 2
    assert all(len(row) <= width for row in text.splitlines())
    if width < 120:  # a narrow table names the column in each row
        assert "chance 0.111" in text
        assert "site  views 1  treatments  all" in text


def test_a_pipe_has_no_width_and_always_gets_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    file = replace_output(monkeypatch, width=80, terminal=False)
    console.print_table(HEADINGS, [ROW], n_names=4)
    headings, row = file.getvalue().splitlines()
    assert headings.split() == list(HEADINGS)
    assert re.split(r" {2,}", row) == list(ROW)


def test_wide_letters_and_brackets_keep_their_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    file = replace_output(monkeypatch, width=80)
    console.print_table(("name", "n"), [("薬剤", "1"), ("[bold]x", "22")])
    assert file.getvalue().splitlines() == ["name      n", "薬剤      1", "[bold]x  22"]


def test_sentences_break_between_words_in_a_terminal_and_nowhere_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "accuracy of the whole screen over all of its plates " * 4 + "/a/path/of/some/length"
    file = replace_output(monkeypatch, width=40)
    console.print_result(message)
    assert file.getvalue().split() == message.split()
    assert max(map(len, file.getvalue().splitlines())) <= 40
    file = replace_output(monkeypatch, width=40, terminal=False)
    console.print_result(message)
    assert file.getvalue() == f"{message}\n"


def test_the_score_table_of_a_run_fits_a_pseudo_terminal_of_80_columns() -> None:
    row = ScoreRow(
        level="well", views=8, wells="with controls", subset="worst experiment HUVEC-01", metric="accuracy",
        value=0.123, interval=(0.045, 0.678), interval_over="experiment", n=1234, n_groups=7, chance=0.0091,
        transductive=False,
        baselines={"position": 0.111, "plate": 0.222, "intensity": 0.333},
    )  # fmt: skip
    scores = Scores.model_construct(rows=(row, row.model_copy(update={"metric": "balanced accuracy"})))
    line = next(iter(score_lines(scores)))
    program = f"from distangle.cli.console import print_table; print_table({HEADINGS!r}, [{line!r}], n_names=4)"
    above, below = pty.openpty()
    subprocess.run([sys.executable, "-c", program], stdout=below, env={**os.environ, "COLUMNS": "80"}, check=True)
    os.close(below)
    output = os.read(above, 65536).decode()
    os.close(above)
    for number in ("0.123 (0.045-0.678)", "chance 0.009", "position 0.111", "plate 0.222", "intensity 0.333", "n 1234"):
        assert number in output
    assert all(len(text) <= 80 for text in output.splitlines())


def test_scores_that_use_the_layout_are_named_in_the_table() -> None:
    row = ScoreRow(
        level="well", views=8, wells="treatments", subset="all", metric="accuracy", value=0.5, interval=None,
        interval_over="experiment", n=10, n_groups=2, chance=0.1, transductive=False,
    )  # fmt: skip
    group_row = row.model_copy(update={"layout": "plate group", "value": 0.7, "chance": 0.2})
    rows = [row, row.model_copy(update={"metric": "balanced accuracy", "value": 0.4})]
    rows += [row.model_copy(update={"metric": "top-5 accuracy", "value": 0.9, "chance": 0.5})]
    rows += [group_row, group_row.model_copy(update={"metric": "balanced accuracy", "value": 0.6})]
    rows += [one.model_copy(update={"subset": "worst experiment E1"}) for one in rows[-2:]]
    calibration = Calibration(
        level="well", views=8, groups_over="experiment", n=10, temperatures={"E1": 2}, ece_before=0.3, ece_after=0.1
    )
    scores = Scores.model_construct(rows=tuple(rows), calibration=(calibration,))
    assert [(line[3], line[4], line[5], line[6]) for line in score_lines(scores)] == [
        ("all", "0.500", "0.400", "0.100"),
        ("plate group", "0.700", "0.600", "0.200"),
    ]
    assert list(console.further_scores(scores)) == [
        "The subsets 'plate group' and 'one perturbation per well' use the layout of the plate.",
        "Top-5 accuracy by well, 8 views: 0.900; chance 0.500.",
        "Calibration error by well, 8 views: 0.300, and 0.100 with a temperature from other experiments.",
    ]
