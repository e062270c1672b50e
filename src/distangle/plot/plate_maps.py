"""Draw the map of a plate."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from distangle.errors import ConfigError
from distangle.plot.canvas import COLORS, RunLike, bare_screen, canvas, open_run, run_metadata
from distangle.report.charts import BLUE, INK, MUTED, ORANGE, RULE
from distangle.report.plates import PlateGrid, WellState, held_out_plates, plate_grid
from distangle.results.predictions import Predictions
from distangle.results.scores import Scores
from distangle.screen import NEGATIVE, Role, parse_well, well_name

SCORE = "score"
GREY = "#c9d0d6"
_STATES = (
    (WellState.CORRECT, BLUE, "correct"),
    (WellState.WRONG, ORANGE, "wrong"),
    (WellState.TRAINING, GREY, "training"),
    (WellState.UNSCORED, "#e3d9c3", "not scored"),
    (WellState.UNREADABLE, "#8a8f94", "not read"),
)
_PREFIX = "Metadata_"


def plate(run: RunLike, plate: str | None = None, *, value: str = SCORE, ax: Axes | None = None) -> Figure:
    """Draw the wells of a plate by their prediction or another column.

    A ring marks a negative control, a dot a positive one. Wells without a site are left white.

    Args:
        run: A run with predictions, or its folder.
        plate: `EXPERIMENT/PLATE`, or the plate alone if that is unique; None for the first held-out plate.
        value: `score` (blue correct, orange wrong; the stronger the more confident) or a column of the predicted
            wells, such as `confidence`, `predicted` or `Metadata_Cell_Type`, also without `Metadata_`.
        ax: Axes to draw into; None for a new figure.

    Raises:
        ConfigError: There is no such plate or column; those that exist are named.
        RunError: The run has no predictions.
    """
    run = open_run(run)
    wells = Predictions.read(run.predictions, level="well")
    experiment, name = _find_plate(wells, plate)
    screen = bare_screen(run_metadata(run))
    never_trained = Scores.read(run.scores).never_trained if run.scores.exists() else ()
    grid = plate_grid(wells, screen, experiment=experiment, plate=name, never_trained=never_trained)
    column = None if value == SCORE else _column_of(wells.table, value)
    n_rows, n_columns = grid.state.shape
    with canvas(ax, width=min(9.0, 0.27 * n_columns + 2.2), height=min(6.0, 0.27 * n_rows + 0.9)) as (figure, axes):
        if column is None:
            _draw_states(axes, grid)
        else:
            rows = _on_plate(wells.table, experiment, name)
            values = wells.table[column][rows]
            positions = [
                parse_well(str(well), rows=n_rows, columns=n_columns) for well in wells.table["Metadata_Well"][rows]
            ]
            _draw_values(axes, values, positions, grid=grid, label=column.removeprefix(_PREFIX).replace("_", " "))
        _draw_controls(axes, grid)
        _label(axes, n_rows, n_columns)
        score = f": {grid.n_correct} of {grid.n_scored} wells correct" if column is None and grid.n_scored else ""
        axes.set_title(" ".join(filter(None, (experiment, f"plate {name}"))) + score)
        return figure


def _find_plate(wells: Predictions, name: str | None) -> tuple[str, str]:
    """Return experiment and plate.

    Raises:
        ConfigError: There is no such plate, or several.
    """
    pairs = wells.table[[f"{_PREFIX}Experiment", f"{_PREFIX}Plate"]].astype(str).drop_duplicates()
    plates = [(str(experiment), str(plate)) for experiment, plate in pairs.itertuples(index=False)]
    if name is None:
        return next(iter(held_out_plates(wells) or plates))
    matches = [pair for pair in plates if f"/{'/'.join(pair)}".endswith(f"/{name}")]
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join("/".join(pair) for pair in (matches or plates)[:12])
    state = f"{len(matches)} plates are called {name!r}" if matches else f"No plate is called {name!r}"
    raise ConfigError(f"{state}. Expected EXPERIMENT/PLATE, such as {listed}.")


def _column_of(table: pd.DataFrame, value: str) -> str:
    for name in (value, f"{_PREFIX}{value}"):
        if name in table:
            return name
    raise ConfigError(
        f"The predicted wells have no column {value!r}. Expected `{SCORE}` or one of {', '.join(map(str, table))}."
    )


def _on_plate(table: pd.DataFrame, experiment: str, plate: str) -> np.ndarray:
    names = [table[f"{_PREFIX}{column}"].astype(str) for column in ("Experiment", "Plate")]
    return np.asarray((names[0] == experiment) & (names[1] == plate))


def _draw_states(axes: Axes, grid: PlateGrid) -> None:
    picture = np.zeros((*grid.state.shape, 4))
    handles = []
    for state, color, label in _STATES:
        cells = grid.state == state
        if not cells.any():
            continue
        picture[cells] = to_rgba(color)
        if state >= WellState.WRONG:
            picture[cells, 3] = 0.35 + 0.65 * np.nan_to_num(grid.confidence[cells], nan=0.0)
        handles.append(Patch(color=color, label=label))
    _draw_wells(axes, picture)
    _legend(axes, handles)


def _draw_values(
    axes: Axes, values: pd.Series, positions: Sequence[tuple[int, int]], *, grid: PlateGrid, label: str
) -> None:
    """Draw numbers with a color bar, texts with a legend."""
    picture = np.zeros((*grid.state.shape, 4))
    if is_numeric_dtype(values) and not is_bool_dtype(values):
        numbers = np.full(grid.state.shape, np.nan)
        for position, number in zip(positions, values.to_numpy(dtype=np.float64, na_value=np.nan), strict=True):
            numbers[position] = number
        mesh = axes.pcolormesh(np.ma.masked_invalid(numbers), cmap="viridis", edgecolors="white", linewidth=0.8)
        axes.figure.colorbar(mesh, ax=axes, shrink=0.75).set_label(label)
        return
    texts = ["" if value is None or value != value else str(value) for value in values]
    frequent = sorted(text for text, _ in Counter(texts).most_common(len(COLORS)))
    colors = dict(zip(frequent, COLORS, strict=False))
    for position, text in zip(positions, texts, strict=True):
        picture[position] = to_rgba(colors.get(text, GREY))
    _draw_wells(axes, picture)
    handles = [Patch(color=color, label=text or "none") for text, color in colors.items()]
    n_others = len(set(texts)) - len(frequent)
    _legend(axes, handles + ([Patch(color=GREY, label=f"{n_others} others")] if n_others else []), title=label)


def _draw_wells(axes: Axes, picture: np.ndarray) -> None:
    rows, columns = picture.shape[:2]
    axes.pcolormesh(np.arange(columns + 1), np.arange(rows + 1), picture, edgecolors="white", linewidth=0.8)


def _draw_controls(axes: Axes, grid: PlateGrid) -> None:
    rings = np.argwhere(np.isin(grid.role, sorted(map(str, NEGATIVE))))
    dots = np.argwhere(grid.role == str(Role.POSITIVE_CONTROL))
    for places, marker, fill in ((rings, "o", "none"), (dots, ".", INK)):
        if len(places):
            axes.plot(
                places[:, 1] + 0.5, places[:, 0] + 0.5, marker, markersize=4, linestyle="none", markeredgecolor=INK,
                markerfacecolor=fill, markeredgewidth=0.8,
            )  # fmt: skip


def _label(axes: Axes, n_rows: int, n_columns: int) -> None:
    step = 1 if n_rows <= 16 else 2
    axes.set_yticks(
        np.arange(0, n_rows, step) + 0.5, [well_name(row, 0)[:-2] for row in range(0, n_rows, step)], fontsize=7
    )
    columns = range(1, n_columns + 1) if n_columns <= 12 else [1, *range(4, n_columns + 1, 4)]
    axes.set_xticks([column - 0.5 for column in columns], [str(column) for column in columns], fontsize=7)
    axes.set_xlim(0, n_columns)
    axes.set_ylim(n_rows, 0)
    axes.set_aspect("equal")
    axes.tick_params(length=0, colors=MUTED)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(RULE)


def _legend(axes: Axes, handles: Sequence[Patch], *, title: str = "") -> None:
    if handles:
        axes.legend(
            handles=list(handles), title=title, frameon=False, fontsize=7, title_fontsize=7.5, loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
        )  # fmt: skip
