"""The table of bad input names existing tests; and faults that no other file tests."""

import os
import re
from pathlib import Path

import numpy as np
from PIL import Image

from distangle.images import probe_image
from distangle.screen import conservation_line, index

REPOSITORY = Path(__file__).resolve().parents[3]
ROWS = (
    [f"A{k}" for k in range(1, 16)]
    + [f"B{k}" for k in range(16, 25)]
    + ["E46", "E47", "E48"]
    + [f"L{k}" for k in range(1, 6)]
)


def test_every_row_of_the_catalogue_has_tests_that_there_are() -> None:
    text = (REPOSITORY / "docs" / "bad-input.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if re.match(r"\| [ABEL][0-9]", line)}
    assert list(rows) == ROWS
    for row, line in rows.items():
        tests = re.findall(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`", line)
        assert tests, row
        for file, name in tests:
            source = (REPOSITORY / file).read_text(encoding="utf-8")
            assert f"def {name}(" in source if name else "def test_" in source, (row, file, name)


def test_a_pipe_under_the_name_of_an_image_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    Image.fromarray(np.ones((8, 8), np.uint8)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "wells.csv").write_text("plate,well,perturbation,dna\n1,B02,x,a.png\n1,B03,y,b.png\n")
    screen = index(tmp_path / "wells.csv", layout="table", channels=["dna"], probe=probe_image)
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    refusal = screen.problems[screen.problems["severity"] == "refused"].iloc[0]
    assert refusal["well"] == "B03"
    assert "not a regular file" in refusal["found"]
    assert "b.png" in f"{refusal['file']} {refusal['found']}"
    assert refusal["fix"]
