"""Every method of attribution maps: equal to captum, to the printed sums, and to plain loops."""

import gc
import sys

import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import nn

from distangle.core.shrinkage import Correction
from distangle.errors import ExplanationError
from distangle.explain import MAP_METHODS, PixelAttributionSettings, attribution_map
from distangle.explain.maps import api
from distangle.model import ModelConfig, build_classifier, find_layer
from site_batches import batch

SIZE = 24
DEEP = "features.denseblock4.denselayer24"
QUICK = {"pixels": PixelAttributionSettings(steps=4, window=8, stride=8)}


def network(backbone="densenet_small", *, seed=1, **changes):
    """Return a small network with random norms; new norms would hide errors in gamma, beta and statistics."""
    config = ModelConfig(
        **{"backbone": backbone, "n_channels": 3, "n_perturbations": 5, "n_cell_types": 2, "embedding_size": 16}
        | changes
    )
    model = build_classifier(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            with torch.no_grad():
                part.weight.copy_(1 + 0.3 * torch.randn(part.weight.shape, generator=generator))
                part.bias.copy_(0.5 * torch.randn(part.bias.shape, generator=generator))
                part.running_mean.copy_(0.3 * torch.randn(part.weight.shape, generator=generator))
                part.running_var.copy_(0.3 + torch.rand(part.weight.shape, generator=generator))
    return model.eval()


def sites(n=3, *, size=SIZE, channels=3, seed=2):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, channels, size, size, generator=generator)
    return images, torch.nn.functional.one_hot(torch.arange(n) % 2, 2).float(), torch.arange(n) % 5


def captum_maps(model, layer, images, cell_types, targets, *, references=None, head="softmax"):
    def output(batch, kinds, baselines):
        summary = model(batch, kinds, baselines)
        return summary.logits if head == "softmax" else summary.cosines

    attributed = LayerGradCam(output, find_layer(model, layer)).attribute(
        images, target=targets, additional_forward_args=(cell_types, references), relu_attributions=True
    )
    maps = LayerAttribution.interpolate(attributed, images.shape[2:], "bilinear")[:, 0].detach()
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-30)


def value(model, images, cell_types, targets, *, head="softmax", references=None):
    with torch.no_grad():
        summary = model(images, cell_types, references)
    return (summary.logits if head == "softmax" else summary.cosines).gather(1, targets[:, None])[:, 0]


@pytest.fixture(scope="module")
def densenet161():
    """Return the DenseNet-161 of the paper with 7 perturbations, activation checkpointing, in training mode."""
    return network("densenet161", n_channels=6, n_perturbations=7, activation_checkpointing=True).train()


@pytest.mark.parametrize("head", ["softmax", "arc"])
def test_grad_cam_of_figure_12s_layer_is_captums(densenet161, head):
    images, cell_types, targets = sites(2, size=64, channels=6)
    result = attribution_map(densenet161, batch(images, cell_types, targets), layer=DEEP, head=head)
    assert densenet161.training
    expected = captum_maps(densenet161.eval(), DEEP, images, cell_types, targets, head=head)
    densenet161.train()
    assert result.raw.shape == (2, 2, 2)
    assert expected.amax() == 1
    torch.testing.assert_close(result.maps, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("method", ["hires_cam", "layer_cam"])
def test_the_products_work_at_figure_12s_layer(densenet161, method):
    images, cell_types, targets = sites(2, size=64, channels=6)
    result = attribution_map(densenet161, batch(images, cell_types, targets), layer=DEEP, method=method)
    assert (result.layer, result.method, result.raw.shape) == (DEEP, method, (2, 2, 2))
    assert result.raw.abs().amax() > 0


def by_loops(model, layer, images, cell_types, targets, *, positive_gradients):
    """Multiply gradient and activation in loops over sites, features, rows and columns, after a full backward pass."""
    activations = []
    hook = find_layer(model, layer).register_forward_hook(lambda _module, _inputs, out: activations.append(out))
    logits = model(images.clone().requires_grad_(), cell_types).logits
    hook.remove()
    maps = []
    for site, target in enumerate(targets.tolist()):
        (gradient,) = torch.autograd.grad(logits[site, target], activations[0], retain_graph=True)
        activation, slope = activations[0][site].detach().numpy(), gradient[site].numpy()
        total = np.zeros(activation.shape[1:])
        for feature in range(activation.shape[0]):
            for row in range(activation.shape[1]):
                for column in range(activation.shape[2]):
                    g = float(slope[feature, row, column])
                    g = max(g, 0.0) if positive_gradients else g
                    total[row, column] += g * float(activation[feature, row, column])
        maps.append(total)
    return torch.from_numpy(np.stack(maps)).float()


@pytest.mark.parametrize("layer", ["features.denseblock2", "features.denseblock1.denselayer2", "features.norm5"])
@pytest.mark.parametrize("method", ["hires_cam", "layer_cam"])
def test_the_products_are_their_printed_sums(method, layer):
    model = network()
    images, cell_types, targets = sites(2)
    result = attribution_map(model, batch(images, cell_types, targets), method=method, layer=layer)
    expected = by_loops(model, layer, images, cell_types, targets, positive_gradients=method == "layer_cam")
    torch.testing.assert_close(result.raw, expected, atol=1e-6, rtol=1e-4)
    positive = expected.clamp(min=0)
    enlarged = nn.functional.interpolate(positive[:, None], size=(SIZE, SIZE), mode="bilinear")[:, 0]
    torch.testing.assert_close(
        result.maps, enlarged / enlarged.amax((1, 2), keepdim=True).clamp(min=1e-30), atol=2e-5, rtol=0
    )


def test_hires_cam_of_the_pooled_maps_is_grad_cam_and_sums_to_the_linear_part():
    model = network()
    cam, hires = (attribution_map(model, batch(*sites()), method=method) for method in ("grad_cam", "hires_cam"))
    torch.testing.assert_close(cam.raw, hires.raw, atol=1e-7, rtol=1e-5)
    assert cam.layer == hires.layer
    layered = attribution_map(model, batch(*sites()), method="layer_cam")
    assert (layered.raw >= hires.raw - 1e-7).all()  # pooled maps after the ReLU have no negatives
    assert not torch.allclose(layered.raw, hires.raw)


@pytest.mark.parametrize("head", ["softmax", "arc"])
def test_integrated_gradients_sum_to_what_the_image_adds(head):
    model = network("resnet_small")
    images, cell_types, targets = sites()
    baseline = 0.3 * torch.ones(1, 3, SIZE, SIZE)
    for start in (None, baseline):
        result = attribution_map(
            model,
            batch(images, cell_types, targets),
            method="integrated_gradients",
            head=head,
            pixels=PixelAttributionSettings(steps=200, baseline=start),
        )
        test_images = torch.zeros_like(images) if start is None else start.expand_as(images)
        with_image = value(model, images, cell_types, targets, head=head)
        difference = with_image - value(model, test_images, cell_types, targets, head=head)
        torch.testing.assert_close(
            result.raw.sum((1, 2)), difference, atol=0.02 * float(difference.abs().max()), rtol=0.02
        )
        assert result.layer == "image"
        assert result.raw.shape == images.shape[:1] + images.shape[2:]


def test_integrated_gradients_are_a_sum_over_the_channels_in_plain_loops():
    # Midpoints instead of Gauss and Legendre: another rule for the same integral.
    model = network("resnet_small")
    images, cell_types, targets = sites(1)
    total = torch.zeros_like(images)
    steps = 150
    for step in range(steps):
        inputs = (images * (step + 0.5) / steps).requires_grad_()
        model(inputs, cell_types).logits[0, targets[0]].backward()
        total += inputs.grad / steps
    expected = (total * images).sum(1)
    result = attribution_map(
        model,
        batch(images, cell_types, targets),
        method="integrated_gradients",
        pixels=PixelAttributionSettings(steps=150),
    )
    assert (result.raw - expected).abs().max() < 0.05 * expected.abs().max()
    assert (result.raw < 0).any()
    assert torch.equal(result.maps > 0, result.raw > 0)


@pytest.mark.parametrize("head", ["softmax", "arc"])
@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 5)])
def test_occlusion_is_the_mean_fall_over_the_squares_of_a_region(window, stride, head):
    model = network("resnet_small")
    images, cell_types, targets = sites(2)
    test_images = 0.2 * torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(4))
    result = attribution_map(
        model,
        batch(images, cell_types, targets),
        method="occlusion",
        head=head,
        pixels=PixelAttributionSettings(window=window, stride=stride, baseline=test_images, max_batch_size=5),
    )
    whole = value(model, images, cell_types, targets, head=head)
    sum_of_falls, n_windows = torch.zeros(2, SIZE, SIZE), torch.zeros(SIZE, SIZE)
    n_squares = -(-(SIZE - window) // stride) + 1
    for i in range(n_squares):
        for j in range(n_squares):
            rows, columns = slice(i * stride, i * stride + window), slice(j * stride, j * stride + window)
            mixed = images.clone()
            mixed[:, :, rows, columns] = test_images[:, :, rows, columns]
            fall = whole - value(model, mixed, cell_types, targets, head=head)
            sum_of_falls[:, rows, columns] += fall[:, None, None]
            n_windows[rows, columns] += 1
    torch.testing.assert_close(result.raw, sum_of_falls / n_windows, atol=1e-5, rtol=1e-4)


def test_the_window_of_occlusion_is_an_eighth_of_the_side_by_itself():
    model = network("resnet_small")
    with_target = attribution_map(
        model, batch(*sites(1)), method="occlusion", pixels=PixelAttributionSettings(window=3, stride=1)
    )
    assert torch.equal(attribution_map(model, batch(*sites(1)), method="occlusion").raw, with_target.raw)


@pytest.mark.parametrize("method", MAP_METHODS)
def test_a_map_does_not_depend_on_its_batch_mates_and_comes_out_the_same_twice(method):
    model = network("resnet_small").train()
    images, cell_types, targets = sites(4)
    batch_maps = attribution_map(model, batch(images, cell_types, targets), method=method, **QUICK)
    second = attribution_map(model, batch(images, cell_types, targets), method=method, **QUICK)
    assert torch.equal(batch_maps.maps, second.maps)
    assert batch_maps.method == method
    assert batch_maps.maps.amax((1, 2)).tolist() == [1, 1, 1, 1]
    assert batch_maps.maps.min() >= 0
    for site in range(4):
        one = slice(site, site + 1)
        single_maps = attribution_map(model, batch(images[one], cell_types[one], targets[one]), method=method, **QUICK)
        torch.testing.assert_close(single_maps.maps, batch_maps.maps[one], atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", MAP_METHODS)
def test_a_constant_image_has_an_empty_map_and_no_nan(method):
    images, cell_types, targets = sites(2)
    images[0] = torch.tensor([0.0, 1.5, -2.0])[:, None, None]
    result = attribution_map(network("resnet_small"), batch(images, cell_types, targets), method=method, **QUICK)
    assert torch.equal(result.maps[0], torch.zeros(SIZE, SIZE))
    assert result.maps[1].amax() == 1
    assert result.maps.isfinite().all()


@pytest.mark.parametrize("method", MAP_METHODS)
def test_a_centred_network_is_explained_with_its_references(method):
    model = network(
        "resnet_small", freeze_backbone=True, correction=Correction(method="center"), handcrafted_features=True
    )
    images, cell_types, targets = sites(2)
    references = 0.1 * torch.randn(2, model.n_features, generator=torch.Generator().manual_seed(3))
    result = attribution_map(model, batch(images, cell_types, targets, references=references), method=method, **QUICK)
    other = attribution_map(
        model, batch(images, cell_types, targets, references=100 * references), method=method, **QUICK
    )
    assert result.maps.amax() == 1
    assert not torch.allclose(result.raw, other.raw)
    if method == "grad_cam":
        layer = "features.layer2"
        result = attribution_map(model, batch(images, cell_types, targets, references=references), layer=layer)
        expected = captum_maps(model, layer, images, cell_types, targets, references=references)
        torch.testing.assert_close(result.maps, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("method", MAP_METHODS)
def test_activations_in_place_and_inference_mode_change_nothing(method):
    plain, in_place = network("densenet_small"), network("densenet_small")
    for part in in_place.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = True
    layer = None if method in api.PIXEL_METHODS else "features.norm0"
    expected = attribution_map(plain, batch(*sites(2)), method=method, layer=layer, **QUICK)
    with torch.inference_mode():
        result = attribution_map(in_place, batch(*sites(2)), method=method, layer=layer, **QUICK)
    assert torch.equal(expected.raw, result.raw)


def test_a_thousand_calls_leave_no_hook_and_no_memory():
    model = network("resnet_small", n_channels=1, embedding_size=4).train()
    images, cell_types, targets = sites(1, size=8, channels=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def tensors():
        gc.collect()
        return sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())

    def call(number):
        method = MAP_METHODS[number % len(MAP_METHODS)]
        layer = "features.layer1" if method not in api.PIXEL_METHODS else None
        attribution_map(
            model,
            batch(images, cell_types, targets),
            method=method,
            layer=layer,
            pixels=PixelAttributionSettings(steps=1, window=8, stride=8),
        )

    for number in range(10):
        call(number)
    at_first = tensors()
    for number in range(1000):
        call(number)
    assert tensors() == at_first
    assert not any(
        hooks
        for part in model.modules()
        for hooks in (part._forward_hooks, part._backward_hooks, part._forward_pre_hooks)
    )
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_captum_missing_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    for method, name in (("integrated_gradients", "IntegratedGradients"), ("occlusion", "Occlusion")):
        with pytest.raises(ExplanationError, match=rf"{name} is computed by captum.*pip install '\.\[explain\]'"):
            attribution_map(network("resnet_small"), batch(*sites(1)), method=method)
    attribution_map(network("resnet_small"), batch(*sites(1)), method="layer_cam")


def test_what_is_not_there_is_refused_with_the_nearest_names():
    model = network()
    with pytest.raises(ExplanationError, match="no layer 'features.denseblok2'.*Did you mean 'features.denseblock2'"):
        attribution_map(model, batch(*sites()), method="hires_cam", layer="features.denseblok2")
    with pytest.raises(ExplanationError, match="occlusion works at the pixels .* the layer is 'features.conv0'"):
        attribution_map(model, batch(*sites()), method="occlusion", layer="features.conv0")
    for method in MAP_METHODS:
        images, cell_types, _ = sites()
        with pytest.raises(ExplanationError, match="Row 1 has the target 9; expected an index from 0 to 4"):
            attribution_map(model, batch(images, cell_types, torch.tensor([0, 9, 1])), method=method)


def test_an_unknown_method_is_refused_with_the_nearest_name():
    # The type check of these tests refuses it first; without that check it must be refused too.
    plain = api.attribution_map
    while hasattr(plain, "__wrapped__"):
        plain = plain.__wrapped__
    with pytest.raises(ExplanationError, match="Unknown map method 'grad-cam'. Did you mean 'grad_cam'"):
        plain(network(), batch(*sites()), method="grad-cam")


def test_an_image_with_nan_is_refused_by_row():
    images, cell_types, targets = sites(2)
    images[1, 0, 3, 3] = float("nan")
    for method in MAP_METHODS:
        with pytest.raises(ExplanationError, match="row 1 .* not finite"):
            attribution_map(network("resnet_small"), batch(images, cell_types, targets), method=method, **QUICK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"method": "occlusion", "pixels": PixelAttributionSettings(window=25)},
            "window of 25 px moved by 12 px does not cover images of 24 x 24",
        ),
        (
            {"method": "occlusion", "pixels": PixelAttributionSettings(window=4, stride=5)},
            "a stride no larger than the window",
        ),
        (
            {"method": "occlusion", "pixels": PixelAttributionSettings(stride=0)},
            "stride is 0; expected at least 1",
        ),
        (
            {"method": "integrated_gradients", "pixels": PixelAttributionSettings(steps=0)},
            "steps is 0; expected at least 1",
        ),
        (
            {"method": "integrated_gradients", "pixels": PixelAttributionSettings(baseline=torch.zeros(2, 3, 24, 24))},
            r"baseline of shape \(2, 3, 24, 24\) does not fit images of shape \(3, 3, 24, 24\)",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ExplanationError, match=message):
        attribution_map(network("resnet_small"), batch(*sites(3)), **options)
