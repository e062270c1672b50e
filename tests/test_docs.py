"""Every equation has one home that the table names; every departure has its row."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "distangle"


def docstrings() -> list[tuple[str, str]]:
    """(`losses.arc_margin.arc_margin_loss`, docstring) of every module, class and function."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))

        def visit(node: ast.AST, name: str) -> None:
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                found.append((name, ast.get_docstring(node) or ""))
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.ClassDef | ast.FunctionDef):
                    visit(child, f"{name}.{child.name}")

        visit(tree, module)
    return found


def homes() -> dict[int, set[str]]:
    """Equation number -> modules whose docstrings declare it as their source."""
    found: dict[int, set[str]] = {}
    for name, text in docstrings():
        module = ".".join(name.split(".")[:2])
        for line in re.findall(r"^\s*Source:.*Eqs?\..*$", text, flags=re.MULTILINE):
            for words in re.findall(r"Eqs?\. ((?:\(\d+\)(?:, | and )?)+)", line):
                for number in re.findall(r"\((\d+)\)", words):
                    found.setdefault(int(number), set()).add(module)
    return found


def table(name: str) -> list[list[str]]:
    lines = (ROOT / "docs" / name).read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in rows if not set(row[0]) <= set("-: ")][1:]


def test_every_equation_of_the_paper_has_a_row() -> None:
    assert [row[0] for row in table("equations.md")] == [f"({number})" for number in range(1, 16)]


def test_every_equation_has_exactly_the_home_that_its_row_names() -> None:
    declared = homes()
    for number, _, home, *_ in table("equations.md"):
        key = int(number.strip("()"))
        named = re.findall(r"`([\w.]+)`", home)
        expected = {".".join(word.split(".")[:2]) for word in named}
        assert len(expected) <= 1, f"Eq. {number} has more than one home: {expected}"
        assert declared.get(key, set()) == expected, f"Eq. {number}"


def test_every_departure_has_its_row_and_every_row_its_departure() -> None:
    departing = {name for name, text in docstrings() if re.search(r"^\s*Departs:", text, flags=re.MULTILINE)}
    listed = {row[0].strip("`") for row in table("departures.md")}
    assert departing == listed


def test_the_readme_and_docs_point_only_at_files_that_exist() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} points at {target}"
