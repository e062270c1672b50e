"""Find damaged, clipped, empty, blurred and rescaled planes."""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distangle.screen.problems import Problem, Severity

MIN_RUN = 2048  # consecutive equal pixels that no camera writes: half a block of 4 KiB at 16 bits
MIN_TAIL_ROWS = 2  # constant rows at the end of a plane with other rows
MIN_CLIPPED_SHARE = 0.01  # share of the pixels
MIN_GROUP = 12  # planes that a group needs to be compared
MAD_LIMIT = 5.0  # robust standard deviations of the logarithm
USUAL_SHARE = 0.2  # a larger share of a channel's planes makes a pattern normal for the screen
MIN_STEPS = 16  # a plane with fewer steps from minimum to maximum is too empty to judge
SIGN_OFFSET = 1 << 15  # offset of signed 16-bit values stored as unsigned
_FIX = "Export these planes like the others; distangle never rescales a file."

Row = Mapping[Hashable, Any]
"""A row of a survey by the names of its columns."""


def check_planes(planes: pd.DataFrame) -> Iterator[Problem]:
    """Find damaged, clipped, empty and blurred planes.

    Args:
        planes: From `measure_planes`.
    """
    for row in planes[planes["reason"] != ""].to_dict("records"):
        # The message of a reader ends with advice; state it once.
        reason_text, separator, advice = str(row["reason"]).partition(". Copy it again")
        fix = f"Copy it again{advice}" if separator else "Copy it again, or index without this site."
        yield plane_problem(row, "error", "unreadable image", reason_text, fix)
    readable = planes[planes["reason"] == ""]
    yield from _damaged(readable)
    yield from _clipped(readable)
    yield from _empty(readable)
    yield from _blurred(readable)


def plane_problem(row: Row, severity: Severity, kind: str, description: str, fix: str, *, count: int = 1) -> Problem:
    """Return a problem at the position of a plane, a row of the measurements."""
    page = f" page {row['page']}" if int(str(row["page"])) >= 0 else ""
    place = {name: str(row[name]) for name in ("experiment", "plate", "well", "site", "channel")}
    return Problem(
        severity=severity, kind=kind, what=description, file=f"{row['path']}{page}", fix=fix, count=count, **place
    )


def comparable_groups(planes: pd.DataFrame) -> list[tuple[str, np.ndarray]]:
    """Return groups of planes of one channel and experiment: name and positions.

    If an experiment has too few planes, the group is the channel and cell type; if that has too few, there is none.
    """
    groups: list[tuple[str, np.ndarray]] = []
    small: list[int] = []
    for key, rows in planes.groupby(["channel", "experiment"], sort=False).indices.items():
        channel, experiment = _as_names(key)
        if len(rows) >= MIN_GROUP:
            groups.append((f"{channel} of {experiment}", np.asarray(rows)))
        else:
            small += np.asarray(rows).tolist()
    rest = planes.iloc[small]
    for key, rows in rest.groupby(["channel", "cell_type"], sort=False).indices.items():
        channel, cell_type = _as_names(key)
        if len(rows) >= MIN_GROUP:
            groups.append((f"{channel} of {cell_type or 'the screen'}", np.asarray(small)[rows]))
    return groups


def _as_names(key: Any) -> tuple[str, str]:
    return str(key[0]), str(key[1])


def robust_z(values: np.ndarray) -> np.ndarray:
    """Return robust standard deviations from the median, on a logarithmic scale.

    Args:
        values: Positive values, at least two.
    """
    logs = np.log(np.maximum(values, 1e-12))
    deviations = logs - np.median(logs)
    # Any two fields differ by a few percent, so there are no outliers below that.
    return np.asarray(deviations / max(1.4826 * float(np.median(np.abs(deviations))), 0.05))


def _damaged(planes: pd.DataFrame) -> Iterator[Problem]:
    is_constant = planes["std"] == 0
    for row in planes[is_constant].to_dict("records"):
        description = f"every pixel is {row['min']:.0f}"
        yield plane_problem(
            row,
            "error",
            "constant plane",
            description,
            "Copy the file again; if it is unchanged, the camera recorded nothing.",
        )
    is_tail = (planes["tail_rows"] >= MIN_TAIL_ROWS) & ~is_constant
    is_run = (planes["longest_constant_run"] >= MIN_RUN) & ~is_tail & ~is_constant
    for kind, is_affected in (("constant tail", is_tail), ("run of one value", is_run)):
        share = is_affected.groupby(planes["channel"]).mean()
        usual = set(share[share > USUAL_SHARE].index)
        for row in planes[is_affected & ~planes["channel"].isin(usual)].to_dict("records"):
            yield plane_problem(
                row,
                "error",
                kind,
                _tail_text(row) if kind == "constant tail" else _run_text(row),
                "An interrupted copy looks like this, and this format may have no checksum: compare with the original.",
            )
        for channel in sorted(usual):
            n = int((is_affected & (planes["channel"] == channel)).sum())
            yield Problem(
                severity="note",
                kind=f"{kind} in many planes",
                what=f"{n} of {int((planes['channel'] == channel).sum())} planes: masked, cropped or stitched images?",
                channel=str(channel),
                fix="If the images were masked, do nothing; this check cannot distinguish masks from damage.",
                count=n,
            )


def _tail_text(row: Row) -> str:
    return f"the last {float(str(row['tail_rows'])):.0f} rows have one value; the image continues above them"


def _run_text(row: Row) -> str:
    length, start = (float(str(row[name])) for name in ("longest_constant_run", "longest_constant_run_start"))
    return f"{length:.0f} pixels from pixel {start:.0f} on have one value"


def _clipped(planes: pd.DataFrame) -> Iterator[Problem]:
    for row in planes[planes["clipped"] >= MIN_CLIPPED_SHARE].to_dict("records"):
        description = f"{row['clipped']:.1%} of the pixels are at {row['max']:.0f}, where the camera or the file clips"
        fix = "Brightness above this is lost: use a shorter exposure, or do not use the intensity of this channel."
        yield plane_problem(row, "warning", "saturated", description, fix)


def _empty(planes: pd.DataFrame) -> Iterator[Problem]:
    contrast = (planes["p99_9"] - planes["median"]).to_numpy()
    spread = planes["std"].to_numpy()
    records = planes.to_dict("records")
    for group_name, rows in comparable_groups(planes):
        usual, usual_spread = np.median(contrast[rows]), np.median(spread[rows])
        for k in rows[(contrast[rows] < 0.15 * usual) & (spread[rows] < 0.3 * usual_spread) & (spread[rows] > 0)]:
            description = (
                f"the 99.9th percentile is {contrast[k]:.0f} above the median; {usual:.0f} is usual for {group_name}"
            )
            yield plane_problem(
                records[k], "warning", "empty field", description, "Inspect it: no cells, no stain, or no light."
            )


def _blurred(planes: pd.DataFrame) -> Iterator[Problem]:
    sharpness = planes["sharpness"].to_numpy()
    z = np.full(len(planes), np.nan)
    usual, group_of = np.full(len(planes), np.nan), np.full(len(planes), "", dtype=object)
    for group_name, rows in comparable_groups(planes):
        rows = rows[sharpness[rows] > 0]
        if len(rows) >= MIN_GROUP:
            z[rows], usual[rows], group_of[rows] = robust_z(sharpness[rows]), np.median(sharpness[rows]), group_name
    with np.errstate(invalid="ignore"):
        is_outlier = (z < -MAD_LIMIT) & (sharpness < 0.5 * usual)
    records = planes.to_dict("records")
    for position in planes["position"][is_outlier].unique():
        rows = np.flatnonzero((planes["position"] == position).to_numpy())
        worst = int(rows[np.nanargmin(z[rows])])
        # Focus affects all channels of a field; a treatment may affect the structure of one.
        is_whole_field = np.mean(z[rows][np.isfinite(z[rows])] < -MAD_LIMIT / 2) > 0.5
        yield plane_problem(
            {**records[worst], "channel": ", ".join(planes["channel"].iloc[rows[is_outlier[rows]]])},
            "warning" if is_whole_field else "note",
            "out of focus" if is_whole_field else "little fine structure in a channel",
            f"fine structure is {sharpness[worst]:.4f} of the variance, for {group_of[worst]} {usual[worst]:.4f}",
            "Inspect it; image the field again or drop it."
            if is_whole_field
            else "A treatment may cause this; inspect it.",
        )


def judge_planes(planes: pd.DataFrame) -> tuple[int, int]:
    """Return how many planes have a comparable group, and how many have none."""
    n = sum(len(rows) for _, rows in comparable_groups(planes))
    return n, len(planes) - n


def first_of(planes: pd.DataFrame, is_chosen: Sequence[bool] | np.ndarray | pd.Series) -> Row:
    """Return the first chosen row of the measurements."""
    return dict(planes[np.asarray(is_chosen)].iloc[0])


def check_depths(planes: pd.DataFrame) -> Iterator[Problem]:
    """Find channels whose planes were written in different ways.

    Args:
        planes: Readable planes from `measure_planes`.
    """
    for channel, group in planes.groupby("channel", sort=False):
        varied = group[group["std"] > 0]
        if len(varied):
            yield from _signed(varied)
            yield from _stretched(varied)
            yield from _mixed_bit_depth(str(channel), varied)


def _signed(group: pd.DataFrame) -> Iterator[Problem]:
    is_shifted = group["min"] >= SIGN_OFFSET
    if not is_shifted.any():
        return
    row, n = first_of(group, is_shifted), int(is_shifted.sum())
    mixed = n < len(group)
    description = f"{n} of {len(group)} planes begin at {SIGN_OFFSET}: signed values stored as unsigned"
    kind = "signed and unsigned planes" if mixed else "signed planes"
    yield plane_problem(
        row, "error" if mixed else "warning", kind, description, f"Subtract {SIGN_OFFSET} on export. {_FIX}", count=n
    )


def _stretched(group: pd.DataFrame) -> Iterator[Problem]:
    steps = Counter(int(step) for step in group["value_step"])
    usual, _ = steps.most_common(1)[0]
    for step in steps:
        # A dim plane may skip values by chance; a step of 4 is 10 bits in 12, of 257 is 8 bits in 16.
        of_step = group[(group["value_step"] == step) & (group["max"] - group["min"] >= MIN_STEPS * step)]
        n = len(of_step)
        if n and step != usual and max(step, usual) >= 4:
            row = first_of(group, group.index.isin(of_step.index))
            description = f"the values of {n} of {len(group)} planes have steps of {step}, those of the others {usual}"
            yield plane_problem(row, "error", "planes rescaled", description, _FIX, count=n)


def _mixed_bit_depth(channel: str, group: pd.DataFrame) -> Iterator[Problem]:
    limits = group.loc[group["clipped"] > 0, "max"].astype(int)
    for limit in sorted(set(limits)):
        is_above = group["max"] > limit
        is_clipped = (group["clipped"] > 0) & (group["max"] == limit)
        if is_above.any():
            n = int(is_clipped.sum())
            description = (
                f"{n} of {len(group)} planes of {channel} clip at {limit} ({limit.bit_length()} bits), "
                f"{int(is_above.sum())} others go up to {int(group['max'].max())}"
            )
            yield plane_problem(first_of(group, is_clipped), "error", "mixed bit depth", description, _FIX, count=n)
