"""Softmax loss with an angular margin: Eqs. (5) and (6)."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from distangle.axes import Cosines, Labels, Scalar, SoftLabels
from distangle.losses.softmax import to_float32


def arc_margin_loss(
    cosines: Cosines, labels: Labels | SoftLabels, *, scale: float = 30.0, margin: float = 0.5
) -> Scalar:
    r"""Compute the cross-entropy with a margin added to the angle to the true class.

    The computation is in fp32.

    $$ -\frac1N \sum_i \log \frac{e^{s\cos(\theta_{y_i}+m)}}
       {e^{s\cos(\theta_{y_i}+m)} + \sum_{k\ne y_i} e^{s\cos\theta_k}} $$

    Source: Eq. (6)
    Source: Eq. (5), which is `margin=0`
    Departs: the printed sum skips k = j and adds up cos(theta_j); read as k != y_i and cos(theta_k), as in
        ArcFace (arXiv:1801.07698, Eq. 3).
    Departs: past theta = pi - m the margin turns linear, so the loss never falls as theta grows.
    Departs: soft labels, which CutMix makes, are the linear extension sum_k y_k L(k) of the printed loss.

    Args:
        cosines: cos(theta) between each site's embedding and each template, in [-1, 1].
        labels: Index of the true perturbation, or the share of each one (rows sum to 1).
        scale: s, the radius of the hypersphere; unitless.
        margin: m, in radians.

    Returns:
        Mean over sites, in nats.
    """
    precise = to_float32(cosines)
    if labels.is_floating_point():
        return _soft_label_loss(precise, labels.to(precise.dtype), scale=scale, margin=margin)
    index = labels.long()[:, None]
    with_margin = _add_margin(precise.gather(1, index), margin)
    return functional.cross_entropy(scale * precise.scatter(1, index, with_margin), index[:, 0])


def _add_margin(cosine: Tensor, margin: float) -> Tensor:
    """Return cos(theta + m) for cos(theta).

    It avoids arccos, whose gradient is infinite at theta = 0.
    """
    # Clamping below 1e-12 keeps the value to 1e-6 and stops the gradient of the root where |cos| = 1.
    sine = (1 - cosine.square()).clamp(min=1e-12).sqrt()
    rotated = cosine * math.cos(margin) - sine * math.sin(margin)
    linear = cosine - margin * math.sin(margin)
    return torch.where(cosine >= -math.cos(margin), rotated, linear)


def _soft_label_loss(cosines: Tensor, labels: Tensor, *, scale: float, margin: float) -> Tensor:
    """Return the mean of sum_k y_k L(k), with one pass over each row of logits.

    L(k) = log(1 + exp(R_k - s cos(theta_k + m))), where R_k is the logsumexp of the row without its column k.
    Subtracting column k from the sum of the row cancels if column k dominates, which only the largest column can:
    its R is summed without it, and for any other column at most half of the sum is subtracted.
    """
    shares, columns = labels.topk(int(labels.count_nonzero(dim=1).max()), dim=1)
    logits = scale * cosines
    label_logits = logits.gather(1, columns)
    top, top_column = logits.max(dim=1, keepdim=True)
    lowest = torch.finfo(logits.dtype).min  # not -inf: a row of one column must not become NaN
    without_top = logits.scatter(1, top_column, lowest).logsumexp(dim=1, keepdim=True)
    row_sum = torch.logaddexp(top, without_top)
    is_top = columns == top_column
    # The inner where keeps log1p away from -1 in the branch that the outer where discards.
    label_share = torch.where(is_top, -torch.ones_like(label_logits), label_logits - row_sum).exp()
    others = torch.where(is_top, without_top, row_sum + torch.log1p(-label_share))
    with_margin = scale * _add_margin(cosines.gather(1, columns), margin)
    return (shares * functional.softplus(others - with_margin)).sum() / len(labels)
