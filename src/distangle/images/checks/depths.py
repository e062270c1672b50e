"""Find planes of a channel with another bit depth, stretched or sign-shifted."""

from collections import Counter
from collections.abc import Iterator

import pandas as pd

from distangle.images.checks.planes import finding, first_of
from distangle.screen.problems import Problem

LEVELS = 16  # steps from the least to the most value, below which a plane is too empty to tell
SIGN = 1 << 15  # what signed 16 bits become when they are stored as unsigned
_FIX = "Export these planes as the others were; distangle never rescales a file by itself."


def check_depths(planes: pd.DataFrame) -> Iterator[Problem]:
    """Find channels whose planes were written in different ways.

    Args:
        planes: From `survey`, those that could be read.
    """
    for channel, group in planes.groupby("channel", sort=False):
        varied = group[group["spread"] > 0]
        if len(varied):
            yield from _signed(varied)
            yield from _stretched(varied)
            yield from _bits(str(channel), varied)


def _signed(group: pd.DataFrame) -> Iterator[Problem]:
    shifted = group["least"] >= SIGN
    if not shifted.any():
        return
    row, n = first_of(group, shifted), int(shifted.sum())
    mixed = n < len(group)
    what = f"{n} of {len(group)} planes begin at {SIGN}: signed numbers, stored as unsigned ones"
    kind = "signed and unsigned planes" if mixed else "signed planes"
    yield finding(row, "error" if mixed else "warning", kind, what, f"Subtract {SIGN} on export. {_FIX}", count=n)


def _stretched(group: pd.DataFrame) -> Iterator[Problem]:
    steps = Counter(int(step) for step in group["step"])
    usual, _ = steps.most_common(1)[0]
    for step in steps:
        # A dim plane of few values may skip some by chance: 4 is 10 bits in 12, 257 is 8 in 16.
        of_step = group[(group["step"] == step) & (group["most"] - group["least"] >= LEVELS * step)]
        n = len(of_step)
        if n and step != usual and max(step, usual) >= 4:
            row = first_of(group, group.index.isin(of_step.index))
            what = f"the values of {n} of {len(group)} planes go in steps of {step}, of the others in steps of {usual}"
            yield finding(row, "error", "planes rescaled", what, _FIX, count=n)


def _bits(channel: str, group: pd.DataFrame) -> Iterator[Problem]:
    limits = group.loc[group["clipped"] > 0, "most"].astype(int)
    for limit in sorted(set(limits)):
        beyond = group["most"] > limit
        clipped = (group["clipped"] > 0) & (group["most"] == limit)
        if beyond.any():
            n = int(clipped.sum())
            what = (
                f"{n} of {len(group)} planes of {channel} clip at {limit} ({limit.bit_length()} bits), "
                f"{int(beyond.sum())} others go up to {int(group['most'].max())}"
            )
            yield finding(first_of(group, clipped), "error", "mixed bit depth", what, _FIX, count=n)
