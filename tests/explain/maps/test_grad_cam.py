import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import nn

from distangle.errors import ExplanationError
from distangle.explain import closed_form_maps, grad_cam_maps
from distangle.explain.maps import attribution_map, layer_gradients
from distangle.explain.maps import grad_cam as room
from distangle.model import ModelConfig, build_classifier, find_layer
from site_batches import batch

SIZE = 40


def network(backbone="densenet_small", *, seed=1, **changes):
    """Return a small network with random norms; new norms would hide errors in gamma, beta and statistics."""
    config = ModelConfig(
        backbone=backbone, n_channels=3, n_perturbations=5, n_cell_types=2, embedding_size=16, **changes
    )
    model = build_classifier(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            with torch.no_grad():
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator))
                part.bias.copy_(0.5 * torch.randn(part.bias.shape, generator=generator))
                part.running_mean.copy_(0.3 * torch.randn(part.weight.shape, generator=generator))
                part.running_var.copy_(0.3 + torch.rand(part.weight.shape, generator=generator))
    if backbone == "densenet_small":
        # A feature that hardly varies: the epsilon of the norm is half of its denominator.
        model.backbone.features.norm5.running_var[:8] = 1e-5
    return model.eval()


def sites(n=3, seed=2):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 3, SIZE, SIZE, generator=generator)
    cell_types = torch.nn.functional.one_hot(torch.arange(n) % 2, 2).float()
    return images, cell_types, torch.arange(n) % 5


def last_layer(model):
    return "features." + list(dict(model.backbone.features.named_children()))[-1]


def captum_maps(model, layer, images, cell_types, targets, *, head="softmax"):
    """A reference that shares no code: captum's Grad-CAM, enlarged, divided by its maximum."""

    def output(batch, kinds):
        summary = model(batch, kinds)
        return summary.logits if head == "softmax" else summary.cosines

    attributed = LayerGradCam(output, find_layer(model, layer)).attribute(
        images, target=targets, additional_forward_args=cell_types, relu_attributions=True
    )
    maps = LayerAttribution.interpolate(attributed, images.shape[2:], "bilinear")[:, 0].detach()
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-30)


def textbook(model, images, cell_types, targets):
    """Eqs. (10) and (11) for the pooled maps, by a full backward pass and loops over features."""
    maps = model.feature_maps(images)
    maps.retain_grad()
    logits = model.classify(model.pool(maps), cell_types).logits
    raw = []
    for site, target in enumerate(targets.tolist()):
        maps.grad = None
        logits[site, target].backward(retain_graph=True)
        total = torch.zeros(maps.shape[2:])
        for feature in range(maps.shape[1]):
            total += maps.grad[site, feature].mean() * maps[site, feature].detach()
        raw.append(total)
    model.zero_grad(set_to_none=True)
    return torch.stack(raw)


@pytest.mark.parametrize("final_relu", [True, False])
def test_the_pooled_maps_are_equations_10_and_11_in_plain_loops(final_relu):
    model = network(final_relu=final_relu)
    images, cell_types, targets = sites()
    result = grad_cam_maps(model, batch(images, cell_types, targets))
    torch.testing.assert_close(result.raw, textbook(model, images, cell_types, targets), atol=1e-7, rtol=1e-4)
    assert result.layer == ("features.norm5, after the final ReLU" if final_relu else "features.norm5")


@pytest.mark.parametrize("head", ["softmax", "arc"])
@pytest.mark.parametrize(
    ("backbone", "layer"),
    [
        ("densenet_small", "features.norm5"),
        ("densenet_small", "features.denseblock3"),
        ("densenet_small", "features.denseblock3.denselayer3"),
        ("densenet_small", "features.denseblock1.denselayer2"),
        ("densenet_small", "features.conv0"),
        ("resnet_small", "the last"),
        ("resnet_small", "features.layer2"),
    ],
)
def test_maps_of_a_layer_are_those_of_captum(backbone, layer, head):
    model = network(backbone)
    layer = last_layer(model) if layer == "the last" else layer
    images, cell_types, targets = sites()
    result = grad_cam_maps(model, batch(images, cell_types, targets), layer=layer, head=head)
    expected = captum_maps(model, layer, images, cell_types, targets, head=head)
    assert expected.amax() == 1
    torch.testing.assert_close(result.maps, expected, atol=2e-5, rtol=0)
    assert result.layer == layer
    assert result.head == head


@pytest.mark.parametrize("final_relu", [True, False])
@pytest.mark.parametrize(
    ("backbone", "layer"),
    [
        ("densenet_small", "features.norm5"),
        ("densenet_small", "backbone.features.denseblock3"),
        ("resnet_small", "the last"),
    ],
)
@pytest.mark.parametrize("head", ["softmax", "arc"])
def test_the_closed_form_is_the_gradient(backbone, layer, final_relu, head, monkeypatch):
    model = network(backbone, final_relu=final_relu)
    layer = last_layer(model) if layer == "the last" else layer
    images, cell_types, targets = sites()
    closed_form = closed_form_maps(model, batch(images, cell_types, targets), layer=layer, head=head)
    monkeypatch.setattr(room, "_before_pooling", lambda model, layer: None)
    generic = grad_cam_maps(model, batch(images, cell_types, targets), layer=layer, head=head)
    torch.testing.assert_close(closed_form.raw, generic.raw, atol=1e-7, rtol=1e-4)
    torch.testing.assert_close(closed_form.maps, generic.maps, atol=1e-5, rtol=0)
    assert closed_form.maps.amax() == 1


def test_the_closed_form_is_chosen_without_a_backward_pass_through_the_backbone(monkeypatch):
    model = network()
    images, cell_types, targets = sites()
    graphs = []
    original = model.pool
    monkeypatch.setattr(model, "pool", lambda maps: graphs.append(maps.requires_grad) or original(maps))
    for layer in (None, "features.norm5", "features.denseblock3"):
        grad_cam_maps(model, batch(images, cell_types, targets), layer=layer)
    grad_cam_maps(model, batch(images, cell_types, targets), layer="features.denseblock2")
    assert graphs == [False, False, False, True]


def test_maps_lie_in_0_to_1_with_their_maximum_at_1_at_the_size_asked_for():
    model = network()
    images, cell_types, targets = sites()
    result = grad_cam_maps(model, batch(images, cell_types, targets), size=(31, 57))
    assert result.maps.shape == (3, 31, 57)
    assert result.maps.min() >= 0
    positive = (result.raw > 0).flatten(1).any(1)
    assert positive.any()
    assert torch.equal(result.maps.amax((1, 2)), positive.float())
    assert grad_cam_maps(model, batch(images, cell_types, targets)).maps.shape == (3, SIZE, SIZE)


@pytest.mark.parametrize("layer", [None, "features.denseblock1", "features.denseblock3"])
def test_a_map_does_not_depend_on_the_sites_beside_it_even_in_training(layer):
    model = network().train()
    images, cell_types, targets = sites(5)
    batch_maps = grad_cam_maps(model, batch(images, cell_types, targets), layer=layer)
    for site in range(5):
        one = slice(site, site + 1)
        single_maps = grad_cam_maps(model, batch(images[one], cell_types[one], targets[one]), layer=layer)
        torch.testing.assert_close(single_maps.maps, batch_maps.maps[one], atol=1e-5, rtol=0)
        torch.testing.assert_close(single_maps.outputs.logits, batch_maps.outputs.logits[one], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layer", [None, "features.denseblock1.denselayer1"])
def test_the_model_is_left_as_it_was_found(layer):
    model = network().train()
    model.backbone.features.norm0.eval()
    model.neck.linear1.weight.requires_grad_(False)
    model.cosine_templates.weight.grad = torch.ones_like(model.cosine_templates.weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    needs_gradient = [parameter.requires_grad for parameter in model.parameters()]
    images, cell_types, targets = sites()
    grad_cam_maps(model, batch(images, cell_types, targets), layer=layer)
    with pytest.raises(ExplanationError):
        grad_cam_maps(model, batch(images, cell_types, torch.tensor([0, 1, 99])), layer=layer)
    assert [part.training for part in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == needs_gradient
    assert not any(part._forward_hooks for part in model.modules())
    gradients = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert gradients == {"cosine_templates.weight"}
    assert torch.equal(model.cosine_templates.weight.grad, torch.ones_like(model.cosine_templates.weight))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_failure_inside_the_network_leaves_no_hook_behind():
    model = network()
    images, _, targets = sites()
    for layer in (None, "features.denseblock1", "features.denseblock3"):
        with pytest.raises(ValueError, match="cell types"):
            grad_cam_maps(model, batch(images, None, targets), layer=layer)
    assert not any(part._forward_hooks for part in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("layer", ["features.denseblock1.denselayer2", "features.denseblock2"])
def test_recomputation_changes_no_map(layer):
    plain, recomputing = network(), network(activation_checkpointing=True).train()
    images, cell_types, targets = sites()
    first, second = (
        grad_cam_maps(model, batch(images, cell_types, targets), layer=layer) for model in (plain, recomputing)
    )
    assert torch.equal(first.raw, second.raw)


def test_a_step_in_place_after_the_layer_does_not_change_what_is_explained():
    plain, in_place = network(), network()
    in_place.backbone.features.relu0 = nn.ReLU(inplace=True)
    images, cell_types, targets = sites()
    first, second = (
        grad_cam_maps(model, batch(images, cell_types, targets), layer="features.norm0") for model in (plain, in_place)
    )
    assert torch.equal(first.raw, second.raw)


def test_maps_can_be_asked_for_where_gradients_are_off():
    model = network()
    images, cell_types, targets = sites()
    expected = grad_cam_maps(model, batch(images, cell_types, targets), layer="features.denseblock2")
    with torch.no_grad():
        quiet = grad_cam_maps(model, batch(images, cell_types, targets), layer="features.denseblock2")
    with torch.inference_mode():
        inferring = grad_cam_maps(model, batch(images, cell_types, targets), layer="features.denseblock2")
    assert torch.equal(expected.maps, quiet.maps)
    assert torch.equal(expected.maps, inferring.maps)


def test_a_map_points_at_the_region_that_decides():
    # One bright spot; the first perturbation's template is what a spot adds to the embedding.
    model = network()
    images = torch.zeros(1, 3, SIZE, SIZE)
    cell_types = torch.tensor([[1.0, 0.0]])
    with torch.no_grad():
        empty = model(images, cell_types).embedding
        images[:, :, 24:34, 4:14] = 4.0
        spot = model(images, cell_types).embedding
        model.linear_templates.weight[0] = (spot - empty)[0]
    result = grad_cam_maps(model, batch(images, cell_types, torch.tensor([0])), layer="features.denseblock1")
    row, column = np.unravel_index(int(result.maps[0].argmax()), (SIZE, SIZE))
    assert 20 <= row < 38
    assert 0 <= column < 18


def test_a_constant_image_has_an_empty_map_and_no_nan():
    model = network()
    images, cell_types, targets = sites(2)
    images[0] = torch.tensor([0.0, 1.5, -2.0])[:, None, None]
    for layer in (None, "features.denseblock1"):
        result = grad_cam_maps(model, batch(images, cell_types, targets), layer=layer)
        assert torch.equal(result.maps[0], torch.zeros(SIZE, SIZE))
        assert result.maps[1].amax() == 1


def test_a_map_without_a_positive_part_or_without_any_change_is_empty():
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 0.7), torch.arange(16.0).view(4, 4) * 1e-20])
    result = attribution_map.normalized_maps(maps)
    assert torch.equal(result[:2], torch.zeros(2, 4, 4))
    assert result[2].max() == 1


def test_an_image_with_nan_is_refused_by_row():
    model = network()
    images, cell_types, targets = sites(2)
    images[1, 0, 3, 3] = float("nan")
    with pytest.raises(ExplanationError, match="activations of row 1 at layer 'features.norm5, after the final ReLU'"):
        grad_cam_maps(model, batch(images, cell_types, targets))


def test_an_unknown_layer_is_refused_with_the_nearest_names():
    model = network()
    with pytest.raises(ExplanationError, match="no layer 'features.denseblok3'.*Did you mean 'features.denseblock3'"):
        grad_cam_maps(model, batch(*sites()), layer="features.denseblok3")
    with pytest.raises(ExplanationError, match="Did you mean"):
        closed_form_maps(model, batch(*sites()), layer="features.denseblok3")


def test_a_layer_without_a_closed_form_is_refused_there():
    with pytest.raises(ExplanationError, match="'features.denseblock1' has no closed form.*'features.denseblock3'"):
        closed_form_maps(network(), batch(*sites()), layer="features.denseblock1")


def test_a_perturbation_out_of_range_is_refused_by_row():
    images, cell_types, _ = sites()
    with pytest.raises(ExplanationError, match="Row 2 has the target 5; expected an index from 0 to 4"):
        grad_cam_maps(network(), batch(images, cell_types, torch.tensor([0, 4, 5])))
    with pytest.raises(ExplanationError, match="Row 0 has the target -1"):
        grad_cam_maps(network(), batch(images, cell_types, torch.tensor([-1, 4, 0])), layer="features.denseblock1")


def test_an_unknown_head_is_refused_with_the_nearest_name(monkeypatch):
    # The type check of these tests refuses it first; without that check it must be refused too.
    with pytest.raises(ExplanationError, match="Unknown head 'softmaks'. Did you mean 'softmax'"):
        layer_gradients.check_head(network(), torch.tensor([0]), "softmaks")


def test_a_layer_passed_more_than_once_is_refused():
    with pytest.raises(ExplanationError, match="'features.layer1.0.relu' runs 2 times"):
        grad_cam_maps(network("resnet_small"), batch(*sites()), layer="features.layer1.0.relu")
