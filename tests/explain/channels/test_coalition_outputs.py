"""The fast computation must equal the output of the network for every mixture of channels."""

import pytest
import torch
from torch import nn

from distangle.explain import ShapleySettings, baseline_images, channel_ablation, channel_shapley
from distangle.explain.channels.coalition_outputs import coalition_outputs
from distangle.explain.channels.coalitions import coalitions
from distangle.model import ModelConfig, build_classifier, collect_statistics, use_statistics
from site_batches import batch

N, SIZE = 3, 32
TARGETS = torch.zeros(N, dtype=torch.int64)


def network(backbone, *, channels=4, **changes):
    options = {"n_perturbations": 5, "n_cell_types": 2, "embedding_size": 8} | changes
    model = build_classifier(ModelConfig(backbone=backbone, n_channels=channels, **options), seed=1)
    generator = torch.Generator().manual_seed(1)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
            part.running_mean.copy_(0.2 * torch.randn(part.running_mean.shape, generator=generator))
            part.running_var.copy_(0.5 + torch.rand(part.running_var.shape, generator=generator))
    return model.eval()


def sites(channels=4, seed=2, size=SIZE):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([1.0, 4.0, 2.0])[torch.arange(channels) % 3, None, None]
    images = spread * torch.randn(N, channels, size, size, generator=generator).abs() - 0.3
    return images, torch.nn.functional.one_hot(torch.arange(N) % 2, 2).float()


def one_by_one(model, images, cell_types, *, absent, present, references=None):
    output = []
    with torch.no_grad():
        for coalition in present:
            mixed = torch.where(coalition[None, :, None, None], images, absent)
            output.append(model(mixed, cell_types, references).logits.log_softmax(1))
    return torch.stack(output, 1).double()


BACKBONES = ["resnet_small", "densenet_small", "efficientnet_lite0"]
VARIANTS = {
    "plain": {},
    "measured": {"handcrafted_features": True},
    "both signs": {"final_relu": False},
    "centred": {"handcrafted_features": True, "freeze_backbone": True, "correction": {"method": "center"}},
}


@pytest.mark.parametrize(
    ("variant", "removal"),
    [(variant, "mean") for variant in VARIANTS] + [("centred", "control"), ("measured", "one control")],
)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_answers_are_those_of_the_whole_network_to_each_mixture(backbone, variant, removal):
    model = network(backbone, channels=3, **VARIANTS[variant])
    images, cell_types = sites(3)
    controls = None if removal == "mean" else sites(3, seed=9)[0][: 1 if removal == "one control" else N]
    references = None
    if variant == "centred":
        references = 0.1 * torch.randn(N, model.n_features, generator=torch.Generator().manual_seed(3))
    site_batch = batch(images, cell_types, TARGETS, references=references, controls=controls)
    absent, present = baseline_images(site_batch), coalitions(3)
    result = coalition_outputs(model, site_batch, targets=torch.arange(5), present=present)
    expected = one_by_one(model, images, cell_types, absent=absent, present=present, references=references)
    assert expected.std(1).max() > 5e-3
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("max_batch_size", [1, 3, 16, 40])
def test_answers_do_not_depend_on_how_many_go_together(max_batch_size):
    model = network("densenet_small", handcrafted_features=True)
    images, cell_types = sites()
    site_batch = batch(images, cell_types, TARGETS, controls=sites(seed=9)[0])
    absent, present = baseline_images(site_batch, "control"), coalitions(4)[[3, 0, 9, 15, 0, 6]]
    settings = ShapleySettings(removal="control", max_batch_size=max_batch_size)
    result = coalition_outputs(model, site_batch, targets=torch.tensor([4, 0]), present=present, settings=settings)
    expected = one_by_one(model, images, cell_types, absent=absent, present=present)[:, :, [4, 0]]
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_answers_use_the_norms_that_are_lent():
    model = network("resnet_small")
    images, cell_types = sites()
    statistics = collect_statistics(model, lambda: [(images, cell_types)])
    site_batch = batch(images, cell_types, TARGETS)
    absent, present = baseline_images(site_batch, "mean"), coalitions(4)
    with use_statistics(model, statistics):
        result = coalition_outputs(model, site_batch, targets=torch.arange(5), present=present)
        expected = one_by_one(model, images, cell_types, absent=absent, present=present)
    # The variance of three sites is small, so rounding weighs more.
    torch.testing.assert_close(result, expected, atol=2e-4, rtol=1e-4)
    with_effects = coalition_outputs(model, site_batch, targets=torch.arange(5), present=present)
    assert (result - with_effects).abs().max() > 0.1


def test_images_that_are_not_square_and_not_whole_multiples():
    model = network("densenet_small", handcrafted_features=True)
    images, cell_types = sites(size=50)
    images = images[:, :, :34]
    site_batch = batch(images, cell_types, TARGETS)
    absent, present = baseline_images(site_batch, "mean"), coalitions(4)
    result = coalition_outputs(model, site_batch, targets=torch.arange(5), present=present)
    expected = one_by_one(model, images, cell_types, absent=absent, present=present)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def n_forwards(model, layer, call):
    """Return the number of images that pass a layer."""
    batch_sizes = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: batch_sizes.append(len(inputs[0])))
    call()
    hook.remove()
    return sum(batch_sizes)


def test_a_backbone_that_looks_at_channels_one_by_one_looks_twice():
    model = network("efficientnet_lite0", channels=6)
    images, cell_types = sites(6)
    controls = sites(6, seed=9)[0]
    layer, targets = model.backbone.features.conv_stem, torch.tensor([0, 1, 2])

    def explain():
        channel_shapley(
            model, batch(images, cell_types, targets, controls=controls), ShapleySettings(removal="control")
        )

    assert n_forwards(model, layer, explain) == 2 * N * 6  # gray images: 6 of each site, 6 of its control


def test_the_empty_coalition_is_shared_where_the_stand_in_is():
    model = network("resnet_small")
    images, cell_types = sites()
    controls, targets = sites(seed=9)[0], torch.tensor([0, 1, 2])
    layer = model.backbone.features.layer1

    def explain(baselines):
        return lambda: channel_shapley(
            model, batch(images, cell_types, targets, controls=baselines), ShapleySettings(removal="control")
        )

    assert n_forwards(model, layer, explain(controls)) == N * 16
    assert n_forwards(model, layer, explain(controls[:1])) == N * 15 + 1


def test_the_values_of_bfloat16_are_within_two_hundredths():
    model = network("densenet_small", channels=6, handcrafted_features=True)
    images, cell_types = sites(6)
    targets = torch.tensor([0, 1, 2])
    exact = channel_shapley(model, batch(images, cell_types, targets))
    rough = channel_shapley(model, batch(images, cell_types, targets), ShapleySettings(bf16=True))
    assert exact.values.abs().max() > 0.02
    assert not torch.equal(exact.values, rough.values)
    torch.testing.assert_close(exact.values, rough.values, atol=2e-2, rtol=0)


def test_ablation_is_two_of_the_steps_that_shapley_averages():
    model = network("resnet_small")
    images, cell_types = sites()
    targets = torch.tensor([0, 1, 2])
    absent = baseline_images(batch(images, cell_types, targets), "mean")
    expected = one_by_one(model, images, cell_types, absent=absent, present=coalitions(4))[torch.arange(N), :, targets]
    result = channel_ablation(model, batch(images, cell_types, targets))
    for channel in range(4):
        all_but_one, one_only = 15 - 2**channel, 2**channel
        torch.testing.assert_close(
            result.values[:, channel], (expected[:, 15] - expected[:, all_but_one]).float(), atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(
            result.alone[:, channel], (expected[:, one_only] - expected[:, 0]).float(), atol=1e-5, rtol=1e-5
        )
    torch.testing.assert_close(result.with_all, expected[:, 15].float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result.with_none, expected[:, 0].float(), atol=1e-5, rtol=1e-5)


def test_ablation_takes_more_than_eight_channels():
    model = network("resnet_small", channels=9)
    images, cell_types = sites(9)
    result = channel_ablation(model, batch(images, cell_types, torch.tensor([0, 1, 2])))
    assert result.values.shape == result.alone.shape == (N, 9)
    assert torch.isfinite(result.values).all()


def test_a_backbone_that_begins_with_something_else_is_refused():
    model = network("resnet_small")
    model.backbone.features = nn.Sequential(nn.Identity(), model.backbone.features)
    with pytest.raises(TypeError, match="begins with Identity cannot be split into channels"):
        channel_shapley(model, batch(*sites(), TARGETS))


def test_the_bias_of_a_first_convolution_is_counted_once():
    model = network("resnet_small")
    first = model.backbone.features.conv1
    first.bias = nn.Parameter(torch.linspace(-1, 1, first.out_channels))
    images, cell_types = sites()
    site_batch = batch(images, cell_types, TARGETS)
    absent, present = baseline_images(site_batch, "mean"), coalitions(4)
    result = coalition_outputs(model, site_batch, targets=torch.arange(5), present=present)
    expected = one_by_one(model, images, cell_types, absent=absent, present=present)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_more_images_than_fit_into_a_cache_go_apart(monkeypatch):
    monkeypatch.setattr("distangle.explain.channels.coalition_outputs.MAX_PIXELS_ON_CPU", 3 * SIZE * SIZE)
    model = network("resnet_small")
    images, cell_types = sites()
    sizes = []
    hook = model.backbone.features.layer1.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    channel_shapley(model, batch(images[:1], cell_types[:1], torch.tensor([0])))
    hook.remove()
    assert sizes == [1, 3, 3, 3, 3, 3]  # the empty one is shared by all sites, here one
