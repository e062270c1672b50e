"""Batches of sites from tensors, for tests that explain without a table."""

from typing import Any

from torch import Tensor

from distangle.explain import SiteBatch


def batch(images: Tensor, cell_types: Tensor | None, targets: Tensor, **options: Any) -> SiteBatch:
    """Return sites to explain, with `references`, `controls` or `other_wells` where given."""
    return SiteBatch(images=images, cell_types=cell_types, targets=targets, **options)
