"""Groups of perturbations on plates: layouts written by hand, and the tables of RxRx1."""

import csv
from pathlib import Path

import pytest

from distangle.screen.plate_layout import find_layout

# Two groups on two plates each; one plate lacks a well.
WELLS = [
    *[(("E1", "1"), name) for name in "abc"],
    *[(("E1", "2"), name) for name in "de"],
    *[(("E2", "1"), name) for name in "edf"],
    *[(("E2", "2"), name) for name in "cba"],
]


def find(wells: list[tuple[tuple[str, str], str]]) -> tuple[object, str]:
    return find_layout([plate for plate, _ in wells], [name for _, name in wells])


def test_two_groups_on_two_plates_each_are_found() -> None:
    layout, reason = find_layout([plate for plate, _ in WELLS], [name for _, name in WELLS])
    assert layout is not None
    assert reason == ""
    assert layout.groups == (("a", "b", "c"), ("d", "e", "f"))
    assert layout.n_plates == (2, 2)


def test_violations_are_counted_by_hand() -> None:
    layout, _ = find_layout([plate for plate, _ in WELLS], [name for _, name in WELLS])
    assert layout is not None
    assert layout.violations([plate for plate, _ in WELLS], [name for _, name in WELLS]) == 0
    # d is of the other group, the second a is a repeat, z is in no group.
    assert layout.violations([("E3", "1")] * 6, ["a", "b", "d", "a", "z", "c"]) == 2
    assert layout.violations([("E3", "1"), ("E3", "2")], ["a", "d"]) == 0


@pytest.mark.parametrize(
    ("wells", "reason"),
    [
        ([], "there is no training well of a treatment"),
        ([*WELLS, (("E1", "1"), "a")], "a occurs 2 times on the training plate E1 1"),
        ([*WELLS, (("E1", "1"), "d")], "the treatments of the training plates are not split into groups"),
        (WELLS[:8], "a group of treatments is on 1 training plate"),
        (WELLS[:3], "the treatments of the training plates are not split into groups"),
    ],
)
def test_another_layout_is_refused_with_a_reason(wells: list[tuple[tuple[str, str], str]], reason: str) -> None:
    layout, reason_found = find(wells)
    assert layout is None
    assert reason_found.startswith(reason)


def test_plates_of_one_name_in_two_experiments_are_two_plates() -> None:
    assert find([(plate, name) for plate, name in WELLS])[0] is not None
    assert find([((plate[1], ""), name) for plate, name in WELLS])[0] is None


@pytest.mark.real
@pytest.mark.parametrize("version", ["v1_original_2019", "v2_current"])
def test_the_four_groups_of_277_of_rxrx1_have_no_violation(real_data: Path, version: str) -> None:
    with (real_data / "rxrx1_kaggle" / version / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    plates, labels = [(row["experiment"], row["plate"]) for row in rows], [row["sirna"] for row in rows]
    layout, reason = find_layout(plates, labels)
    assert layout is not None, reason
    assert [len(group) for group in layout.groups] == [277] * 4
    assert layout.n_plates == (33,) * 4
    assert layout.violations(plates, labels) == 0
    # Groups learned from some cell types also hold on plates of others.
    in_training = [experiment.startswith(("HEPG2", "HUVEC")) for experiment, _ in plates]
    part, reason = find_layout(
        [plate for plate, is_training in zip(plates, in_training, strict=True) if is_training],
        [name for name, is_training in zip(labels, in_training, strict=True) if is_training],
    )
    assert part is not None, reason
    assert {frozenset(group) for group in part.groups} == {frozenset(group) for group in layout.groups}
    new_plates = [plate for plate, is_training in zip(plates, in_training, strict=True) if not is_training]
    new_labels = [name for name, is_training in zip(labels, in_training, strict=True) if not is_training]
    assert len(new_labels) > 11_000
    assert part.violations(new_plates, new_labels) == 0
