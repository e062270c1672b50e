"""A network with hand-set weights, whose output for an image can be computed on paper."""

import numpy as np
import pandas as pd
import torch

from distangle.explain import ExplainedSites
from distangle.model import ModelConfig, PerturbationClassifier, build_classifier

CELL = 16  # pixels a side of one place of its maps
GAIN, BIAS = 6.0, -2.0
NAMES = ("nothing", "first stain", "second stain")


def network() -> PerturbationClassifier:
    """The logit of perturbation k is GAIN times the mean over places of stain k's positive intensity, plus BIAS.

    The third stain is not looked at; perturbation 0 has the logit 0. Only one pixel of each place is read.
    """
    config = ModelConfig(backbone="resnet_small", n_channels=3, n_perturbations=3, embedding_size=2)
    model = build_classifier(config, seed=0).eval()
    features = model.backbone.features
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bn" not in name and "norm" not in name and "downsample.1" not in name:
                parameter.zero_()
        for k in (0, 1):
            features.conv1.weight[k, k, 1, 1] = 1
            for stage in (features.layer2, features.layer3, features.layer4):
                stage[0].downsample[0].weight[k, k] = 1
            model.neck.linear1.weight[k, k] = 1
            model.neck.linear2.weight[k, k] = 1
            model.linear_templates.weight[k + 1, k] = GAIN
            model.linear_templates.bias[k + 1] = BIAS
            model.cosine_templates.weight[k + 1, k] = 1
    return model


def log_probability(places: np.ndarray, target: int) -> float:
    """Compute by hand the log probability for an image of constant places.

    Args:
        places: [stain, row, column].
        target: Index of the perturbation.
    """
    means = np.maximum(places[:2], 0).mean((1, 2))
    logits = np.array([0.0, *(GAIN * means + BIAS)])
    return float(logits[target] - np.log(np.exp(logits).sum()))


def chosen_sites(
    n: int = 6, *, side: int = 4, seed: int = 0, untreated: float = 0.0
) -> tuple[ExplainedSites, np.ndarray]:
    """Sites of constant places of intensity 0 to 1, targets 1 and 2 in turn, and an untreated image for all of them.

    A fifth of the places, others for each stain, is ten times as bright: there is something to point at.

    Returns:
        The sites and their places, [site, stain, row, column].
    """
    rng = np.random.default_rng(seed)
    places = rng.uniform(0.05, 0.2, (n, 3, side, side)) * np.where(rng.uniform(size=(n, 3, side, side)) < 0.2, 10, 1)
    images = torch.from_numpy(np.kron(places, np.ones((CELL, CELL)))).float()
    targets = torch.arange(n) % 2 + 1
    names = [NAMES[int(target)] for target in targets]
    table = pd.DataFrame({
        "Metadata_Experiment": [f"HUVEC-{1 + k % 3:02d}" for k in range(n)],
        "Metadata_Plate": "1",
        "Metadata_Well": [f"B{2 + k:02d}" for k in range(n)],
        "Metadata_Site": 1,
        "Metadata_Role": "treatment",
        "perturbation": names,
        "predicted": names,
    })  # fmt: skip
    sites = ExplainedSites(
        table=table,
        images=images,
        raw=(images.numpy() * 100).astype(np.uint8),
        cell_types=None,
        targets=targets,
        channels=("w1", "w2", "w3"),
        perturbations=NAMES,
        controls=torch.full_like(images[:1], untreated),
    )
    return sites, places
