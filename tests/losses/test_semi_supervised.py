import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from distangle.losses import composite_loss, pseudo_weight, semi_supervised_loss

EPOCHS = st.floats(0, 300, allow_nan=False)


def printed_loss(logits: torch.Tensor, labels: torch.Tensor, pseudo: torch.Tensor, alpha: float) -> float:
    """Eq. (7) in plain loops, with the cross-entropy of Eq. (3)."""
    sums, counts = [0.0, 0.0], [0, 0]
    for row, label, kind in zip(logits.tolist(), labels.tolist(), pseudo.tolist(), strict=True):
        total = sum(math.exp(value) for value in row)
        sums[kind] -= sum(y * math.log(math.exp(value) / total) for y, value in zip(label, row, strict=True))
        counts[kind] += 1
    return sums[0] / counts[0] + (alpha * sums[1] / counts[1] if counts[1] else 0.0)


def kinds(pseudo: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return (~pseudo).nonzero()[:, 0], pseudo.nonzero()[:, 0]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 3.0])
def test_the_loss_is_the_printed_equation_in_plain_loops(alpha: float) -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 4, generator=rng, dtype=torch.float64)
    labels = torch.softmax(torch.randn(7, 4, generator=rng, dtype=torch.float64), 1)
    pseudo = torch.tensor([True, False, False, True, False, True, False])

    def mean_loss(positions: torch.Tensor) -> torch.Tensor:
        return composite_loss(logits[positions], logits[positions], labels[positions], margin_share=0.0)

    values = semi_supervised_loss(mean_loss, *kinds(pseudo), weight=alpha)
    assert float(values) == pytest.approx(printed_loss(logits, labels, pseudo, alpha), rel=1e-12)
    no_pseudo = torch.zeros(7, dtype=torch.bool)
    assert float(semi_supervised_loss(mean_loss, *kinds(no_pseudo), weight=alpha)) == pytest.approx(
        printed_loss(logits, labels, no_pseudo, alpha)
    )


def test_each_mean_is_over_its_own_images_however_many_there_are() -> None:
    losses = torch.tensor([1.0, 3.0, 100.0])
    one_pseudo = semi_supervised_loss(
        lambda k: losses[k].mean(), *kinds(torch.tensor([False, False, True])), weight=0.5
    )
    assert float(one_pseudo) == 2.0 + 0.5 * 100.0
    two_pseudo = semi_supervised_loss(lambda k: losses[k].mean(), *kinds(torch.tensor([False, True, True])), weight=0.5)
    assert float(two_pseudo) == 1.0 + 0.5 * 51.5


def test_images_without_weight_are_not_looked_at() -> None:
    losses = torch.tensor([1.0, float("nan")])
    assert (
        float(semi_supervised_loss(lambda k: losses[k].mean(), *kinds(torch.tensor([False, True])), weight=0.0)) == 1.0
    )


def test_a_batch_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="All 2 images are pseudo-labeled; Eq. \\(7\\) needs at least one labeled"):
        semi_supervised_loss(lambda k: torch.zeros(()), *kinds(torch.tensor([True, True])), weight=1.0)


@given(epoch=EPOCHS, later=EPOCHS, first=EPOCHS, length=EPOCHS, final=st.floats(0, 10))
def test_alpha_stays_between_zero_and_its_final_value_and_never_falls(
    epoch: float, later: float, first: float, length: float, final: float
) -> None:
    schedule = {"from_epoch": first, "full_epoch": first + length, "final": final}
    alpha = pseudo_weight(epoch, **schedule)
    assert 0 <= alpha <= final
    if epoch <= first:
        assert alpha == 0
    elif epoch >= first + length:
        assert alpha == final
    assert pseudo_weight(max(epoch, later), **schedule) >= alpha


@given(first=st.floats(0, 100), length=st.floats(0.5, 100), final=st.floats(0.1, 10))
def test_alpha_is_continuous_at_both_ends_of_the_ramp(first: float, length: float, final: float) -> None:
    assume(first + length > first)
    schedule = {"from_epoch": first, "full_epoch": first + length, "final": final}
    step = length * 1e-6
    # The printed ramp, without alpha_f, would be off by |1 - alpha_f| at T2.
    assert pseudo_weight(first + length - step, **schedule) == pytest.approx(final, rel=1e-5)
    assert pseudo_weight(first + length, **schedule) == final
    assert pseudo_weight(first + step, **schedule) == pytest.approx(0, abs=final * 1e-5)


def test_alpha_by_hand() -> None:
    values = [
        pseudo_weight(t, from_epoch=10.0, full_epoch=30.0, final=3.0) for t in (0.0, 10.0, 15.0, 20.0, 30.0, 99.0)
    ]
    assert values == [0.0, 0.0, 0.75, 1.5, 3.0, 3.0]
    assert [pseudo_weight(t, from_epoch=5.0, full_epoch=5.0, final=2.0) for t in (5.0, 5.01)] == [0.0, 2.0]


def test_a_ramp_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="T1 <= T2 and alpha_f >= 0, got T1=5.0, T2=4.0, alpha_f=1.0"):
        pseudo_weight(1.0, from_epoch=5.0, full_epoch=4.0, final=1.0)
    with pytest.raises(ValueError, match="alpha_f=-1"):
        pseudo_weight(1.0, from_epoch=5.0, full_epoch=6.0, final=-1.0)
