import pytest
import torch
from torch import Tensor
from torch.nn import functional

from distangle.model.backbones.resnet import RESNETS, ResidualBlock, ResNet, ResNetShape


def norm(state: dict[str, Tensor], name: str, maps: Tensor) -> Tensor:
    return functional.batch_norm(
        maps,
        state[f"{name}.running_mean"].clone(),
        state[f"{name}.running_var"].clone(),
        state[f"{name}.weight"],
        state[f"{name}.bias"],
        training=True,
        eps=1e-5,
    )


def printed_step(state: dict[str, Tensor], maps: Tensor, *, stride: int, bottleneck: bool) -> Tensor:
    """Eq. (1), x_l = H_l(x_{l-1}) + x_{l-1}, in plain calls over a state dict."""
    if bottleneck:
        change = functional.relu(norm(state, "bn1", functional.conv2d(maps, state["conv1.weight"])))
        change = functional.conv2d(change, state["conv2.weight"], stride=stride, padding=1)
        change = functional.conv2d(functional.relu(norm(state, "bn2", change)), state["conv3.weight"])
        change = norm(state, "bn3", change)
    else:
        change = functional.conv2d(maps, state["conv1.weight"], stride=stride, padding=1)
        change = functional.conv2d(functional.relu(norm(state, "bn1", change)), state["conv2.weight"], padding=1)
        change = norm(state, "bn2", change)
    if "downsample.0.weight" in state:
        maps = norm(state, "downsample.1", functional.conv2d(maps, state["downsample.0.weight"], stride=stride))
    return functional.relu(change + maps)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("n_inputs", "width", "stride", "bottleneck"),
    [(8, 8, 1, False), (8, 12, 2, False), (16, 4, 1, True), (8, 4, 1, True), (8, 6, 2, True)],
)
def test_a_step_and_its_gradients_are_those_of_eq_1(
    n_inputs: int, width: int, stride: int, bottleneck: bool, recompute: bool
) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(n_inputs, width, stride=stride, bottleneck=bottleneck, recompute=recompute).double()
    for name, parameter in block.named_parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, 0.3 if name.endswith("weight") else -1.0, 1.5)
    maps = torch.randn(3, n_inputs, 9, 10, dtype=torch.float64)
    state = {name: value.detach().clone() for name, value in block.state_dict().items()}
    for name, _ in block.named_parameters():
        state[name].requires_grad_()
    expected = printed_step(state, maps, stride=stride, bottleneck=bottleneck)
    output = block(maps)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    cotangent = torch.randn(output.shape, dtype=torch.float64)
    (output * cotangent).sum().backward()
    (expected * cotangent).sum().backward()
    for name, parameter in block.named_parameters():
        torch.testing.assert_close(parameter.grad, state[name].grad, rtol=1e-8, atol=1e-8, msg=name)


@pytest.mark.parametrize(
    ("name", "n_parameters", "n_features"),
    # torchvision's published totals, less the classifier of 1000 classes and its bias.
    [("resnet18", 11_689_512 - 513_000, 512), ("resnet50", 25_557_032 - 2_049_000, 2048)],
)
def test_parameters_and_shapes_are_as_published(name: str, n_parameters: int, n_features: int) -> None:
    with torch.device("meta"):
        network = ResNet(RESNETS[name], n_channels=3)
        maps = network(torch.zeros(2, 3, 224, 224))
    assert sum(parameter.numel() for parameter in network.parameters()) == n_parameters
    assert maps.shape == (2, n_features, 7, 7)
    assert network.n_features == n_features


def test_keys_are_torchvisions_under_features() -> None:
    with torch.device("meta"):
        keys = set(ResNet(RESNETS["resnet50"], n_channels=3).state_dict())
    for key in ("conv1.weight", "bn1.running_var", "layer1.0.downsample.0.weight", "layer1.0.downsample.1.bias"):
        assert f"features.{key}" in keys
    for key in ("layer3.5.conv3.weight", "layer4.2.bn3.num_batches_tracked"):
        assert f"features.{key}" in keys
    # 53 convolutions and 53 norms of five tensors each.
    assert len(keys) == 53 * 6


def test_the_maps_have_no_negatives_and_nothing_is_written_over() -> None:
    network = ResNet(ResNetShape(blocks=(2, 1), bottleneck=False, width=8), n_channels=2)
    outputs: list[tuple[str, Tensor, Tensor]] = []
    for name, part in network.features.named_modules():
        part.register_forward_hook(lambda _module, _inputs, maps, name=name: outputs.append((name, maps, maps.clone())))
    maps = network(torch.randn(2, 2, 32, 32))
    assert maps.min() >= 0
    for name, result, expected in outputs:
        assert torch.equal(result, expected), name
