"""The notebook of the documentation: its cells run, and its page shows their outputs."""

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from distangle import plot
from docs_pages import DOCS

# Replacements that make the notebook small enough for a test.
SMALLER = {
    "epochs=10": "epochs=1",
    "n_sites=8": "n_sites=4",
    "experiments_per_cell_type=4": "experiments_per_cell_type=3",
}
SMALLER |= {"HUVEC-04": "HUVEC-03", "n_positive_controls=2": "n_positive_controls=1", "image_size=64": "image_size=48"}


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebook_page", DOCS / "_ext" / "notebook_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_cell_runs(pages: ModuleType, tmp_path: Path) -> None:
    codes = pages.sources(pages.read_notebook(), "code")
    for old, new in SMALLER.items():
        assert any(old in code for code in codes), old
        codes = [code.replace(old, new) for code in codes]
    outputs = list(pages.execute(codes, folder=tmp_path))
    assert len(outputs) == len(codes)
    kinds = [[*output.get("data", {"text": ""})] for cell in outputs for output in cell]
    kinds_in_file = [
        [*output.get("data", {"text": ""})]
        for cell in pages.read_notebook()["cells"]
        for output in cell.get("outputs", [])
    ]
    assert kinds == kinds_in_file
    assert (tmp_path / "explained" / "sites.csv").is_file()


def test_the_names_that_the_cells_import_exist(pages: ModuleType) -> None:
    """In the fast tier, where the cells are not run."""
    nodes = [node for code in pages.sources(pages.read_notebook(), "code") for node in ast.parse(code).body]
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(imports) > 8
    exec(compile(ast.Module(imports, []), "notebook.ipynb", "exec"), {})  # noqa: S102 - the notebook is ours
    functions = {
        name for code in pages.sources(pages.read_notebook(), "code") for name in re.findall(r"plot\.(\w+)", code)
    }
    assert functions <= {*plot.__all__}


def test_the_stored_outputs_are_of_a_whole_run(pages: ModuleType) -> None:
    cells = [cell for cell in pages.read_notebook()["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    assert all(cell["outputs"] for cell in cells)
    plot_cells = [cell for cell in cells if "distangle.plot." in "".join(cell["source"])]
    assert len(plot_cells) == 6
    assert all(pages.PNG in cell["outputs"][-1]["data"] for cell in plot_cells)
    assert (DOCS / "notebook.ipynb").stat().st_size < 600_000


def test_the_page_shows_code_texts_and_pictures(pages: ModuleType, tmp_path: Path) -> None:
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": ["# Title\n", "text"]},
            {
                "cell_type": "code",
                "source": ["print(1)\n", "draw(run[0])"],
                "outputs": [
                    {"output_type": "stream", "text": ["1\n"]},
                    {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo="}},
                    {"output_type": "execute_result", "data": {"text/plain": ["2"]}},
                ],
            },
        ]
    }
    page = pages.notebook_page(notebook, tmp_path)
    assert page == (
        "# Title\ntext\n\n```python\nprint(1)\ndraw(run[0])\n```\n\n```text\n1\n```\n\n"
        "![draw(run(0))](notebook-3.png)\n\n```text\n2\n```\n"
    )
    assert (tmp_path / "notebook-3.png").read_bytes() == b"\x89PNG\r\n\x1a\n"


def test_cells_share_names_and_show_their_last_value(pages: ModuleType, tmp_path: Path) -> None:
    first, second, third = pages.execute(["a = 2\nprint('x')", "a + 1", "b = a"], folder=tmp_path)
    assert first == [{"name": "stdout", "output_type": "stream", "text": ["x\n"]}]
    assert second[0]["data"] == {"text/plain": ["3"]}
    assert third == []
    with pytest.raises(NameError, match="nothing"):
        list(pages.execute(["nothing"], folder=tmp_path))


def test_its_links_and_lines_are_those_of_a_page(pages: ModuleType) -> None:
    notebook = pages.read_notebook()
    for text in [*pages.sources(notebook, "markdown"), *pages.sources(notebook, "code")]:
        assert max(map(len, text.splitlines())) <= 100
        for target in re.findall(r"\]\(([^)]+)\)", text) if "](" in text else ():
            if not target.startswith("notebook-"):
                assert (DOCS / "reference" / "generated" / target).resolve().exists(), target
