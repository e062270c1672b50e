import copy

import pytest
import torch
from torch import Tensor, nn

from distangle.model import ModelConfig, PerturbationClassifier, build_classifier
from distangle.model.modes import FrozenStatistics, activation_checkpointing


def small(backbone: str = "densenet_small") -> PerturbationClassifier:
    config = ModelConfig(backbone=backbone, n_channels=3, n_perturbations=5, embedding_size=16)
    return build_classifier(config, seed=3)


def with_recompute(model: PerturbationClassifier, *, recompute: bool) -> PerturbationClassifier:
    model = copy.deepcopy(model)
    switches = [part for part in model.modules() if hasattr(part, "recompute")]
    assert switches
    for part in switches:
        part.recompute = recompute
    return model


def after_steps(model: PerturbationClassifier, *, n_steps: int, bfloat16: bool) -> dict[str, Tensor]:
    images = torch.randn(n_steps, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(n_steps):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            outputs = model(images[step])
        loss = outputs.logits.square().mean() + outputs.cosines.square().mean()
        loss.backward()
        optimiser.step()
    gradients = {f"gradient of {name}": parameter.grad for name, parameter in model.named_parameters()}
    return {**model.state_dict(), **{name: value for name, value in gradients.items() if value is not None}}


@pytest.mark.parametrize("backbone", ["densenet_small", "resnet_small"])
@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_buffers_and_gradients_are_those_of_the_plain_steps_bit_for_bit(
    backbone: str, bfloat16: bool, momentum: float | None
) -> None:
    model = small(backbone)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = momentum
    plain = after_steps(with_recompute(model, recompute=False), n_steps=2, bfloat16=bfloat16)
    ours = after_steps(with_recompute(model, recompute=True), n_steps=2, bfloat16=bfloat16)
    assert plain.keys() == ours.keys()
    assert any(name.startswith("gradient of backbone") for name in plain)
    for name, value in plain.items():
        assert torch.equal(value, ours[name]), name


def test_activations_inside_a_layer_are_computed_again_and_counted_once() -> None:
    model = with_recompute(small(), recompute=True)
    layer = model.backbone.features.denseblock2.denselayer1
    calls: list[Tensor] = []
    layer.norm1.register_forward_hook(lambda _module, _inputs, maps: calls.append(maps))
    model(torch.randn(2, 3, 32, 32)).logits.sum().backward()
    assert len(calls) == 2
    assert layer.norm1.num_batches_tracked == 1


@pytest.mark.parametrize("gradients", [True, False])
def test_in_evaluation_hooks_see_each_activation_once(gradients: bool) -> None:
    model = with_recompute(small(), recompute=True).eval()
    calls: list[Tensor] = []
    model.backbone.features.denseblock2.denselayer1.norm1.register_forward_hook(
        lambda _module, _inputs, maps: calls.append(maps)
    )
    with torch.set_grad_enabled(gradients):
        logits = model(torch.randn(2, 3, 32, 32)).logits
    if gradients:
        logits.sum().backward()
    assert len(calls) == 1


def test_without_gradients_the_statistics_move_once_in_training_mode() -> None:
    model = with_recompute(small(), recompute=True)
    with torch.no_grad():
        model(torch.randn(2, 3, 32, 32))
    assert model.backbone.features.denseblock1.denselayer1.norm1.num_batches_tracked == 1


def test_a_second_backward_pass_over_one_graph_moves_nothing() -> None:
    model = with_recompute(small(), recompute=True)
    loss = model(torch.randn(2, 3, 32, 32)).logits.square().sum()
    loss.backward(retain_graph=True)
    first = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    loss.backward()
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
    for name, parameter in model.named_parameters():
        if name in first:
            torch.testing.assert_close(parameter.grad, 2 * first[name])


def test_inner_activations_are_not_kept() -> None:
    sizes: list[int] = []

    def saved_bytes(model: PerturbationClassifier) -> int:
        sizes.clear()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.nbytes) or tensor, lambda tensor: tensor
        ):
            model(torch.randn(2, 3, 64, 64))
        return sum(sizes)

    model = small()
    assert saved_bytes(with_recompute(model, recompute=True)) < 0.6 * saved_bytes(
        with_recompute(model, recompute=False)
    )


def test_statistics_come_back_also_after_an_error() -> None:
    norm = nn.BatchNorm1d(2)
    before = norm.running_mean
    sites = nn.Sequential(norm, nn.Flatten(0), nn.Linear(3, 1))
    with pytest.raises(RuntimeError, match="cannot be multiplied"), FrozenStatistics(sites):
        sites(torch.ones(3, 2))
    assert norm.running_mean is before
    assert torch.equal(norm.running_mean, torch.zeros(2))
    assert norm.num_batches_tracked == 0


def test_a_plain_call_when_nothing_trains() -> None:
    norm = nn.BatchNorm1d(2).eval()
    maps = torch.randn(3, 2)
    assert torch.equal(activation_checkpointing(norm, norm, maps), norm(maps))
