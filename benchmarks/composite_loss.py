"""CutMix step of both heads: ours against pytorch-metric-learning called on both labels.

1139 perturbations, embedding of 1024, forward and backward through the two heads. Limit: at least 2 times faster.
"""

import sys

import torch
from pytorch_metric_learning.losses import ArcFaceLoss
from torch.nn import functional

import measure
from distangle.losses import composite_loss
from distangle.model import CosineTemplates, LinearTemplates

PERTURBATIONS, EMBEDDING = 1139, 1024
SHARE, SCALE, MARGIN = 0.2, 30.0, 0.5


class Step:
    """The same weights, embedding and mixed labels for both variants."""

    def __init__(self, sites: int) -> None:
        torch.manual_seed(sites)
        self.embedding = torch.randn(sites, EMBEDDING, requires_grad=True)
        self.first = torch.randint(0, PERTURBATIONS, (sites,))
        self.second = torch.randint(0, PERTURBATIONS, (sites,))
        self.kept = 0.7
        self.linear = LinearTemplates(PERTURBATIONS, EMBEDDING)
        self.cosine = CosineTemplates(PERTURBATIONS, EMBEDDING)
        self.theirs = ArcFaceLoss(PERTURBATIONS, EMBEDDING, margin=MARGIN * 180 / torch.pi, scale=SCALE)
        with torch.no_grad():
            self.linear.weight.normal_(std=EMBEDDING**-0.5)
            self.linear.bias.zero_()
            self.cosine.weight.copy_(self.theirs.W.t())

    def both_labels(self) -> torch.Tensor:
        """pytorch-metric-learning knows hard labels only: each of the two labels is a call."""
        total = torch.zeros(())
        for share, labels in ((self.kept, self.first), (1 - self.kept, self.second)):
            arc = self.theirs(self.embedding, labels)
            soft = functional.cross_entropy(self.linear(self.embedding), labels)
            total = total + share * (SHARE * arc + (1 - SHARE) * soft)
        return total

    def ours(self) -> torch.Tensor:
        """One call with the shares of the labels, as CutMix gives them."""
        rows = torch.arange(len(self.first))
        labels = torch.zeros(len(self.first), PERTURBATIONS)
        labels.index_put_((rows, self.first), torch.tensor(self.kept), accumulate=True)
        labels.index_put_((rows, self.second), torch.tensor(1 - self.kept), accumulate=True)
        logits, cosines = self.linear(self.embedding), self.cosine(self.embedding)
        return composite_loss(logits, cosines, labels, margin_share=SHARE, scale=SCALE, margin=MARGIN)

    def step(self, variant: str) -> torch.Tensor:
        """Forward and backward, gradients thrown away."""
        loss = getattr(self, variant)()
        arc = self.theirs.W if variant == "both_labels" else self.cosine.weight
        torch.autograd.grad(loss, [self.embedding, self.linear.weight, self.linear.bias, arc])
        return loss


def main() -> int:
    verdicts = []
    for sites in (24, 64, 256):
        step = Step(sites)
        print(f"{sites} sites")
        variants = {
            "pytorch-metric-learning, both labels": lambda step=step: step.step("both_labels"),
            "distangle, mixed labels": lambda step=step: step.step("ours"),
        }
        times = measure.time_variants(variants, rounds=9, warmups=3, calls=3)
        measure.show_times(times)
        theirs, ours = times.values()
        verdicts.append(measure.verdict("times faster", theirs.median / ours.median, at_least=2))
        difference = abs(step.ours().item() / step.both_labels().item() - 1)
        verdicts.append(measure.verdict("relative difference of the losses, in 1e-6", difference * 1e6, at_most=2))
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
