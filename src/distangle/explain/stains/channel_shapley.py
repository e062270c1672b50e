"""Exact Shapley values of the stains: how much each one moved the network's answer, and each pair together."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from distangle.axes import CellTypes, ChannelScores, Images, Labels, References
from distangle.explain.stains.answers import Of, own_answers
from distangle.explain.stains.coalitions import check_channels, coalitions, interactions_of, shapley_of
from distangle.explain.stains.removal import Removal, stand_ins
from distangle.model import PerturbationClassifier


@dataclass(frozen=True, kw_only=True)
class ChannelShapley:
    """What each stain added to the target's output, beside the output with all stains and with none.

    Attributes:
        values: In the unit of `of` (nats for `log_probability`); the sum of a row is `with_all - with_none`.
        interactions: What two stains did together beyond what each did alone; see `interaction_weights`, also for
            the diagonal.
        with_all: The output for the image as it is.
        with_none: The output after every stain was removed.
    """

    values: ChannelScores
    interactions: Float[Tensor, "site channel channel"]
    with_all: Float[Tensor, " site"]
    with_none: Float[Tensor, " site"]


def channel_shapley(
    model: PerturbationClassifier,
    images: Images,
    cell_types: CellTypes | None,
    targets: Labels,
    *,
    references: References | None = None,
    of: Of = "log_probability",
    removal: Removal = "mean",
    controls: Float[Tensor, "control _ _ _"] | None = None,
    others: Float[Tensor, "other _ _ _"] | None = None,
    most_at_once: int = 64,
    bf16: bool = False,
) -> ChannelShapley:
    r"""Average, over all orders in which stains could be added, what each one adds to the target's output.

    All 2^channels coalitions are run, so the values are exact, not sampled:

    $$ \phi_c = \sum_{S \not\ni c} \frac{|S|!\,(C-|S|-1)!}{C!} \big(v(S \cup c) - v(S)\big) $$

    Answers the question that Eq. (15) was meant for by intervention: it takes stains away and looks at the output.

    Args:
        model: Left as it was found.
        images: Standardised intensities.
        cell_types: As the model takes them; never taken away.
        targets: Index of the perturbation to explain, per site.
        references: As the model takes them; never taken away.
        of: The softmax head's `log_probability` (nats), `logit` or `probability` of the target.
        removal: What stands in for an absent stain; see `stand_ins`.
        controls: For `control`: standardised images of untreated wells of the same plate, one per site or one for all.
        others: For `other_well`: standardised images of other wells of the same plate, the same.
        most_at_once: Images that the network sees together; bounds the memory.
        bf16: Run the backbone under bfloat16 autocast.

    Raises:
        ExplanationError: Unknown choice, perturbation out of range, missing or misfitting stand-ins, over 8 channels.
        ConfigError: Channels, cell types or references that are not those of the model.
    """
    check_channels(images.shape[1])
    table = own_answers(
        model,
        images,
        cell_types,
        targets,
        present=coalitions(images.shape[1]),
        absent=stand_ins(images, removal, controls=controls, others=others),
        references=references,
        of=of,
        most_at_once=most_at_once,
        bf16=bf16,
    )
    return ChannelShapley(
        values=shapley_of(table).float(),
        interactions=interactions_of(table).float(),
        with_all=table[:, -1].float(),
        with_none=table[:, 0].float(),
    )
