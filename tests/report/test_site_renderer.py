import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from distangle.errors import ImageError
from distangle.images.composites import fit_map
from distangle.report.scale_bar import bar_length_um, draw_scale_bar, length_text
from distangle.report.sections.sites import _correlation_sentence
from distangle.report.site_renderer import ChosenSite, SiteRenderer, choose_sites
from distangle.screen import Screen
from report_run import STAINS, Plan, PlantedRun, make_run


def explanation_table(rows: list[tuple[str, str, float, str]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "Metadata_Experiment": "E", "Metadata_Plate": "1", "Metadata_Well": f"A{place + 1:02d}",
                "Metadata_Site": 1, "Metadata_Role": role, "perturbation": true, "predicted": prediction,
                "probability": probability,
            }
            for place, (true, prediction, probability, role) in enumerate(rows)
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
    unclear = ChosenSite(row=0, kind="correct", entry={**values, **p, "correlation_p_2": 0.02})
    sentence = _correlation_sentence(unclear, ["dna", "actin", "er"])
    assert sentence == " The map resembles no channel more than random maps do (largest correlation 0.70, p = 0.06)."


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


def test_the_pictures_of_a_site_show_its_own_pixels(run_data: PlantedRun, tmp_path: Path) -> None:
    first = run_data.screen.sites.iloc[3]
    key = (first["experiment"], first["plate"], first["well"], int(first["site"]))
    pictures = SiteRenderer(run_data.screen, tmp_path).render(key, np.zeros((48, 48)), name="site-01")
    assert pictures.problem == ""
    assert len(pictures.channels) == 6
    sizes = {}
    for name in (pictures.treated, pictures.overlay, *pictures.channels):
        with Image.open(tmp_path / name) as file:
            sizes[name] = (file.size, file.mode)
    assert sizes[pictures.treated] == ((240, 240), "L")
    assert sizes[pictures.channels[0]] == ((144, 144), "L")
    with Image.open(tmp_path / pictures.channels[2]) as file:
        pixels_drawn = np.asarray(file)[::3, ::3].astype(float).ravel()
    with Image.open(run_data.screen.image_paths(3)[2]) as file:
        pixels = np.asarray(file).astype(float).ravel()
    assert np.corrcoef(pixels_drawn, pixels)[0, 1] > 0.95


def test_pictures_of_one_plate_share_their_contrast(run_data: PlantedRun, tmp_path: Path) -> None:
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
    means, keys = [], []
    for row in rows[[1, 0]]:  # the dim image first; the contrast limits come from the plate
        entry = run_data.screen.sites.loc[row]
        key = (entry["experiment"], entry["plate"], entry["well"], int(entry["site"]))
        keys.append(key)
        pictures = renderer.render(key, np.zeros((48, 48)), name=f"site-{row}")
        with Image.open(tmp_path / pictures.treated) as file:
            means.append(float(np.asarray(file).mean()))
    assert means[1] > 2 * means[0]
    controls = sum(renderer.nearest_control(key) is not None for key in keys)
    # The two sites and their controls, and four neighbors once for the plate.
    assert len(rows_read) == 2 + controls + 4


def test_an_image_that_cannot_be_read_is_told_without_its_folder(run_data: PlantedRun, tmp_path: Path) -> None:
    def fail(row: int) -> np.ndarray:
        message = f"{run_data.screen.image_paths(row)[0]} is cut short."
        raise ImageError(message)

    entry = run_data.screen.sites.iloc[0]
    key = (entry["experiment"], entry["plate"], entry["well"], 1)
    pictures = SiteRenderer(run_data.screen, tmp_path, read=fail).render(key, np.zeros((48, 48)), name="x")
    assert pictures.problem.startswith("The image could not be read: p")
    assert pictures.problem.endswith(".png is cut short.")
    assert str(run_data.screen.source) not in pictures.problem


def test_a_site_of_another_screen_is_told(run_data: PlantedRun, tmp_path: Path) -> None:
    pictures = SiteRenderer(run_data.screen, tmp_path).render(("E", "1", "A01", 1), np.zeros((48, 48)), name="x")
    assert "not in the screen" in pictures.problem


def test_sixty_eight_pixels_of_sixteen_bits_in_three_channels_are_drawn_threefold(tmp_path: Path) -> None:
    run_data = make_run(tmp_path, Plan(size=68, bits=16, channels=STAINS[:3], cell_types=(), explained=1))
    entry = run_data.screen.sites.iloc[0]
    key = (entry["experiment"], entry["plate"], entry["well"], 1)
    pictures = SiteRenderer(run_data.screen, tmp_path / "report").render(key, np.zeros((68, 68)), name="x")
    with Image.open(tmp_path / "report" / pictures.treated) as file:
        assert file.size == (204, 204)
        assert np.asarray(file).max() > 150


def pattern_of(row: int) -> np.ndarray:
    """Return an image whose pixels say which row and channel it is."""
    image = np.zeros((6, 48, 48), np.uint8)
    image[:, :, : 4 + row % 40] = 200
    image[2] = 200 - image[2]
    return image


def test_a_site_stands_beside_the_nearest_untreated_well_of_its_plate(run_data: PlantedRun, tmp_path: Path) -> None:
    sites = run_data.screen.sites
    renderer = SiteRenderer(run_data.screen, tmp_path, read=pattern_of)
    treatments = sites[sites["role"] == "treatment"].iloc[[0, 7, 40]]
    for entry in treatments.itertuples():
        key = (entry.experiment, entry.plate, entry.well, int(entry.site))
        best = None
        for other in sites.itertuples():
            if (other.experiment, other.plate) == (entry.experiment, entry.plate) and other.role == "negative_control":
                distance = (other.row - entry.row) ** 2 + (other.column - entry.column) ** 2
                if best is None or distance < best[0]:
                    best = (distance, other.well, other.Index)
        assert best is not None
        pictures = renderer.render(key, np.zeros((48, 48)), name=f"site-{entry.Index}", channel=2)
        assert pictures.control_key == (entry.experiment, entry.plate, best[1], 1)
        assert len(pictures.control_channels) == 6
        for name, row in ((pictures.treated, entry.Index), (pictures.control, best[2])):
            with Image.open(tmp_path / name) as file:
                bright = np.asarray(file)[::5, ::5] > 127
            np.testing.assert_array_equal(bright, pattern_of(row)[2] > 127)


def test_the_files_of_a_site_are_named_from_the_source_on(run_data: PlantedRun, tmp_path: Path) -> None:
    renderer = SiteRenderer(run_data.screen, tmp_path)
    entry = run_data.screen.sites.iloc[5]
    names = renderer.files((entry["experiment"], entry["plate"], entry["well"], int(entry["site"])))
    assert names == [path.relative_to(run_data.screen.source).as_posix() for path in run_data.screen.image_paths(5)]
    assert len(names) == 6
    assert renderer.files(("no", "such", "A01", 1)) == []


def test_an_untreated_well_has_no_other_beside_it(run_data: PlantedRun, tmp_path: Path) -> None:
    entry = run_data.screen.sites[run_data.screen.sites["role"] == "negative_control"].iloc[0]
    key = (entry["experiment"], entry["plate"], entry["well"], 1)
    pictures = SiteRenderer(run_data.screen, tmp_path, read=pattern_of).render(key, np.zeros((48, 48)), name="x")
    assert (pictures.control_key, pictures.control, pictures.control_channels) == (None, "", ())


@pytest.mark.parametrize(
    ("width_um", "length"),
    [(100.0, 20.0), (232.0, 50.0), (227.0, 20.0), (9.0, 1.0), (0.5, 0.1), (4545.5, 1000.0)],
)
def test_a_scale_bar_has_a_round_length_of_at_most_22_percent(width_um: float, length: float) -> None:
    assert bar_length_um(width_um) == pytest.approx(length)


def test_a_scale_bar_is_as_long_as_it_says() -> None:
    image, length = draw_scale_bar(np.full((200, 400, 3), 60, np.uint8), um_per_pixel=0.65)
    assert length == 50.0  # of 260
    white = np.argwhere((image == 255).all(axis=2))
    assert white[:, 1].max() - white[:, 1].min() + 1 == round(50 / 0.65)
    assert (image == 0).any()
    assert length_text(length) == "50\u202fµm"


def test_pictures_have_a_scale_bar_only_if_the_pixel_size_is_known(run_data: PlantedRun, tmp_path: Path) -> None:
    entry = run_data.screen.sites[run_data.screen.sites["role"] == "treatment"].iloc[0]
    key = (entry["experiment"], entry["plate"], entry["well"], 1)

    def picture(screen: Screen, name: str) -> tuple[float, np.ndarray]:
        renderer = SiteRenderer(screen, tmp_path, read=lambda row: np.tile(np.arange(48, dtype=np.uint8), (6, 48, 1)))
        pictures = renderer.render(key, np.zeros((48, 48)), name=name)
        with Image.open(tmp_path / pictures.treated) as file:
            return pictures.bar_um, np.asarray(file)

    length, plain = picture(run_data.screen, "plain")
    assert length == 0.0
    metadata = run_data.screen.metadata.model_copy(update={"pixel_size_um": 2.0})
    length, image = picture(dataclasses.replace(run_data.screen, metadata=metadata), "known")
    assert length == 20.0  # of 96 µm
    differing = np.argwhere(image != plain)
    # 20 µm are 10 pixels, each enlarged five times; the edge adds one pixel at each side.
    assert differing[:, 1].max() - differing[:, 1].min() + 1 in (50, 51, 52)
