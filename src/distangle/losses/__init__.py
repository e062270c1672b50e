"""Compute Eqs. (3), (5), (6), (7) and (12) from logits and labels."""

from distangle.losses.arc_margin import arc_margin_loss
from distangle.losses.composite import composite_loss
from distangle.losses.semi_supervised import pseudo_weight, semi_supervised_loss
from distangle.losses.softmax import softmax_loss

__all__ = ["arc_margin_loss", "composite_loss", "pseudo_weight", "semi_supervised_loss", "softmax_loss"]
