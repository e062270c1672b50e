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

NOTES = "pseudo_labels"  # under this name the state keeps what was decided

SiteLogits = Callable[[TrainingState], np.ndarray]


class PseudoLabeller:
    """Assigns pseudo labels before an epoch, and stops when they do harm.

    The assignment is kept in the state of the training.

    Args:
        wells: Who gets labels.
        structure: What the plates' plan says.
        config: How.
        site_logits: Logits of the unlabelled sites under the averaged weights, float32 [site, class].
        say: Called with sentences that a person should see.
    """

    def __init__(
        self,
        wells: UnlabelledWells,
        structure: PlateLayoutConstraint,
        config: TrainingConfig,
        *,
        site_logits: SiteLogits,
        say: Callable[[str], None],
    ) -> None:
        self.wells, self._structure, self._config = wells, structure, config
        self._site_logits, self._say = site_logits, say

    def before_epoch(self, state: TrainingState) -> Assignment | None:
        """Return the pseudo labels of the next epoch.

        None before T1, after a stop, or when none was accepted.

        An assignment is made once and kept in `state`: a resume finds it there, also inside an epoch.
        """
        settings, epoch = self._config.pseudo_labels, state.epochs_done
        if settings.strategy == "none" or epoch < settings.from_epoch:
            return None
        notes = state.hook_values.setdefault(NOTES, {"epoch": -1, "rounds": [], "counts": {}, "stopped": None})
        if (
            notes["stopped"] is None
            and notes["epoch"] != epoch
            and (epoch - settings.from_epoch) % settings.every_epochs == 0
        ):
            self._new_round(state, notes)
        if notes["stopped"] is not None:
            return None
        return self._assignment(state)

    def _new_round(self, state: TrainingState, notes: dict[str, Any]) -> None:
        settings, wells, epoch = self._config.pseudo_labels, self.wells, state.epochs_done
        logits = well_means(self._site_logits(state), wells.well_of_site, n_wells=len(wells.wells))
        before = {name.removeprefix("pseudo."): tensor.numpy() for name, tensor in state.hook_tensors.items()}
        if settings.strategy == "progressive":
            share = accepted_share(epoch, settings=settings, epochs=self._config.epochs)
            earlier = (before["labels"], before["accepted"]) if before else None
            found, remarks = progressive_round(logits, wells, self._structure, share=share, earlier=earlier)
        else:
            found, remarks = ramp_round(logits, wells, self._structure, settings)
        counted = count_assignment(
            labels=found.labels,
            accepted=found.accepted,
            confidence=found.confidence,
            choices=found.choices,
            before=before.get("choices"),
            truth=wells.truth,
            labelled=wells.labelled,
        )
        rounds = [*notes["rounds"], counted]
        if len(rounds) == 1:
            for remark in (*self._structure.remarks, *remarks):
                self._say(f"pseudo labels: {remark}.")
        reason = reason_to_stop(rounds, settings)
        if reason is not None:
            notes["stopped"] = {"epoch": epoch + 1, "reason": reason}
            self._say(f"pseudo labels end before epoch {epoch + 1}: {reason}. Training goes on with labels only.")
        notes |= {"epoch": epoch, "rounds": rounds, "counts": {**counted, "pseudo_stopped": int(reason is not None)}}
        decided = {
            "labels": found.labels,
            "accepted": found.accepted,
            "choices": found.choices,
            "columns": found.columns,
            "shares": found.shares,
        }
        # Copies: hard labels are their own columns, and a checkpoint wants every tensor in memory of its own.
        state.hook_tensors |= {f"pseudo.{name}": torch.from_numpy(array.copy()) for name, array in decided.items()}

    def _assignment(self, state: TrainingState) -> Assignment | None:
        accepted, columns, shares = (
            state.hook_tensors[f"pseudo.{name}"].numpy() for name in ("accepted", "columns", "shares")
        )
        sites = np.flatnonzero(accepted[self.wells.well_of_site])
        if not len(sites):
            return None
        of, controls = self.wells.well_of_site[sites], self.wells.controls
        own = np.repeat(controls[:, None], columns.shape[1], axis=1)
        certain = np.tile(np.eye(1, columns.shape[1], dtype=np.float32), (len(controls), 1))
        behind = len(self.wells.well_of_site) + np.arange(len(controls))
        return Assignment(
            positions=self.wells.first_position + np.concatenate([sites, behind]),
            columns=np.concatenate([columns[of], own]),
            shares=np.concatenate([shares[of], certain]),
        )


def summary(notes: dict[str, Any], settings: PseudoLabels) -> dict[str, Any]:
    """Return what `run.json` says of the pseudo labels.

    Args:
        notes: Of the final state.
        settings: The strategy.
    """
    told = notes.get(NOTES, {})
    rounds: Sequence[dict[str, float]] = told.get("rounds", [])
    return {
        "strategy": settings.strategy,
        "rounds": len(rounds),
        "last": rounds[-1] if rounds else {},
        "stopped": told.get("stopped"),
    }
