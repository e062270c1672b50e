"""Find damaged, clipped, empty and blurred planes, alone or against their like.

Find planes of a channel with another bit depth, stretched or sign-shifted.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distangle.screen.problems import Problem, Severity

RUN = 2048  # pixels of one value in a row that no camera gives: half a block of 4 KiB at 16 bits
TAIL = 2  # whole rows of one value at the end, in planes that have other rows
CLIPPED = 0.01  # share of the pixels
LIKE = 12  # planes of a group before one of them can be called unlike the others
OUTLYING = 5.0  # robust standard deviations of the logarithm
USUAL = 0.2  # share of a channel's planes from which what they have is how the screen is


Row = Mapping[Hashable, Any]
"""A row of a survey by the names of its columns."""


def check_planes(planes: pd.DataFrame) -> Iterator[Problem]:
    """Find what is odd in single planes.

    Args:
        planes: From `survey`.
    """
    for row in planes[planes["reason"] != ""].to_dict("records"):
        # A reader ends its refusal with what to do; said once is enough.
        said, separator, to_do = str(row["reason"]).partition(". Copy it again")
        fix = f"Copy it again{to_do}" if separator else "Copy it again, or index without this site."
        yield finding(row, "error", "unreadable image", said, fix)
    readable = planes[planes["reason"] == ""]
    yield from _damaged(readable)
    yield from _clipped(readable)
    yield from _empty(readable)
    yield from _blurred(readable)


def finding(row: Row, severity: Severity, kind: str, what: str, fix: str, *, count: int = 1) -> Problem:
    """Return a finding at the place of a plane, a row of the survey."""
    page = f" page {row['page']}" if int(str(row["page"])) >= 0 else ""
    place = {name: str(row[name]) for name in ("experiment", "plate", "well", "site", "channel")}
    return Problem(severity=severity, kind=kind, what=what, file=f"{row['path']}{page}", fix=fix, count=count, **place)


def comparable_groups(planes: pd.DataFrame) -> list[tuple[str, np.ndarray]]:
    """Return groups of planes of one channel and experiment: name and positions.

    Where an experiment has too few, all of one channel and cell type; where these are too few, none.
    """
    groups: list[tuple[str, np.ndarray]] = []
    small: list[int] = []
    for key, rows in planes.groupby(["channel", "experiment"], sort=False).indices.items():
        channel, experiment = _pair(key)
        if len(rows) >= LIKE:
            groups.append((f"{channel} of {experiment}", np.asarray(rows)))
        else:
            small += np.asarray(rows).tolist()
    left = planes.iloc[small]
    for key, rows in left.groupby(["channel", "cell_type"], sort=False).indices.items():
        channel, cell_type = _pair(key)
        if len(rows) >= LIKE:
            groups.append((f"{channel} of {cell_type or 'the screen'}", np.asarray(small)[rows]))
    return groups


def _pair(key: Any) -> tuple[str, str]:
    return str(key[0]), str(key[1])


def outliers(values: np.ndarray) -> np.ndarray:
    """Return robust standard deviations from the median, on a logarithmic scale.

    Args:
        values: Above zero; at least two.
    """
    logs = np.log(np.maximum(values, 1e-12))
    away = logs - np.median(logs)
    # A few percent is what any two fields differ by: no outlier where all others happen to agree.
    return np.asarray(away / max(1.4826 * float(np.median(np.abs(away))), 0.05))


def _damaged(planes: pd.DataFrame) -> Iterator[Problem]:
    constant = planes["std"] == 0
    for row in planes[constant].to_dict("records"):
        what = f"every pixel is {row['min']:.0f}"
        yield finding(row, "error", "constant plane", what, "Copy the file again; if it is so, the camera saw nothing.")
    tail = (planes["tail_rows"] >= TAIL) & ~constant
    hole = (planes["longest_constant_run"] >= RUN) & ~tail & ~constant
    for kind, chosen in (("constant tail", tail), ("run of one value", hole)):
        often = chosen.groupby(planes["channel"]).mean()
        usual = set(often[often > USUAL].index)
        for row in planes[chosen & ~planes["channel"].isin(usual)].to_dict("records"):
            yield finding(
                row,
                "error",
                kind,
                _tail(row) if kind == "constant tail" else _hole(row),
                "A copy that was cut short looks so, and this format may have no checksum: compare with the original.",
            )
        for channel in sorted(usual):
            n = int((chosen & (planes["channel"] == channel)).sum())
            yield Problem(
                severity="note",
                kind=f"{kind} in many planes",
                what=f"{n} of {int((planes['channel'] == channel).sum())} planes: masked, cropped or stitched images?",
                channel=str(channel),
                fix="Nothing, if the images were masked; damage cannot be told from that here.",
                count=n,
            )


def _tail(row: Row) -> str:
    return f"the last {float(str(row['tail_rows'])):.0f} rows hold one value; above them the image goes on"


def _hole(row: Row) -> str:
    length, start = (float(str(row[name])) for name in ("longest_constant_run", "longest_constant_run_start"))
    return f"{length:.0f} pixels from pixel {start:.0f} on hold one value"


def _clipped(planes: pd.DataFrame) -> Iterator[Problem]:
    for row in planes[planes["clipped"] >= CLIPPED].to_dict("records"):
        what = f"{row['clipped']:.1%} of the pixels are at {row['max']:.0f}, where the camera or the file clips"
        fix = "Brightness above this is lost: expose shorter, or do without this channel's intensity."
        yield finding(row, "warning", "saturated", what, fix)


def _empty(planes: pd.DataFrame) -> Iterator[Problem]:
    contrast = (planes["p99_9"] - planes["median"]).to_numpy()
    spread = planes["std"].to_numpy()
    records = planes.to_dict("records")
    for words, rows in comparable_groups(planes):
        usual, usual_spread = np.median(contrast[rows]), np.median(spread[rows])
        for k in rows[(contrast[rows] < 0.15 * usual) & (spread[rows] < 0.3 * usual_spread) & (spread[rows] > 0)]:
            what = f"the brightest are {contrast[k]:.0f} above the middle; {usual:.0f} is usual for {words}"
            yield finding(records[k], "warning", "empty field", what, "Look at it: no cells, no stain, or no light.")


def _blurred(planes: pd.DataFrame) -> Iterator[Problem]:
    sharpness = planes["sharpness"].to_numpy()
    away = np.full(len(planes), np.nan)
    usual, group_of = np.full(len(planes), np.nan), np.full(len(planes), "", dtype=object)
    for words, rows in comparable_groups(planes):
        rows = rows[sharpness[rows] > 0]
        if len(rows) >= LIKE:
            away[rows], usual[rows], group_of[rows] = outliers(sharpness[rows]), np.median(sharpness[rows]), words
    with np.errstate(invalid="ignore"):
        far = (away < -OUTLYING) & (sharpness < 0.5 * usual)
    records = planes.to_dict("records")
    for position in planes["position"][far].unique():
        rows = np.flatnonzero((planes["position"] == position).to_numpy())
        worst = int(rows[np.nanargmin(away[rows])])
        # The lens moves for all stains of a field; a treatment may take the structure of one.
        whole = np.mean(away[rows][np.isfinite(away[rows])] < -OUTLYING / 2) > 0.5
        yield finding(
            {**records[worst], "channel": ", ".join(planes["channel"].iloc[rows[far[rows]]])},
            "warning" if whole else "note",
            "out of focus" if whole else "little fine structure in a channel",
            f"fine structure is {sharpness[worst]:.4f} of the variance, for {group_of[worst]} {usual[worst]:.4f}",
            "Look at it; image the field again or drop it." if whole else "A treatment may do that; look at it.",
        )


def judge_planes(planes: pd.DataFrame) -> tuple[int, int]:
    """Return how many planes could be compared, and how many had too few alike."""
    n = sum(len(rows) for _, rows in comparable_groups(planes))
    return n, len(planes) - n


def first_of(planes: pd.DataFrame, chosen: Sequence[bool] | np.ndarray | pd.Series) -> Row:
    """Return the first chosen row of a survey."""
    return dict(planes[np.asarray(chosen)].iloc[0])


LEVELS = 16  # steps from the least to the most value, below which a plane is too empty to tell
SIGN = 1 << 15  # what signed 16 bits become when they are stored as unsigned
_FIX = "Export these planes as the others were; distangle never rescales a file by itself."


def check_depths(planes: pd.DataFrame) -> Iterator[Problem]:
    """Find channels whose planes were written in different ways.

    Args:
        planes: From `survey`, those that could be read.
    """
    for channel, group in planes.groupby("channel", sort=False):
        varied = group[group["std"] > 0]
        if len(varied):
            yield from _signed(varied)
            yield from _stretched(varied)
            yield from _bits(str(channel), varied)


def _signed(group: pd.DataFrame) -> Iterator[Problem]:
    shifted = group["min"] >= SIGN
    if not shifted.any():
        return
    row, n = first_of(group, shifted), int(shifted.sum())
    mixed = n < len(group)
    what = f"{n} of {len(group)} planes begin at {SIGN}: signed numbers, stored as unsigned ones"
    kind = "signed and unsigned planes" if mixed else "signed planes"
    yield finding(row, "error" if mixed else "warning", kind, what, f"Subtract {SIGN} on export. {_FIX}", count=n)


def _stretched(group: pd.DataFrame) -> Iterator[Problem]:
    steps = Counter(int(step) for step in group["value_step"])
    usual, _ = steps.most_common(1)[0]
    for step in steps:
        # A dim plane of few values may skip some by chance: 4 is 10 bits in 12, 257 is 8 in 16.
        of_step = group[(group["value_step"] == step) & (group["max"] - group["min"] >= LEVELS * step)]
        n = len(of_step)
        if n and step != usual and max(step, usual) >= 4:
            row = first_of(group, group.index.isin(of_step.index))
            what = f"the values of {n} of {len(group)} planes go in steps of {step}, of the others in steps of {usual}"
            yield finding(row, "error", "planes rescaled", what, _FIX, count=n)


def _bits(channel: str, group: pd.DataFrame) -> Iterator[Problem]:
    limits = group.loc[group["clipped"] > 0, "max"].astype(int)
    for limit in sorted(set(limits)):
        beyond = group["max"] > limit
        clipped = (group["clipped"] > 0) & (group["max"] == limit)
        if beyond.any():
            n = int(clipped.sum())
            what = (
                f"{n} of {len(group)} planes of {channel} clip at {limit} ({limit.bit_length()} bits), "
                f"{int(beyond.sum())} others go up to {int(group['max'].max())}"
            )
            yield finding(first_of(group, clipped), "error", "mixed bit depth", what, _FIX, count=n)
