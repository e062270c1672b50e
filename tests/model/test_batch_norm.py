import copy

import pytest
import torch
from torch import Tensor

from distangle.errors import ConfigError, WeightsError
from distangle.model import (
    ModelConfig,
    PerturbationClassifier,
    build_classifier,
    collect_contrast,
    collect_statistics,
    use_statistics,
)


def images(n: int, *, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    site_effects = torch.randn(n, 2, 1, 1, generator=rng)
    return 1.5 * torch.randn(n, 2, 24, 24, generator=rng) + site_effects + 3  # far from what the network starts with


def network(backbone: str = "resnet_small", *, n_cell_types: int = 0, seed: int = 0) -> PerturbationClassifier:
    model = build_classifier(
        ModelConfig(backbone=backbone, n_channels=2, n_perturbations=5, embedding_size=8, n_cell_types=n_cell_types),
        seed=seed,
    )
    return model.eval()


def logits(model: PerturbationClassifier, batch: Tensor, kinds: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return model(batch, kinds).logits


@pytest.mark.parametrize("backbone", ["resnet_small", "densenet_small"])
def test_lent_statistics_of_a_group_give_what_training_mode_gives_for_the_group_as_a_batch(backbone: str) -> None:
    model, batch = network(backbone, n_cell_types=2), images(20)
    kinds = torch.eye(2)[torch.arange(20) % 2]
    expected = logits(copy.deepcopy(model).train(), batch, kinds)
    statistics = collect_statistics(model, lambda: [(batch, kinds)])
    with use_statistics(model, statistics):
        torch.testing.assert_close(logits(model, batch, kinds), expected, atol=1e-4, rtol=1e-4)
        one_by_one = torch.cat([logits(model, batch[k : k + 1], kinds[k : k + 1]) for k in range(20)])
    torch.testing.assert_close(one_by_one, expected, atol=1e-4, rtol=1e-4)
    assert (logits(model, batch, kinds) - expected).abs().max() > 0.1  # the running statistics differ


def test_the_first_norm_has_the_mean_and_variance_of_what_it_is_given() -> None:
    model, batch = network(), images(7)
    statistics = collect_statistics(model, lambda: [(batch, None)])
    with torch.no_grad():
        outputs = model.backbone.features.conv1(batch).double()  # type: ignore[operator, union-attr]
    for feature in range(3):
        values = outputs[:, feature].reshape(-1)
        mean = sum(values.tolist()) / len(values)
        variance = sum((value - mean) ** 2 for value in values.tolist()) / len(values)
        assert float(statistics["backbone.features.bn1.mean"][feature]) == pytest.approx(mean, abs=1e-5)
        assert float(statistics["backbone.features.bn1.variance"][feature]) == pytest.approx(variance, rel=1e-5)


def test_the_norms_of_the_neck_are_exact_also_for_a_group_in_several_pieces() -> None:
    model, batch = network(), images(36)
    statistics = collect_statistics(model, lambda: ((batch[k : k + 12], None) for k in (0, 12, 24)))
    with torch.no_grad(), use_statistics(model, statistics):
        pooled = model.pool(model.feature_maps(batch))
    torch.testing.assert_close(statistics["neck.norm0.mean"], pooled.mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(statistics["neck.norm0.variance"], pooled.var(0, correction=0), atol=1e-5, rtol=1e-4)
    first = model.backbone.features.conv1(batch)  # type: ignore[operator, union-attr]
    torch.testing.assert_close(
        statistics["backbone.features.bn1.variance"], first.var((0, 2, 3), correction=0).detach(), atol=1e-5, rtol=1e-5
    )


def test_pieces_come_nearer_to_the_whole_group_than_half_of_the_group_does() -> None:
    model, batch = network(), images(48)
    whole = logits(copy.deepcopy(model).train(), batch)

    def error(*pieces: Tensor) -> float:
        with use_statistics(model, collect_statistics(model, lambda: [(piece, None) for piece in pieces])):
            return float((logits(model, batch) - whole).square().mean().sqrt())

    assert error(*batch.split(16)) < 0.3 * error(batch[:24])
    assert error(*batch.split(16)) < 0.1 * float(whole.std())


def test_the_network_is_left_as_it_was_found_also_after_an_error() -> None:
    model = network().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch = images(6)
    statistics = collect_statistics(model, lambda: [(batch, None)])
    assert model.training
    with pytest.raises(ConfigError, match="3 channels"), use_statistics(model, statistics):
        model(torch.zeros(2, 3, 24, 24))
    logits(copy.deepcopy(model).eval(), batch)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_what_was_lent_stays_as_it_is_even_if_the_network_trains_meanwhile() -> None:
    model, batch = network(), images(6)
    statistics = collect_statistics(model, lambda: [(batch, None)])
    copies = {name: tensor.clone() for name, tensor in statistics.items()}
    with use_statistics(model, statistics):
        logits(model.train(), batch)
    assert all(torch.equal(copies[name], tensor) for name, tensor in statistics.items())


def test_nothing_lent_changes_nothing() -> None:
    model, batch = network(), images(4)
    expected = logits(model, batch)
    with use_statistics(model, None):
        assert torch.equal(logits(model, batch), expected)


def test_statistics_of_another_network_are_refused() -> None:
    statistics = dict(collect_statistics(network(), lambda: [(images(4), None)]))
    with pytest.raises(WeightsError, match=r"backbone.features.norm0.mean is missing, expected \(32,\)"):
        use_statistics(network("densenet_small"), statistics)
    statistics["neck.norm1.mean"] = torch.zeros(3)
    with pytest.raises(WeightsError, match=r"neck.norm1.mean has shape \(3,\), expected \(8,\)"):
        use_statistics(network(), statistics)


def test_a_group_of_no_images_is_refused() -> None:
    with pytest.raises(ValueError, match="The group has no images"):
        collect_statistics(network(), lambda: [])


def test_the_contrast_turns_controls_into_the_statistics_of_their_own_plate() -> None:
    # With one plate nothing is averaged: its controls must reproduce the statistics of the plate in every layer.
    model, batch = network(n_cell_types=2), images(30)
    kinds = torch.eye(2)[torch.arange(30) % 2]
    controls = (batch[:12], kinds[:12])
    contrast = collect_contrast(model, [(lambda: [(batch, kinds)], lambda: [controls])])
    whole_batch = collect_statistics(model, lambda: [(batch, kinds)])
    statistics = collect_statistics(model, lambda: [controls], contrast=contrast)
    for name, expected in whole_batch.items():
        torch.testing.assert_close(statistics[name], expected, atol=2e-3, rtol=2e-3, msg=name)
    controls_only = collect_statistics(model, lambda: [controls])
    difference = (controls_only["neck.norm0.mean"] - whole_batch["neck.norm0.mean"]).abs().max()
    assert difference > 10 * (statistics["neck.norm0.mean"] - whole_batch["neck.norm0.mean"]).abs().max()


def test_the_contrast_of_the_first_norm_is_that_of_the_equation() -> None:
    model, plates = network(), [images(10, seed=1), images(14, seed=2)]
    contrast = collect_contrast(
        model, [(lambda batch=batch: [(batch, None)], lambda batch=batch: [(batch[:5], None)]) for batch in plates]
    )
    shifts, ratios = [], []
    for batch in plates:
        outputs = model.backbone.features.conv1(batch).detach().double()[:, 4]  # type: ignore[operator, union-attr]
        all_values, controls = outputs.reshape(-1), outputs[:5].reshape(-1)
        shifts.append((all_values.mean() - controls.mean()) / all_values.std(correction=0))
        ratios.append((all_values.var(correction=0) / controls.var(correction=0)).log())
    assert float(contrast["backbone.features.bn1.shift"][4]) == pytest.approx(float(sum(shifts)) / 2, abs=1e-4)
    assert float(contrast["backbone.features.bn1.ratio"][4]) == pytest.approx(float(sum(ratios)) / 2, abs=1e-4)


def test_what_is_silent_in_the_controls_is_not_amplified_without_bound() -> None:
    model, batch = network(), images(16)
    contrast = collect_contrast(model, [(lambda: [(batch, None)], lambda: [(batch[:8], None)])])
    flat = torch.full((8, 2, 24, 24), 3.0)
    statistics = collect_statistics(model, lambda: [(flat, None)], contrast=contrast)
    whole_batch = collect_statistics(model, lambda: [(batch, None)])
    for name in ("backbone.features.bn1.variance", "neck.norm0.variance"):
        assert bool((statistics[name] >= 0.0999 * whole_batch[name]).all())


def test_a_contrast_of_no_plate_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one training plate"):
        collect_contrast(network(), [])
