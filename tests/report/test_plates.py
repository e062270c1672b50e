import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from distangle.errors import ScreenError
from distangle.report.inline_svg import Bar, bars, interval_bar
from distangle.report.plate_svg import compact_plate_map, plate_map
from distangle.report.plates import (
    WellState,
    annotation_columns,
    held_out_plates,
    plate_grid,
    plate_grids,
    spread_over_experiments,
)
from distangle.results import Predictions
from report_run import PlantedRun


def wells_of(run_data: PlantedRun, rows: list[dict[str, object]]) -> Predictions:
    common = {
        "Metadata_Experiment": "E1", "Metadata_Plate": "1", "Metadata_Cell_Type": "", "Metadata_Role": "treatment",
        "Metadata_Fold": "held_out", "perturbation": "siRNA_1", "predicted": "siRNA_1", "confidence": 0.5, "reason": "",
    }  # fmt: skip
    table = pd.DataFrame([common | row for row in rows])
    n = len(run_data.wells.perturbations)
    return Predictions(level="well", table=table, logits=np.zeros((len(table), n), np.float32),
                       embedding=np.zeros((len(table), 2), np.float32), perturbations=run_data.wells.perturbations,
                       views=1)  # fmt: skip


def test_every_well_lies_at_its_row_and_column_with_its_state(run_data: PlantedRun) -> None:
    wells = wells_of(
        run_data,
        [
            {"Metadata_Well": "A01"},
            {"Metadata_Well": "B03", "predicted": "siRNA_2", "confidence": 0.9},
            {"Metadata_Well": "C12", "Metadata_Fold": "train"},
            {"Metadata_Well": "H01", "reason": "truncated", "confidence": np.nan},
            {"Metadata_Well": "D05", "perturbation": "", "confidence": 0.3},
            {"Metadata_Well": "D06", "perturbation": "siRNA_3", "predicted": "siRNA_3"},
            {"Metadata_Well": "A02", "Metadata_Plate": "2"},
            {"Metadata_Well": "A03", "Metadata_Experiment": "E2"},
        ],
    )
    grid = plate_grid(wells, run_data.screen, experiment="E1", plate="1", never_trained=("siRNA_3",))
    expected = np.zeros((8, 12), int)
    expected[0, 0], expected[1, 2], expected[2, 11] = WellState.CORRECT, WellState.WRONG, WellState.TRAINING
    expected[7, 0], expected[3, 4], expected[3, 5] = WellState.UNREADABLE, WellState.UNSCORED, WellState.UNSCORED
    np.testing.assert_array_equal(grid.state, expected)
    assert grid.confidence[1, 2] == 0.9
    assert np.isnan(grid.confidence[2, 11])
    assert (grid.n_correct, grid.n_scored) == (1, 2)
    assert grid.tooltip[1, 2] == "B03 · siRNA_1 · predicted siRNA_2 (0.90)"
    assert grid.tooltip[7, 0] == "H01 · siRNA_1 · not read: truncated"


def test_the_text_of_a_well_has_gene_and_dose_but_no_name_of_its_own(run_data: PlantedRun) -> None:
    wells = wells_of(
        run_data,
        [
            {"Metadata_Well": "A01", "Metadata_Gene": "KIF11", "Metadata_Dose_uM": 0.5, "Metadata_id": "x1"},
            {"Metadata_Well": "A02", "Metadata_Gene": "KIF11", "Metadata_Dose_uM": 2.5, "Metadata_id": "x2"},
            {"Metadata_Well": "A03", "Metadata_Gene": None, "Metadata_Dose_uM": 2.5, "Metadata_id": "x3"},
        ],
    )
    # A column with one value carries no information; a column of unique values is only a name.
    assert annotation_columns(wells.table) == ["Metadata_Dose_uM"]
    wells.table.loc[2, "Metadata_Gene"] = "PLK1"
    assert annotation_columns(wells.table) == ["Metadata_Gene", "Metadata_Dose_uM"]
    wells.table.loc[2, "Metadata_Gene"] = None
    wells.table.loc[1, "Metadata_Gene"] = "PLK1"
    grid = plate_grid(wells, run_data.screen, experiment="E1", plate="1")
    assert grid.tooltip[0, 0] == "A01 · siRNA_1 · predicted siRNA_1 (0.50) · Gene KIF11 · Dose uM 0.5"
    assert grid.tooltip[0, 2] == "A03 · siRNA_1 · predicted siRNA_1 (0.50) · Dose uM 2.5"


def test_several_plates_are_what_each_is_alone(run_data: PlantedRun) -> None:
    plates = held_out_plates(run_data.wells)
    grids = plate_grids(run_data.wells, run_data.screen, plates=plates, never_trained=("siRNA_3",))
    assert len(grids) == len(plates) > 2
    for grid, (experiment, plate) in zip(grids, plates, strict=True):
        single_grid = plate_grid(
            run_data.wells, run_data.screen, experiment=experiment, plate=plate, never_trained=("siRNA_3",)
        )
        assert (grid.experiment, grid.plate) == (experiment, plate)
        np.testing.assert_array_equal(grid.state, single_grid.state)
        np.testing.assert_array_equal(grid.tooltip, single_grid.tooltip)
        assert grid.n_scored > 0


def test_every_well_is_reached_by_keyboard_and_its_text_is_drawn(run_data: PlantedRun) -> None:
    wells = wells_of(run_data, [{"Metadata_Well": "A01"}, {"Metadata_Well": "B03", "Metadata_Dose": "x " * 90}])
    drawing = plate_map(plate_grid(wells, run_data.screen, experiment="E1", plate="1"))
    assert drawing.count('tabindex="0"') == drawing.count('class="tip"') == 2
    assert 'aria-label="A01 · siRNA_1 · predicted siRNA_1 (0.50)"' in drawing
    assert drawing.count("<tspan") == 1 + 1


def test_a_compact_map_has_the_same_wells_in_fewer_bytes(run_data: PlantedRun) -> None:
    rows: list[dict[str, object]] = [
        {"Metadata_Well": f"{letter}{column:02d}", "predicted": "siRNA_2" if column > 9 else "siRNA_1"}
        for letter in "ABCDEFGH"
        for column in range(1, 13)
    ]
    rows[0] = {"Metadata_Well": "A01", "Metadata_Fold": "train"}
    grid = plate_grid(wells_of(run_data, rows), run_data.screen, experiment="E1", plate="1")
    drawing = compact_plate_map(grid)
    squares = {name: path.count("M") for path, name in re.findall(r'<path d="([^"]+)" class="(\w+)"', drawing)}
    assert squares == {"training": 1, "correct": 71, "wrong": 24}
    assert "71 of 95 wells correct" in drawing
    assert len(drawing) < len(plate_map(grid)) / 5


def test_a_well_that_the_plate_does_not_have_is_refused(run_data: PlantedRun) -> None:
    with pytest.raises(ScreenError, match="No well 'P24' on a plate of 8 x 12"):
        plate_grid(wells_of(run_data, [{"Metadata_Well": "P24"}]), run_data.screen, experiment="E1", plate="1")


def test_only_plates_with_a_held_out_well_are_listed_in_order(run_data: PlantedRun) -> None:
    wells = wells_of(
        run_data,
        [
            {"Metadata_Well": "A01", "Metadata_Plate": "2"},
            {"Metadata_Well": "A01", "Metadata_Plate": "1", "Metadata_Fold": "train"},
            {"Metadata_Well": "A01", "Metadata_Experiment": "E0"},
            {"Metadata_Well": "A02", "Metadata_Plate": "2"},
        ],
    )
    assert held_out_plates(wells) == [("E1", "2"), ("E0", "1")]


def test_a_choice_of_plates_takes_turns_over_the_experiments() -> None:
    plates = [("A", "1"), ("A", "2"), ("A", "3"), ("B", "1"), ("C", "1")]
    assert spread_over_experiments(plates, limit=4) == [("A", "1"), ("A", "2"), ("B", "1"), ("C", "1")]
    assert spread_over_experiments(plates, limit=9) == plates


def test_the_map_draws_states_confidence_and_controls(run_data: PlantedRun) -> None:
    wells = wells_of(
        run_data,
        [
            {"Metadata_Well": "A01", "confidence": 1.0},
            {"Metadata_Well": "A02", "predicted": "siRNA_2", "confidence": 0.0},
            {"Metadata_Well": "A03", "Metadata_Role": "negative_control"},
            {"Metadata_Well": "A04", "Metadata_Role": "positive_control"},
        ],
    )
    drawing = plate_map(plate_grid(wells, run_data.screen, experiment="E1", plate="1"))
    assert 'class="correct" fill-opacity="1"' in drawing
    assert 'class="wrong" fill-opacity="0.35"' in drawing
    assert drawing.count('class="negative"') == drawing.count('class="positive"') == 1
    assert drawing.count('class="empty"') == 8 * 12 - 4
    assert "3 of 4 wells correct" in drawing
    assert ">H</text>" in drawing
    assert ">12</text>" in drawing


def test_wells_are_drawn_right_of_smaller_columns_and_below_smaller_rows(run_data: PlantedRun) -> None:
    grid = plate_grid(wells_of(run_data, [{"Metadata_Well": "B03"}]), run_data.screen, experiment="E1", plate="1")
    drawing = plate_map(grid)
    (x, y) = (
        float(drawing.split('class="correct"')[0].rsplit(f' {axis}="', 1)[1].split('"')[0]) for axis in ("x", "y")
    )
    # Cells of 28 from (20, 16), with a gap of 5.5 % around each.
    assert (x, y) == pytest.approx((20 + 2 * 28 + 1.54, 16 + 1 * 28 + 1.54))


def test_hostile_names_cannot_leave_the_drawing(run_data: PlantedRun) -> None:
    evil = '"><svg onload=alert(1)>'
    wells = wells_of(run_data, [{"Metadata_Well": "A01", "perturbation": evil, "predicted": evil}])
    grid = plate_grid(wells, run_data.screen, experiment="E1", plate="1")
    drawing = plate_map(dataclasses.replace(grid, experiment=evil))
    assert "<svg onload" not in drawing
    assert "&lt;svg onload" in drawing


def test_the_interval_is_drawn_to_scale_beside_chance() -> None:
    drawing = interval_bar(0.5, (0.25, 1.0), chance=0.1)
    assert 'cx="54"' in drawing  # 4 + 100 * 0.5
    assert 'x1="29" x2="104" y1="10" y2="10" class="interval"' in drawing
    assert 'x1="14" x2="14"' in drawing
    assert 'class="interval"' not in interval_bar(0.5, None, chance=0.1)


def test_bars_reach_from_zero_to_their_value() -> None:
    drawing = bars([Bar(name="a", value=1.0, strong=True), Bar(name="b", value=-1.0)], description="x", width=320.0)
    first_x, last_x = 22 + 6.3, 320 - 46.0  # one letter
    zero, half = (first_x + last_x) / 2, (last_x - first_x) / 2
    boxes = re.findall(r'<rect x="([0-9.]+)" y="[0-9.]+" width="([0-9.]+)"', drawing)
    numbers = [float(text) for box in boxes for text in box]
    assert numbers == pytest.approx([zero, half, first_x, half], abs=0.006)
    assert "−1.00" in drawing
    assert drawing.count("strong") == 1


def test_bars_of_nothing_and_of_nan_do_not_fail() -> None:
    assert "<rect" not in bars([Bar(name="a", value=float("nan"))], description="x")
    assert "<rect" in bars([Bar(name="a", value=0.0)], description="x")
