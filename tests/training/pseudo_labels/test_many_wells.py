"""Pseudo labels of many wells: the number of name comparisons is linear, not quadratic."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distangle.images import ImageCache
from distangle.screen import Screen, hold_out
from distangle.training import resolve_config
from distangle.training.data.sites import class_names, labelled_sites
from distangle.training.pseudo_labels import unlabelled_wells as wells_module
from distangle.training.pseudo_labels.constraints import PlateLayoutConstraint
from distangle.training.pseudo_labels.rounds import UnlabelledWells, progressive_round
from tiny_run import tiny_screen

N_WELLS = 240
ONE_PLATE_EACH_FOUR = PlateLayoutConstraint(
    unique_per_plate=True, groups=(np.array([0, 1]), np.array([2, 3])), unique_group_per_experiment=False, n_classes=4
)


class CountingName(tuple[str, ...]):
    """A name that counts how often it is compared."""

    comparisons = 0
    __hash__ = tuple.__hash__

    def __eq__(self, other: object) -> bool:
        CountingName.comparisons += 1
        return tuple.__eq__(self, other)


@pytest.fixture(autouse=True)
def from_zero() -> None:
    CountingName.comparisons = 0


def plates() -> tuple[CountingName, ...]:
    return tuple(CountingName((f"E{k % 3}", str(k // 4))) for k in range(N_WELLS))


def wells_on(places: tuple[CountingName, ...]) -> UnlabelledWells:
    return UnlabelledWells(
        well_of_site=np.arange(N_WELLS),
        first_position=0,
        plates=places,  # type: ignore[arg-type]
        names=tuple(map(str, range(N_WELLS))),
        possible=np.ones((N_WELLS, 4), bool),
        truth=np.full(N_WELLS, -1),
        labelled_classes=np.arange(N_WELLS) % 4,
        control_classes=np.empty(0, np.int64),
    )


def a_round() -> None:
    logits = np.random.default_rng(0).normal(size=(N_WELLS, 4))
    earlier = np.arange(N_WELLS) % 4, np.arange(N_WELLS) % 8 < 4
    progressive_round(logits, wells_on(plates()), ONE_PLATE_EACH_FOUR, share=0.8, previous=earlier)


def a_choice() -> None:
    places, logits = plates(), np.random.default_rng(0).normal(size=(N_WELLS, 4))
    ONE_PLATE_EACH_FOUR.assign(logits, places, ONE_PLATE_EACH_FOUR.allowed_classes(logits, places))


@pytest.mark.parametrize("work", [a_round, a_choice])
def test_plates_are_compared_a_few_times_a_well(work: Callable[[], None]) -> None:
    work()
    assert 0 < CountingName.comparisons < 12 * N_WELLS


def test_wells_are_gathered_with_one_comparison_a_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = tiny_screen(tmp_path, n_wells=9)
    config = resolve_config("scratch", ["preprocessing.binning=1"])
    classes = class_names(screen, "perturbation")
    store = ImageCache(screen, config.preprocessing)
    folds = hold_out(screen, column="experiment", values=["E3"])
    sites, _ = labelled_sites(store, np.flatnonzero(folds.of(screen) == "train"), classes, config)
    wells_of, repeats = wells_module._wells_of, 20
    expected = wells_module.unlabelled_wells(screen, sites, sites, classes, config)

    def count_wells(screen: Screen, rows: np.ndarray) -> list[CountingName]:
        return [CountingName((*name[:2], f"{name[2]} {k}")) for k, name in enumerate(wells_of(screen, rows))]

    monkeypatch.setattr(wells_module, "_wells_of", count_wells)
    monkeypatch.setattr(wells_module, "_treatment_wells", lambda *_args: ([], sites.labels))
    many_rows = np.tile(sites.rows, repeats)
    result = wells_module.unlabelled_wells(screen, sites, dataclasses.replace(sites, rows=many_rows), classes, config)
    assert len(result.names) == repeats * len(expected.names)
    assert result.truth.tolist() == expected.truth.tolist() * repeats
    assert CountingName.comparisons < 4 * len(many_rows)
