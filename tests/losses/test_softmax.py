import math

import pytest
import torch

from distangle.losses import softmax_loss


def printed_eq_3(logits, labels):
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        total += math.log(math.exp(row[label]) / sum(math.exp(value) for value in row))
    return -total / len(labels)


def test_softmax_loss_of_equal_logits_is_the_log_of_their_number():
    assert softmax_loss(torch.zeros(5, 7), torch.arange(5)).item() == pytest.approx(math.log(7))


def test_softmax_loss_is_equation_3_in_plain_loops():
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(9, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 6, (9,), generator=generator)
    assert softmax_loss(logits, labels).item() == pytest.approx(printed_eq_3(logits, labels), abs=1e-12)


def test_softmax_loss_of_mixed_labels_is_the_mix_of_the_losses():
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(1, 6, generator=generator, dtype=torch.float64)
    mixed = torch.tensor([[0, 0.3, 0, 0, 0.7, 0]], dtype=torch.float64)
    first, second = (softmax_loss(logits, torch.tensor([k])).item() for k in (1, 4))
    assert softmax_loss(logits, mixed).item() == pytest.approx(0.3 * first + 0.7 * second, abs=1e-12)


def test_softmax_loss_leaves_half_precision_for_fp32_inside_autocast():
    logits = torch.tensor([[50.0, -50.0], [1.0, 1.125]]).bfloat16().requires_grad_()
    labels = torch.tensor([1, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = softmax_loss(logits, labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx((100 + math.log(1 + math.exp(0.125))) / 2, rel=1e-6)
    assert torch.isfinite(logits.grad).all()


def test_softmax_loss_takes_labels_of_any_integer_kind():
    logits = torch.eye(3)
    wide, narrow = (softmax_loss(logits, torch.tensor([0, 1, 1], dtype=kind)) for kind in (torch.int64, torch.int32))
    assert wide == narrow
