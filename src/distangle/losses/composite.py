"""Compute the training loss, Eq. (12)."""

from distangle.axes import Cosines, Labels, Logits, Scalar, SoftLabels
from distangle.losses.arc_margin import arc_margin_loss
from distangle.losses.softmax import softmax_loss


def composite_loss(
    logits: Logits,
    cosines: Cosines,
    labels: Labels | SoftLabels,
    *,
    margin_share: float = 0.2,
    scale: float = 30.0,
    margin: float = 0.5,
    arc_scale: float = 1.0,
) -> Scalar:
    r"""Return the weighted sum of arc-margin loss and softmax loss.

    The softmax loss stabilizes the training.

    $$ c\,L_{arc\text{-}margin} + (1-c)\,L_{softmax} $$

    Source: Eq. (12)
    Departs: `arc_scale` multiplies the arc-margin loss; 1 is the printed equation. The code the paper grew
        from (maciej-sypetkowski/kaggle-rcic-1st) halves that loss without saying so: 0.5 repeats it.

    Args:
        logits: Of the softmax head, unbounded.
        cosines: Of the arc head, in [-1, 1].
        labels: Index of the true perturbation, or the share of each one (rows sum to 1).
        margin_share: c, in [0, 1]; 0 is Eq. (3) alone, 1 is Eq. (6) alone.
        scale: s of Eq. (6); unitless.
        margin: m of Eq. (6), in radians.
        arc_scale: Factor of the arc-margin loss.

    Returns:
        Mean over sites, in nats.
    """
    # A loss with weight 0 is not computed: 0 * NaN would be NaN, and the pass would be wasted.
    if margin_share == 0:
        return softmax_loss(logits, labels)
    arc = margin_share * arc_scale * arc_margin_loss(cosines, labels, scale=scale, margin=margin)
    if margin_share == 1:
        return arc
    return arc + (1 - margin_share) * softmax_loss(logits, labels)
