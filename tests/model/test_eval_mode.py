"""Test that temporary evaluation mode restores the mode of every layer, even after an error."""

import pytest
import torch
from torch import nn

from distangle.model import eval_mode


def test_every_part_is_back_in_its_own_mode_also_after_an_error() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Sequential(nn.Dropout(0.5)))
    model.train()
    model[1].eval()  # a frozen norm inside a network that is trained
    before = [part.training for part in model.modules()]
    assert before == [True, True, False, True, True]

    def fail() -> None:
        with eval_mode(model):
            assert not any(part.training for part in model.modules())
            model(torch.zeros(1, 3, 4, 4))  # three channels instead of one

    with pytest.raises(RuntimeError, match="expected input"):
        fail()
    assert [part.training for part in model.modules()] == before
