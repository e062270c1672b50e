"""Mean maps: drawn where the maps of a perturbation favor a place, and not where they do not."""

import numpy as np
import pandas as pd
import pytest

from distangle.report.data import load
from distangle.report.sections import mean_maps as section
from distangle.report.sections.mean_maps import ALL, map_groups, mean_maps, place_p_value
from report_run import PlantedRun


def spots(places: list[tuple[int, int]], *, size: int = 64) -> np.ndarray:
    """Return maps with one round spot each, whose maximum is 1."""
    y, x = np.mgrid[:size, :size]
    return np.stack([np.exp(-((y - row) ** 2 + (x - column) ** 2) / 60) for row, column in places])


def random_places(rng: np.random.Generator, n: int) -> list[tuple[int, int]]:
    return [(int(row), int(column)) for row, column in rng.integers(8, 56, size=(n, 2))]


def table_of(perturbations: list[str], *, plates: list[str] | None = None, n_wrong: int = 0) -> pd.DataFrame:
    predictions = [*perturbations]
    predictions[:n_wrong] = ["other"] * n_wrong
    roles = ["negative_control" if name == "EMPTY" else "treatment" for name in perturbations]
    return pd.DataFrame({
        "Metadata_Experiment": "E", "Metadata_Plate": plates or ["1"] * len(perturbations), "Metadata_Role": roles,
        "perturbation": perturbations, "predicted": predictions,
    })  # fmt: skip


def test_maps_at_one_place_have_the_smallest_p_and_maps_anywhere_have_none() -> None:
    rng = np.random.default_rng(3)
    equal_maps = spots([(20, 40)] * 5)
    assert place_p_value(equal_maps, rng=rng, n_draws=199) == pytest.approx(1 / 200)
    values = [place_p_value(spots(random_places(rng, 5)), rng=rng, n_draws=99) for _ in range(20)]
    # Spots avoid the edge, a weak preference of position: p is uniform or slightly smaller.
    assert 0.2 < np.mean(values) < 0.7
    assert np.mean(np.array(values) <= 0.05) < 0.2


def test_p_is_uniform_if_places_are_uniform() -> None:
    rng = np.random.default_rng(5)
    base = spots([(32, 32)], size=32)[0]
    values = []
    for _ in range(60):
        maps = np.stack([np.roll(base, rng.integers(32, size=2), (0, 1)) for _ in range(4)])
        values.append(place_p_value(maps, rng=rng, n_draws=99))
    assert np.quantile(values, 0.5) == pytest.approx(0.5, abs=0.2)
    assert np.mean(np.array(values) <= 0.05) <= 0.12


def test_a_shift_of_all_maps_together_changes_nothing() -> None:
    maps = spots([(20, 20), (22, 20), (40, 44)])
    shifted = np.roll(maps, (16, 8), (1, 2))
    p = [place_p_value(one, rng=np.random.default_rng(0), n_draws=499) for one in (maps, shifted)]
    assert p[0] == pytest.approx(p[1], abs=0.06)


def test_only_correct_sites_with_a_map_count_and_controls_share_their_plates() -> None:
    names = ["a", "a", "a", "a", "a", "b", "b", "EMPTY", "EMPTY", "EMPTY", "EMPTY"]
    plates = ["1", "1", "1", "1", "2", "3", "3", "1", "1", "2", "3"]
    maps = spots([(20, 20)] * len(names))
    maps[1] = 0  # an empty map
    maps[8] = 0
    all_wells, a = map_groups(table_of(names, plates=plates, n_wrong=1), maps)
    assert (all_wells.name, all_wells.rows.tolist()) == (ALL, [2, 3, 4, 5, 6])
    assert all_wells.controls.tolist() == [7, 9, 10]
    assert (a.name, a.rows.tolist(), a.controls.tolist()) == ("a", [2, 3, 4], [7, 9])  # b has two sites only


def test_the_largest_perturbations_are_tested_in_natural_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(section, "MAX_GROUPS", 2)
    names = ["g10"] * 4 + ["g2"] * 5 + ["g1"] * 3
    groups = map_groups(table_of(names), spots([(20, 20)] * len(names)))
    assert [group.name for group in groups] == [ALL, "g2", "g10"]


def section_of(planted_run: PlantedRun, names: list[str], maps: np.ndarray) -> tuple[str, dict[str, np.ndarray]]:
    """Return HTML and pictures of the section for some sites."""
    data = load(planted_run.run, planted_run.screen)
    assert data.explanation is not None
    object.__setattr__(data.explanation, "table", table_of(names))
    object.__setattr__(data.explanation, "maps", maps)
    pictures: dict[str, np.ndarray] = {}

    def paint(picture: np.ndarray, name: str) -> str:
        pictures[name] = picture
        return f"figures/{name}"

    content = mean_maps(data, paint)
    return ("" if content is None else str(content.__html__())), pictures


def test_a_perturbation_whose_maps_favor_a_place_is_drawn_beside_its_controls(run_data: PlantedRun) -> None:
    rng = np.random.default_rng(1)
    names = ["here"] * 6 + ["anywhere"] * 6 + ["EMPTY"] * 4
    places = [(16, 48)] * 6 + random_places(rng, 10)
    maps = spots(places)
    html, pictures = section_of(run_data, names, maps)
    assert "1 of 2 perturbations favor a place (p at most 0.05) and are drawn: here." in html
    assert set(pictures) == {f"mean-map-0{k}-{kind}.png" for k in (1, 2) for kind in ("own", "control")}
    assert html.count("<figcaption>Mean of 4 control sites of the same plates, p = ") == 2
    picture = pictures["mean-map-02-own.png"].astype(int)
    bright = np.argwhere(picture.sum(axis=2) == picture.sum(axis=2).max()).mean(axis=0) / picture.shape[0]
    np.testing.assert_allclose(bright, (16.5 / 64, 48.5 / 64), atol=0.03)
    # Each picture has its own scale: the mean of scattered controls is dimmer.
    assert "Mean of 6 sites, p = 0.001; brightest color: 1.00" in html  # 2 tests of p = 1 / 2000
    mean = maps[12:].mean(axis=0)
    assert html.count(f"brightest color: {mean.max():.2f}</figcaption>") == 2


def test_noise_is_not_drawn(run_data: PlantedRun) -> None:
    names = ["a"] * 5 + ["b"] * 5
    html, pictures = section_of(run_data, names, spots(random_places(np.random.default_rng(2), 10)))
    assert "None of 2 perturbations favors a place" in html
    assert "All 10 treated sites together: p = " in html
    assert pictures == {}
    assert "<figure>" not in html


def test_a_group_without_controls_says_so(run_data: PlantedRun) -> None:
    html, pictures = section_of(run_data, ["a"] * 5 + ["EMPTY"] * 2, spots([(20, 20)] * 7))
    assert set(pictures) == {"mean-map-01-own.png", "mean-map-02-own.png"}
    assert html.count("fewer than 3 explained control sites") == 2


def test_too_few_sites_have_no_section(run_data: PlantedRun) -> None:
    assert section_of(run_data, ["a", "b", "EMPTY", "EMPTY"], spots([(20, 20)] * 4)) == ("", {})
    assert section_of(run_data, ["a"] * 4, np.zeros((4, 64, 64))) == ("", {})
