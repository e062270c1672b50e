"""An explanation decodes the explained sites and their controls, whatever the images are standardized by."""

from pathlib import Path

import numpy as np
import pytest

from distangle.errors import ExplanationError, RunError
from distangle.explain import SiteSelection, load_context
from distangle.images import cache
from distangle.inference import predict_run
from distangle.results import RunFolder
from distangle.screen import read_screen
from tiny_run import finish_run, tiny_screen, tiny_start

STATISTICS = "predictions/image_statistics.npy"


@pytest.fixture(scope="module", params=["plate", "experiment"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/ and run/, predicted; images are standardized by their plate or experiment."""
    root = tmp_path_factory.mktemp("reads")
    screen = tiny_screen(root, n_wells=16)
    run = tiny_start(screen, root / "run", f"preprocessing.standardize={request.param}", epochs=1)
    finish_run(run)
    predict_run(run, screen)
    return root


def count_reads(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    names: set[str] = set()
    real = cache.read_image

    def read_once(paths: list[Path], pages: list[int | None]) -> np.ndarray:
        assert paths[0].name not in names, "decoded twice"
        names.add(paths[0].name)
        return real(paths, pages)

    monkeypatch.setattr(cache, "read_image", read_once)
    return names


def test_one_site_and_its_controls_are_decoded_and_the_images_are_those_of_the_whole_plate(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, screen = RunFolder.open(folder / "run"), read_screen(folder / "screen")
    selection = SiteSelection(rows=[36])
    with monkeypatch.context() as patch:
        patch.setattr("distangle.explain.context.recall_statistics", lambda *_: False)
        names = count_reads(patch)
        expected = load_context(run, screen, selection=selection, n_controls=1)
        assert len(names) == 16  # of the plate: the experiments of the tiny screen have one each
    names = count_reads(monkeypatch)
    context = load_context(run, screen, selection=selection, n_controls=1)
    assert "E3_4_0.png" in names
    assert len(names) <= 1 + 1 + 2  # the site, its control, a control well with its own control
    for one, other in ((context.sites, expected.sites), (context.sites.control_sites, expected.sites.control_sites)):
        np.testing.assert_array_equal(one.images.numpy(), other.images.numpy())
        np.testing.assert_array_equal(one.controls.numpy(), other.controls.numpy())


def test_an_image_that_was_lost_since_is_named(folder: Path) -> None:
    run, screen = RunFolder.open(folder / "run"), read_screen(folder / "screen")
    image = folder / "plates/images/E3_4_0.png"
    content = image.read_bytes()
    image.unlink()
    try:
        with pytest.raises(ExplanationError, match=r"None of the 1 selected sites can be read.*E3_4_0\.png"):
            load_context(run, screen, selection=SiteSelection(rows=[36]))
    finally:
        image.write_bytes(content)


def test_statistics_that_were_changed_are_refused(folder: Path) -> None:
    run, screen = RunFolder.open(folder / "run"), read_screen(folder / "screen")
    assert run.lists(run.root / STATISTICS)
    path = run.root / STATISTICS
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"\0\0\0\1")
    try:
        with pytest.raises(RunError, match=r"image_statistics\.npy is damaged.*distangle predict"):
            load_context(run, screen, selection=SiteSelection(rows=[36]))
    finally:
        path.write_bytes(content)
