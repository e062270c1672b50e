"""The verb `napari`: what it opens, and what it says when it cannot."""

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distangle.cli import main, views
from distangle.export.napari_layers import WellLayers
from report_run import Plan, PlantedRun, make_run


@pytest.fixture(scope="module")
def planted_run(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    return make_run(tmp_path_factory.mktemp("verb"), Plan(cell_types=("HUVEC",), plates=1))


class StandInViewer:
    """Keeps what it is told, as a viewer of napari would."""

    def __init__(self, title: str = "") -> None:
        self.title, self.layers, self.was_reset = title, [], False
        self.dims = types.SimpleNamespace(axis_labels=(), set_point=lambda axis, value: None)
        self.scale_bar = types.SimpleNamespace(visible=None)

    def add_layer(self, layer: Any) -> None:
        self.layers.append(layer)

    def reset_view(self) -> None:
        self.was_reset = True


def create(data: np.ndarray, keywords: dict[str, Any], kind: str) -> types.SimpleNamespace:
    return types.SimpleNamespace(data=data, ndim=data.ndim, kind=kind, **keywords)


@pytest.fixture
def viewers(monkeypatch: pytest.MonkeyPatch) -> list[StandInViewer]:
    """Stand-ins for the package and a display; every viewer that is opened."""
    opened_viewers: list[StandInViewer] = []

    def open_viewer(title: str) -> StandInViewer:
        opened_viewers.append(StandInViewer(title))
        return opened_viewers[-1]

    package = types.ModuleType("stand_in_of_napari")
    package.Viewer = open_viewer  # type: ignore[attr-defined]
    package.run = lambda: None  # type: ignore[attr-defined]
    package.layers = types.SimpleNamespace(Layer=types.SimpleNamespace(create=create))  # type: ignore[attr-defined]
    package.__spec__ = object()  # type: ignore[assignment]
    monkeypatch.setitem(views.sys.modules, "stand_in_of_napari", package)
    monkeypatch.setattr(views, "NAPARI_PACKAGE", "stand_in_of_napari")
    monkeypatch.setenv("DISPLAY", ":0")
    return opened_viewers


def test_a_well_opens_with_its_channels_and_map(
    planted_run: PlantedRun, viewers: list[StandInViewer], capsys: pytest.CaptureFixture[str]
) -> None:
    entry = planted_run.explanation.table.iloc[0]
    well = "/".join(entry[["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]])
    main(["napari", str(planted_run.run.root), well])
    (viewer,) = viewers
    assert viewer.title == f"HUVEC-02 plate 1 well {entry['Metadata_Well']} - pilot"
    assert [layer.kind for layer in viewer.layers] == ["image"] * 7
    assert viewer.layers[-1].name == f"activation map of {entry['explained']}"
    assert (viewer.was_reset, viewer.scale_bar.visible) == (True, False)
    assert "7 layers. Close the window of napari to end." in capsys.readouterr().out


def test_units_and_a_slider_are_set_where_they_mean_something() -> None:
    data = (np.zeros((2, 4, 4), dtype=np.uint8), {"name": "DNA"}, "image")
    viewer = StandInViewer()
    views.fill_viewer(viewer, WellLayers(title="", layers=[data], sites=[1, 2], in_um=True), create=create)
    assert viewer.dims.axis_labels == ("site", "y", "x")
    assert viewer.layers[0].units == ("pixel", "um", "um")
    assert viewer.scale_bar.visible
    flat = (np.zeros((4, 4), dtype=np.uint8), {"name": "DNA"}, "image")
    viewer = StandInViewer()
    viewer.canvas = types.SimpleNamespace(  # type: ignore[attr-defined]
        overlays=types.SimpleNamespace(scale_bar=types.SimpleNamespace(visible=None))
    )
    views.fill_viewer(viewer, WellLayers(title="", layers=[flat], sites=[1], in_um=True), create=create)
    assert viewer.layers[0].units == ("um", "um")
    assert viewer.canvas.overlays.scale_bar.visible  # type: ignore[attr-defined]
    assert viewer.dims.axis_labels == ()


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 1
    return " ".join(capsys.readouterr().err.split())


def test_an_absent_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(views, "NAPARI_PACKAGE", "no_such_package")
    text = error_of(["napari", "run", "B02"], capsys)
    assert "Install the extra `napari`: `pip install 'distangle[napari]'`" in text


def test_an_absent_display_is_named(
    viewers: list[StandInViewer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in views.DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(views.sys, "platform", "linux")
    text = error_of(["napari", "run", "B02"], capsys)
    assert "this machine has no display (DISPLAY is not set). Use `distangle view RUN`" in text
    assert not viewers


def test_bad_names_are_refused_before_napari_is_loaded(
    planted_run: PlantedRun, viewers: list[StandInViewer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "has no well Z99" in error_of(["napari", str(planted_run.run.root), "Z99"], capsys)
    assert "has no site 9" in error_of(["napari", str(planted_run.run.root), "HUVEC-02/1/B02", "--site", "9"], capsys)
    assert str(tmp_path) in error_of(["napari", str(tmp_path), "B02"], capsys)
    assert not viewers
