"""Keep the plan of an ablation in its folder; refuse another one there."""

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
        screen: What is trained on.
        folds: The same for every run, so that seeds and held-out experiments are crossed.
        config: The recipe, with everything decided that it leaves to the screen and the machine.
        conditions: All that were ever asked for here.
        seeds: Likewise.
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
    """Begin an ablation, or go on with the one in the folder.

    More conditions and seeds may be added.

    Args:
        screen: A screen that has been written.
        folds: Held out in every run.
        config: The recipe; its seed is not used.
        out: The folder of the ablation.
        conditions: What to compare.
        seeds: Of the runs of every condition.
        command: The command line, as typed.

    Raises:
        RunError: The folder holds something else, or an ablation with another recipe, screen or folds.
        ConfigError: A condition does not go with the recipe.
        FoldError: The folds cannot teach the target, or pseudo labels have nobody to go to.
    """
    asked, conditions = config.model_copy(update={"seed": 0}), tuple(conditions)
    class_coverage(screen, folds, config.target)
    check_conditions(conditions, asked, screen=screen, folds=folds)
    if screen.folder is None:
        raise RunError("The screen lies in no folder yet. Write it first: `distangle index SOURCE --out SCREEN`.")
    if not (out / "ablation.json").exists():
        _refuse_other_files(out)
        out.mkdir(parents=True, exist_ok=True)
        folds.write(out / "folds.parquet")
        write_text(
            out / "config.yaml",
            write_config(resolve_auto_settings(asked, screen, np.flatnonzero(folds.of(screen) == TRAIN).tolist())),
        )
        said: dict[str, Any] = {
            "distangle": __version__,
            "screen": relative_path(screen.folder, out),
            "perturbations_sha256": screen.card.perturbations_sha256,
            "folds_sha256": folds.sha256,
            "config": asked.model_dump(mode="json"),
            "conditions": [],
            "seeds": [],
            "commands": [],
        }
    else:
        said = _read(out)
        _refuse_another(out, said, screen=screen, folds=folds, asked=asked)
    return _extended(out, said, screen, conditions=conditions, seeds=tuple(seeds), command=command)


def continue_ablation(
    out: Path, *, conditions: Iterable[Condition] = (), seeds: Iterable[int] = (), command: str = ""
) -> AblationPlan:
    """Go on with the ablation in a folder, from the folder alone.

    Args:
        out: The folder of the ablation.
        conditions: Further ones.
        seeds: Further ones.
        command: The command line, as typed.

    Raises:
        RunError: There is no ablation, or its screen is not where it was.
        ConfigError, FoldError: As in `plan_ablation`.
    """
    said = _read(out)
    screen = allowed_sources(read_screen((out / said["screen"]).resolve()))
    conditions = tuple(conditions)
    known = {name for name in said["conditions"]} | {condition.name for condition in conditions}
    asked, folds = TrainingConfig.model_validate(said["config"]), Folds.read(out / "folds.parquet")
    check_conditions([one for one in CONDITIONS if one.name in known], asked, screen=screen, folds=folds)
    return _extended(out, said, screen, conditions=conditions, seeds=tuple(seeds), command=command)


def _extended(
    out: Path,
    said: dict[str, Any],
    screen: Screen,
    *,
    conditions: tuple[Condition, ...],
    seeds: tuple[int, ...],
    command: str,
) -> AblationPlan:
    names = {*said["conditions"], *(condition.name for condition in conditions)}
    said["conditions"] = [condition.name for condition in CONDITIONS if condition.name in names]
    said["seeds"] = sorted({*said["seeds"], *seeds})
    said["commands"] += [command] if command and said["commands"][-1:] != [command] else []
    write_json(out / "ablation.json", said)
    return AblationPlan(
        root=out,
        screen=screen,
        folds=Folds.read(out / "folds.parquet"),
        config=read_config(out / "config.yaml"),
        conditions=tuple(condition for condition in CONDITIONS if condition.name in names),
        seeds=tuple(said["seeds"]),
        commands=tuple(said["commands"]),
    )


def _read(out: Path) -> dict[str, Any]:
    path = out / "ablation.json"
    if not path.exists():
        raise RunError(
            f"{out} is no ablation: it has no ablation.json. `distangle ablate SCREEN --out {out}` begins one."
        )
    said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return said


def _refuse_other_files(out: Path) -> None:
    ours = {"folds.parquet", "config.yaml"}  # left behind when the first call was stopped before its last write
    others = sorted(path.name for path in out.iterdir() if path.name not in ours) if out.is_dir() else []
    if others:
        raise RunError(f"{out} is not empty ({', '.join(others[:5])}) and no ablation. Name another folder.")


def _refuse_another(out: Path, said: dict[str, Any], *, screen: Screen, folds: Folds, asked: TrainingConfig) -> None:
    if said["perturbations_sha256"] != screen.card.perturbations_sha256:
        raise RunError(
            f"{out} was begun on a screen with another class list than {screen.folder}. Name another folder."
        )
    if said["folds_sha256"] != folds.sha256:
        raise RunError(
            f"{out} was begun with other folds than {folds.description}. Say the same, or name another folder."
        )
    before, now = values_of(TrainingConfig.model_validate(said["config"])), values_of(asked)
    changed = [f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name]]
    if changed:
        raise RunError(
            f"{out} was begun with another recipe: {'; '.join(changed)}. Say the same, or name another folder."
        )
