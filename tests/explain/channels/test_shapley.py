import itertools
import math

import pytest
import torch
from captum.attr import ShapleyValues
from torch import nn

from distangle.errors import ConfigError, ExplanationError
from distangle.explain import ShapleySettings, channel_shapley
from distangle.explain.channels.coalition_outputs import _check
from distangle.explain.channels.coalitions import coalitions, shapley_weights
from distangle.model import ModelConfig, build_classifier
from site_batches import batch

SIZE = 16


def network(n_channels=3, *, seed=1):
    config = ModelConfig(
        backbone="resnet_small", n_channels=n_channels, n_perturbations=4, n_cell_types=2, embedding_size=8
    )
    model = build_classifier(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.copy_(0.3 * torch.randn(part.running_mean.shape, generator=generator))
    return model.eval()


def sites(n_channels=3, n=3, seed=2):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, n_channels, SIZE, SIZE, generator=generator) + 0.3
    return images, torch.nn.functional.one_hot(torch.arange(n) % 2, 2).float(), torch.arange(n) % 4


def means(images):
    return images.mean((2, 3), keepdim=True).expand_as(images)


def answer(model, images, cell_types, targets, output_kind):
    with torch.no_grad():
        logits = model(images, cell_types).logits.double()
    values = logits if output_kind == "logit" else logits.log_softmax(1)
    target_values = values.gather(1, targets[:, None])[:, 0]
    return target_values.exp() if output_kind == "probability" else target_values


def by_every_order(model, images, cell_types, targets, *, output_kind, stand_in):
    """The definition: what a channel adds when it joins, averaged over all orders; one forward pass per step."""
    channels = images.shape[1]
    values = torch.zeros(len(images), channels, dtype=torch.float64)
    for order in itertools.permutations(range(channels)):
        mixed = stand_in.clone()
        before = answer(model, mixed, cell_types, targets, output_kind)
        for channel in order:
            mixed[:, channel] = images[:, channel]
            after = answer(model, mixed, cell_types, targets, output_kind)
            values[:, channel] += (after - before) / math.factorial(channels)
            before = after
    return values.float()


@pytest.mark.parametrize("output_kind", ["log_probability", "logit", "probability"])
@pytest.mark.parametrize("removal", ["mean", "control", "other_well"])
def test_values_are_the_mean_over_every_order_of_three_channels(output_kind, removal):
    model = network()
    images, cell_types, targets = sites()
    baseline = sites(seed=9)[0]
    baselines = {"mean": {}, "control": {"controls": baseline}, "other_well": {"other_wells": baseline}}[removal]
    stand_in = means(images) if removal == "mean" else baseline
    result = channel_shapley(
        model, batch(images, cell_types, targets, **baselines), ShapleySettings(output=output_kind, removal=removal)
    )
    expected = by_every_order(model, images, cell_types, targets, output_kind=output_kind, stand_in=stand_in)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(result.values, expected, atol=1e-5, rtol=1e-4)


def test_values_are_those_of_captum_with_one_feature_per_channel():
    model = network(4)
    images, cell_types, targets = sites(4)
    theirs = ShapleyValues(lambda batch, kinds: model(batch, kinds).logits.log_softmax(1)).attribute(
        images,
        baselines=means(images),
        target=targets,
        additional_forward_args=cell_types,
        feature_mask=torch.arange(4)[None, :, None, None],
    )
    result = channel_shapley(model, batch(images, cell_types, targets))
    torch.testing.assert_close(result.values, theirs[:, :, 0, 0].detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("output_kind", ["log_probability", "logit", "probability"])
def test_the_values_of_six_channels_add_up_to_all_minus_none(output_kind):
    model = network(6)
    images, cell_types, targets = sites(6)
    result = channel_shapley(model, batch(images, cell_types, targets), ShapleySettings(output=output_kind))
    torch.testing.assert_close(result.values.sum(1), result.with_all - result.with_none, atol=1e-5, rtol=1e-5)
    expected = answer(model, images, cell_types, targets, output_kind).float()
    torch.testing.assert_close(result.with_all, expected, atol=1e-5, rtol=1e-5)
    expected = answer(model, means(images), cell_types, targets, output_kind).float()
    torch.testing.assert_close(result.with_none, expected, atol=1e-5, rtol=1e-5)


def test_a_channel_that_the_network_does_not_see_is_worth_nothing_and_twins_are_worth_the_same():
    model = network(4)
    first = model.backbone.features.conv1.weight
    with torch.no_grad():
        first[:, 2] = 0
        first[:, 1] = first[:, 0]
    images, cell_types, targets = sites(4)
    images[:, 1] = images[:, 0]
    values = channel_shapley(model, batch(images, cell_types, targets)).values
    torch.testing.assert_close(values[:, 2], torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(values[:, 0], values[:, 1], atol=1e-6, rtol=0)
    assert (values[:, 0].abs() > 1e-4).all()


def test_a_sum_of_the_channels_gives_every_channel_its_own_term():
    # v(S) is the sum over S of fixed numbers: their Shapley values are these numbers.
    worth = torch.tensor([3.0, -1.0, 0.5, 2.0, 7.0], dtype=torch.float64)
    values = (coalitions(5).double() @ worth) @ shapley_weights(5)
    torch.testing.assert_close(values, worth)


def test_an_output_that_needs_all_channels_is_shared_equally():
    outputs = torch.zeros(16, dtype=torch.float64)
    outputs[-1] = 1
    torch.testing.assert_close(outputs @ shapley_weights(4), torch.full((4,), 0.25, dtype=torch.float64))


def test_one_channel_gets_everything():
    model = network(1)
    images, cell_types, targets = sites(1)
    result = channel_shapley(model, batch(images, cell_types, targets))
    torch.testing.assert_close(result.values[:, 0], result.with_all - result.with_none, atol=1e-6, rtol=1e-6)


def test_no_more_images_at_once_than_asked_for_and_the_same_values():
    model = network()
    images, cell_types, targets = sites()
    sizes = []
    hook = model.backbone.features.layer1.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    in_small_batches = channel_shapley(model, batch(images, cell_types, targets), ShapleySettings(max_batch_size=5))
    assert sizes == [5, 3, 5, 3, 5, 3]
    sizes.clear()
    channel_shapley(model, batch(images, cell_types, targets), ShapleySettings(max_batch_size=17))
    hook.remove()
    assert sizes == [16, 8]
    in_one_batch = channel_shapley(model, batch(images, cell_types, targets), ShapleySettings(max_batch_size=1000))
    torch.testing.assert_close(in_small_batches.values, in_one_batch.values, atol=1e-5, rtol=1e-4)


def test_one_control_image_serves_all_sites():
    model = network()
    images, cell_types, targets = sites()
    control = sites(seed=9)[0][:1]
    one = channel_shapley(
        model, batch(images, cell_types, targets, controls=control), ShapleySettings(removal="control")
    )
    image_by_image = channel_shapley(
        model,
        batch(images, cell_types, targets, controls=control.repeat(3, 1, 1, 1)),
        ShapleySettings(removal="control"),
    )
    torch.testing.assert_close(one.values, image_by_image.values, atol=1e-6, rtol=1e-5)


def test_an_image_that_is_its_control_owes_nothing_to_any_channel():
    model = network()
    images, cell_types, targets = sites()
    result = channel_shapley(
        model, batch(images, cell_types, targets, controls=images), ShapleySettings(removal="control")
    )
    torch.testing.assert_close(result.values, torch.zeros(3, 3), atol=1e-6, rtol=0)


def test_values_in_bfloat16_are_near_and_the_model_is_left_alone():
    model = network().train()
    images, cell_types, targets = sites()
    exact = channel_shapley(model, batch(images, cell_types, targets))
    rough = channel_shapley(model, batch(images, cell_types, targets), ShapleySettings(bf16=True))
    assert not torch.equal(exact.values, rough.values)
    torch.testing.assert_close(exact.values, rough.values, atol=0.05, rtol=0.1)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_more_than_eight_channels_are_refused_with_advice():
    images = torch.zeros(1, 9, SIZE, SIZE)
    with pytest.raises(ExplanationError, match="9 channels need 512 forward passes per site.*ShapleyValueSampling"):
        channel_shapley(network(9), batch(images, torch.tensor([[1.0, 0.0]]), torch.tensor([0])))


def test_unknown_choices_are_refused_with_the_nearest_name():
    with pytest.raises(ExplanationError, match="Unknown output 'logits'. Did you mean 'logit'"):
        _check("logits", max_batch_size=1)
    with pytest.raises(ExplanationError, match="max_batch_size is 0"):
        channel_shapley(network(), batch(*sites()), ShapleySettings(max_batch_size=0))


def test_images_of_another_number_of_channels_are_refused():
    with pytest.raises(ConfigError, match="The images have 4 channels, expected 3"):
        channel_shapley(network(3), batch(*sites(4)))


def test_a_perturbation_out_of_range_is_refused_by_row():
    images, cell_types, _ = sites()
    with pytest.raises(ExplanationError, match="Row 1 has the target 4; expected an index from 0 to 3"):
        channel_shapley(network(), batch(images, cell_types, torch.tensor([0, 4, 1])))
