import pytest
import torch

from distangle.errors import ExplanationError
from distangle.model import ModelConfig, PerturbationClassifier, find_layer, layer_names


def printed_network() -> PerturbationClassifier:
    with torch.device("meta"):
        return PerturbationClassifier(ModelConfig(n_channels=6, n_perturbations=3))


@pytest.mark.parametrize("prefix", ["features.", "backbone.features."])
def test_a_layer_is_found_by_torchvisions_name(prefix: str) -> None:
    model = printed_network()
    layer = find_layer(model, f"{prefix}denseblock4.denselayer24")
    assert layer is model.backbone.features.denseblock4.denselayer24


def test_every_listed_name_is_found_and_the_heads_are_not_layers() -> None:
    model = printed_network()
    names = layer_names(model)
    assert names[:4] == ["features", "features.conv0", "features.norm0", "features.relu0"]
    assert names[-1] == "features.norm5"
    for name in names:
        assert find_layer(model, name) is model.backbone.get_submodule(name)
    with pytest.raises(ExplanationError, match="no layer 'neck'"):
        find_layer(model, "neck")


def test_a_near_miss_is_told_what_is_there() -> None:
    with pytest.raises(ExplanationError, match=r"densenet161 has no layer 'features\.denseblok4'") as error:
        find_layer(printed_network(), "features.denseblok4")
    assert "Did you mean 'features.denseblock4'" in str(error.value)
    assert "features.norm5" in str(error.value)
    with pytest.raises(ExplanationError) as error:
        find_layer(printed_network(), "backbone.features.denseblock4.denselayer25")
    assert "features.denseblock4.denselayer24" in str(error.value)
    assert "denseblock1" not in str(error.value)
