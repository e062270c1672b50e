"""What an image of a batch is for."""

from enum import IntEnum


class Kind(IntEnum):
    """Whose label an image of a batch carries."""

    LABELLED = 0
    PSEUDO_LABELLED = 1
    NORM_ONLY = 2  # steadies the norms, has no loss
