"""The explained sites as OME-Zarr: pixels, map and prediction are those of the run."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distangle.cli import main
from distangle.errors import ExplanationError, RunError
from distangle.export.explained_sites import explained_keys, first_channels, site_rows, write_explained_sites
from distangle.images import VerifiedReader
from distangle.results import Explanation, RunFolder
from distangle.screen import Screen, read_screen, write_screen
from report_run import Plan, PlantedRun, make_run

zarr = pytest.importorskip("zarr", reason="needs the extra zarr")


@pytest.fixture(scope="module")
def planted_run(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    return make_run(tmp_path_factory.mktemp("explained"), Plan(cell_types=("HUVEC",), bits=16, explained=11))


@pytest.fixture(scope="module")
def export(planted_run: PlantedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "zarr"
    result = write_explained_sites(planted_run.run, planted_run.screen, out)
    assert (result.n_sites, result.refused) == (11, [])
    assert result.plates == ["HUVEC-02_1.zarr", "HUVEC-02_2.zarr"]
    return out


def test_every_explained_site_has_its_channels_and_its_map(planted_run: PlantedRun, export: Path) -> None:
    table = pd.read_csv(export / "sites.csv", dtype={"plate": str})
    keys, rows, reader = (
        explained_keys(planted_run.explanation),
        site_rows(planted_run.screen),
        VerifiedReader(planted_run.screen),
    )
    assert list(zip(table["experiment"], table["plate"], table["well"], table["site"], strict=True)) == sorted(
        keys, key=lambda key: (key[1], keys.index(key))
    )
    root = zarr.open_group(export, mode="r", zarr_format=2)
    for line in table.itertuples():
        key = (line.experiment, line.plate, line.well, line.site)
        image = root[f"{line.path}/0"][:]
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image[:-1], reader.read(rows[key]))
        activation = planted_run.explanation.maps[keys.index(key)]
        np.testing.assert_array_equal(image[-1], np.rint(activation * np.float32(65535)))
        np.testing.assert_array_equal(root[f"{line.path}/map/0"][:], activation)
        attributes = root[line.path].attrs["distangle"]
        entry = planted_run.explanation.table.iloc[keys.index(key)]
        assert attributes["perturbation"] == entry["perturbation"] == line.perturbation
        assert attributes["predicted"] == entry["predicted"]
        assert attributes["probability"] == pytest.approx(float(entry["probability"]))
        assert list(attributes["shapley"].values()) == pytest.approx([entry[f"shapley_{k}"] for k in range(1, 7)])
        assert attributes["map"] == {"channel": 6, "value_of_one": 65535.0, "exact": "map"}
        assert (attributes["run"], len(attributes["run_sha256"])) == ("pilot", 64)


def test_the_channels_have_names_colors_and_a_window_from_the_plate(export: Path) -> None:
    table = pd.read_csv(export / "sites.csv")
    attributes = json.loads((export / table["path"][0] / ".zattrs").read_text(encoding="utf-8"))
    channels = attributes["omero"]["channels"]
    assert [channel["label"] for channel in channels][:2] == ["nuclei (Hoechst)", "endoplasmic reticulum (ConA)"]
    assert [channel["color"] for channel in channels][:2] == ["1300F9", "2AFF1F"]
    assert (channels[-1]["label"], channels[-1]["window"]) == (
        "activation map",
        {"start": 0.0, "end": 65535.0, "min": 0.0, "max": 65535.0},
    )
    assert all(0 <= channel["window"]["start"] < channel["window"]["end"] <= 65535 for channel in channels)
    assert sum(channel["active"] for channel in channels) == 4
    assert attributes["omero"]["channels"][0]["active"]


def test_a_plate_is_one_of_hcs_with_the_rows_of_its_wells(export: Path) -> None:
    plate = zarr.open_group(export / "HUVEC-02_1.zarr", mode="r", zarr_format=2)
    wells = pd.read_csv(export / "sites.csv", dtype={"plate": str}).query("plate == '1'")["well"]
    assert [well["path"].replace("/", "") for well in plate.attrs["plate"]["wells"]] == sorted(wells)
    assert plate.attrs["plate"]["name"] == "HUVEC-02 plate 1"


def with_maps(run: RunFolder, folder: Path, **changes: Any) -> RunFolder:
    """Copy the explanation of a run into a new run, with changes."""
    explanation = dataclasses.replace(Explanation.read(run.explanations), **changes)
    copy = RunFolder.create(folder / "copy")
    explanation.write(copy.explanations)
    return copy


def test_a_small_map_is_enlarged_and_its_exact_copy_lies_over_the_site(planted_run: PlantedRun, tmp_path: Path) -> None:
    maps = np.zeros((len(planted_run.explanation.table), 24, 24), dtype=np.float32)
    maps[:, :12] = 1
    settings = {**planted_run.explanation.settings, "scale": (2.0, 2.0)}
    run = with_maps(planted_run.run, tmp_path, maps=maps, settings=settings)
    metadata = planted_run.screen.metadata.model_copy(update={"pixel_size_um": 0.5})
    write_explained_sites(run, dataclasses.replace(planted_run.screen, metadata=metadata), tmp_path / "out")
    root = zarr.open_group(tmp_path / "out", mode="r", zarr_format=2)
    path = pd.read_csv(tmp_path / "out" / "sites.csv")["path"][0]
    activation = root[f"{path}/0"][-1]
    assert activation.shape == (48, 48)
    assert (activation[:22] == 65535).all()
    assert (activation[26:] == 0).all()
    transforms = root[f"{path}/map"].attrs["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    # A pixel of the map covers 2 x 2 pixels of 0.5 um; its center lies half a pixel of the site further.
    assert transforms == [{"type": "scale", "scale": [1.0, 1.0]}, {"type": "translation", "translation": [0.25, 0.25]}]


def test_the_first_channels_are_the_first_and_the_strongest() -> None:
    table = pd.DataFrame({"shapley_1": [0.0], "shapley_2": [0.1], "shapley_3": [-3.0], "shapley_4": [2.0]})
    explanation = Explanation(table=table, maps=np.zeros((1, 2, 2)), settings={}, summary={})
    assert first_channels(explanation, 4) == [0, 1, 3]
    assert first_channels(explanation, 2) == [0, 1]
    assert first_channels(explanation, 1) == [0]
    assert first_channels(explanation, 5) == [0, 1, 2]  # no values of the fifth


def test_a_site_that_cannot_be_read_is_named_and_the_others_are_written(
    planted_run: PlantedRun, tmp_path: Path
) -> None:
    key = explained_keys(planted_run.explanation)[0]
    sites = planted_run.screen.sites.copy()
    row = site_rows(planted_run.screen)[key]
    sites.loc[row, "path_2"] = "absent.png"
    screen = Screen(
        metadata=planted_run.screen.metadata,
        sites=sites,
        problems=planted_run.screen.problems,
        folder=planted_run.screen.folder,
    )
    result = write_explained_sites(planted_run.run, screen, tmp_path / "out")
    assert result.n_sites == 10
    (sentence,) = result.refused
    assert sentence.startswith(f"{key[0]} plate {key[1]} well {key[2]} site 1: absent.png")
    root = json.loads((tmp_path / "out" / ".zattrs").read_text(encoding="utf-8"))["distangle"]
    assert root["refused"] == [sentence]
    empty_screen = Screen(
        metadata=screen.metadata, sites=sites.iloc[:0], problems=screen.problems, folder=screen.folder
    )
    with pytest.raises(
        ExplanationError, match=r"None of 11 explained sites can be written: .* it is not in the screen"
    ):
        write_explained_sites(planted_run.run, empty_screen, tmp_path / "none")


def test_the_verb_writes_a_new_folder(
    planted_run: PlantedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["export", str(planted_run.run.root), "--format", "ome-zarr", "--out", str(tmp_path / "out")])
    streams = capsys.readouterr()
    assert streams.out.strip() == str(tmp_path / "out")
    assert "11 sites on 2 plates; sites.csv lists them." in " ".join(streams.err.split())
    assert (tmp_path / "out" / "HUVEC-02_1.zarr" / ".zattrs").is_file()


def test_bad_input_of_the_verb_is_named(
    planted_run: PlantedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error_of(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            main(["export", *arguments, "--out", str(tmp_path / "out")])
        return " ".join(capsys.readouterr().err.split())

    run = str(planted_run.run.root)
    (tmp_path / "profile.json").write_text("{}", encoding="utf-8")
    assert "has no images: it has no run.json. Expected the folder of a run." in error_of(
        str(tmp_path), "--format", "ome-zarr"
    )
    assert "--images lab says where images are, and h5ad has no images." in error_of(
        run, "--format", "h5ad", "--images", "lab"
    )
    assert "ome-zarr has no network" in error_of(run, "--format", "ome-zarr", "--size", "3")
    assert not (tmp_path / "out").exists()


def test_a_run_without_an_explanation_is_refused(planted_run: PlantedRun, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="explain"):
        write_explained_sites(RunFolder.create(tmp_path / "empty"), planted_run.screen, tmp_path / "out")


def test_the_screen_can_be_named_when_it_was_moved(planted_run: PlantedRun, tmp_path: Path) -> None:
    write_screen(planted_run.screen, tmp_path / "moved")
    assert read_screen(tmp_path / "moved").source == planted_run.screen.source
    arguments = ["--screen", str(tmp_path / "moved"), "--out", str(tmp_path / "out")]
    main(["export", str(planted_run.run.root), "--format", "ome-zarr", *arguments])
    assert (tmp_path / "out" / "sites.csv").is_file()
