"""Take over folds and settings of an earlier run, to train it again."""

from collections.abc import Iterable

from distangle.errors import RunError
from distangle.results import RunFolder
from distangle.results.own_screen import own_card
from distangle.screen import Folds, Screen
from distangle.training.config import TrainingConfig


def without_services(config: TrainingConfig, changes: Iterable[str]) -> tuple[TrainingConfig, str]:
    """Remove the services of an earlier run from its configuration; say so.

    Who made the run chose them for himself; who repeats it names them again.

    Args:
        config: Of the earlier run.
        changes: What is asked for now, such as `loggers=[wandb]`.
    """
    if not config.loggers or any(change.partition("=")[0].strip() == "loggers" for change in changes):
        return config, ""
    named = ", ".join(config.loggers)
    said = f"The earlier run reported to {named}; this one does not, unless you ask: `--set 'loggers=[{named}]'`."
    return config.model_copy(update={"loggers": ()}), said


def folds_again(earlier: RunFolder, screen: Screen) -> Folds:
    """Return the folds of an earlier run, for the screen that it was made of.

    With them and the configuration of the earlier run, training gives the same bytes of weights on the same machine.

    Args:
        earlier: The run to repeat; it needs not be finished.
        screen: Its screen, wherever that lies now.

    Raises:
        RunError: The screen has other classes or other sites than the one of the earlier run.
        FoldError: A site is in no fold, or the folds were changed.
    """
    folds = Folds.read(earlier.folds)
    card = own_card(earlier)
    anew = f"train a new run on this screen: `distangle train SCREEN --config {earlier.config} --out runs/NAME`."
    if card["perturbations_sha256"] != screen.card.perturbations_sha256:
        raise RunError(
            f"{screen.folder} has another class list than the screen of {earlier.root}. Index the original tables "
            f"again, or {anew}"
        )
    folds.of(screen)
    if len(folds.table) != len(screen.sites):
        raise RunError(
            f"{screen.folder} has {len(screen.sites)} sites; {earlier.root} was made with {len(folds.table)}, so this "
            f"would be no repeat. Index all of its images again, or {anew}"
        )
    return folds
