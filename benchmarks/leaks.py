"""A thousand explanations in one process: no hook stays, no tensor, no memory.

Limits: 0 hooks and 0 tensors more after 1,000 calls of every kind than after the first 100, at most 8 MiB more memory.
"""

import gc
import sys

import torch

import measure
from distangle.explain import SiteBatch, attribution_map, channel_shapley
from distangle.model import ModelConfig, PerturbationClassifier, build_classifier

CALLS, WARM = 1000, 100


def hooks(model: PerturbationClassifier) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(part, kind)) for part in model.modules() for kind in kinds)


def tensors() -> int:
    gc.collect()
    return sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())


def main() -> int:
    measure.hold_one_thread()
    model = build_classifier(
        ModelConfig(backbone="densenet_small", n_channels=4, n_perturbations=5, n_cell_types=2, embedding_size=8),
        seed=1,
    ).eval()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 4, 48, 48, generator=generator)
    arguments = (model, SiteBatch(images=images, cell_types=torch.eye(2), targets=torch.tensor([1, 4])))
    kinds = {
        "Grad-CAM, last maps": lambda: attribution_map(*arguments),
        "Grad-CAM, within": lambda: attribution_map(*arguments, layer="features.denseblock2"),
        "LayerCAM": lambda: attribution_map(*arguments, method="layer_cam", layer="features.denseblock2"),
        "Shapley": lambda: channel_shapley(*arguments),
    }
    verdicts = []
    for name, call in kinds.items():
        for _ in range(WARM):
            call()
        before = hooks(model), tensors(), measure.resident()
        for _ in range(CALLS - WARM):
            call()
        after = hooks(model), tensors(), measure.resident()
        verdicts.append(measure.verdict(f"hooks left by {CALLS} calls of {name}", after[0] - before[0], at_most=0))
        verdicts.append(measure.verdict(f"tensors left by {CALLS} calls of {name}", after[1] - before[1], at_most=0))
        memory_growth = (after[2] - before[2]) / 2**20
        verdicts.append(measure.verdict(f"memory left by {CALLS} calls of {name}, MiB", memory_growth, at_most=8))
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
