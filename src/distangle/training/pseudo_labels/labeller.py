"""Label unlabelled wells with the network before every epoch: y^PL of Sec. 3.3."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from distangle.training.config import PseudoLabels, TrainingConfig
from distangle.training.pseudo_labels.constraints import PlateLayoutConstraint
from distangle.training.pseudo_labels.rounds import (
    Assignment,
    UnlabelledWells,
    accepted_share,
    progressive_round,
    ramp_round,
    well_means,
)
from distangle.training.pseudo_labels.stopping import count_assignment, reason_to_stop
from distangle.training.state import TrainingState

HOOK_KEY = "pseudo_labels"  # key of the assignment in the hook values of the state

SiteLogits = Callable[[TrainingState], np.ndarray]


class PseudoLabeller:
    """Assigns pseudo labels before an epoch, and stops when they do harm.

    The state of the training keeps the assignment.

    Args:
        wells: The unlabelled wells.
        constraint: Rules of the plate layout.
        config: Configuration of the training.
        site_logits: Computes the logits of the unlabelled sites with the averaged weights, float32 [site, class].
        say: Called with messages for the user.
    """

    def __init__(
        self,
        wells: UnlabelledWells,
        constraint: PlateLayoutConstraint,
        config: TrainingConfig,
        *,
        site_logits: SiteLogits,
        say: Callable[[str], None],
    ) -> None:
        self.wells, self._constraint, self._config = wells, constraint, config
        self._site_logits, self._say = site_logits, say

    def before_epoch(self, state: TrainingState) -> Assignment | None:
        """Return the pseudo labels of the next epoch.

        The result is None before T1, after a stop, or when no label was accepted. An assignment is made once and kept
        in the state, so a resume within an epoch uses the same one.

        Args:
            state: State of the training; changed in place.
        """
        settings, epoch = self._config.pseudo_labels, state.epochs_done
        if settings.strategy == "none" or epoch < settings.from_epoch:
            return None
        history = state.hook_values.setdefault(HOOK_KEY, {"epoch": -1, "rounds": [], "counts": {}, "stopped": None})
        if (
            history["stopped"] is None
            and history["epoch"] != epoch
            and (epoch - settings.from_epoch) % settings.every_epochs == 0
        ):
            self._new_round(state, history)
        if history["stopped"] is not None:
            return None
        return self._assignment(state)

    def _new_round(self, state: TrainingState, history: dict[str, Any]) -> None:
        settings, wells, epoch = self._config.pseudo_labels, self.wells, state.epochs_done
        logits = well_means(self._site_logits(state), wells.well_of_site, n_wells=len(wells.names))
        previous = {name.removeprefix("pseudo."): tensor.numpy() for name, tensor in state.hook_tensors.items()}
        if settings.strategy == "progressive":
            share = accepted_share(epoch, settings=settings, epochs=self._config.epochs)
            earlier = (previous["labels"], previous["accepted"]) if previous else None
            labels, remarks = progressive_round(logits, wells, self._constraint, share=share, previous=earlier)
        else:
            labels, remarks = ramp_round(logits, wells, self._constraint, settings)
        counts = count_assignment(
            labels=labels.labels,
            accepted=labels.accepted,
            confidence=labels.confidence,
            choices=labels.choices,
            previous=previous.get("choices"),
            truth=wells.truth,
            labelled_classes=wells.labelled_classes,
        )
        rounds = [*history["rounds"], counts]
        if len(rounds) == 1:
            for remark in (*self._constraint.remarks, *remarks):
                self._say(f"pseudo labels: {remark}.")
        reason = reason_to_stop(rounds, settings)
        if reason is not None:
            history["stopped"] = {"epoch": epoch + 1, "reason": reason}
            self._say(f"pseudo labels end before epoch {epoch + 1}: {reason}. Training goes on with labels only.")
        history |= {"epoch": epoch, "rounds": rounds, "counts": {**counts, "pseudo_stopped": int(reason is not None)}}
        arrays = {
            "labels": labels.labels,
            "accepted": labels.accepted,
            "choices": labels.choices,
            "columns": labels.columns,
            "shares": labels.shares,
        }
        # Copy: hard labels share memory with their columns, and a checkpoint needs separate tensors.
        state.hook_tensors |= {f"pseudo.{name}": torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def _assignment(self, state: TrainingState) -> Assignment | None:
        accepted, columns, shares = (
            state.hook_tensors[f"pseudo.{name}"].numpy() for name in ("accepted", "columns", "shares")
        )
        sites = np.flatnonzero(accepted[self.wells.well_of_site])
        if not len(sites):
            return None
        wells, controls = self.wells.well_of_site[sites], self.wells.control_classes
        control_columns = np.repeat(controls[:, None], columns.shape[1], axis=1)
        control_shares = np.tile(np.eye(1, columns.shape[1], dtype=np.float32), (len(controls), 1))
        control_positions = len(self.wells.well_of_site) + np.arange(len(controls))
        return Assignment(
            positions=self.wells.first_position + np.concatenate([sites, control_positions]),
            columns=np.concatenate([columns[wells], control_columns]),
            shares=np.concatenate([shares[wells], control_shares]),
        )


def summary(hook_values: dict[str, Any], settings: PseudoLabels) -> dict[str, Any]:
    """Return the entry of `run.json` on pseudo labels.

    Args:
        hook_values: Values of the final state.
        settings: The strategy.
    """
    history = hook_values.get(HOOK_KEY, {})
    rounds: Sequence[dict[str, float]] = history.get("rounds", [])
    return {
        "strategy": settings.strategy,
        "rounds": len(rounds),
        "last": rounds[-1] if rounds else {},
        "stopped": history.get("stopped"),
    }
