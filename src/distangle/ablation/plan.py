"""Store the plan of an ablation in its folder; refuse another plan there."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distangle import __version__
from distangle.ablation.components import CONDITIONS, Condition, check_conditions
from distangle.core.io import write_json, write_text
from distangle.errors import RunError
from distangle.results.run import relative_path
from distangle.screen import TRAIN, Folds, Screen, allowed_sources, class_coverage, read_screen
from distangle.training import TrainingConfig, read_config, values_of, write_config
from distangle.training.initial_state import resolve_auto_settings


@dataclass(frozen=True)
class AblationPlan:
    """An ablation in its folder.

    Attributes:
        root: The folder.
        screen: The screen to train on.
        folds: Folds of every run, so that seeds and held-out experiments are crossed.
        config: The recipe, with all automatic settings resolved.
        conditions: All conditions requested so far.
        seeds: All seeds requested so far.
        commands: The command lines, as typed.
    """

    root: Path
    screen: Screen
    folds: Folds
    config: TrainingConfig
    conditions: tuple[Condition, ...]
    seeds: tuple[int, ...]
    commands: tuple[str, ...]


def plan_ablation(
    screen: Screen,
    folds: Folds,
    config: TrainingConfig,
    out: Path,
    *,
    conditions: Iterable[Condition] = CONDITIONS,
    seeds: Iterable[int] = (0, 1, 2),
    command: str = "",
) -> AblationPlan:
    """Start an ablation, or extend the one in the folder.

    Conditions and seeds may be added later.

    Args:
        screen: A screen that has been written.
        folds: Folds of every run.
        config: The recipe; its seed is not used.
        out: The folder of the ablation.
        conditions: The conditions to compare.
        seeds: Seeds of the runs of every condition.
        command: The command line, as typed.

    Raises:
        RunError: The folder holds something else, or an ablation with another recipe, screen or folds.
        ConfigError: A condition excludes the recipe.
        FoldError: The target has too few classes in the folds, or pseudo labels have no unlabelled site.
    """
    recipe, conditions = config.model_copy(update={"seed": 0}), tuple(conditions)
    class_coverage(screen, folds, config.target)
    check_conditions(conditions, recipe, screen=screen, folds=folds)
    if screen.folder is None:
        raise RunError("The screen has no folder yet. Write it first: `distangle index SOURCE --out SCREEN`.")
    if not (out / "ablation.json").exists():
        _refuse_other_files(out)
        out.mkdir(parents=True, exist_ok=True)
        folds.write(out / "folds.parquet")
        write_text(
            out / "config.yaml",
            write_config(resolve_auto_settings(recipe, screen, np.flatnonzero(folds.of(screen) == TRAIN).tolist())),
        )
        record: dict[str, Any] = {
            "distangle": __version__,
            "screen": relative_path(screen.folder, out),
            "perturbations_sha256": screen.metadata.perturbations_sha256,
            "folds_sha256": folds.sha256,
            "config": recipe.model_dump(mode="json"),
            "conditions": [],
            "seeds": [],
            "commands": [],
        }
    else:
        record = _read_record(out)
        _refuse_other_plan(out, record, screen=screen, folds=folds, recipe=recipe)
    return _extend_plan(out, record, screen, conditions=conditions, seeds=tuple(seeds), command=command)


def continue_ablation(
    out: Path, *, conditions: Iterable[Condition] = (), seeds: Iterable[int] = (), command: str = ""
) -> AblationPlan:
    """Load the ablation of a folder, and add conditions and seeds.

    Args:
        out: The folder of the ablation.
        conditions: Conditions to add.
        seeds: Seeds to add.
        command: The command line, as typed.

    Raises:
        RunError: The folder has no ablation, or its screen has moved.
        ConfigError, FoldError: An added condition cannot be trained.
    """
    record = _read_record(out)
    screen = allowed_sources(read_screen((out / record["screen"]).resolve()))
    conditions = tuple(conditions)
    names = {name for name in record["conditions"]} | {condition.name for condition in conditions}
    recipe, folds = TrainingConfig.model_validate(record["config"]), Folds.read(out / "folds.parquet")
    check_conditions(
        [condition for condition in CONDITIONS if condition.name in names], recipe, screen=screen, folds=folds
    )
    return _extend_plan(out, record, screen, conditions=conditions, seeds=tuple(seeds), command=command)


def _extend_plan(
    out: Path,
    record: dict[str, Any],
    screen: Screen,
    *,
    conditions: tuple[Condition, ...],
    seeds: tuple[int, ...],
    command: str,
) -> AblationPlan:
    names = {*record["conditions"], *(condition.name for condition in conditions)}
    record["conditions"] = [condition.name for condition in CONDITIONS if condition.name in names]
    record["seeds"] = sorted({*record["seeds"], *seeds})
    record["commands"] += [command] if command and record["commands"][-1:] != [command] else []
    write_json(out / "ablation.json", record)
    return AblationPlan(
        root=out,
        screen=screen,
        folds=Folds.read(out / "folds.parquet"),
        config=read_config(out / "config.yaml"),
        conditions=tuple(condition for condition in CONDITIONS if condition.name in names),
        seeds=tuple(record["seeds"]),
        commands=tuple(record["commands"]),
    )


def _read_record(out: Path) -> dict[str, Any]:
    path = out / "ablation.json"
    if not path.exists():
        raise RunError(
            f"{out} is no ablation: it has no ablation.json. `distangle ablate SCREEN --out {out}` starts one."
        )
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _refuse_other_files(out: Path) -> None:
    own = {"folds.parquet", "config.yaml"}  # of a first call that was stopped before its last write
    others = sorted(path.name for path in out.iterdir() if path.name not in own) if out.is_dir() else []
    if others:
        raise RunError(f"{out} is not empty ({', '.join(others[:5])}) and no ablation. Choose another folder.")


def _refuse_other_plan(
    out: Path, record: dict[str, Any], *, screen: Screen, folds: Folds, recipe: TrainingConfig
) -> None:
    if record["perturbations_sha256"] != screen.metadata.perturbations_sha256:
        raise RunError(
            f"{out} was started on a screen with another class list than {screen.folder}. Choose another folder."
        )
    if record["folds_sha256"] != folds.sha256:
        raise RunError(
            f"{out} was started with other folds than {folds.description}. Use the same folds, or choose "
            f"another folder."
        )
    before, now = values_of(TrainingConfig.model_validate(record["config"])), values_of(recipe)
    changed = [f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name]]
    if changed:
        raise RunError(
            f"{out} was started with another recipe: {'; '.join(changed)}. Use the same recipe, or choose "
            f"another folder."
        )
