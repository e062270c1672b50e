import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from distangle.model import CosineTemplates, LinearTemplates


def test_logits_are_template_times_embedding_plus_bias() -> None:
    templates = LinearTemplates(2, 3)
    templates.load_state_dict(
        {"weight": torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]]), "bias": torch.tensor([0.5, -0.5])}
    )
    logits = templates(torch.tensor([[2.0, 1.0, -1.0]]))
    # 2 + 2 - 3 + 0.5; 0 - 1 - 4 - 0.5
    assert logits.tolist() == [[1.5, -5.5]]


def test_cosines_are_those_of_the_angles() -> None:
    templates = CosineTemplates(4, 2)
    angles = [0.0, 60.0, 90.0, 180.0]
    directions = [[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in angles]
    lengths = torch.tensor([1.0, 7.0, 0.01, 100.0])
    templates.load_state_dict({"weight": torch.tensor(directions) * lengths[:, None]})
    cosines = templates(torch.tensor([[25.0, 0.0]]))
    torch.testing.assert_close(cosines, torch.tensor([[1.0, 0.5, 0.0, -1.0]]), atol=1e-6, rtol=0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e6))
def test_cosines_are_torchs_in_bounds_and_unmoved_by_length(seed: int, scale: float) -> None:
    randomness = torch.Generator().manual_seed(seed)
    templates = CosineTemplates(5, 8)
    torch.nn.init.normal_(templates.weight, generator=randomness)
    embedding = torch.randn(3, 8, generator=randomness)
    cosines = templates(embedding)
    expected = functional.cosine_similarity(embedding[:, None], templates.weight[None], dim=2)
    torch.testing.assert_close(cosines, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(templates(scale * embedding), cosines, atol=1e-6, rtol=1e-5)
    assert cosines.abs().max() <= 1


def test_a_site_on_its_template_is_never_above_one() -> None:
    templates = CosineTemplates(200, 1024)
    torch.nn.init.normal_(templates.weight, generator=torch.Generator().manual_seed(0))
    cosines = templates(3 * templates.weight.detach())
    assert cosines.max() <= 1
    torch.testing.assert_close(cosines.diagonal(), torch.ones(200), atol=1e-6, rtol=0)


def test_an_embedding_or_template_of_zeros_has_cosine_zero_and_finite_gradients() -> None:
    templates = CosineTemplates(2, 3)
    templates.load_state_dict({"weight": torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])})
    embedding = torch.zeros(1, 3, requires_grad=True)
    cosines = templates(embedding)
    cosines.sum().backward()
    assert cosines.tolist() == [[0.0, 0.0]]
    assert embedding.grad is not None
    assert embedding.grad.isfinite().all()
    assert templates.weight.grad is not None
    assert templates.weight.grad.isfinite().all()


def test_cosines_stay_float32_under_autocast() -> None:
    templates = CosineTemplates(4, 64)
    torch.nn.init.normal_(templates.weight, generator=torch.Generator().manual_seed(0))
    embedding = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
    plain = templates(embedding)
    with torch.autocast("cpu", torch.bfloat16):
        output = templates(embedding)
        of_bfloat16 = templates(embedding.bfloat16())
    assert output.dtype == torch.float32
    assert torch.equal(output, plain)
    assert of_bfloat16.dtype == torch.float32
    torch.testing.assert_close(of_bfloat16, plain, atol=5e-3, rtol=0)


@pytest.mark.parametrize("templates", [LinearTemplates(3, 8), CosineTemplates(3, 8)])
def test_embeddings_of_another_size_are_refused(templates: torch.nn.Module) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        templates(torch.zeros(2, 7))
