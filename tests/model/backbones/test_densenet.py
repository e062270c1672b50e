import pytest
import torch
from torch import Tensor
from torch.nn import functional

from distangle.model.backbones.densenet import DENSENETS, DenseNet, DenseNetShape, Transition

TINY = DenseNetShape(growth=4, blocks=(2, 3, 2), stem_features=8)


def with_random_values(network: torch.nn.Module) -> torch.nn.Module:
    """Set random norms; those of a new network are the identity."""
    randomness = torch.Generator().manual_seed(5)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var") or ("norm" in name and name.endswith(".weight")):
            tensor.uniform_(0.5, 1.5, generator=randomness)
        elif tensor.is_floating_point() and tensor.dim() == 1:
            tensor.normal_(0, 0.3, generator=randomness)
        elif tensor.is_floating_point():
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=randomness)
    return network


def printed_densenet(state: dict[str, Tensor], blocks: tuple[int, ...], images: Tensor, *, training: bool) -> Tensor:
    """DenseNet as Table 2 prints it, in plain loops over a state dict: the pool after the 1x1 convolution."""

    def norm_relu(maps: Tensor, name: str, *, relu: bool = True) -> Tensor:
        mean, variance = state[f"{name}.running_mean"].clone(), state[f"{name}.running_var"].clone()
        scaled = functional.batch_norm(
            maps, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"], training=training, eps=1e-5
        )
        return functional.relu(scaled) if relu else scaled

    stem = state["conv0.weight"]
    maps = functional.conv2d(images, stem, stride=2, padding=stem.shape[-1] // 2)
    maps = functional.max_pool2d(norm_relu(maps, "norm0"), 3, stride=2, padding=1)
    for block, n_layers in enumerate(blocks, start=1):
        for layer in range(1, n_layers + 1):
            name = f"denseblock{block}.denselayer{layer}"
            narrow = functional.conv2d(norm_relu(maps, f"{name}.norm1"), state[f"{name}.conv1.weight"])
            new = functional.conv2d(norm_relu(narrow, f"{name}.norm2"), state[f"{name}.conv2.weight"], padding=1)
            maps = torch.cat([maps, new], dim=1)
        if block < len(blocks):
            name = f"transition{block}"
            maps = functional.conv2d(norm_relu(maps, f"{name}.norm"), state[f"{name}.conv.weight"])
            maps = functional.avg_pool2d(maps, 2)
    return norm_relu(maps, "norm5", relu=False)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
def test_maps_and_gradients_are_those_of_the_printed_network(training: bool, recompute: bool) -> None:
    network = with_random_values(DenseNet(TINY, n_channels=5, recompute=recompute)).double().train(training)
    images = torch.randn(3, 5, 64, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    state = {name: value.detach().clone() for name, value in network.features.state_dict().items()}
    for name, _ in network.features.named_parameters():
        state[name].requires_grad_()
    expected = printed_densenet(state, TINY.blocks, images, training=training)
    output = network(images)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)

    cotangent = torch.randn(output.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (output * cotangent).sum().backward()
    (expected * cotangent).sum().backward()
    for name, parameter in network.features.named_parameters():
        torch.testing.assert_close(parameter.grad, state[name].grad, rtol=1e-8, atol=1e-8, msg=name)


def test_densenet121_in_float32_is_the_printed_network_within_1e_5() -> None:
    network = with_random_values(DenseNet(DENSENETS["densenet121"], n_channels=6)).eval()
    images = torch.randn(1, 6, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = printed_densenet(network.features.state_dict(), (6, 12, 24, 16), images, training=False)
        output = network(images)
    assert (output - expected).abs().max() / expected.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "n_parameters"),
    # torchvision's published totals, less the classifier of 1000 classes and its bias.
    [
        ("densenet121", 7_978_856 - 1_025_000),
        ("densenet161", 28_681_000 - 2_209_000),
        ("densenet169", 14_149_480 - 1_665_000),
        ("densenet201", 20_013_928 - 1_921_000),
    ],
)
def test_parameters_with_three_channels_are_as_many_as_published(name: str, n_parameters: int) -> None:
    with torch.device("meta"):
        network = DenseNet(DENSENETS[name], n_channels=3)
    assert sum(parameter.numel() for parameter in network.parameters()) == n_parameters


def test_keys_are_torchvisions() -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv0.weight"} | {f"{name}.{part}" for name in ("norm0", "norm5") for part in norm}
    for block, n_layers in enumerate((6, 12, 24, 16), start=1):
        for layer in range(1, n_layers + 1):
            prefix = f"denseblock{block}.denselayer{layer}"
            expected |= {f"{prefix}.conv1.weight", f"{prefix}.conv2.weight"}
            expected |= {f"{prefix}.{name}.{part}" for name in ("norm1", "norm2") for part in norm}
        if block < 4:
            expected |= {f"transition{block}.conv.weight"} | {f"transition{block}.norm.{part}" for part in norm}
    with torch.device("meta"):
        network = DenseNet(DENSENETS["densenet121"], n_channels=3)
    assert set(network.state_dict()) == {f"features.{name}" for name in expected}
    assert len(expected) == 725


# Table 2: features, then pixels along an edge for 512-pixel images.
TABLE_2 = {
    "conv0": (96, 256),
    "pool0": (96, 128),
    "denseblock1": (384, 128),
    "transition1": (192, 64),
    "denseblock2": (768, 64),
    "transition2": (384, 32),
    "denseblock3": (2112, 32),
    "transition3": (1056, 16),
    "denseblock4": (2208, 16),
    "norm5": (2208, 16),
}


@pytest.mark.parametrize(("size", "device"), [(512, "meta"), (64, "cpu")])
def test_shapes_are_those_of_table_2(size: int, device: str) -> None:
    with torch.device(device):
        network = DenseNet(DENSENETS["densenet161"], n_channels=6).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for name in TABLE_2:
        network.features.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, maps, name=name: shapes.update({name: tuple(maps.shape)})
        )
    with torch.no_grad():
        network(torch.zeros(1, 6, size, size, device=device))
    assert shapes == {name: (1, n, edge * size // 512, edge * size // 512) for name, (n, edge) in TABLE_2.items()}


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_pooling_before_the_convolution_changes_nothing(size: tuple[int, int]) -> None:
    transition = with_random_values(Transition(12)).eval()
    maps = torch.randn(2, 12, *size, generator=torch.Generator().manual_seed(0))
    ours = transition(maps)
    transition.pool_first = False
    torch.testing.assert_close(ours, transition(maps), rtol=1e-5, atol=1e-5)


def test_the_pool_comes_first_by_default() -> None:
    transition, shapes = Transition(12), []
    transition.conv.register_forward_hook(lambda _module, _inputs, maps: shapes.append(tuple(maps.shape)))
    transition(torch.zeros(2, 12, 8, 8))
    assert shapes == [(2, 6, 4, 4)]


@pytest.mark.parametrize("training", [False, True])
def test_no_later_step_writes_over_what_a_hook_holds(training: bool) -> None:
    network = with_random_values(DenseNet(TINY, n_channels=2)).train(training)
    outputs: list[tuple[str, Tensor, Tensor]] = []
    for name, part in network.features.named_modules():
        if not any(True for _ in part.children()):
            part.register_forward_hook(
                lambda _module, _inputs, maps, name=name: outputs.append((name, maps, maps.clone()))
            )
    maps = network(torch.randn(2, 2, 64, 64))
    functional.relu(maps)
    assert len(outputs) > 30
    for name, result, expected in outputs:
        assert torch.equal(result, expected), name


def test_the_small_one_halves_a_64_pixel_image_three_times() -> None:
    network = DenseNet(DENSENETS["densenet_small"], n_channels=3).eval()
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, 64, 64))
    assert maps.shape == (1, network.n_features, 8, 8)


def test_stem_and_growth_can_be_chosen() -> None:
    shape = DenseNetShape(
        growth=6, blocks=(1, 2), stem_features=10, stem_kernel=5, stem_stride=1, stem_pool=False, bottleneck=3
    )
    network = DenseNet(shape, n_channels=4).eval()
    assert network.features.conv0.weight.shape == (10, 4, 5, 5)
    assert network.features.denseblock1.denselayer1.conv1.weight.shape == (18, 10, 1, 1)
    with torch.no_grad():
        maps = network(torch.zeros(1, 4, 32, 32))
    # (10 + 6) / 2 + 2 * 6 features; only the transition halves the image.
    assert maps.shape == (1, 20, 16, 16)
    assert network.n_features == 20
