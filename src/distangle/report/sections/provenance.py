"""Compute the sections on figures of the paper, provenance and refused entries."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from distangle import __version__
from distangle.core.io import atomic_write
from distangle.core.untrusted_files import read_regular_file
from distangle.report.data import ReportData
from distangle.report.html import Content, Table, format_value, spaced
from distangle.report.paper import read_index
from distangle.training import PRESETS, resolve_config, values_of


def figures(data: ReportData, folder: Path) -> Content | None:
    """Show the figures of the paper with their captions; None if none was drawn.

    Args:
        data: Results of the run.
        folder: Folder of the report; the pictures are copied into it.
    """
    source = data.run.explanations / "figures"
    entries = []
    for number, entry in read_index(source).items():
        if "missing" in entry:
            entries.append({"number": number, "missing": entry["missing"], "command": entry["command"]})
            continue
        name = next((name for name in entry["files"] if name.endswith(".png")), f"figure-{int(number):02d}.png")
        fix = f"Draw it again: `distangle figures {data.run.root}`."
        with read_regular_file(source / name, fix=fix), Image.open(source / name, formats=["PNG"]) as picture:
            width = picture.width
        with atomic_write(folder / "figures" / name) as temporary:
            temporary.write_bytes((source / name).read_bytes())
        # An SVG can hold code, so that of a stranger's run is named and not copied.
        vector = next((file for file in entry["files"] if file.endswith(".svg")), "")
        entries.append({
            "missing": "", "source": f"figures/{name}", "title": f"Figure {number}. {entry['title']}",
            "width": min(880, width // 2), "caption": entry["caption"],
            "vector": f"explanations/figures/{vector}" if vector else "",
        })  # fmt: skip
    return Content("sections/paper_figures.html.j2", {"figures": entries}) if entries else None


# Settings with an own flag, or determined by the screen or the machine.
_EXCLUDED_SETTINGS = ("preset", "epochs", "seed", "precision", "preprocessing.binning", "preprocessing.fixed")
_STEPS = ("index", "train", "predict", "explain", "report")
_MAIN_FILES = ("config.yaml", "screen.json", "folds.parquet", "run.json", "metrics.csv")


def refused(data: ReportData) -> Content:
    """Account for every entry: found = indexed + refused, with the kinds of problem."""
    metadata, problems = data.screen.metadata, data.screen.problems
    values: dict[str, Any] = {"found": metadata.found, "indexed": metadata.indexed, "refused": metadata.refused}
    if len(problems):
        rows = []
        for (severity, kind), group in problems.groupby(["severity", "kind"], sort=False):
            first = group.iloc[0]
            example = " · ".join(
                str(first[name]) for name in ("file", "experiment", "plate", "well", "site") if str(first[name])
            )
            rows.append((str(severity), str(kind), f"{int(group['count'].sum()):,}", example, str(first["fix"])))
        rows.sort(key=lambda row: (row[0] != "refused", -int(row[2].replace(",", ""))))
        values["kinds"] = Table(columns=("", "kind", "entries", "example", "what to do"), rows=rows, numeric=(2,))
    return Content("sections/refused.html.j2", values)


def provenance(data: ReportData) -> Content:
    """Report commands, settings and file hashes, so that the run can be repeated."""
    run_info = dict(data.run_info)
    commands = run_info.pop("commands", None) or run_info.pop("command", None)
    values: dict[str, Any] = {
        "commands_title": "Commands" if commands else "Commands (reconstructed)",
        "commands": [commands]
        if isinstance(commands, str)
        else [str(line) for line in commands or _typical_commands(data)],
        "facts": [
            ("report by distangle", __version__),
            ("layout", data.screen.metadata.layout),
            *(
                (spaced(key), _format_fact(key, value))
                for key, value in run_info.items()
                if not isinstance(value, Mapping)
            ),
            ("class list sha256", data.screen.metadata.perturbations_sha256[:16]),
        ],
        "hashes": [],
        "run": data.command_path,
    }
    if data.config:
        settings = [(key, format_value(value)) for key, value in flatten_settings(data.config)]
        values["settings"] = Table(columns=("setting", "value"), rows=settings)
    if data.hashes:
        main_files = [name for name in _MAIN_FILES if name in data.hashes]
        names = main_files + [name for name in data.hashes if name not in main_files]
        values["hashes"] = [(name, data.hashes[name]) for name in names]
    return Content("sections/provenance.html.j2", values)


def flatten_settings(settings: Mapping[str, Any], *, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings as `optim.lr`, in their order."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten_settings(value, prefix=f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _typical_commands(data: ReportData) -> list[str]:
    train = "distangle train SCREEN"
    for option in ("preset", "epochs", "seed"):
        if option in data.config:
            train += f" --{option} {shlex.quote(str(data.config[option]))}"
    held_out = str(data.run_info.get("held_out", ""))
    if data.cross_validation is not None:
        train += f" --cross-validate {data.cross_validation['n_folds']}"
    elif data.holds_nothing_out:
        train += " --hold-out none"
    elif re.fullmatch(r"[a-z_]+=[^=]+", held_out):
        train += f" --hold-out {shlex.quote(held_out)}"
    unlabelled = str(data.run_info.get("unlabelled", ""))
    if re.fullmatch(r"[a-z_]+=[^=]+", unlabelled):
        train += f" --unlabelled {shlex.quote(unlabelled)}"
    train += " --force-split" if data.run_info.get("forced") else ""
    train += "".join(f" --set {shlex.quote(change)}" for change in _changed_settings(data.config))
    train += f" --out {data.command_path}"
    commands = {
        "index": "distangle index SOURCE --out SCREEN",
        "train": train,
        "predict": f"distangle predict {data.command_path} SCREEN",
    }
    return [commands.get(step, f"distangle {step} {data.command_path}") for step in _STEPS]


def _changed_settings(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings that differ from the preset, as command-line values."""
    if config.get("preset") not in PRESETS:
        return
    preset = values_of(resolve_config(config["preset"]))
    for name, value in flatten_settings(config):
        if name in preset and name not in _EXCLUDED_SETTINGS and value != preset[name]:
            yield (
                f"{name}={json.dumps(value)}" if value is None or isinstance(value, bool | list) else f"{name}={value}"
            )


def _format_fact(key: str, value: object) -> str:
    if "sha256" in key:
        return str(value)[:16]
    return f"{len(value):,}" if key == "classes" and isinstance(value, list) else format_value(value)
