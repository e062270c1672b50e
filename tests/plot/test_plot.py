"""`distangle.plot`: figures hold the numbers of the run, need no pyplot, and name what is absent."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from distangle import plot
from distangle.errors import ConfigError, ProfileError, RunError
from distangle.images import VerifiedReader, composites
from distangle.report.merging import merge_channels, merged_channels
from distangle.results import ProfileResult, RunFolder
from distangle.screen import parse_well
from profile_results import profile_result
from report_run import Plan, PlantedRun, make_run


@pytest.fixture(scope="module")
def planted_run(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    planted_run = make_run(tmp_path_factory.mktemp("plot"), Plan(cell_types=("HUVEC",)))
    planted_run.run.record(*profile_result(tuple(f"siRNA_{k}" for k in range(1, 10))).write(planted_run.run.profiles))
    return planted_run


def colors_of(figure: Figure) -> np.ndarray:
    """Return the color of every well of a plate map, [row, column, 4]."""
    colors = np.asarray(figure.axes[0].collections[0].get_array())
    assert colors.shape == (8, 12, 4)
    return colors


def test_the_package_is_loaded_on_first_use_and_needs_neither_pyplot_nor_torch() -> None:
    program = """
import sys, distangle
assert "matplotlib" not in sys.modules
plot = distangle.plot
assert "matplotlib" not in sys.modules
plot.plate, plot.site, plot.channels, plot.confusion, plot.training, plot.profile_map, plot.trade_off
assert callable(plot.plate) and callable(plot.site)
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules and "torch" not in sys.modules
try:
    distangle.nothing
except AttributeError as error:
    print(error)
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert process.stdout.strip() == "module 'distangle' has no attribute 'nothing'", process.stderr


def test_a_plate_is_blue_where_correct_and_orange_where_wrong(planted_run: PlantedRun) -> None:
    figure = plot.plate(planted_run.run, "HUVEC-02/1")
    colors = colors_of(figure)
    table = planted_run.wells.table
    rows = table[(table["Metadata_Experiment"] == "HUVEC-02") & (table["Metadata_Plate"] == "1")]
    scored = rows[(rows["reason"] == "") & (rows["perturbation"] != "siRNA_3")]  # siRNA_3 was never trained
    assert len(scored) > 20
    for entry in scored.itertuples():
        red, _, blue, opacity = colors[parse_well(entry.Metadata_Well, rows=8, columns=12)]
        assert (blue > red) == (entry.predicted == entry.perturbation), entry.Metadata_Well
        assert opacity == pytest.approx(0.35 + 0.65 * entry.confidence, abs=1e-5)
    assert colors[0, 0, 3] == 0  # no site in A01
    n_correct = int((scored["predicted"] == scored["perturbation"]).sum())
    assert figure.axes[0].get_title(loc="left") == f"HUVEC-02 plate 1: {n_correct} of {len(scored)} wells correct"


def test_a_plate_shows_numbers_and_texts_of_the_wells(planted_run: PlantedRun) -> None:
    figure = plot.plate(planted_run.run.root, "HUVEC-01/2", value="confidence")
    values = np.ma.filled(figure.axes[0].collections[0].get_array(), np.nan)
    table = planted_run.wells.table
    rows = table[(table["Metadata_Experiment"] == "HUVEC-01") & (table["Metadata_Plate"] == "2")]
    for entry in rows.itertuples():
        assert values[parse_well(entry.Metadata_Well, rows=8, columns=12)] == pytest.approx(entry.confidence)
    assert int(np.isfinite(values).sum()) == len(rows)
    assert figure.axes[1].get_ylabel() == "confidence"
    legend = plot.plate(planted_run.run, "HUVEC-01/2", value="Role").axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["negative_control", "positive_control", "treatment"]


def test_an_unknown_plate_or_column_is_named(planted_run: PlantedRun) -> None:
    with pytest.raises(ConfigError, match=r"No plate is called '9'\. Expected EXPERIMENT/PLATE, such as HUVEC-01/1, "):
        plot.plate(planted_run.run, "9")
    with pytest.raises(ConfigError, match=r"2 plates are called '1'\. Expected .* HUVEC-01/1, HUVEC-02/1\."):
        plot.plate(planted_run.run, "1")
    with pytest.raises(ConfigError, match=r"have no column 'dose'\. Expected `score` or one of Metadata_Experiment, "):
        plot.plate(planted_run.run, "HUVEC-01/1", value="dose")


def test_curves_are_those_of_the_metrics(planted_run: PlantedRun) -> None:
    figure = plot.training(planted_run.run)
    metrics = pd.read_csv(planted_run.run.metrics)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Accuracy", "Loss (nats)", "Learning rate"]
    lines = {tuple(np.round(line.get_ydata(), 6)) for axes in figure.axes for line in axes.get_lines()}
    for name in ("train_loss", "train_accuracy", "learning_rate", "held_out_accuracy"):
        assert tuple(np.round(metrics[name], 6)) in lines
    assert len(plot.training(planted_run.run, curve="loss").axes) == 1
    with pytest.raises(ConfigError, match=r"has no curve 'speed'\. Expected one of accuracy, loss, rate\."):
        plot.training(planted_run.run, curve="speed")


def test_shares_of_the_confusion_are_the_opacity_of_the_cells(planted_run: PlantedRun) -> None:
    figure = plot.confusion(planted_run.run)
    counts = np.array(planted_run.scores.confusion["counts"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    opacity = figure.axes[0].collections[0].get_facecolors()[:, 3].reshape(shares.shape)
    has_sites = counts.sum(axis=1) > 0
    np.testing.assert_allclose(opacity[has_sites], shares[has_sites], atol=1e-6)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == list(planted_run.scores.confusion["perturbations"])


def test_bars_are_the_means_of_the_channels(planted_run: PlantedRun) -> None:
    figure = plot.channels(planted_run.run)
    n = len(planted_run.screen.metadata.channels)
    widths = [bar.get_width() for bar in figure.axes[0].patches][-n:]
    np.testing.assert_allclose(widths, planted_run.explanation.summary["shapley"]["mean"])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][0] == "nuclei (Hoechst)"
    assert figure.axes[0].get_xlabel() == "change of the log probability"
    name, entry = next(iter(planted_run.explanation.summary["perturbations"].items()))
    bars = [bar.get_width() for bar in plot.channels(planted_run.run, perturbation=name).axes[0].patches][-n:]
    np.testing.assert_allclose(bars, entry["shapley"]["mean"])
    with pytest.raises(ConfigError, match=r"No site was explained as 'nothing'\. Expected one of "):
        plot.channels(planted_run.run, perturbation="nothing")


def test_a_site_shows_its_composite_and_its_map(planted_run: PlantedRun) -> None:
    entry = planted_run.explanation.table.iloc[0]
    well = "/".join(entry[["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]])
    figure = plot.site(planted_run.run, well)
    left_axes, right_axes = figure.axes[:2]
    keys = planted_run.screen.sites[["experiment", "plate", "well"]].agg("/".join, axis=1)
    image = VerifiedReader(planted_run.screen).read(int(np.flatnonzero(keys == well)[0]))
    np.testing.assert_array_equal(left_axes.get_images()[0].get_array(), merge_channels(image, merged_channels(image)))
    grey = composites.grey(composites.stretch(image, composites.contrast_limits([image])))
    np.testing.assert_array_equal(
        right_axes.get_images()[0].get_array(), composites.overlay(grey, planted_run.explanation.maps[0])
    )
    assert right_axes.get_title(loc="left") == f"why {entry['explained']} (probability {entry['probability']:.2f})"
    assert "bar" not in left_axes.get_xlabel()  # the pixel size is unknown


def test_a_scale_bar_is_drawn_if_the_pixel_size_is_known(planted_run: PlantedRun, tmp_path: Path) -> None:
    from distangle.screen import write_screen

    metadata = planted_run.screen.metadata.model_copy(update={"pixel_size_um": 0.65})
    write_screen(dataclasses.replace(planted_run.screen, metadata=metadata), tmp_path / "screen")
    figure = plot.site(planted_run.run, "HUVEC-02/1/B02", screen=tmp_path / "screen")
    label = figure.axes[0].get_xlabel()
    assert label.endswith("bar 5\u202fµm")  # 31.2 um wide: 22 % are 6.9 um
    assert (figure.axes[0].get_images()[0].get_array()[-5:, -12:] == 255).all(axis=2).any()


def test_a_site_without_a_map_says_so(planted_run: PlantedRun) -> None:
    figure = plot.site(planted_run.run, "HUVEC-01/1/B02")
    assert "only explained sites have one" in figure.axes[1].texts[0].get_text()


def test_the_map_of_the_wells_has_their_coordinates(planted_run: PlantedRun) -> None:
    result = ProfileResult.read(planted_run.run.profiles)
    assert result.coordinates is not None
    expected = {tuple(point) for point in np.round(result.coordinates[["x", "y"]].to_numpy(), 5)}
    for color in ("perturbation", "experiment", "plate"):
        figure = plot.profile_map(planted_run.run, color=color)
        points = np.concatenate([part.get_offsets() for part in figure.axes[0].collections])
        assert {tuple(point) for point in np.round(np.asarray(points), 5)} == expected, color
        assert len(points) == len(result.coordinates)
    with pytest.raises(ConfigError, match=r"have no column 'dosage'\. Expected "):
        plot.profile_map(planted_run.run.profiles, color="dosage")
    copy = planted_run.run.root.parent / "flat"
    dataclasses.replace(result, coordinates=None).write(copy)
    with pytest.raises(ProfileError, match="have no 2-D map"):
        plot.profile_map(copy)


def test_the_trade_off_has_every_stage_of_the_alignment(planted_run: PlantedRun, tmp_path: Path) -> None:
    result = ProfileResult.read(planted_run.run.profiles)
    figure = plot.trade_off(planted_run.run)
    stages = [text.get_text() for text in figure.axes[0].texts]
    assert stages == [*dict.fromkeys(result.batch_effects["alignment"])]
    without_map = result.batch_effects[result.batch_effects["name"] != "mAP"]
    dataclasses.replace(result, batch_effects=without_map).write(tmp_path / "few")
    with pytest.raises(ProfileError, match="have no batch effects with biology"):
        plot.trade_off(tmp_path / "few")


def test_figures_can_be_drawn_into_axes_that_exist(planted_run: PlantedRun) -> None:
    figure = Figure(figsize=(8, 8))
    grid = figure.subplots(3, 3)
    assert plot.plate(planted_run.run, "HUVEC-02/1", ax=grid[0, 0]) is figure
    plot.training(planted_run.run, curve="accuracy", ax=grid[0, 1])
    plot.confusion(planted_run.run, ax=grid[0, 2])
    plot.channels(planted_run.run, ax=grid[1, 0])
    plot.profile_map(planted_run.run, ax=grid[1, 1])
    plot.trade_off(planted_run.run, ax=grid[1, 2])
    assert plot.site(planted_run.run, "HUVEC-02/1/B02", axes=grid[2, :2]) is figure
    with pytest.raises(ConfigError, match=r"`axes` has 3 axes\. Expected two"):
        plot.site(planted_run.run, "HUVEC-02/1/B02", axes=list(grid[2]))


def test_a_notebook_gets_a_picture_and_settings_stay(planted_run: PlantedRun) -> None:
    before = dict(matplotlib.rcParams)
    figure = plot.plate(planted_run.run, "HUVEC-02/1")
    assert figure._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"  # type: ignore[attr-defined]
    assert dict(matplotlib.rcParams) == before


def test_a_run_without_results_says_what_to_do(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "empty")
    with pytest.raises(RunError, match="no epoch was recorded"):
        plot.training(run)
    for draw, verb in ((plot.plate, "predict"), (plot.confusion, "predict"), (plot.channels, "explain")):
        with pytest.raises(RunError, match=f"distangle {verb}"):
            draw(run)
    with pytest.raises(RunError, match="distangle profile"):
        plot.profile_map(run)
