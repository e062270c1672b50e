from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from distangle.errors import ImageError
from distangle.report.sections.sites import _correlation_sentence
from distangle.report.site_renderer import ChosenSite, SiteRenderer, choose_sites, fit_map
from report_run import STAINS, Made, Plan, make_run


def explanation_table(rows: list[tuple[str, str, float, str]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "Metadata_Experiment": "E", "Metadata_Plate": "1", "Metadata_Well": f"A{place + 1:02d}",
                "Metadata_Site": 1, "Metadata_Role": role, "perturbation": true, "predicted": predicted,
                "probability": probability,
            }
            for place, (true, predicted, probability, role) in enumerate(rows)
        ]
    )  # fmt: skip


def test_the_best_supported_sites_of_different_perturbations_come_first_and_controls_last() -> None:
    table = explanation_table(
        [
            ("EMPTY", "EMPTY", 0.99, "negative_control"),
            ("a", "a", 0.7, "treatment"),
            ("a", "a", 0.9, "treatment"),
            ("b", "b", 0.6, "treatment"),
            ("c", "a", 0.8, "treatment"),
            ("PLK1", "a", 0.5, "positive_control"),
            ("", "a", 0.4, "unknown"),
        ]
    )
    examples = choose_sites(table)
    assert [site.row for site in examples] == [2, 3, 1, 4, 6, 0, 5]
    assert [site.kind for site in examples] == [*["correct"] * 3, "wrong", "unlabelled", "control", "control"]
    assert [site.row for site in choose_sites(table, correct=2, wrong=0, controls=1)] == [2, 3, 0]


def test_a_control_is_never_among_the_errors() -> None:
    table = explanation_table([("EMPTY", "a", 0.9, "untreated"), ("EMPTY", "a", 0.9, "negative_control")])
    assert {site.kind for site in choose_sites(table)} == {"control"}


def test_the_stain_that_a_map_resembles_most_has_a_p_for_having_looked_at_all() -> None:
    values = {"correlation_1": 0.1, "correlation_2": 0.7, "correlation_3": 0.2}
    p = {"correlation_p_1": 0.6, "correlation_p_2": 0.01, "correlation_p_3": 0.3}
    site = ChosenSite(row=0, kind="correct", entry={**values, **p})
    assert "resembles actin most (correlation 0.70; p = 0.03 among" in _correlation_sentence(
        site, ["dna", "actin", "er"]
    )


def test_a_map_of_binned_pixels_is_enlarged_to_the_image() -> None:
    small = np.array([[0.0, 1.0], [0.0, 1.0]])
    large = fit_map(small, (8, 8))
    assert large.shape == (8, 8)
    assert large[:, 0].max() == 0
    assert large[:, -1].min() == 1
    assert (np.diff(large, axis=1) >= 0).all()


def test_a_map_of_another_aspect_is_refused() -> None:
    with pytest.raises(ImageError, match="aspect ratios differ"):
        fit_map(np.zeros((16, 32)), (64, 64))


def test_the_pictures_of_a_site_show_its_own_pixels(run_data: Made, tmp_path: Path) -> None:
    first = run_data.screen.sites.iloc[3]
    key = (first["experiment"], first["plate"], first["well"], int(first["site"]))
    pictures = SiteRenderer(run_data.screen, tmp_path).render(key, np.zeros((48, 48)), name="site-01")
    assert pictures.problem == ""
    assert len(pictures.channels) == 6
    sizes = {}
    for name in (pictures.composite, pictures.overlay, *pictures.channels):
        with Image.open(tmp_path / name) as opened:
            sizes[name] = (opened.size, opened.mode)
    assert sizes[pictures.composite] == ((240, 240), "RGB")
    assert sizes[pictures.channels[0]] == ((144, 144), "L")
    with Image.open(tmp_path / pictures.channels[2]) as opened:
        pixels_drawn = np.asarray(opened)[::3, ::3].astype(float).ravel()
    with Image.open(run_data.screen.image_paths(3)[2]) as opened:
        pixels = np.asarray(opened).astype(float).ravel()
    assert np.corrcoef(pixels_drawn, pixels)[0, 1] > 0.95


def test_pictures_of_one_plate_share_their_contrast(run_data: Made, tmp_path: Path) -> None:
    first = run_data.screen.sites.iloc[0]
    rows = run_data.screen.sites.index[
        (run_data.screen.sites["experiment"] == first["experiment"])
        & (run_data.screen.sites["plate"] == first["plate"])
    ]

    rows_read: list[int] = []

    def read_row(row: int) -> np.ndarray:
        rows_read.append(row)
        bright = list(rows).index(row)
        ramp = np.linspace(0, 50 if bright == 1 else 200, 48 * 48).reshape(48, 48)
        return np.repeat(ramp[None], 6, axis=0).astype(np.uint8)

    renderer = SiteRenderer(run_data.screen, tmp_path, read=read_row)
    means = []
    for row in rows[[1, 0]]:  # the dim one first: the limits are not its own
        entry = run_data.screen.sites.loc[row]
        key = (entry["experiment"], entry["plate"], entry["well"], int(entry["site"]))
        pictures = renderer.render(key, np.zeros((48, 48)), name=f"site-{row}")
        with Image.open(tmp_path / pictures.composite) as opened:
            means.append(float(np.asarray(opened).mean()))
    assert means[1] > 2 * means[0]
    assert len(rows_read) == 2 + 4  # the two sites, and four neighbours once for the plate


def test_an_image_that_cannot_be_read_is_told_without_its_folder(run_data: Made, tmp_path: Path) -> None:
    def failing(row: int) -> np.ndarray:
        message = f"{run_data.screen.image_paths(row)[0]} is cut short."
        raise ImageError(message)

    entry = run_data.screen.sites.iloc[0]
    key = (entry["experiment"], entry["plate"], entry["well"], 1)
    pictures = SiteRenderer(run_data.screen, tmp_path, read=failing).render(key, np.zeros((48, 48)), name="x")
    assert pictures.problem.startswith("The image could not be read: p")
    assert pictures.problem.endswith(".png is cut short.")
    assert str(run_data.screen.source) not in pictures.problem


def test_a_site_of_another_screen_is_told(run_data: Made, tmp_path: Path) -> None:
    pictures = SiteRenderer(run_data.screen, tmp_path).render(("E", "1", "A01", 1), np.zeros((48, 48)), name="x")
    assert "not in the screen" in pictures.problem


def test_sixty_eight_pixels_of_sixteen_bits_in_three_channels_are_drawn_threefold(tmp_path: Path) -> None:
    run_data = make_run(tmp_path, Plan(size=68, bits=16, channels=STAINS[:3], cell_types=(), explained=1))
    entry = run_data.screen.sites.iloc[0]
    key = (entry["experiment"], entry["plate"], entry["well"], 1)
    pictures = SiteRenderer(run_data.screen, tmp_path / "report").render(key, np.zeros((68, 68)), name="x")
    with Image.open(tmp_path / "report" / pictures.composite) as opened:
        assert opened.size == (204, 204)
        assert np.asarray(opened).max() > 150
