"""Define the components of the ablation, and its conditions as sets of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distangle.errors import ConfigError, FoldError, did_you_mean
from distangle.screen import Folds, Screen
from distangle.training import TrainingConfig, resolve_config, values_of
from distangle.training.data.sites import class_names
from distangle.training.pseudo_labels.unlabelled_wells import check_pseudo_labels


@dataclass(frozen=True)
class Component:
    """A part of the recipe that can be switched on or off.

    Attributes:
        settings: Values without and with the component, by dotted name.
        description: Description for a table.
        strength: Whether the component keeps the value of the configuration, if that is not the value without it.
    """

    settings: Mapping[str, tuple[Any, Any]]
    description: str
    strength: bool = False


@dataclass(frozen=True)
class Condition:
    """A condition: some components are on, all others off."""

    name: str
    enabled: tuple[str, ...]


COMPONENTS: Mapping[str, Component] = {
    "cutmix": Component({"cutmix.probability": (0.0, 1.0)}, "CutMix, Eqs. (8) and (9)", strength=True),
    "pseudo": Component({"pseudo_labels.strategy": ("none", "alpha_ramp")}, "pseudo labels, Eq. (7)", strength=True),
    "plate-pure": Component({"batches.pure": ("none", "plate")}, "batches of one plate"),
    "adabn": Component(
        {"batch_norm.statistics": ("running", "plate")}, "norm statistics of the plate at test time (AdaBN)"
    ),
    "controls": Component(
        {"batch_norm.n_controls": (0, 8), "batch_norm.statistics": ("running", "controls")},
        "norm statistics with the negative controls of the plate, in training and at test time",
    ),
    "reversal": Component({"adversary.weight": (0.0, 0.1)}, "gradient reversal on the experiment", strength=True),
}
BASELINE = "baseline"
CONDITIONS = (
    Condition(BASELINE, ()),
    Condition("cutmix", ("cutmix",)),
    Condition("pseudo", ("pseudo",)),
    Condition("both", ("cutmix", "pseudo")),
    Condition("plate-pure", ("plate-pure",)),
    Condition("adabn", ("adabn",)),
    Condition("plate-pure+adabn", ("plate-pure", "adabn")),
    Condition("plate-pure+controls", ("plate-pure", "controls")),
    Condition("reversal", ("reversal",)),
)


def chosen_conditions(only: str | None) -> tuple[Condition, ...]:
    """Return the conditions that a command line names, or all without names.

    They keep their standard order.

    Args:
        only: Names separated by commas, such as `baseline,cutmix`; None for all.

    Raises:
        ConfigError: A name is no condition.
    """
    if only is None:
        return CONDITIONS
    names = [name.strip() for name in only.split(",") if name.strip()]
    valid = {condition.name for condition in CONDITIONS}
    for name in names:
        if name not in valid:
            raise ConfigError(f"No condition {name!r}. {did_you_mean(name, valid)}")
    if not names:
        raise ConfigError(f"--only names no condition. {did_you_mean('', valid)}")
    return tuple(condition for condition in CONDITIONS if condition.name in names)


def settings_of(condition: Condition, config: TrainingConfig) -> dict[str, Any]:
    """Return the value of every switched setting under a condition, by dotted name.

    Args:
        condition: The condition.
        config: The recipe; gives the strength of its own components.
    """
    values = values_of(config)
    settings = {name: off for component in COMPONENTS.values() for name, (off, _) in component.settings.items()}
    for component in (COMPONENTS[name] for name in condition.enabled):
        for name, (off, on) in component.settings.items():
            settings[name] = values[name] if component.strength and values[name] != off else on
    return settings


def configure(condition: Condition, config: TrainingConfig, *, seed: int) -> TrainingConfig:
    """Return the configuration of one run.

    Args:
        condition: The condition.
        config: The recipe that all runs share.
        seed: Seed of the run.
    """
    changes = [f"{name}={value}" for name, value in settings_of(condition, config).items()]
    return resolve_config(base=config, changes=changes, seed=seed)


def check_conditions(conditions: Sequence[Condition], config: TrainingConfig, *, screen: Screen, folds: Folds) -> None:
    """Check, before any training, that every condition can be trained.

    Args:
        conditions: The conditions to compare.
        config: The recipe.
        screen: The screen to train on.
        folds: Held-out sites and sites with hidden labels.

    Raises:
        ConfigError: Settings exclude each other, or pseudo labels would never start.
        FoldError: Pseudo labels have no unlabelled site.
    """
    classes = class_names(screen, config.target)
    errors: dict[str, ConfigError | FoldError] = {}
    for condition in conditions:
        try:
            check_pseudo_labels(screen, folds, configure(condition, config, seed=0), classes)
        except (ConfigError, FoldError) as error:
            errors[condition.name] = error
    for name, problem in errors.items():
        valid = ",".join(other.name for other in conditions if other.name not in errors)
        advice = f" Or compare the others: `--only {valid}`." if valid else ""
        raise type(problem)(f"Condition {name!r}: {problem}{advice}") from problem
