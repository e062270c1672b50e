"""What is compared: the parts that can be switched, and the conditions as sets of parts that are on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distangle.errors import ConfigError, FoldError, nearest
from distangle.screen import Folds, Screen
from distangle.training import TrainingConfig, resolve_config, values_of
from distangle.training.sites import class_names
from distangle.training.unlabelled import check_pseudo_labels


@dataclass(frozen=True)
class Part:
    """A part of the recipe that one setting switches.

    Attributes:
        setting: Its dotted name.
        off: Its value without the part.
        on: Its value with the part, where the configuration has it off; else the configuration's own is kept.
        said: What it is, for a table.
    """

    setting: str
    off: Any
    on: Any
    said: str


@dataclass(frozen=True)
class Condition:
    """Some parts on, all others off."""

    name: str
    on: tuple[str, ...]


PARTS: Mapping[str, Part] = {
    "cutmix": Part("cutmix.probability", 0.0, 1.0, "CutMix, Eqs. (8) and (9)"),
    "pseudo": Part("pseudo_labels.strategy", "none", "alpha_ramp", "pseudo labels, Eq. (7)"),
    "plate-pure": Part("batches.pure", "none", "plate", "batches of one plate"),
    "adabn": Part("norms.at_test", "running", "plate", "norm statistics of the plate at test time (AdaBN)"),
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
)


def chosen_conditions(only: str | None) -> tuple[Condition, ...]:
    """Return the conditions that a command line names, in their own order; all of them when it names none.

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
            message = f"No condition {name!r}. {nearest(name, known)}"
            raise ConfigError(message)
    if not names:
        message = f"--only names no condition. {nearest('', known)}"
        raise ConfigError(message)
    return tuple(condition for condition in CONDITIONS if condition.name in names)


def settings_of(condition: Condition, config: TrainingConfig) -> dict[str, Any]:
    """Return the value of every switched setting under a condition, by dotted name.

    Args:
        condition: Which parts are on.
        config: The recipe; says how strong a part is that it has on.
    """
    values = values_of(config)
    return {
        part.setting: (values[part.setting] if values[part.setting] != part.off else part.on)
        if name in condition.on
        else part.off
        for name, part in PARTS.items()
    }


def configured(condition: Condition, config: TrainingConfig, *, seed: int) -> TrainingConfig:
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
        ConfigError: Pseudo labels would never begin.
        FoldError: They have nobody to go to.
    """
    classes = class_names(screen, config.target)
    for condition in conditions:
        try:
            check_pseudo_labels(screen, folds, configured(condition, config, seed=0), classes)
        except (ConfigError, FoldError) as error:
            others = ",".join(one.name for one in CONDITIONS if "pseudo" not in one.on)
            message = f"Condition {condition.name!r}: {error} Or leave pseudo labels out: `--only {others}`."
            raise type(error)(message) from error
