from pathlib import Path

import pytest

from distangle.errors import ScreenError
from distangle.screen import Screen, index, reconcile_class_sets, statistics, statistics_table
from distangle.screen.statistics import EntityCounts
from rxrx1_lab import RxRx1Lab


@pytest.fixture
def lab(tmp_path: Path) -> RxRx1Lab:
    """Two training plates, one test plate; a, a, b treated, one positive, three negative wells."""
    lab = RxRx1Lab(tmp_path / "lab")
    lab.table("train.csv", [("RPE-01", "1", "B03", "a"), ("RPE-01", "2", "B03", "a"), ("RPE-01", "2", "B04", "b")])
    lab.table(
        "train_controls.csv",
        [("RPE-01", "1", f"C0{k}", "UNTREATED", "negative_control") for k in (1, 2)]
        + [("RPE-01", "2", "C01", "p", "positive_control")],
    )
    lab.write("test.csv", [("experiment", "plate", "well"), ("U2OS-04", "1", "B03"), ("U2OS-04", "1", "B04")])
    lab.table("test_controls.csv", [("U2OS-04", "1", "C01", "UNTREATED", "negative_control")])
    return lab


def complete(lab: RxRx1Lab) -> Screen:
    screen = index(lab.root, layout="rxrx1", tables_only=True)
    for row in screen.sites.itertuples():
        for site in (1, 2):
            lab.site(f"images/{row.experiment}/Plate{row.plate}", str(row.well), site)
    return index(lab.root, layout="rxrx1")


def test_wells_sites_and_planes_are_kept_apart(lab: RxRx1Lab) -> None:
    counts = statistics(complete(lab))
    assert counts.all == EntityCounts(experiments=2, plates=3, wells=9, sites=18, planes=108)
    assert counts.by_split["train"] == EntityCounts(experiments=1, plates=2, wells=6, sites=12, planes=72)
    assert counts.by_role["negative_control"] == EntityCounts(experiments=2, plates=2, wells=3, sites=6, planes=36)
    assert {name: part.wells for name, part in counts.by_role.items()} == {
        "negative_control": 3,
        "positive_control": 1,
        "treatment": 5,
    }
    assert {name: part.wells for name, part in counts.by_cell_type.items()} == {"RPE": 6, "U2OS": 3}


def test_class_sets_count_wells_of_named_treatments_in_the_training_part(lab: RxRx1Lab) -> None:
    counts = statistics(complete(lab))
    assert counts.class_sets == {1: 1, 2: 1}
    assert (counts.n_treatment_classes, counts.n_train_wells, counts.n_test_wells) == (2, 3, 2)
    assert counts.n_classes == 4
    assert counts.negative_controls_per_plate == {0: 1, 1: 1, 2: 1}


def test_tables_only_counts_wells_and_no_sites(lab: RxRx1Lab) -> None:
    counts = statistics(index(lab.root, layout="rxrx1", tables_only=True))
    assert counts.all == EntityCounts(experiments=2, plates=3, wells=9, sites=0, planes=0)
    lines = dict(statistics_table(counts))
    assert lines["sites"] == lines["planes (sites x channels)"] == "not looked for"
    assert lines["their wells (N_train)"] == "3"
    assert lines["treatments with 2 wells (S_2)"] == "1"
    assert lines["plates with 0 negative controls or untreated wells"] == "1"


def test_statistics_are_json_and_back(lab: RxRx1Lab) -> None:
    counts = statistics(complete(lab))
    assert type(counts).model_validate_json(counts.model_dump_json()) == counts


def test_a_screen_without_splits_is_all_training_part(lab: RxRx1Lab) -> None:
    screen = complete(lab)
    screen.sites["split"] = ""
    counts = statistics(screen)
    assert counts.by_split == {}
    assert counts.n_train_wells == 3
    assert counts.n_test_wells == 0


def test_a_well_in_two_roles_does_not_reconcile(lab: RxRx1Lab) -> None:
    screen = complete(lab)
    screen.sites.loc[1, "role"] = "positive_control"
    with pytest.raises(ScreenError, match="wells by role: the parts sum to 10, the whole is 9"):
        statistics(screen)


def test_the_papers_own_table_is_refused() -> None:
    n_classes_by_size = {29: 2, 31: 2, 32: 31, 33: 1065}
    with pytest.raises(ScreenError) as error:
        reconcile_class_sets(n_classes_by_size, n_classes=1108, n_wells=36517)
    assert "sum to 1100 classes and 36257 wells, not to 1108 classes and 36517 wells" in str(error.value)
    reconcile_class_sets({29: 2, 31: 2, 32: 35, 33: 1069}, n_classes=1108, n_wells=36517)


def test_named_wells_of_the_test_part_are_in_no_class_set(lab: RxRx1Lab) -> None:
    lab.write("test.csv", [("experiment", "plate", "well", "sirna"), ("U2OS-04", "1", "B03", "a")])
    counts = statistics(index(lab.root, layout="rxrx1", tables_only=True))
    assert counts.class_sets == {1: 1, 2: 1}
    assert (counts.n_train_wells, counts.n_test_wells) == (3, 1)
