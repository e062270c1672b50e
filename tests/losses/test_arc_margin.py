import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import ArcFaceLoss

from distangle.losses import arc_margin_loss


def printed_eq_6(cosines, labels, *, scale, margin):
    """The sum read as k != y_i; past pi - m the linear tail. Shares no code with the module."""
    total = 0.0
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        theta = math.acos(row[label])
        widened = math.cos(theta + margin) if theta <= math.pi - margin else row[label] - margin * math.sin(margin)
        above = math.exp(scale * widened)
        below = above + sum(math.exp(scale * value) for k, value in enumerate(row) if k != label)
        total += math.log(above / below)
    return -total / len(labels)


def random_cosines(sites, perturbations, seed):
    generator = torch.Generator().manual_seed(seed)
    cosines = 2 * torch.rand(sites, perturbations, generator=generator, dtype=torch.float64) - 1
    return cosines, torch.randint(0, perturbations, (sites,), generator=generator)


def mixed_labels(sites, perturbations, seed):
    """Return labels as CutMix makes them: two perturbations per row, or the same one twice."""
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randint(0, perturbations, (sites,), generator=generator) for _ in range(2))
    share = torch.rand(sites, 1, generator=generator, dtype=torch.float64)
    one_hot = torch.nn.functional.one_hot
    return share * one_hot(first, perturbations) + (1 - share) * one_hot(second, perturbations)


def test_two_templates_at_60_and_90_degrees_with_a_margin_of_30_degrees_cost_log_2():
    cosines = torch.tensor([[math.cos(math.radians(60)), math.cos(math.radians(90))]], dtype=torch.float64)
    loss = arc_margin_loss(cosines, torch.tensor([0]), scale=30.0, margin=math.radians(30))
    assert loss.item() == pytest.approx(math.log(2), abs=1e-12)


def test_a_site_on_its_template_with_margin_of_60_degrees_by_hand():
    # s cos(0 + 60 deg) = 2 * 0.5 = 1 against one other template at 90 deg: log(1 + e^-1).
    loss = arc_margin_loss(torch.tensor([[0.0, 1.0]]), torch.tensor([1]), scale=2.0, margin=math.pi / 3)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=3e-6)


def test_past_pi_minus_m_the_margin_is_linear_by_hand():
    # theta = 180 deg, m = 90 deg: -1 - (pi / 2) * 1, against one template at 90 deg, s = 1.
    loss = arc_margin_loss(torch.tensor([[-1.0, 0.0]]), torch.tensor([0]), scale=1.0, margin=math.pi / 2)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(1 + math.pi / 2)), abs=1e-6)


@pytest.mark.parametrize(("scale", "margin"), [(30.0, 0.5), (1.0, 0.3), (8.0, 1.2)])
def test_arc_margin_loss_is_equation_6_in_plain_loops(scale, margin):
    cosines, labels = random_cosines(40, 7, seed=3)
    expected = printed_eq_6(cosines, labels, scale=scale, margin=margin)
    assert arc_margin_loss(cosines, labels, scale=scale, margin=margin).item() == pytest.approx(expected, rel=1e-9)


def test_margin_zero_is_equation_5():
    cosines, labels = random_cosines(20, 5, seed=4)
    expected = 0.0
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        expected -= math.log(math.exp(4 * row[label]) / sum(math.exp(4 * value) for value in row)) / 20
    assert arc_margin_loss(cosines, labels, scale=4.0, margin=0.0).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_hard_labels_agree_with_pytorch_metric_learning_in_loss_and_gradient(margin):
    generator = torch.Generator().manual_seed(5)
    embedding = torch.randn(64, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 11, (64,), generator=generator)
    theirs = ArcFaceLoss(11, 3, margin=math.degrees(margin), scale=30.0).double()
    theirs.W.data = torch.randn(3, 11, generator=generator, dtype=torch.float64)
    theirs_loss = theirs(embedding, labels)
    (theirs_gradient,) = torch.autograd.grad(theirs_loss, embedding)
    normalized = torch.nn.functional.normalize
    cosines = normalized(embedding, dim=1) @ normalized(theirs.W.detach(), dim=0)
    # Some true angles must lie past pi - m, or the tail would not be tested.
    assert (cosines.gather(1, labels[:, None]) < -math.cos(margin)).any()
    ours = arc_margin_loss(cosines, labels, scale=30.0, margin=margin)
    (gradient,) = torch.autograd.grad(ours, embedding)
    assert ours.item() == pytest.approx(theirs_loss.item(), rel=1e-6)
    torch.testing.assert_close(gradient, theirs_gradient, rtol=1e-6, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    low=st.floats(0.0, math.pi),
    high=st.floats(0.0, math.pi),
    margin=st.floats(0.0, 1.5),
    other=st.floats(-1.0, 1.0),
)
def test_the_loss_never_falls_as_the_angle_grows_up_to_pi(low, high, margin, other):
    low, high = sorted((low, high))
    near, far_loss = (
        arc_margin_loss(
            torch.tensor([[math.cos(theta), other]], dtype=torch.float64),
            torch.tensor([0]),
            margin=margin,
        ).item()
        for theta in (low, high)
    )
    # At theta = 0 the sine is 1e-6 instead of 0, which s = 30 turns into 3e-5.
    assert far_loss >= near - 4e-5


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1.0, 30.0, 64.0]), margin=st.floats(0.0, 1.0))
def test_mixed_labels_cost_the_mix_of_the_hard_losses(seed, scale, margin):
    cosines, _ = random_cosines(6, 5, seed=seed)
    labels = mixed_labels(6, 5, seed=seed + 1)
    expected = sum(
        share * arc_margin_loss(cosines[i : i + 1], torch.tensor([k]), scale=scale, margin=margin).item()
        for (i, row) in enumerate(labels.tolist())
        for k, share in enumerate(row)
    )
    loss = arc_margin_loss(cosines, labels, scale=scale, margin=margin).item()
    assert loss == pytest.approx(expected / 6, rel=1e-8, abs=1e-8)


def test_one_hot_labels_cost_what_hard_labels_cost_and_pull_alike():
    cosines, labels = random_cosines(30, 8, seed=6)
    cosines.requires_grad_()
    soft = torch.nn.functional.one_hot(labels, 8).double()
    hard_loss, soft_loss = arc_margin_loss(cosines, labels), arc_margin_loss(cosines, soft)
    assert soft_loss.item() == pytest.approx(hard_loss.item(), rel=1e-9)
    torch.testing.assert_close(torch.autograd.grad(soft_loss, cosines), torch.autograd.grad(hard_loss, cosines))


def test_labels_spread_over_every_perturbation_are_the_mix_too():
    cosines, _ = random_cosines(4, 6, seed=7)
    labels = torch.full((4, 6), 1 / 6, dtype=torch.float64)
    expected = sum(arc_margin_loss(cosines, torch.full((4,), k)).item() for k in range(6)) / 6
    assert arc_margin_loss(cosines, labels).item() == pytest.approx(expected, rel=1e-9)


def test_mixed_labels_keep_their_digits_when_one_template_outweighs_all_others():
    # The dominant column is a label: subtracting it from the sum would leave nothing of the others in fp32.
    cosines = torch.tensor([[1.0, -0.9, -0.8, -1.0]])
    labels = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    exact = sum(0.5 * printed_eq_6(cosines.double(), torch.tensor([k]), scale=30.0, margin=0.5) for k in (0, 1))
    assert arc_margin_loss(cosines, labels).item() == pytest.approx(exact, rel=1e-5)
    # Only label 0, exp(-30 * ...) against 1: the loss is tiny and must not round to zero.
    tiny = arc_margin_loss(cosines, torch.tensor([[1.0, 0.0, 0.0, 0.0]])).item()
    assert tiny == pytest.approx(arc_margin_loss(cosines.double(), torch.tensor([0])).item(), rel=1e-4)
    assert tiny > 0


def test_the_gradient_of_mixed_labels_is_that_of_finite_differences():
    cosines, _ = random_cosines(5, 4, seed=8)
    cosines = (0.9 * cosines).requires_grad_()
    labels = mixed_labels(5, 4, seed=9)
    assert torch.autograd.gradcheck(lambda c: arc_margin_loss(c, labels, scale=5.0), (cosines,), atol=1e-6)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_loss_and_gradient_are_finite_at_every_extreme_angle_in_every_precision(soft, dtype):
    rows = list(itertools.product([-1.0, 0.0, 1.0], repeat=3))
    cosines = torch.tensor(rows, dtype=dtype, requires_grad=True)
    labels = torch.arange(len(rows)) % 3
    if soft:
        labels = 0.5 * torch.nn.functional.one_hot(labels, 3) + 0.5 * torch.nn.functional.one_hot((labels + 1) % 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = arc_margin_loss(cosines, labels)
    loss.backward()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.isfinite(loss)
    assert torch.isfinite(cosines.grad).all()
    assert cosines.grad.abs().max() < 1e3


def test_a_single_perturbation_costs_nothing_and_gives_no_nan():
    cosines = torch.tensor([[0.3], [1.0]], requires_grad=True)
    loss = arc_margin_loss(cosines, torch.ones(2, 1))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(cosines.grad, torch.zeros(2, 1))
