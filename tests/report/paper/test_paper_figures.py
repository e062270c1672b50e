import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distangle.cli import main
from distangle.errors import RunError
from distangle.explain.maps.mean_maps import PERTURBATION, WELL, mean_maps
from distangle.images import read_image
from distangle.report import build_report, draw_figures
from distangle.report.paper.figure import row_of
from distangle.report.site_renderer import site_key
from report_run import Plan, PlantedRun, make_run


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    return make_run(tmp_path_factory.mktemp("figures"), Plan())


@pytest.fixture(scope="module")
def entries(own_run: PlantedRun) -> dict:
    return draw_figures(own_run.run, own_run.screen)


def test_figure_1_says_the_means_of_the_image_it_shows(own_run: PlantedRun, entries: dict) -> None:
    entry = entries["1"]["numbers"]
    experiment, plate, well = entry["site"].split(", ")[:3]
    sites = own_run.screen.sites
    row = int(
        np.flatnonzero(
            (sites["experiment"] == experiment)
            & ("plate " + sites["plate"].astype(str) == plate)
            & ("well " + sites["well"] == well)
        )[0]
    )
    image = read_image(own_run.screen.image_paths(row), own_run.screen.pages(row)).astype(float)
    assert entry["mean"] == pytest.approx([float(channel.mean()) for channel in image])
    first, second = image[0].ravel() - image[0].mean(), image[1].ravel() - image[1].mean()
    pair = (first @ second) / np.sqrt((first @ first) * (second @ second))
    assert entry["largest_correlation_of_two_channels"] >= pair - 1e-9
    assert f"{entry['mean_correlation_of_two_channels']:.2f}" in entries["1"]["caption"]


def test_the_label_of_figure_5_is_the_area_that_was_covered(entries: dict) -> None:
    entry = entries["5"]["numbers"]
    top, first_column, bottom, last_column = entry["box"]
    assert entry["lambda"] == pytest.approx(1 - (bottom - top) * (last_column - first_column) / 48**2)
    assert f"{entry['lambda']:.3f} of A and {1 - entry['lambda']:.3f} of B" in entries["5"]["caption"]


def test_figure_11_shows_sites_that_were_predicted_rightly_and_have_a_map(own_run: PlantedRun, entries: dict) -> None:
    table, maps = own_run.explanation.table, own_run.explanation.maps
    keys = [" ".join(map(str, site_key(entry))) for entry in table.to_dict("records")]
    for site in entries["11"]["numbers"]["sites"]:
        row = keys.index(site["site"])
        assert maps[row].max() > 0
        assert site["share_above_half"] == pytest.approx((maps[row] > 0.5).mean())
        assert site["kind"] == "control" or table["predicted"][row] == table["perturbation"][row]
    assert 1 <= len(entries["11"]["numbers"]["sites"]) <= 3


def test_figure_11_shows_the_mean_map_of_what_was_explained(tmp_path: Path) -> None:
    run_data = make_run(tmp_path, Plan())
    cells = {"sites": 9, "empty": 0, **{
        name: {"share": share, "interval": None, "area": 0.3, "null": [0.2, 0.4], "p": 0.012}
        for name, share in (("nuclei", 0.44), ("cells", 0.81), ("background", 0.19))
    }}  # fmt: skip
    with_cells = dataclasses.replace(run_data.explanation, summary={**run_data.explanation.summary, "cells": cells})
    wells, perturbations = (mean_maps(with_cells.table, with_cells.maps, by=by) for by in (WELL, PERTURBATION))
    dataclasses.replace(
        with_cells,
        wells=wells.table,
        well_maps=wells.maps,
        perturbations=perturbations.table,
        perturbation_maps=perturbations.maps,
    ).write(run_data.run.explanations)
    entry = draw_figures(run_data.run, run_data.screen, only=(11,))["11"]
    assert "44% on nuclei (30% of the image; p = 0.012) and 81% on cells" in entry["caption"]
    with Image.open(run_data.run.explanations / "figures" / "figure-11.png") as picture:
        assert picture.height > picture.width * 0.9  # three rows


def test_figure_12_says_what_the_summary_counts(own_run: PlantedRun, entries: dict) -> None:
    summary, entry = own_run.explanation.summary, entries["12"]["numbers"]
    assert entry["eq15_top_sites"] == max(summary["eq15_top_channel"].values())
    assert entry["shapley_top"] == summary["top_channel"]
    # The page has the same p, corrected for testing all channels.
    assert entry["shapley_top_p"] == own_run.explanation.p_of_top == min(summary["shapley"]["p_family"])
    assert f"on top in {entry['eq15_top_sites']} of them" in entries["12"]["caption"]


def test_every_figure_is_a_picture_that_is_not_blank_and_in_the_manifest(own_run: PlantedRun, entries: dict) -> None:
    folder = own_run.run.explanations / "figures"
    manifest = json.loads(own_run.run.manifest.read_text())["files"]
    assert json.loads((folder / "figures.json").read_text()) == entries
    for entry in entries.values():
        for name in entry.get("files", ()):
            assert f"explanations/figures/{name}" in manifest
            if name.endswith(".png"):
                pixels = np.asarray(Image.open(folder / name).convert("L"))
                assert pixels.std() > 10
                assert min(pixels.shape) > 300


def test_the_same_run_gives_the_same_bytes(own_run: PlantedRun, entries: dict) -> None:
    folder = own_run.run.explanations / "figures"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    draw_figures(own_run.run, own_run.screen, only=(1, 12))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_report_shows_what_was_drawn(own_run: PlantedRun, entries: dict) -> None:
    page = build_report(own_run.run, own_run.screen).with_name("method.html").read_text()
    assert 'src="figures/figure-12.png"' in page
    assert "Figure 5. CutMix" in page
    build_report(own_run.run, own_run.screen)
    assert (own_run.run.report / "figures" / "figure-12.png").exists()


def test_a_run_without_explanation_says_which_command_makes_it(tmp_path: Path) -> None:
    run_data = make_run(tmp_path, Plan(explained=4))
    (run_data.run.explanations / "explanation.json").unlink()
    entry = draw_figures(run_data.run, run_data.screen)
    assert entry["12"] == {
        "title": "Channel attribution by Eq. (15) and by Shapley values",
        "missing": "No site has been explained.",
        "command": f"distangle explain {run_data.run.root}",
    }
    assert entry["1"]["files"] == ["figure-01.png", "figure-01.svg"]
    assert not (run_data.run.explanations / "figures" / "figure-12.png").exists()


def test_an_image_that_cannot_be_read_spoils_its_own_figures_only(tmp_path: Path) -> None:
    run_data = make_run(tmp_path, Plan(explained=4))
    site = draw_figures(run_data.run, run_data.screen, only=(1,))["1"]["numbers"]["site"]
    sites = run_data.screen.sites
    row = next(
        row
        for row, (experiment, plate, well) in enumerate(
            zip(sites["experiment"], sites["plate"], sites["well"], strict=True)
        )
        if site.startswith(experiment) and well in site and f"plate {plate}," in site
    )
    run_data.screen.image_paths(row)[0].write_bytes(b"no image")
    entry = draw_figures(run_data.run, run_data.screen)
    assert "missing" in entry["1"]
    assert str(run_data.screen.source) not in entry["1"]["missing"]
    assert "files" in entry["12"]


def test_a_site_that_is_not_in_the_screen_is_named(run_data: PlantedRun) -> None:
    from distangle.report.data import load

    with pytest.raises(Exception, match="Site HUVEC-99 1 B02 1 is not in this screen"):
        row_of(load(run_data.run, run_data.screen), ("HUVEC-99", "1", "B02", 1))


def test_a_number_that_is_no_such_figure_is_refused(run_data: PlantedRun) -> None:
    with pytest.raises(RunError, match=r"no figure 6 to draw from a run.*`distangle ablate`"):
        draw_figures(run_data.run, run_data.screen, only=(6,))


def test_the_verb_prints_captions_and_what_is_missing(own_run: PlantedRun, capsys: pytest.CaptureFixture[str]) -> None:
    main(["figures", str(own_run.run.root), "--only", "5", "--screen", str(own_run.run.screen_folder())])
    out = capsys.readouterr().out
    assert "Figure 5. CutMix. A: " in out
    assert "Figure 12" not in out
