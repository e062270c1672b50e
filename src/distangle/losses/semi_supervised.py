"""Combine labeled and pseudo-labeled images in one loss: Eq. (7) and alpha(t)."""

from collections.abc import Callable

from torch import Tensor

from distangle.axes import Scalar


def semi_supervised_loss(
    mean_loss: Callable[[Tensor], Scalar], labeled: Tensor, pseudo: Tensor, *, weight: float
) -> Scalar:
    r"""Add the weighted mean loss of pseudo-labeled images to that of labeled ones.

    $$ \frac1N \sum_{i=1}^{N} loss(y^i, p^i) + \alpha(t) \frac1M \sum_{j=1}^{M} loss(y^{PL^j}, p^j) $$

    Source: Eq. (7)

    Args:
        mean_loss: The mean loss over the images at these positions of the batch, int [n]; never called with none.
        labeled: int [N], positions of the images with a label.
        pseudo: int [M], positions of those with a pseudo label.
        weight: alpha(t), at least 0; at 0 the second term is not computed.

    Raises:
        ValueError: There is no labeled image: the first mean is undefined.
    """
    if not len(labeled):
        raise ValueError(f"All {len(pseudo)} images are pseudo-labeled; Eq. (7) needs at least one labeled image.")
    labeled_loss = mean_loss(labeled)
    if weight == 0 or not len(pseudo):
        return labeled_loss
    return labeled_loss + weight * mean_loss(pseudo)


def pseudo_weight(epoch: float, *, from_epoch: float, full_epoch: float, final: float) -> float:
    r"""Return alpha(t): 0 until T1, then a line up to alpha_f at T2, then alpha_f.

    $$ \alpha(t) = \alpha_f \min\left(1, \max\left(0, \frac{t - T_1}{T_2 - T_1}\right)\right) $$

    Source: Eq. (7), the schedule below it
    Departs: the printed ramp (t - T1) / (T2 - T1) lacks the factor alpha_f and would jump at T2 unless alpha_f is 1;
        with it the weight is continuous and never above alpha_f. T1 and T2 each lie in two printed branches; at
        T1 the weight is 0, at T2 alpha_f.

    Args:
        epoch: t, completed epochs, with a fraction.
        from_epoch: T1.
        full_epoch: T2, not before T1; if they are equal, the weight is a step after T1.
        final: alpha_f, at least 0.

    Raises:
        ValueError: T2 is before T1, or alpha_f is negative.
    """
    if full_epoch < from_epoch or final < 0:
        raise ValueError(
            f"alpha(t) needs T1 <= T2 and alpha_f >= 0, got T1={from_epoch}, T2={full_epoch}, alpha_f={final}."
        )
    if epoch <= from_epoch:
        return 0.0
    if epoch >= full_epoch:
        return float(final)
    # T2 - T1 may be so small that the division rounds above 1.
    return float(final * min(1.0, (epoch - from_epoch) / (full_epoch - from_epoch)))
