"""Write the reference pages from the source before Sphinx reads them.

No name of the package stands here except the packages `distangle.cli`, `distangle.training` and
`distangle.synthetic`: the pages follow a rename without an edit.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

import distangle

FOLDER = "reference/generated"


def setup(app: Any) -> dict[str, Any]:
    """Connect the generators to the build."""
    app.connect("config-inited", _write_pages)
    app.connect("autodoc-process-docstring", _escape_docstring, priority=400)
    return {"parallel_read_safe": True}


def _write_pages(app: Any, _config: Any) -> None:
    from notebook_page import notebook_page, read_notebook  # beside this file, which only Sphinx has in its path

    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    pages = {
        "notebook.md": notebook_page(read_notebook(), folder),
        "cli.md": cli_page(),
        "configuration-keys.md": configuration_page(),
        "simulation-keys.md": simulation_page(),
        **api_pages(),
    }
    (folder / "api").mkdir(parents=True, exist_ok=True)
    for stale in {path for path in folder.rglob("*.md")} - {folder / name for name in pages}:
        stale.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


# The command line -----------------------------------------------------------------------------------------------------


def cli_page() -> str:
    """Return every command with its options, from the command line application itself."""
    from distangle.cli import app

    text = app.generate_docs(output_format="markdown", usage_name="distangle")
    _, _, commands = text.partition("\n## Table of Contents")
    _, _, commands = commands.partition("\n**")  # the list of commands by group
    commands = re.sub(r"\(#distangle-[\w-]*\)", lambda match: match[0].lower(), commands)
    heading = "# Command line\n\nGenerated from `distangle COMMAND --help`.\n\n"
    settings = (
        "\n`train`, `ablate` and `settings` also take every [configuration key](configuration-keys.md) as a flag,\n"
        "and `simulate --set` every [simulation key](simulation-keys.md).\n"
    )
    return heading + "**" + commands.rstrip() + "\n" + settings


# Configuration keys ---------------------------------------------------------------------------------------------------


def configuration_page() -> str:
    """Return every configuration key with its meaning, its limits and its value in each preset."""
    from distangle.training import PRESETS, TrainingConfig, resolve_config

    meanings = _meanings()
    models = {name: resolve_config(name).model_dump() for name in PRESETS}
    lines = [
        "# Configuration keys",
        "",
        "Generated from the configuration model. Give a key as a flag (`--optim.lr 1e-4`), as `--set optim.lr=1e-4`",
        "or in the file of `--config` ([how settings combine](../../configuration.md)).",
        "",
    ]
    for section, fields in _by_section(TrainingConfig):
        lines += [f"## {section or 'Top level'}", ""]
        lines += ["| key | meaning | type and limits | value in the presets |", "| --- | --- | --- | --- |"]
        for name, field in fields:
            cells = [_cell(field.description or meanings.get(name, "")), _values(field), _in_presets(name, models)]
            lines.append("| " + " | ".join([f"`{name}`", *cells]) + " |")
        lines.append("")
    return "\n".join(lines)


def simulation_page() -> str:
    """Return every key of a simulation with its meaning, its limits and its default."""
    from distangle.synthetic import SimulationConfig

    lines = ["# Simulation keys", "", "Generated from the simulation model: keys of `distangle simulate --set`.", ""]
    lines += ["| key | meaning | values | default |", "| --- | --- | --- | --- |"]
    for name, field in SimulationConfig.model_fields.items():
        cells = [f"`{name}`", _cell(field.description or ""), _values(field), _shown(field.default)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def configuration_keys(model: type[BaseModel]) -> list[str]:
    """Return every dotted key of a configuration model."""
    return [name for _, fields in _by_section(model) for name, _ in fields]


def _by_section(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    own, nested = [], []
    for name, field in model.model_fields.items():
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        (nested if is_section else own).append((f"{prefix}{name}", field))
    if own:
        yield prefix.rstrip("."), own
    for name, field in nested:
        yield from _by_section(field.annotation, f"{name}.")


def _meanings() -> Mapping[str, str]:
    """Return the texts of `distangle train --help`: the one mapping whose keys are the configuration keys."""
    import distangle.training

    keys = set(configuration_keys(distangle.training.TrainingConfig))
    for module in _modules(distangle.training):
        for value in vars(module).values():
            if isinstance(value, Mapping) and set(value) == keys and all(isinstance(v, str) for v in value.values()):
                return value
    return {}


def _values(field: Any) -> str:
    kind = inspect.formatannotation(field.annotation).replace("typing.", "")
    choices = re.fullmatch(r"Literal\[(.*)\]", kind)
    kind = choices[1].replace("'", "") if choices else re.sub(r"\b(?:\w+\.)+(?=[A-Za-z])", "", kind)
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        f"{sign} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, sign in signs.items()
        if getattr(limit, name, None) is not None
    ]
    return _cell(", ".join([f"`{kind}`", *limits]))


def _in_presets(name: str, models: Mapping[str, Any]) -> str:
    presets: dict[str, list[str]] = {}
    for preset, model in models.items():
        presets.setdefault(_shown(_at(model, name)), []).append(f"`{preset}`")
    if len(presets) == 1:
        return next(iter(presets))
    return "; ".join(f"{value} in {', '.join(names)}" for value, names in presets.items())


def _at(nested: Any, name: str) -> Any:
    for part in name.split("."):
        nested = nested[part]
    return nested


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return _cell(f"`{text}`" if text else "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# Python names ---------------------------------------------------------------------------------------------------------


def api_pages() -> dict[str, str]:
    """Return a page for every package with public names, and one for the errors."""
    pages: dict[str, str] = {}
    listed: set[int] = set()  # an object that two packages export is in the index once
    for module in sorted(_modules(distangle), key=lambda module: module.__name__.count(".")):
        names = _public_names(module)
        if names:
            pages[f"api/{module.__name__}.md"] = _api_page(module, names, listed)
    links = "\n".join(f"{Path(name).stem}" for name in sorted(pages))
    pages["api/index.md"] = (
        "# Python names\n\nGenerated from the docstrings: every public name of every package.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{links}\n```\n"
    )
    return pages


def _public_names(module: ModuleType) -> list[str]:
    if module.__name__ == "distangle.errors":
        return [name for name, value in vars(module).items() if inspect.isclass(value)]
    is_package = hasattr(module, "__path__")
    return sorted(getattr(module, "__all__", [])) if is_package else []


def _api_page(module: ModuleType, names: list[str], listed: set[int]) -> str:
    summary = inspect.getdoc(module) or ""
    lines = [f"# {module.__name__}", "", _escaped(summary), "", "```{eval-rst}"]
    for name in names:
        value = getattr(module, name)
        directive = "autodata"
        if inspect.isclass(value):
            directive = "autoclass"
        elif inspect.isroutine(value) or callable(value):
            directive = "autofunction"
        lines += [f".. {directive}:: {module.__name__}.{name}"]
        lines += ["   :members:"] * (directive == "autoclass")
        # The docstring of a named tuple describes its fields already.
        fields = getattr(value, "_fields", ()) if directive == "autoclass" else ()
        lines += [f"   :exclude-members: {', '.join(fields)}"] * bool(fields)
        lines += ["   :no-value:"] * (directive == "autodata")
        lines += ["   :no-index:"] * (id(value) in listed)
        listed.add(id(value))
        lines.append("")
    return "\n".join([*lines, "```", ""])


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for part in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not part.name.endswith("__main__"):
            yield importlib.import_module(part.name)


def _escape_docstring(_app: Any, what: str, _name: str, value: Any, _options: Any, lines: list[str]) -> None:
    """Take single backticks for code and every other sign for itself: docstrings here hold no markup."""
    if what == "data" and "\n".join(lines).strip() == (inspect.getdoc(type(value)) or "").strip():
        lines[:] = [f"A `{type(value).__name__}`.", ""]  # a constant has no docstring but that of its type
    in_note = in_formula = False
    written: list[str] = []
    for line in lines:
        text = line.strip()
        if text.startswith("$$") or in_formula:
            written += [] if in_formula else ["", ".. math::", ""]
            in_formula = not text.endswith("$$") or text == "$$" and not in_formula
            written.append(f"   {text.strip('$ ')}")
            written += [] if in_formula else [""]
            continue
        in_note = bool(text) and (in_note or re.match(r"(?:Source|Departs): ", line) is not None)
        written.append(_escaped(line.lstrip() if in_note else line, code="``"))
    lines[:] = written


def _escaped(line: str, *, code: str = "`") -> str:
    parts = line.split("`")
    if len(parts) % 2 == 0:  # a code span that goes on in the next line
        return line.replace("`", "")
    for place, part in enumerate(parts):
        parts[place] = f"{code}{part}{code}" if place % 2 else re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", part)
    return "".join(parts)
