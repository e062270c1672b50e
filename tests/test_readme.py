"""The short commands and the Python blocks of the README, the tutorial and the guides run as they stand.

Long commands (`train`, `predict`, `explain`, `report`, `figures`) are parsed by `test_docs.py`, and run through the
command line by `test_main_job.py`.
"""

import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from distangle.cli import main
from docs_pages import DOCS, README, code_blocks, distangle_commands

SHORT = ("simulate", "index", "check")
# Replacements that make the screen of the tutorial small enough for a test.
SMALLER = {"experiments_per_cell_type=3": "experiments_per_cell_type=2", "n_treatments=10": "n_treatments=3"}
SMALL = ("image_size=64", "n_positive_controls=1", "n_negative_controls=2", "plates_per_experiment=1")
GUIDES = ("index-my-layout", "hold-out", "read-the-scores", "explain", "view", "export", "profile-a-run")
PAGES = ("tutorial", *(f"how-to/{name}" for name in GUIDES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run the short commands of the tutorial, then the Python block of the README; return their folder."""
    root = tmp_path_factory.mktemp("readme")
    before = Path.cwd()
    os.chdir(root)
    try:
        for arguments in distangle_commands(DOCS / "tutorial.md"):
            if arguments[0] in SHORT:
                small = ["--workers", "1", *(word for pair in SMALL for word in ("--set", pair))]
                arguments = [SMALLER.get(word, word) for word in arguments]
                main([*arguments, *(small if arguments[0] == "simulate" else [])])
        yield root
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def names(folder: Path) -> dict[str, object]:
    """Return the names defined by the Python block of the README; its run is also the first run of the guides."""
    (block,) = code_blocks(README, "python")
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)  # noqa: S102 - the README is ours
    shutil.copytree("runs/second", "runs/first")
    return names


def test_the_short_commands_of_the_tutorial_run(folder: Path) -> None:
    for name in ("plates/truth.json", "screen/sites.parquet", "screen/checks/findings.csv"):
        assert (folder / name).exists()


def test_the_python_block_runs_as_printed(folder: Path, names: dict[str, object]) -> None:
    assert (folder / "runs/second/report/index.html").exists()
    assert len(names["explanation"].table) == 12  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.usefixtures("names")
def test_the_python_blocks_of_the_guides_run_as_printed(name: str) -> None:
    blocks = code_blocks(DOCS / f"{name}.md", "python")
    assert blocks
    for block in blocks:
        output = io.StringIO()
        with redirect_stdout(output):
            exec(compile(block, f"{name}.md", "exec"), {})  # noqa: S102 - the pages are ours
        assert output.getvalue().strip()


def test_the_folds_of_the_guide_are_made(folder: Path) -> None:
    commands = [arguments for arguments in distangle_commands(DOCS / "how-to/hold-out.md") if arguments[0] == "folds"]
    assert len(commands) == 3
    for arguments in commands:
        (folder / "folds.parquet").unlink(missing_ok=True)
        main([re.sub(r"^5$", "2", word) for word in arguments])  # the small screen has four plates
        assert (folder / "folds.parquet").exists()


def test_the_readme_shows_the_main_job_in_its_order() -> None:
    verbs = [arguments[0] for arguments in distangle_commands(README)]
    assert verbs == ["index", "train", "predict", "explain", "profile", "figures", "report", "view"]
