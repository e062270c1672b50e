"""Execute `docs/notebook.ipynb`, and write it as a page; no Jupyter is needed.

`python docs/_ext/notebook_page.py` runs all cells in an empty folder and stores their outputs.
"""

import ast
import base64
import io
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebook.ipynb"
PNG = "image/png"
MOST_LINES = 40  # of the text of an output


def read_notebook(path: Path = NOTEBOOK) -> dict[str, Any]:
    """Return the content of a notebook."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def sources(notebook: Mapping[str, Any], kind: str) -> list[str]:
    """Return the text of every cell of a kind, `code` or `markdown`."""
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def execute(codes: Sequence[str], *, folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Run cells one after another with common names; yield the outputs of each.

    Args:
        codes: The code of every cell. The value of an expression at the end is an output.
        folder: Folder to run in.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    before = Path.cwd()
    os.chdir(folder)
    try:
        for number, code in enumerate(codes, start=1):
            tree = ast.parse(code, f"cell {number}")
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            printed, value = io.StringIO(), None
            with redirect_stdout(printed):
                exec(compile(tree, f"cell {number}", "exec"), names)
                if isinstance(last, ast.Expr):
                    value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
            yield [*_stream(printed.getvalue()), *_result(value, number)]
    finally:
        os.chdir(before)


def notebook_page(notebook: Mapping[str, Any], folder: Path, *, name: str = "notebook") -> str:
    """Return the notebook as Markdown, and write its pictures.

    Args:
        notebook: An executed notebook.
        folder: Folder of the page.
        name: Start of the names of the pictures.
    """
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if PNG in data:
                picture = folder / f"{name}-{len(parts)}.png"
                picture.write_bytes(base64.b64decode("".join(data[PNG])))
                title = source.rstrip().rpartition("\n")[2].replace("[", "(").replace("]", ")")
                parts.append(f"![{title}]({picture.name})")
            elif text := "".join(output.get("text", data.get("text/plain", ""))).rstrip("\n"):
                parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def _stream(text: str) -> list[dict[str, Any]]:
    if not text:
        return []
    lines = text.splitlines(keepends=True)
    return [{"name": "stdout", "output_type": "stream", "text": lines[:MOST_LINES]}]


def _result(value: Any, number: int) -> list[dict[str, Any]]:
    if value is None:
        return []
    if hasattr(value, "_repr_png_"):
        picture = base64.b64encode(value._repr_png_()).decode("ascii")
        return [{"data": {PNG: picture}, "metadata": {}, "output_type": "display_data"}]
    text = str(value).splitlines(keepends=True)[:MOST_LINES]
    return [{"data": {"text/plain": text}, "execution_count": number, "metadata": {}, "output_type": "execute_result"}]


def main() -> None:
    """Run the notebook in an empty folder and store its outputs."""
    notebook = read_notebook()
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs = execute(sources(notebook, "code"), folder=Path(folder))
        for number, (cell, output) in enumerate(zip(cells, outputs, strict=True), start=1):
            sys.stderr.write(f"cell {number} of {len(cells)}\n")
            cell["outputs"], cell["execution_count"] = output, number
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
