"""Show the figures of the paper that `distangle figures` drew from the run.

Compute the sections on provenance and on refused entries.
"""

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
from distangle.report.html import Content, Table, spaced
from distangle.report.paper import read_listed
from distangle.report.sections.scores import printed_scores
from distangle.training import PRESETS, resolve_config, values_of


def figures(material: ReportData, folder: Path) -> Content | None:
    """Show the figures of the paper with their captions; None where none was drawn.

    Args:
        material: Of the run.
        folder: Of the report; the pictures are copied into it.
    """
    source = material.run.explanations / "figures"
    shown = []
    for number, listed in read_listed(source).items():
        if "missing" in listed:
            shown.append({"number": number, "missing": listed["missing"], "command": listed["command"]})
            continue
        name = next((name for name in listed["files"] if name.endswith(".png")), f"figure-{int(number):02d}.png")
        fix = f"Draw it again: `distangle figures {material.run.root}`."
        with read_regular_file(source / name, fix=fix), Image.open(source / name, formats=["PNG"]) as picture:
            width = picture.width
        with atomic_write(folder / "figures" / name) as temporary:
            temporary.write_bytes((source / name).read_bytes())
        shown.append({
            "missing": "", "source": f"figures/{name}", "title": f"Figure {number}. {listed['title']}",
            "width": min(880, width // 2), "caption": listed["caption"],
        })  # fmt: skip
    return Content("sections/paper_figures.html.j2", {"figures": shown}) if shown else None


# Settings that a command names otherwise, or that the screen and the machine decide.
_DECIDED = ("preset", "epochs", "seed", "precision", "preprocessing.binning", "preprocessing.fixed")
_STEPS = ("index", "train", "predict", "explain", "report")
_PARTS = ("config.yaml", "screen.json", "folds.parquet", "run.json", "metrics.csv")


def refused(material: ReportData) -> Content:
    """Account for every entry: found = indexed + refused, with the kinds of problem."""
    card, problems = material.screen.card, material.screen.problems
    values: dict[str, Any] = {"found": card.found, "indexed": card.indexed, "refused": card.refused}
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


def provenance(material: ReportData) -> Content:
    """Report how the run was made, so that it can be repeated."""
    described = dict(material.described)
    typed = described.pop("commands", None) or described.pop("command", None)
    values: dict[str, Any] = {
        "commands_title": "Commands" if typed else "Commands (as such a run is made)",
        "commands": [typed] if isinstance(typed, str) else [str(line) for line in typed or _typical(material)],
        "facts": [
            ("report by distangle", __version__),
            ("layout", material.screen.card.layout),
            *((spaced(key), _short(key, value)) for key, value in described.items() if not isinstance(value, Mapping)),
            ("class list sha256", material.screen.card.perturbations_sha256[:16]),
        ],
        "hashes": [],
        "run": material.typed,
    }
    if material.config:
        settings = [(key, printed_scores(value)) for key, value in flatten_settings(material.config)]
        values["settings"] = Table(columns=("setting", "value"), rows=settings)
    if material.hashes:
        first = [name for name in _PARTS if name in material.hashes]
        names = first + [name for name in material.hashes if name not in first]
        values["hashes"] = [(name, material.hashes[name]) for name in names]
    return Content("sections/provenance.html.j2", values)


def flatten_settings(settings: Mapping[str, Any], *, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings as `optim.lr`, in their order."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten_settings(value, prefix=f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _typical(material: ReportData) -> list[str]:
    train = "distangle train SCREEN"
    for option in ("preset", "epochs", "seed"):
        if option in material.config:
            train += f" --{option} {shlex.quote(str(material.config[option]))}"
    held_out = str(material.described.get("held_out", ""))
    if material.crossed is not None:
        train += f" --cross-validate {material.crossed['n_folds']}"
    elif material.holds_nothing_out:
        train += " --hold-out none"
    elif re.fullmatch(r"[a-z_]+=[^=]+", held_out):
        train += f" --hold-out {shlex.quote(held_out)}"
    unlabelled = str(material.described.get("unlabelled", ""))
    if re.fullmatch(r"[a-z_]+=[^=]+", unlabelled):
        train += f" --unlabelled {shlex.quote(unlabelled)}"
    train += " --force-split" if material.described.get("forced") else ""
    train += "".join(f" --set {shlex.quote(change)}" for change in _changes(material.config))
    train += f" --out {material.typed}"
    of = {
        "index": "distangle index SOURCE --out SCREEN",
        "train": train,
        "predict": f"distangle predict {material.typed} SCREEN",
    }
    return [of.get(step, f"distangle {step} {material.typed}") for step in _STEPS]


def _changes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings that differ from those of the preset, as they are typed."""
    if config.get("preset") not in PRESETS:
        return
    preset = values_of(resolve_config(config["preset"]))
    for name, value in flatten_settings(config):
        # What the screen and the machine decide by themselves is no change.
        if name in preset and name not in _DECIDED and value != preset[name]:
            yield (
                f"{name}={json.dumps(value)}" if value is None or isinstance(value, bool | list) else f"{name}={value}"
            )


def _short(key: str, value: object) -> str:
    if "sha256" in key:
        return str(value)[:16]
    return f"{len(value):,}" if key == "classes" and isinstance(value, list) else printed_scores(value)
