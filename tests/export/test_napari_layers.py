"""The layers of a well for napari: data, names, colors, scale and prediction are exact; no napari is needed."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distangle.errors import ConfigError, ImageError
from distangle.export.explained_sites import explained_keys, site_rows
from distangle.export.napari_layers import channel_layers, find_well, map_layer, well_layers
from distangle.export.ngff_writer import PixelGrid
from distangle.images import VerifiedReader
from distangle.results import RunFolder
from distangle.screen import Screen
from report_run import Plan, PlantedRun, make_run


@pytest.fixture(scope="module")
def planted_run(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    return make_run(tmp_path_factory.mktemp("napari"), Plan(cell_types=("HUVEC",)))


def test_channels_of_several_sites_are_stacks_with_a_scale() -> None:
    images = np.arange(2 * 2 * 3 * 4, dtype=np.uint16).reshape(2, 2, 3, 4)
    layers = channel_layers(
        images,
        names=["DNA", "actin"],
        colors=np.array([[0.0, 0.0, 1.0], [1.0, 0.5, 0.0]]),
        limits=np.array([[1.0, 9.0], [5.0, 5.0]]),
        visible=[1],
        grid=PixelGrid(size=(0.65, 0.65), in_um=True),
        metadata={"well": "B02"},
    )
    (dna, dna_keywords, kind), (actin, actin_keywords, _) = layers
    assert kind == "image"
    np.testing.assert_array_equal(dna, images[:, 0])
    np.testing.assert_array_equal(actin, images[:, 1])
    assert dna_keywords == {
        "name": "DNA",
        "colormap": "#0000ff",
        "contrast_limits": (1.0, 9.0),
        "blending": "additive",
        "visible": False,
        "scale": (1.0, 0.65, 0.65),
        "translate": (0.0, 0.0, 0.0),
        "metadata": {"distangle": {"well": "B02"}},
    }
    assert (actin_keywords["colormap"], actin_keywords["visible"]) == ("#ff8000", True)
    assert actin_keywords["contrast_limits"] == (5.0, 6.0)  # a flat channel: napari wants two limits


def test_a_single_site_has_two_axes() -> None:
    maps = np.array([[[0.0, 1.0], [0.5, 0.25]]], dtype=np.float32)
    data, keywords, kind = map_layer(maps, grid=PixelGrid(size=(2.0, 2.0), start=(0.5, 0.5)), metadata={}, name="map")
    np.testing.assert_array_equal(data, maps[0])
    assert kind == "image"
    assert keywords == {
        "name": "map",
        "colormap": "inferno",
        "contrast_limits": (0.0, 1.0),
        "blending": "additive",
        "opacity": 0.5,
        "interpolation2d": "linear",
        "scale": (2.0, 2.0),
        "translate": (0.5, 0.5),
        "metadata": {"distangle": {}},
    }


def test_an_explained_well_has_its_channels_and_its_map(planted_run: PlantedRun) -> None:
    key = explained_keys(planted_run.explanation)[2]
    result = well_layers(planted_run.run, planted_run.screen, "/".join(key[:3]))
    assert result.title == f"{key[0]} plate {key[1]} well {key[2]}"
    assert (result.sites, result.in_um, result.notes) == ([1], False, [])
    assert len(result.layers) == 7
    image = VerifiedReader(planted_run.screen).read(site_rows(planted_run.screen)[key])
    for plane, (data, keywords, _) in zip(image, result.layers, strict=False):
        np.testing.assert_array_equal(data, plane)
        assert keywords["scale"] == (1.0, 1.0)
    assert [keywords["name"] for _, keywords, _ in result.layers][:2] == [
        "nuclei (Hoechst)",
        "endoplasmic reticulum (ConA)",
    ]
    assert result.layers[0][1]["colormap"] == "#1300f9"
    data, keywords, _ = result.layers[-1]
    np.testing.assert_array_equal(data, planted_run.explanation.maps[2])
    entry = planted_run.explanation.table.iloc[2]
    assert keywords["name"] == f"activation map of {entry['explained']}"
    metadata = keywords["metadata"]["distangle"]
    assert (metadata["well"], metadata["run"]) == (key[2], "pilot")
    assert metadata["predictions"]["1"]["predicted"] == entry["predicted"]
    assert metadata["predictions"]["1"]["probability"] == pytest.approx(float(entry["probability"]))


def with_two_sites(planted_run: PlantedRun, key: tuple[str, str, str, int]) -> Screen:
    """Return the screen with a second site in a well, whose image is that of another perturbation."""
    sites = planted_run.screen.sites
    first, other = site_rows(planted_run.screen)[key], 0
    second = sites.iloc[[first]].assign(site=2)
    for k in range(1, 7):
        second[f"path_{k}"] = sites[f"path_{k}"].iat[other]
    second["size"] = sites["size"].iat[other]
    table = pd.concat([sites, second], ignore_index=True)
    metadata = planted_run.screen.metadata.model_copy(update={"pixel_size_um": 0.65})
    return Screen(
        metadata=metadata, sites=table, problems=planted_run.screen.problems, folder=planted_run.screen.folder
    )


def test_a_site_without_a_map_is_empty_in_the_stack_and_named(planted_run: PlantedRun) -> None:
    key = explained_keys(planted_run.explanation)[2]
    screen = with_two_sites(planted_run, key)
    result = well_layers(planted_run.run, screen, "/".join(key[:3]))
    assert (result.sites, result.in_um) == ([1, 2], True)
    assert result.notes == ["No activation map of site 2: only explained sites have one (`distangle explain`)."]
    assert result.layers[0][0].shape == (2, 48, 48)
    np.testing.assert_array_equal(result.layers[0][0][1], VerifiedReader(screen).read(0)[0])
    maps, keywords, _ = result.layers[-1]
    np.testing.assert_array_equal(maps[0], planted_run.explanation.maps[2])
    assert np.isnan(maps[1]).all()
    assert keywords["scale"] == (1.0, 0.65, 0.65)
    one = well_layers(planted_run.run, screen, "/".join(key[:3]), site=2)
    assert [len(one.layers), one.layers[0][0].ndim] == [6, 2]
    with pytest.raises(ConfigError, match=r"has no site 7\. Expected one of 1, 2\."):
        well_layers(planted_run.run, screen, "/".join(key[:3]), site=7)


def test_a_coarse_map_lies_over_the_same_place(planted_run: PlantedRun, tmp_path: Path) -> None:
    maps = np.zeros((len(planted_run.explanation.table), 12, 12), dtype=np.float32)
    settings = {**planted_run.explanation.settings, "scale": (4.0, 4.0)}
    run = RunFolder.create(tmp_path / "coarse")
    dataclasses.replace(planted_run.explanation, maps=maps, settings=settings).write(run.explanations)
    key = explained_keys(planted_run.explanation)[0]
    _, keywords, _ = well_layers(run, planted_run.screen, "/".join(key[:3])).layers[-1]
    # The first pixel of the map covers pixels 0 to 3 of the site: its center is at 1.5.
    assert (keywords["scale"], keywords["translate"]) == ((4.0, 4.0), (1.5, 1.5))


def test_a_run_without_maps_opens_the_channels(planted_run: PlantedRun, tmp_path: Path) -> None:
    key = explained_keys(planted_run.explanation)[0]
    result = well_layers(RunFolder.create(tmp_path / "new"), planted_run.screen, "/".join(key[:3]))
    assert len(result.layers) == 6
    assert result.notes == ["The run has no activation maps. Make them: `distangle explain RUN`."]
    assert [keywords["visible"] for _, keywords, _ in result.layers] == [True] * 3 + [False] * 3


def test_a_well_is_found_by_the_shortest_name_that_is_unique(planted_run: PlantedRun) -> None:
    (row,) = find_well(planted_run.screen, "HUVEC-02/1/B02")
    assert list(planted_run.screen.sites.iloc[row][["experiment", "plate", "well"]]) == ["HUVEC-02", "1", "B02"]
    assert find_well(planted_run.screen, "HUVEC-02/1/b2") == [row]
    one_site_screen = dataclasses.replace(
        planted_run.screen, sites=planted_run.screen.sites.iloc[[row]].reset_index(drop=True)
    )
    assert find_well(one_site_screen, "B02") == find_well(one_site_screen, "1/B02") == [0]


def error_of(screen: Screen, name: str) -> str:
    with pytest.raises(ConfigError) as error:
        find_well(screen, name)
    return str(error.value)


def test_an_unknown_well_names_the_nearest(planted_run: PlantedRun) -> None:
    # The plates have wells B02, B03, B05, B06, ...: every third well is absent.
    text = error_of(planted_run.screen, "HUVEC-02/1/B04")
    assert text.startswith("The screen has no well HUVEC-02/1/B04. Expected a well such as HUVEC-02/1/B03, ")
    assert "HUVEC-01" not in text
    assert "such as HUVEC-01/1/B02, " in error_of(planted_run.screen, "A01")
    assert error_of(planted_run.screen, "B02").startswith(
        "B02 is on 4 plates: HUVEC-01/1/B02, HUVEC-01/2/B02, HUVEC-02/1/B02, HUVEC-02/2/B02. Expected one well."
    )
    assert error_of(planted_run.screen, "nonsense").startswith(
        "The screen has no well nonsense. Expected a well such as "
    )


def test_a_well_without_a_readable_site_is_refused(planted_run: PlantedRun) -> None:
    sites = planted_run.screen.sites.assign(path_1="absent.png")
    screen = dataclasses.replace(planted_run.screen, sites=sites)
    with pytest.raises(ImageError, match=r"No site of HUVEC-02/1/B02 can be read\. Site 1 is left out: .*absent\.png"):
        well_layers(planted_run.run, screen, "HUVEC-02/1/B02")


def test_napari_itself_takes_the_layers(planted_run: PlantedRun) -> None:
    layers: Any = pytest.importorskip("napari.layers", reason="needs the extra napari")
    key = explained_keys(planted_run.explanation)[0]
    for data, keywords, kind in well_layers(planted_run.run, planted_run.screen, "/".join(key[:3])).layers:
        assert layers.Layer.create(data, keywords, kind).name == keywords["name"]
