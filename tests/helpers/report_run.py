"""A small run with every part in place: a screen of PNG files, predictions, scores and an explanation."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from distangle.explain.ground_truth import PlantedCircle, compare_with_truth
from distangle.explain.summary import summarize
from distangle.results import Explanation, Predictions, RunFolder, ScoreRow, Scores
from distangle.screen import (
    Channel,
    Screen,
    ScreenMetadata,
    ordered_classes,
    ordered_classes_sha256,
    read_screen,
    well_name,
    write_screen,
)

HOSTILE = '"><svg onload=alert(1)>'
STAINS = (
    Channel(name="w1", stain="Hoechst", organelle="nuclei", color="#1300F9"),
    Channel(name="w2", stain="ConA", organelle="endoplasmic reticulum", color="#2AFF1F"),
    Channel(name="w3", stain="Phalloidin", organelle="actin", color="#FF0019"),
    Channel(name="w4", stain="Syto14", organelle="nucleoli", color="#2DFFFC"),
    Channel(name="w5", stain="MitoTracker", organelle="mitochondria", color="#FA00FD"),
    Channel(name="w6", stain="WGA", organelle="Golgi", color="#FEFF28"),
)
Picture = Callable[[np.random.Generator, int], np.ndarray]


@dataclass(frozen=True)
class Plan:
    """Properties of the run to make."""

    channels: tuple[Channel, ...] = STAINS
    size: int = 48
    bits: int = 8
    cell_types: tuple[str, ...] = ("HUVEC", "RPE")
    plates: int = 2
    rows: int = 8
    columns: int = 12
    perturbations: int = 8
    hostile: bool = False
    forced: bool = False
    explained: int = 9
    picture: Picture | None = None


@dataclass(frozen=True)
class PlantedRun:
    """A finished run and what it was made from."""

    run: RunFolder
    screen: Screen
    wells: Predictions
    scores: Scores
    explanation: Explanation
    truth: dict[str, Any]


def blobs(rng: np.random.Generator, size: int, n_channels: int, bits: int) -> np.ndarray:
    """Draw round cells, brighter in the later channels."""
    y, x = np.mgrid[:size, :size]
    image = np.zeros((n_channels, size, size))
    for _ in range(max(4, size // 6)):
        cy, cx, r = *rng.uniform(0, size, 2), rng.uniform(0.05, 0.11) * size
        for k in range(n_channels):
            dy, dx = rng.normal(0, 0.3 * r, 2)
            image[k] += rng.uniform(0.4, 1) * np.exp(-((y - cy - dy) ** 2 + (x - cx - dx) ** 2) / (1 + 0.4 * k) / r**2)
    image = image / image.max() * 0.8 + 0.05 + rng.normal(0, 0.01, image.shape)
    top = 2**bits - 1
    return np.clip(image * top, 0, top).astype(np.uint8 if bits == 8 else np.uint16)


def make_screen(folder: Path, plan: Plan) -> Screen:
    rng = np.random.default_rng(7)
    source = folder / "lab"
    source.mkdir(parents=True)
    names = [f"siRNA_{k}" for k in range(1, plan.perturbations + 1)]
    if plan.hostile:
        names[1] = HOSTILE
    names = ["EMPTY", *names, "PLK1"]
    rows = []
    for cell_type in plan.cell_types or ("",):
        for batch in (1, 2):
            experiment = f"{cell_type or 'EXP'}-{batch:02d}"
            if plan.hostile and batch == 2:
                experiment = f"{cell_type}{HOSTILE}"
            for plate in range(1, plan.plates + 1):
                wells = [(r, c) for r in range(1, plan.rows - 1) for c in range(1, plan.columns - 1)]
                for index, (row, column) in enumerate(wells):
                    if index % 3 == 2:
                        continue
                    name = names[index // 3 % len(names)] if index % 3 == 0 else names[(index * 7) % len(names)]
                    role = {"EMPTY": "negative_control", "PLK1": "positive_control"}.get(name, "treatment")
                    rows.append(
                        dict(
                            experiment=experiment,
                            plate=str(plate),
                            well=well_name(row, column),
                            row=row,
                            column=column,
                            site=1,
                            cell_type=cell_type,
                            perturbation=name,
                            role=role,
                            split="",
                        )
                    )
    sites = pd.DataFrame(rows).sort_values(["experiment", "plate", "row", "column"]).reset_index(drop=True)
    # Images are drawn once per perturbation; many wells share a file: a fixture, not a screen.
    for name in names:
        image = (
            plan.picture(rng, names.index(name))
            if plan.picture
            else blobs(rng, plan.size, len(plan.channels), plan.bits)
        )
        for k, plane in enumerate(image):
            Image.fromarray(plane).save(source / f"p{names.index(name)}_{k + 1}.png")
    for k in range(1, len(plan.channels) + 1):
        sites[f"path_{k}"] = [f"p{names.index(name)}_{k}.png" for name in sites["perturbation"]]
        sites[f"page_{k}"] = -1
    files = [[source / path for path in row] for row in sites.filter(regex=r"^path_\d+$").to_numpy().tolist()]
    sites["size"] = [sum(path.stat().st_size for path in paths) for paths in files]
    sites["mtime"], sites["sha256"] = 0.0, ""
    problems = pd.DataFrame(
        [
            dict(severity="refused", kind="image missing", file="lab/B07.png", row="", experiment="HUVEC-01", plate="1",
                 well="B07", site="1", channel="w3", found="nothing", expected="a file", fix="Copy the file.", count=3),
            dict(severity="warning", kind="odd name", file=HOSTILE if plan.hostile else "x.png", row="", experiment="",
                 plate="", well="", site="", channel="", found="", expected="", fix="Rename it.", count=1),
        ]
    )  # fmt: skip
    classes = ordered_classes(sites["perturbation"])
    metadata = ScreenMetadata(
        layout="table", source=str(source), channels=plan.channels, dtype=f"uint{plan.bits}",
        shape=(image.shape[1], image.shape[2]), plate_rows=plan.rows, plate_columns=plan.columns, perturbations=classes,
        perturbations_sha256=ordered_classes_sha256(classes), cell_types=tuple(sorted(filter(None, plan.cell_types))),
        extra_columns=(), found=len(sites) + 3, indexed=len(sites), refused=3,
    )  # fmt: skip
    write_screen(Screen(metadata=metadata, sites=sites, problems=problems), folder / "screen")
    return read_screen(folder / "screen")


def make_wells(screen: Screen) -> Predictions:
    rng = np.random.default_rng(3)
    sites, classes = screen.sites, screen.metadata.perturbations
    held_out = sites["experiment"].isin(sorted(sites["experiment"].unique())[1::2])
    true = np.array([classes.index(name) for name in sites["perturbation"]])
    logits = rng.normal(0, 1, (len(sites), len(classes))).astype(np.float32)
    logits[np.arange(len(sites)), true] += rng.uniform(0.5, 4.5, len(sites)).astype(np.float32)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    table = pd.DataFrame(
        {
            "Metadata_Experiment": sites["experiment"],
            "Metadata_Plate": sites["plate"],
            "Metadata_Well": sites["well"],
            "Metadata_Cell_Type": sites["cell_type"],
            "Metadata_Role": sites["role"],
            "Metadata_Fold": np.where(held_out, "held_out", "train"),
            "perturbation": sites["perturbation"],
            "predicted": [classes[k] for k in logits.argmax(1)],
            "confidence": shares.max(1),
            "reason": "",
        }
    )
    unreadable = int(np.flatnonzero(held_out)[4])
    table.loc[unreadable, ["predicted", "confidence", "reason"]] = ["", np.nan, "truncated PNG"]
    logits[unreadable] = np.nan
    return Predictions(level="well", table=table, logits=logits, embedding=np.zeros((len(table), 4), np.float32),
                       perturbations=classes, views=1)  # fmt: skip


def make_scores(wells: Predictions, *, forced: bool = False) -> Scores:
    scored = wells.table[(wells.table["Metadata_Fold"] == "held_out") & (wells.table["reason"] == "")]
    is_correct = (scored["predicted"] == scored["perturbation"]).to_numpy()
    counts = pd.crosstab(scored["perturbation"], scored["predicted"]).reindex(
        index=wells.perturbations, columns=wells.perturbations, fill_value=0
    )
    value = float(is_correct.mean())

    def row(**changes: Any) -> ScoreRow:
        fields: dict[str, Any] = dict(
            level="well", views=1, wells="treatments", subset="all", metric="accuracy", value=value,
            interval=(value - 0.07, value + 0.06), interval_over="experiments", n=len(scored), n_groups=6, chance=0.1,
            transductive=False,
        )  # fmt: skip
        return ScoreRow(**(fields | changes))

    rows = [
        row(level="site", value=value - 0.08, interval=(value - 0.15, value - 0.01)),
        row(level="site", metric="balanced accuracy", value=value - 0.1, interval=None),
        row(),
        row(views=8, value=value + 0.02, interval=(value - 0.04, value + 0.07)),
        row(metric="balanced accuracy", value=value - 0.02),
        row(subset="cell type HUVEC", interval=None, n_groups=1, n=40),
        row(subset="worst experiment RPE-02", value=value - 0.12, interval=None, n_groups=1, n=38),
        row(value=value + 0.09, interval=(value + 0.01, value + 0.14), transductive=True),
        row(wells="with controls", value=value + 0.04, interval=(value - 0.02, value + 0.1)),
    ]
    return Scores(
        target="perturbation", held_out="replicate=2", forced=forced, rows=tuple(rows), never_trained=("siRNA_3",),
        confusion={"perturbations": list(wells.perturbations), "counts": counts.to_numpy().tolist()},
        controls={
            "negative_control": {"n": 12, "mean_confidence": 0.41, "recall": 0.92, "verdict": "as expected",
                                 "sentence": "3% of 12 sites are called a treatment."},
            "positive_control": {"n": 10, "recall": None, "verdict": "violated",
                                 "sentence": "They should be recognised most surely of all."},
        },
        notes=("Cell type joined the features.",),
    )  # fmt: skip


def strong_channel(screen: Screen, perturbation: str) -> int:
    """Return the channel, counted from 1, that the fixture makes strong for a perturbation."""
    return screen.metadata.perturbations.index(perturbation) % len(screen.metadata.channels) + 1


def make_explanation(wells: Predictions, screen: Screen, *, rows: int) -> Explanation:
    rng = np.random.default_rng(5)
    held_out = wells.table[(wells.table["Metadata_Fold"] == "held_out") & (wells.table["reason"] == "")]
    table = (
        held_out.sort_values("perturbation").iloc[:: max(1, len(held_out) // rows)].head(rows).reset_index(drop=True)
    )
    table = table.drop(columns=["reason"]).rename(columns={"confidence": "probability"})
    table.insert(3, "Metadata_Site", 1)
    table["explained"] = table["predicted"]
    n = len(screen.metadata.channels)
    strong = np.array([screen.metadata.perturbations.index(name) % n for name in table["perturbation"]])
    sites, channels = len(table), np.arange(n)
    values = {
        "shapley": rng.normal(0.1, 0.25, (sites, n)) + 2.2 * (strong[:, None] == channels),
        "eq15": np.clip(0.95 - 0.06 * channels + rng.normal(0, 0.02, (sites, n)), 0, 1),
        "correlation": rng.normal(0.1, 0.1, (sites, n)),
        "eq15_null": np.clip(0.95 - 0.06 * channels + rng.normal(0, 0.02, (sites, 50, n)), 0, 1),
        "correlation_null": rng.normal(0, 0.1, (sites, 50, n)),
    }
    for k in range(n):
        for name in ("shapley", "eq15", "correlation"):
            table[f"{name}_{k + 1}"] = values[name][:, k]
        table[f"correlation_p_{k + 1}"] = rng.uniform(0, 1, sites)
    shape = screen.metadata.shape or (48, 48)
    y, x = np.mgrid[: shape[0], : shape[1]] / shape[0]
    maps = np.zeros((len(table), *shape))
    for row in range(len(table)):
        for _ in range(3):
            cy, cx = rng.uniform(0.1, 0.9, 2)
            maps[row] += rng.uniform(0.3, 1) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 0.02)
        maps[row] /= maps[row].max()
    return Explanation(
        table=table,
        maps=maps.astype(np.float32),
        summary=summarize(table, values, channels=[c.name for c in screen.metadata.channels], rng=rng, n_draws=50),
        planted=compare_with_truth(
            table,
            maps,
            channels_of={name: [strong_channel(screen, name)] for name in screen.metadata.perturbations},
            regions={0: PlantedCircle(shape[0] / 2, shape[1] / 2, shape[0] / 4)},
        ),
        settings={"score": "log_probability", "layer": "features.norm5", "head": "softmax", "removal": "mean",
                  "n_null_maps": 50,
                  "channels": [channel.name for channel in screen.metadata.channels]},
    )  # fmt: skip


def make_run(
    folder: Path, plan: Plan, *, parts: Sequence[str] = ("metrics", "predictions", "explanation")
) -> PlantedRun:
    screen = make_screen(folder, plan)
    wells = make_wells(screen)
    scores = make_scores(wells, forced=plan.forced)
    explanation = make_explanation(wells, screen, rows=plan.explained)
    run = RunFolder.create(folder / "runs" / (HOSTILE.replace("/", "") if plan.hostile else "pilot"))
    run.run.write_text(json.dumps({"screen": "../../screen", "target": "perturbation", "folds_sha256": "ab" * 32}))
    run.screen.write_text((folder / "screen" / "screen.json").read_text())
    run.config.write_text("preset: small\nepochs: 12\noptim:\n  lr: 0.002\ncutmix:\n  probability: 0.5\n")
    epoch = np.arange(1, 13)
    if "metrics" in parts:
        pd.DataFrame(
            {
                "epoch": epoch, "train_loss": 2.4 * np.exp(-epoch / 6), "train_accuracy": 1 - np.exp(-epoch / 6),
                "learning_rate": 0.002 * np.cos(epoch / 13 * np.pi / 2),
                "held_out_accuracy": 0.7 * (1 - np.exp(-epoch / 5)),
            }
        ).to_csv(run.metrics, index=False)  # fmt: skip
        pd.DataFrame({"epoch": epoch, "from_step": 0, "to_step": 0, "seconds": 4.2}).to_csv(run.timing, index=False)
    if "predictions" in parts:
        run.record(*wells.write(run.predictions), scores.write(run.scores))
    if "explanation" in parts:
        run.record(*explanation.write(run.explanations))
    truth = {
        "perturbations": {
            name: {"channels": [strong_channel(screen, name)], "kind": "brighter", "description": "brighter here"}
            for name in screen.metadata.perturbations
            if name.startswith("siRNA")
        }
    }
    return PlantedRun(run=run, screen=screen, wells=wells, scores=scores, explanation=explanation, truth=truth)
