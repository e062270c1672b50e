import math

import pytest
import torch

from distangle.losses import arc_margin_loss, composite_loss, softmax_loss


def heads(seed=1):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 5, generator=generator)
    cosines = 2 * torch.rand(6, 5, generator=generator) - 1
    return logits, cosines, torch.randint(0, 5, (6,), generator=generator)


def test_equation_12_by_hand():
    # Softmax: two equal logits, log 2. Arc margin: 60 and 90 degrees with a margin of 30 degrees, log 2.
    logits, cosines = torch.zeros(1, 2), torch.tensor([[0.5, 0.0]])
    loss = composite_loss(logits, cosines, torch.tensor([0]), margin_share=0.2, margin=math.pi / 6)
    assert loss.item() == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 1.0])
def test_equation_12_weighs_the_two_losses(share):
    logits, cosines, labels = heads()
    arc, soft = arc_margin_loss(cosines, labels).item(), softmax_loss(logits, labels).item()
    assert abs(arc - soft) > 1
    loss = composite_loss(logits, cosines, labels, margin_share=share).item()
    assert loss == pytest.approx(share * arc + (1 - share) * soft, rel=1e-6)


def test_the_ancestor_halves_only_the_arc_margin_loss():
    logits, cosines, labels = heads()
    arc, soft = arc_margin_loss(cosines, labels).item(), softmax_loss(logits, labels).item()
    loss = composite_loss(logits, cosines, labels, margin_share=0.2, arc_scale=0.5).item()
    assert loss == pytest.approx(0.1 * arc + 0.8 * soft, rel=1e-6)


def test_scale_and_margin_reach_the_arc_margin_loss():
    logits, cosines, labels = heads()
    loss = composite_loss(logits, cosines, labels, margin_share=1.0, scale=7.0, margin=0.1).item()
    assert loss == pytest.approx(arc_margin_loss(cosines, labels, scale=7.0, margin=0.1).item())


def test_a_head_without_a_share_does_not_spoil_the_loss():
    logits, cosines, labels = heads()
    nan_cosines = torch.full_like(cosines, float("nan"))
    assert torch.isfinite(composite_loss(logits, nan_cosines, labels, margin_share=0.0))
    assert torch.isfinite(composite_loss(nan_cosines, cosines, labels, margin_share=1.0))


def test_mixed_labels_mix_the_composite_loss():
    logits, cosines, labels = heads()
    others = (labels + 2) % 5
    one_hot = torch.nn.functional.one_hot
    mixed = 0.25 * one_hot(labels, 5) + 0.75 * one_hot(others, 5)
    parts = [composite_loss(logits, cosines, targets).item() for targets in (labels, others)]
    assert composite_loss(logits, cosines, mixed).item() == pytest.approx(0.25 * parts[0] + 0.75 * parts[1], rel=1e-5)


def test_labels_of_another_number_of_sites_are_refused_where_types_are_checked():
    logits, cosines, _ = heads()
    with pytest.raises(Exception, match="labels"):
        composite_loss(logits, cosines, torch.zeros(3, dtype=torch.int64))
