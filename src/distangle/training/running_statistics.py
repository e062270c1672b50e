"""Merge the running statistics of norms over ranks, as one process has them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from distangle.ranks import n_ranks, rank, sum_tensor


class RunningStatistics:
    """Remembers the statistics of norms before a step, and merges ranks after it.

    One process sees the batches of a step in turn, each moving r to (1 - m) r + m b. A rank sees only its own, so it
    moves by c = s - (1 - m)^a r over its a batches. As the rule is linear, the end of the turn is exactly
    (1 - m)^(a_1 + ... + a_n) r + sum over ranks of (1 - m)^(batches of later ranks) c.

    Args:
        model: Whose norms; the same on every rank before a step.
    """

    def __init__(self, model: nn.Module) -> None:
        tracking = (part for part in model.modules() if isinstance(part, _BatchNorm))
        self._norms = [norm for norm in tracking if norm.running_mean is not None and norm.momentum is not None]
        self._before = torch.empty(0)

    def remember(self) -> None:
        """Take down the statistics before a step."""
        if n_ranks() > 1 and self._norms:
            self._before = self._flat()

    def join(self, batches: Sequence[int], *, where: str) -> None:
        """Give every rank the statistics that one process would have after the step.

        Args:
            batches: How many batches each rank saw, in the order that one process would see them.
            where: The step, for the message of an error.

        Raises:
            RunError: A rank did not come.
        """
        if n_ranks() == 1 or not self._norms:
            return
        kept = 1 - self._momenta()
        own, later = batches[rank()], sum(batches[rank() + 1 :])
        joined = kept**later * (self._flat() - kept**own * self._before)
        sum_tensor(joined, where=where)
        joined += kept ** sum(batches) * self._before
        sizes = [norm.num_features for norm in self._norms for _ in ("mean", "variance")]
        pieces = iter(torch.split(joined.to(torch.float32), sizes))
        for norm in self._norms:
            for statistic in (norm.running_mean, norm.running_var):
                if statistic is not None:
                    statistic.copy_(next(pieces))
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked += sum(batches) - own

    def _flat(self) -> Tensor:
        statistics = [one for norm in self._norms for one in (norm.running_mean, norm.running_var) if one is not None]
        return torch.cat(statistics).to(torch.float64) if statistics else torch.empty(0)

    def _momenta(self) -> Tensor:
        return torch.cat(
            [
                torch.full((2 * norm.num_features,), float(norm.momentum or 0.0), dtype=torch.float64)
                for norm in self._norms
            ]
        ).to(self._before.device)
