"""HiResCAM and LayerCAM: gradients at each place, not averaged."""

import torch
from jaxtyping import Float
from torch import Tensor

from distangle.axes import FeatureMaps

SignedMaps = Float[Tensor, "site height width"]


def hires_product(activations: FeatureMaps, gradient: FeatureMaps) -> SignedMaps:
    r"""Multiply activation and gradient place by place and sum over features.

    $$ \sum_k \frac{\partial y^c}{\partial A^k} \odot A^k $$

    A place whose activations do not act on the output gets nothing, which Grad-CAM's mean over places does not
    promise. For the maps that are pooled the gradient is the same everywhere, and this is Grad-CAM.

    Source: Draelos and Carin 2020, Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
        networks (arXiv:2011.08891), which prints no ReLU; `ActivationMaps.maps` keeps the positive part as for all
        methods, `raw` is the printed map.

    Args:
        activations: A of a layer.
        gradient: dy / dA.
    """
    return torch.einsum("skhw,skhw->shw", activations, gradient)


def layer_product(activations: FeatureMaps, gradient: FeatureMaps) -> SignedMaps:
    r"""Sum activations weighted by the positive part of their gradients.

    $$ M^c = \mathrm{ReLU}\Big(\sum_k \mathrm{ReLU}\big(g^{kc}_{ij}\big) \cdot A^k_{ij}\Big),
       \quad g^{kc}_{ij} = \frac{\partial y^c}{\partial A^k_{ij}} $$

    What this returns is the sum before the outer ReLU. Meant for early layers too, where gradients of one map differ
    from place to place; it is blind to features that speak against the perturbation.

    Source: Jiang et al. 2021, LayerCAM: exploring hierarchical class activation maps for localization (IEEE
        Transactions on Image Processing 30, doi:10.1109/TIP.2021.3089943).

    Args:
        activations: A of a layer.
        gradient: dy / dA.
    """
    return torch.einsum("skhw,skhw->shw", activations, gradient.clamp(min=0))
