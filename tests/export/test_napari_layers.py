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
from report_run import Made, Plan, make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
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


def test_an_explained_well_has_its_channels_and_its_map(made: Made) -> None:
    key = explained_keys(made.explanation)[2]
    result = well_layers(made.run, made.screen, "/".join(key[:3]))
    assert result.title == f"{key[0]} plate {key[1]} well {key[2]}"
    assert (result.sites, result.in_um, result.notes) == ([1], False, [])
    assert len(result.layers) == 7
    image = VerifiedReader(made.screen).read(site_rows(made.screen)[key])
    for plane, (data, keywords, _) in zip(image, result.layers, strict=False):
        np.testing.assert_array_equal(data, plane)
        assert keywords["scale"] == (1.0, 1.0)
    assert [keywords["name"] for _, keywords, _ in result.layers][:2] == [
        "nuclei (Hoechst)",
        "endoplasmic reticulum (ConA)",
    ]
    assert result.layers[0][1]["colormap"] == "#1300f9"
    data, keywords, _ = result.layers[-1]
    np.testing.assert_array_equal(data, made.explanation.maps[2])
    entry = made.explanation.table.iloc[2]
    assert keywords["name"] == f"activation map of {entry['explained']}"
    about = keywords["metadata"]["distangle"]
    assert (about["well"], about["run"]) == (key[2], "pilot")
    assert about["predictions"]["1"]["predicted"] == entry["predicted"]
    assert about["predictions"]["1"]["probability"] == pytest.approx(float(entry["probability"]))


def with_two_sites(made: Made, key: tuple[str, str, str, int]) -> Screen:
    """Return the screen with a second site in a well, whose image is that of another perturbation."""
    sites = made.screen.sites
    first, other = site_rows(made.screen)[key], 0
    second = sites.iloc[[first]].assign(site=2)
    for k in range(1, 7):
        second[f"path_{k}"] = sites[f"path_{k}"].iat[other]
    second["size"] = sites["size"].iat[other]
    table = pd.concat([sites, second], ignore_index=True)
    card = made.screen.card.model_copy(update={"pixel_size_um": 0.65})
    return Screen(card=card, sites=table, problems=made.screen.problems, folder=made.screen.folder)


def test_a_site_without_a_map_is_empty_in_the_stack_and_named(made: Made) -> None:
    key = explained_keys(made.explanation)[2]
    screen = with_two_sites(made, key)
    result = well_layers(made.run, screen, "/".join(key[:3]))
    assert (result.sites, result.in_um) == ([1, 2], True)
    assert result.notes == ["No activation map of site 2: only explained sites have one (`distangle explain`)."]
    assert result.layers[0][0].shape == (2, 48, 48)
    np.testing.assert_array_equal(result.layers[0][0][1], VerifiedReader(screen).read(0)[0])
    maps, keywords, _ = result.layers[-1]
    np.testing.assert_array_equal(maps[0], made.explanation.maps[2])
    assert np.isnan(maps[1]).all()
    assert keywords["scale"] == (1.0, 0.65, 0.65)
    one = well_layers(made.run, screen, "/".join(key[:3]), site=2)
    assert [len(one.layers), one.layers[0][0].ndim] == [6, 2]
    with pytest.raises(ConfigError, match=r"has no site 7\. Expected one of 1, 2\."):
        well_layers(made.run, screen, "/".join(key[:3]), site=7)


def test_a_coarse_map_lies_over_the_same_place(made: Made, tmp_path: Path) -> None:
    maps = np.zeros((len(made.explanation.table), 12, 12), dtype=np.float32)
    settings = {**made.explanation.settings, "scale": (4.0, 4.0)}
    run = RunFolder.create(tmp_path / "coarse")
    dataclasses.replace(made.explanation, maps=maps, settings=settings).write(run.explanations)
    key = explained_keys(made.explanation)[0]
    _, keywords, _ = well_layers(run, made.screen, "/".join(key[:3])).layers[-1]
    # The first pixel of the map covers pixels 0 to 3 of the site: its center is at 1.5.
    assert (keywords["scale"], keywords["translate"]) == ((4.0, 4.0), (1.5, 1.5))


def test_a_run_without_maps_opens_the_channels(made: Made, tmp_path: Path) -> None:
    key = explained_keys(made.explanation)[0]
    result = well_layers(RunFolder.create(tmp_path / "new"), made.screen, "/".join(key[:3]))
    assert len(result.layers) == 6
    assert result.notes == ["The run has no activation maps. Make them: `distangle explain RUN`."]
    assert [keywords["visible"] for _, keywords, _ in result.layers] == [True] * 3 + [False] * 3


def test_a_well_is_found_by_the_shortest_name_that_is_unique(made: Made) -> None:
    (row,) = find_well(made.screen, "HUVEC-02/1/B02")
    assert list(made.screen.sites.iloc[row][["experiment", "plate", "well"]]) == ["HUVEC-02", "1", "B02"]
    assert find_well(made.screen, "HUVEC-02/1/b2") == [row]
    few = dataclasses.replace(made.screen, sites=made.screen.sites.iloc[[row]].reset_index(drop=True))
    assert find_well(few, "B02") == find_well(few, "1/B02") == [0]


def error_of(screen: Screen, name: str) -> str:
    with pytest.raises(ConfigError) as raised:
        find_well(screen, name)
    return str(raised.value)


def test_an_unknown_well_names_the_nearest(made: Made) -> None:
    # The plates have wells B02, B03, B05, B06 ... : every third one is absent.
    text = error_of(made.screen, "HUVEC-02/1/B04")
    assert text.startswith("The screen has no well HUVEC-02/1/B04. Expected a well such as HUVEC-02/1/B03, ")
    assert "HUVEC-01" not in text
    assert "such as HUVEC-01/1/B02, " in error_of(made.screen, "A01")
    assert error_of(made.screen, "B02").startswith(
        "B02 is on 4 plates: HUVEC-01/1/B02, HUVEC-01/2/B02, HUVEC-02/1/B02, HUVEC-02/2/B02. Expected one well."
    )
    assert error_of(made.screen, "nonsense").startswith("The screen has no well nonsense. Expected a well such as ")


def test_a_well_without_a_readable_site_is_refused(made: Made) -> None:
    sites = made.screen.sites.assign(path_1="absent.png")
    screen = dataclasses.replace(made.screen, sites=sites)
    with pytest.raises(ImageError, match=r"No site of HUVEC-02/1/B02 can be read\. Site 1 is left out: .*absent\.png"):
        well_layers(made.run, screen, "HUVEC-02/1/B02")


def test_napari_itself_takes_the_layers(made: Made) -> None:
    layers: Any = pytest.importorskip("napari.layers", reason="needs the extra napari")
    key = explained_keys(made.explanation)[0]
    for data, keywords, kind in well_layers(made.run, made.screen, "/".join(key[:3])).layers:
        assert layers.Layer.create(data, keywords, kind).name == keywords["name"]
