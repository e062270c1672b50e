"""Equations and departures have their rows; every command, key and call of the documentation holds."""

import ast
import functools
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from distangle.cli import TAKE_SETTINGS, app
from distangle.cli.arguments import expand_setting_flags, repeat_flags
from distangle.synthetic import SimulationConfig
from distangle.training import TrainingConfig, resolve_config
from docs_pages import (
    DOCS,
    PAGES,
    ROOT,
    code_blocks,
    commands,
    distangle_commands,
    inline_commands,
    name_of,
    prose,
    shell_blocks,
)

SOURCE = ROOT / "src" / "distangle"
by_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@functools.cache
def docstrings() -> list[tuple[str, str]]:
    """Return (`losses.arc_margin.arc_margin_loss`, docstring) of every module, class and function."""
    problems = []
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))

        def visit(node: ast.AST, name: str) -> None:
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                problems.append((name, ast.get_docstring(node) or ""))
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.ClassDef | ast.FunctionDef):
                    visit(child, f"{name}.{child.name}")

        visit(tree, module)
    return problems


def is_module(name: str) -> bool:
    path = SOURCE.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def is_in(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def homes() -> dict[int, set[str]]:
    """Map equation numbers to the modules whose docstrings declare them as source."""
    problems: dict[int, set[str]] = {}
    modules = {name for name, _ in docstrings() if is_module(name)}
    for name, text in docstrings():
        module = next(
            name[: len(module_name)]
            for module_name in sorted(modules, key=len, reverse=True)
            if is_in(name, module_name)
        )
        for line in re.findall(r"^\s*Source:.*Eqs?\..*$", text, flags=re.MULTILINE):
            for group in re.findall(r"Eqs?\. ((?:\(\d+\)(?:, | and )?)+)", line):
                for number in re.findall(r"\((\d+)\)", group):
                    problems.setdefault(int(number), set()).add(module)
    return problems


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
        names = re.findall(r"`([\w.]+)`", home)
        expected = set(names)
        assert len(expected) <= 1, f"Eq. {number} has more than one home: {expected}"
        assert declared.get(key, set()) == expected, f"Eq. {number}"


def test_every_departure_has_its_row_and_every_row_its_departure() -> None:
    departing = {name for name, text in docstrings() if re.search(r"^\s*Departs:", text, flags=re.MULTILINE)}
    names_in_table = {row[0].strip("`") for row in table("departures.md")}
    assert departing == names_in_table


def test_links_point_at_files_and_headings_that_exist() -> None:
    """`make docs` checks the generated pages too."""
    generated = re.compile(r"^(?:\.\./)?(?:reference/)?generated/|^\.\./\.\./configuration")
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
            name, _, anchor = target.partition("#")
            if generated.match(name):
                continue
            path = page.parent / name if name else page
            assert path.exists(), f"{name_of(page)} points at {target}"
            assert not anchor or anchor in _anchors(path), f"{name_of(page)} points at {target}"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_table_of_contents() -> None:
    names_in_index = set(
        re.findall(r"^([\w/-]+)$", (DOCS / "index.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES if page.is_relative_to(DOCS)}
    assert pages - {"index"} == {name for name in names_in_index if "generated" not in name}


# Commands -------------------------------------------------------------------------------------------------------------


@by_page
def test_every_command_in_a_block_is_one_that_the_program_takes(page: Path) -> None:
    """Only parsed, not run: most commands need real plates or hours."""
    commands = list(distangle_commands(page))
    assert [arguments for arguments in commands if arguments[0] not in app] == []
    for arguments in commands:
        _check_command(arguments, page)


def _check_command(command: list[str], page: Path) -> None:
    message = f"{name_of(page)}: distangle {' '.join(command)}"
    if "--help" in command or command[0] in ("help", "version"):
        return
    numbers = [re.sub(r"^K$", "1", word) for word in command]  # a number that the text leaves open
    verb = TAKE_SETTINGS.get(command[0])
    flags = [flags for flags in repeat_flags(numbers) if flags != "words"]  # $words of a batch script
    flags = [flags[0], *(expand_setting_flags(flags[1:], verb) if verb else flags[1:])]
    _, bound, _ = app.parse_args(flags, exit_on_error=False, print_error=False)
    pairs = bound.arguments.get("set", ())
    if verb is not None:
        resolve_config(bound.arguments.get("preset"), pairs)  # refuses an unknown key and a value out of range
    for pair in pairs if command[0] == "simulate" else ():
        assert pair.partition("=")[0] in SimulationConfig.model_fields, message


@by_page
def test_every_flag_of_a_command_in_the_prose_exists(page: Path) -> None:
    for verb, *arguments in inline_commands(page):
        if verb == "VERB":
            continue
        assert verb in app, f"{name_of(page)}: distangle {verb}"
        known_flags = {name for argument in app[verb].assemble_argument_collection() for name in argument.names} | {
            "--help"
        }
        flags = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        assert flags <= known_flags, f"{name_of(page)}: distangle {verb} has no {flags - known_flags}"


def test_a_command_that_does_not_exist_would_be_noticed() -> None:
    for line in ("train screen --out a --nothing 1", "train screen --out a --set optim.nothing=1", "nothing screen"):
        with pytest.raises(Exception, match="(?i)nothing"):
            _check_command(line.split(), ROOT / "README.md")


@by_page
def test_other_commands_name_targets_extras_and_files_that_exist(page: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    text = page.read_text(encoding="utf-8")
    for extra in re.findall(r"'\.\[([\w,]+)\]'", text):
        assert {*extra.split(",")} <= extras, f"{name_of(page)}: {extra}"
    for name in re.findall(r"`((?:benchmarks|tests|src)/[\w/.]+)", text):
        assert (ROOT / name).exists() or "NAME" in name, f"{name_of(page)}: {name}"
    for block in shell_blocks(page):
        for arguments in commands(block):
            if arguments[0] == "make":
                assert set(word for word in arguments[1:] if "=" not in word) <= targets, (
                    f"{name_of(page)}: {arguments}"
                )
            for word in arguments if arguments[0] == "python" else ():
                assert (ROOT / word).exists() or not word.startswith(("benchmarks/", "tests/")), name_of(page)


def test_every_test_that_a_page_names_exists() -> None:
    for page in PAGES:
        for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8")):
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{name_of(page)}: {file}::{name}"


def test_every_configuration_key_in_a_code_span_exists() -> None:
    keys = {name for name in _keys(TrainingConfig)}
    sections = {key.partition(".")[0] for key in keys if "." in key}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(rf"`((?:{'|'.join(sections)})\.\w+(?:\.\w+)?)(?:[=:][^`]*)?`", text):
            module = SOURCE / name.partition(".")[0]
            assert name in keys or module.is_dir() or name.endswith((".py", ".json", ".yaml")), (
                f"{name_of(page)}: {name}"
            )


def _keys(model: type, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


# Blocks ---------------------------------------------------------------------------------------------------------------


def test_the_table_of_bbbc021_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = {
        "Image_Metadata_Plate_DAPI": ["Week1_22123", "Week2_24121"],
        "Image_Metadata_Compound": ["taxol", "DMSO"],
        "Image_Metadata_Concentration": [0.3, 0.0],
    }
    pd.DataFrame(images).to_csv("BBBC021_v1_image.csv", index=False)
    moa = {"compound": ["taxol"], "concentration": [0.3], "moa": ["Microtubule stabilizers"]}
    pd.DataFrame(moa).to_csv("BBBC021_v1_moa.csv", index=False)
    (block,) = code_blocks(DOCS / "screens.md", "python")
    exec(compile(block, "screens.md", "exec"), {})  # noqa: S102 - the pages are ours
    stored_table = pd.read_csv("bbbc021.csv")
    assert list(stored_table["week"]) == ["Week1", "Week2"]
    assert stored_table["moa"].isna().tolist() == [False, True]


@pytest.mark.parametrize(("name", "reason"), [("clusters", "Ray is not installed"), ("explanations", "takes minutes")])
def test_python_blocks_that_are_not_run_import_names_that_exist(name: str, reason: str) -> None:
    for block in code_blocks(DOCS / f"{name}.md", "python"):
        tree = ast.parse(block)
        imports = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("distangle")
        ]
        assert imports, f"{name}.md: not run because {reason}, and nothing of ours is imported"
        exec(compile(ast.Module(imports, []), f"{name}.md", "exec"), {})  # noqa: S102 - the pages are ours


def test_the_settings_file_is_taken(tmp_path: Path) -> None:
    (block,) = code_blocks(DOCS / "configuration.md", "yaml")
    (tmp_path / "mine.yaml").write_text(block, encoding="utf-8")
    config = resolve_config(None, (), file=tmp_path / "mine.yaml")
    assert (config.epochs, config.optim.lr, config.cutmix.probability) == (40, 1e-4, 0.25)


# Generated pages ------------------------------------------------------------------------------------------------------


def _generators() -> ModuleType:
    place = DOCS / "_ext" / "generated_reference.py"
    spec = importlib.util.spec_from_file_location("generated_reference", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_page_of_the_configuration_has_every_key_with_its_meaning() -> None:
    rows = _rows(_generators().configuration_page())
    assert {row[0].strip("`") for row in rows} == {*_keys(TrainingConfig)}
    assert all(meaning and kind and value for _, meaning, kind, value in rows)
    by_name = {row[0]: row[3] for row in rows}
    assert by_name["`epochs`"] == "`90` in `seed`, `rcic1st`; `60` in `small`, `scratch`"


def test_the_generated_page_of_the_simulation_has_every_key_with_its_meaning() -> None:
    rows = _rows(_generators().simulation_page())
    assert [row[0].strip("`") for row in rows] == [*SimulationConfig.model_fields]
    assert all(meaning for _, meaning, *_ in rows)


def test_the_generated_page_of_the_command_line_has_every_command_with_its_flags() -> None:
    page = _generators().cli_page()
    headings = re.findall(r"^## distangle ([\w-]+)$", page, flags=re.MULTILINE)
    assert {*headings} >= {"index", "check", "train", "predict", "explain", "figures", "report", "simulate", "demo"}
    assert {*headings} == {name for name in app if name != "-h"} - {"--help", "-V", "--version"}
    parts = dict(zip(headings, re.split(r"^## distangle .*$", page, flags=re.MULTILINE)[1:], strict=True))
    for name in ("index", "train", "explain"):
        for argument in app[name].assemble_argument_collection():
            assert argument.name in parts[name]


def _rows(page: str) -> list[list[str]]:
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("furo", reason="the site needs the extra docs")
    pytest.importorskip("myst_parser", reason="the site needs the extra docs")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-E", "-W", "--keep-going", "-q"]
    subprocess.run([*command, str(DOCS), str(tmp_path)], check=True)
    assert (tmp_path / "reference/generated/api/distangle.losses.html").exists()


# Prose ----------------------------------------------------------------------------------------------------------------


@by_page
def test_no_line_is_over_100_characters(page: Path) -> None:
    """Rows of tables are left out: Markdown cannot wrap them."""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        assert len(line) <= 100 or line.lstrip().startswith("|"), f"{name_of(page)}:{number}"


@by_page
def test_decimals_have_a_leading_zero(page: Path) -> None:
    for number, line in prose(page):
        assert not re.search(r"(?<![\w.])\.\d", line), f"{name_of(page)}:{number}: {line}"


@by_page
def test_no_sentence_begins_with_a_genitive(page: Path) -> None:
    text = " ".join(line for _, line in prose(page))
    assert not re.search(r"(?:^|[.:;] |\| |- )Of (?:a|an|the|two|every|each) ", text), name_of(page)


@by_page
def test_the_pages_use_the_words_of_the_glossary(page: Path) -> None:
    text = " ".join(line for _, line in prose(page) if page.name != "glossary.md")
    other = re.search(r"\b(?:untreated wells?|stains|learnt|(?:standard|normal|random)is(?:e|ed|ing))\b", text)
    assert other is None, f"{name_of(page)}: {other[0] if other else ''}"


# Glossary -------------------------------------------------------------------------------------------------------------


def test_every_word_of_the_glossary_has_a_definition_and_the_words_that_are_not_used() -> None:
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    entries = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    summaries = [entry.splitlines()[0] for entry in entries]
    assert len(summaries) == len(set(summaries)) >= 40
    for entry in entries:
        definition, _, synonyms = entry.partition("\nNot used: ")
        assert len(definition.split()) > 6, definition
        assert synonyms.strip().split("\n\n")[0].endswith("."), definition
