"""Define the switches of the ablation, and its conditions as sets of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distangle.errors import ConfigError, FoldError, did_you_mean
from distangle.screen import Folds, Screen
from distangle.training import TrainingConfig, resolve_config, values_of
from distangle.training.data.sites import class_names
from distangle.training.pseudo_labels.unlabelled import check_pseudo_labels


@dataclass(frozen=True)
class Component:
    """A part of the recipe that can be switched.

    Attributes:
        settings: Values without and with the part, by dotted name.
        said: What it is, for a table.
        strength: Whether a value that the configuration has, other than the one without the part, is kept as the
            strength of the part.
    """

    settings: Mapping[str, tuple[Any, Any]]
    said: str
    strength: bool = False


@dataclass(frozen=True)
class Condition:
    """Some parts on, all others off."""

    name: str
    on: tuple[str, ...]


PARTS: Mapping[str, Component] = {
    "cutmix": Component({"cutmix.probability": (0.0, 1.0)}, "CutMix, Eqs. (8) and (9)", strength=True),
    "pseudo": Component({"pseudo_labels.strategy": ("none", "alpha_ramp")}, "pseudo labels, Eq. (7)", strength=True),
    "plate-pure": Component({"batches.pure": ("none", "plate")}, "batches of one plate"),
    "adabn": Component(
        {"batch_norm.statistics": ("running", "plate")}, "norm statistics of the plate at test time (AdaBN)"
    ),
    "controls": Component(
        {"batch_norm.n_controls": (0, 8), "batch_norm.statistics": ("running", "controls")},
        "norms steadied by the negative controls of the plate, in training and at test time",
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
    """Return the conditions that a command line names, all when it names none.

    They keep their own order.

    Args:
        only: Names with commas between, such as `baseline,cutmix`.

    Raises:
        ConfigError: No such condition.
    """
    if only is None:
        return CONDITIONS
    names = [name.strip() for name in only.split(",") if name.strip()]
    known = {condition.name for condition in CONDITIONS}
    for name in names:
        if name not in known:
            raise ConfigError(f"No condition {name!r}. {did_you_mean(name, known)}")
    if not names:
        raise ConfigError(f"--only names no condition. {did_you_mean('', known)}")
    return tuple(condition for condition in CONDITIONS if condition.name in names)


def settings_of(condition: Condition, config: TrainingConfig) -> dict[str, Any]:
    """Return the value of every switched setting under a condition, by dotted name.

    Args:
        condition: Which parts are on.
        config: The recipe; says how strong a part is that it has on.
    """
    values = values_of(config)
    found = {name: off for part in PARTS.values() for name, (off, _) in part.settings.items()}
    for part in (PARTS[name] for name in condition.on):
        for name, (off, on) in part.settings.items():
            found[name] = values[name] if part.strength and values[name] != off else on
    return found


def configure(condition: Condition, config: TrainingConfig, *, seed: int) -> TrainingConfig:
    """Return the configuration of one run.

    Args:
        condition: Which parts are on.
        config: The recipe that all runs share.
        seed: Of the run.
    """
    changes = [f"{name}={value}" for name, value in settings_of(condition, config).items()]
    return resolve_config(base=config, changes=changes, seed=seed)


def check_conditions(conditions: Sequence[Condition], config: TrainingConfig, *, screen: Screen, folds: Folds) -> None:
    """Refuse, before anything is trained, a condition that could not be.

    Args:
        conditions: What is to be compared.
        config: The recipe.
        screen: What is trained on.
        folds: Held out and hidden.

    Raises:
        ConfigError: Its settings do not go together, or pseudo labels would never begin.
        FoldError: Pseudo labels have nobody to go to.
    """
    classes = class_names(screen, config.target)
    refused: dict[str, ConfigError | FoldError] = {}
    for condition in conditions:
        try:
            check_pseudo_labels(screen, folds, configure(condition, config, seed=0), classes)
        except (ConfigError, FoldError) as error:
            refused[condition.name] = error
    for name, found in refused.items():
        possible = ",".join(one.name for one in conditions if one.name not in refused)
        way = f" Or compare the others: `--only {possible}`." if possible else ""
        raise type(found)(f"Condition {name!r}: {found}{way}") from found
