"""Planted leaks between folds are found, and clean layouts raise no alarm."""

import dataclasses
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from check_plates import index_plates
from distangle.errors import FoldError
from distangle.screen import (
    Folds,
    Screen,
    by_wilds,
    folds_by_experiment,
    folds_from_options,
    hold_out,
    index,
    read_screen,
    stratified_group_folds,
    validate_folds,
    wilds_parts,
    write_screen,
)
from distangle.screen.checks.leaks import _is_predictive, find_leaks, predict_from_position
from distangle.screen.checks.shared_layouts import plate_groups, shared_layouts
from distangle.screen.folds.make import assign_groups
from distangle.screen.folds.wilds import SIZES, VALIDATION

HEADER = ("experiment", "plate", "well", "perturbation", "role", "site", "split", "cell_type")
WELLS = [f"{row}{column:02d}" for row in "BCDEF" for column in range(2, 12)]


def layout(seed: int, names: list[str]) -> dict[str, str]:
    """Each treatment in wells dealt out at random."""
    order = np.random.default_rng(seed).permutation(len(WELLS))
    return {WELLS[k]: names[n % len(names)] for n, k in enumerate(order)}


def screen_of(
    folder: Path, plates: dict[tuple[str, str], dict[str, str]], *, sites: int = 1, **cell_lines: str
) -> Screen:
    rows = []
    for (experiment, plate), wells in plates.items():
        for well, name in wells.items():
            role = "positive_control" if name.startswith("pos") else "treatment"
            for site in range(1, sites + 1):
                rows.append((experiment, plate, well, name, role, str(site), cell_lines.get(experiment, ""), "HUVEC"))
    return index_plates(folder, rows, HEADER)


NAMES = [f"t{k}" for k in range(25)]


def kinds(screen: Screen, folds: Folds | None = None) -> dict[str, str]:
    return {finding.kind: finding.severity for finding in find_leaks(screen, folds)}


def test_two_experiments_of_one_layout_are_twins_whatever_their_plates_are_called(tmp_path: Path) -> None:
    plates = {(f"E{e}", str(p)): layout(10 * e + p, NAMES) for e in range(4) for p in (1, 2)}
    plates["E3", "1"], plates["E3", "2"] = plates["E1", "2"], plates["E1", "1"]
    screen = screen_of(tmp_path, plates)
    (twins,) = shared_layouts(screen)
    assert (twins.experiments, twins.share, twins.by) == (("E1", "E3"), 1.0, "treatment")
    assert twins.plates == ("E1 plate 1 = E3 plate 2", "E1 plate 2 = E3 plate 1")
    assert kinds(screen)["layout twins"] == "note"
    folds = hold_out(screen, values=["E3"])
    assert kinds(screen, folds)["layout twins on both sides of the folds"] == "warning"
    folds_by_layout = hold_out(screen, values=["E1", "E3"])
    assert "layout twins on both sides of the folds" not in kinds(screen, folds_by_layout)


def test_an_experiment_without_known_treatments_is_a_twin_by_its_positive_controls(tmp_path: Path) -> None:
    plates: dict[tuple[str, str], dict[str, str]] = {}
    for e in range(8):
        plate_map = layout(e, NAMES)
        controls = {well: f"pos{k}" for k, well in enumerate(list(plate_map)[:10])}
        plates[f"E{e}", "1"] = {**plate_map, **controls}
    plates["E7", "1"] = {w: name if name.startswith("pos") else "" for w, name in plates["E2", "1"].items()}
    (twins,) = shared_layouts(screen_of(tmp_path, plates))
    assert (twins.experiments, twins.by) == (("E2", "E7"), "positive_control")
    fixed_controls = {
        well: f"pos{k}" for k, well in enumerate(WELLS[:10])
    }  # wells with the same content on all plates carry no information
    plates = {(f"E{e}", "1"): {**({} if e == 7 else layout(e, NAMES)), **fixed_controls} for e in range(8)}
    assert shared_layouts(screen_of(tmp_path / "fixed", plates)) == []


def test_a_fixed_layout_is_told_and_a_random_one_is_not(tmp_path: Path) -> None:
    fixed_plates = {(f"E{e}", "1"): layout(7, NAMES) for e in range(4)}
    screen = screen_of(tmp_path / "fixed", fixed_plates)
    findings = {leak.kind: leak for leak in find_leaks(screen, folds_by_experiment(screen, n_folds=4, fold=0, seed=0))}
    assert findings["position predicts the label"].severity == "warning"
    assert "100.0% of 200 treated wells" in findings["position predicts the label"].what
    assert "position alone 100.0%" in findings["place predicts the label"].what
    assert "compare with the position-only baseline" in findings["position predicts the label"].fix


@pytest.mark.parametrize(
    ("share", "hit_share", "n", "is_predictive"),
    [
        (0.30, 0.10, 400, True),  # thrice as often
        (0.70, 0.413, 300, True),  # half of its errors
        (1.0, 0.5, 40, True),
        (0.52, 0.50, 100_000, False),  # significant, but tiny
        (0.59, 0.50, 100_000, False),
        (0.61, 0.50, 100_000, True),  # a fifth of its errors
        (0.02, 0.011, 100_000, False),
        (0.3, 0.1, 20, False),  # not significant
    ],
)
def test_a_place_tells_where_it_is_sure_and_much(share: float, hit_share: float, n: int, is_predictive: bool) -> None:
    assert _is_predictive(share, hit_share, n) is is_predictive


@pytest.mark.parametrize("n_names", [2, 3, 5])
def test_a_fixed_layout_of_few_treatments_is_told_though_guessing_is_often_right(tmp_path: Path, n_names: int) -> None:
    names = NAMES[:n_names]
    screen = screen_of(tmp_path / "fixed", {(f"E{e}", "1"): layout(7, names) for e in range(4)})
    result = kinds(screen, folds_by_experiment(screen, n_folds=4, fold=0, seed=0))
    assert (result["position predicts the label"], result["place predicts the label"]) == ("warning", "warning")
    for seed in range(20):
        shuffled_screen = screen_of(
            tmp_path / str(seed), {(f"E{e}", "1"): layout(10 * seed + e, names) for e in range(4)}
        )
        assert set(kinds(shuffled_screen, folds_by_experiment(shuffled_screen, n_folds=4, fold=0, seed=0))) == {
            "accuracy without looking"
        }, seed


def test_fifty_clean_layouts_raise_no_alarm(tmp_path: Path) -> None:
    for seed in range(50):
        plates = {(f"E{e}", str(p)): layout(1000 * seed + 10 * e + p, NAMES) for e in range(4) for p in (1, 2)}
        screen = screen_of(tmp_path / str(seed), plates)
        findings = find_leaks(screen, folds_by_experiment(screen, n_folds=4, fold=seed % 4, seed=seed))
        assert [finding.kind for finding in findings] == ["accuracy without looking"], seed


def test_plates_of_four_groups_are_named_with_their_sizes(tmp_path: Path) -> None:
    groups = [[f"g{g}t{k}" for k in range(10)] for g in range(4)]
    plates = {(f"E{e}", str(g)): layout(10 * e + g, groups[(e + g) % 4]) for e in range(3) for g in range(4)}
    screen = screen_of(tmp_path, plates)
    assert plate_groups(screen) == [(10, 3)] * 4
    (finding,) = [leak for leak in find_leaks(screen) if leak.kind == "plate groups"]
    assert "10 on 3, 10 on 3, 10 on 3, 10 on 3" in finding.what
    assert plate_groups(screen_of(tmp_path / "all", {key: layout(1, NAMES) for key in plates})) == []


def test_a_place_is_guessed_by_counting_by_hand() -> None:
    rows = [("A", "1", "B02", "x", True), ("A", "1", "B03", "y", True), ("A", "1", "B04", "y", True),
            ("A", "2", "B02", "z", True), ("C", "2", "B02", "z", True),
            ("B", "1", "b2", "?", False), ("B", "3", "B02", "?", False),
            ("B", "2", "C09", "?", False)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["experiment", "plate", "well", "label", "train"])
    result = predict_from_position(table, table["label"].tolist(), table["train"].to_numpy())
    assert result["position"].tolist()[5:] == ["x", "z", "y"]  # B02 of plate 1; of any plate; the most frequent
    assert result["plate"].tolist()[5:] == ["y", "y", "z"]
    assert predict_from_position(table, table["label"].tolist(), np.zeros(8, dtype=bool)) == {}


def test_groups_stay_whole_and_labels_are_spread(tmp_path: Path) -> None:
    plates = {(f"E{e}", str(p)): layout(10 * e + p, NAMES) for e in range(5) for p in (1, 2)}
    screen = screen_of(tmp_path, plates, sites=2)
    for group, keys in (("plate", ["experiment", "plate"]), ("well", ["experiment", "plate", "well"])):
        counts: Counter[tuple[str, ...]] = Counter()
        for k in range(5):
            folds = folds_from_options(screen, group=group, n_folds=5, fold=k, seed=3, force=group == "well")  # type: ignore[arg-type]
            held_out = folds.table[folds.table["fold"] == "held_out"]
            counts.update({tuple(map(str, row)) for row in held_out[keys].itertuples(index=False)})
            n = screen.sites.loc[(folds.of(screen) == "held_out"), "perturbation"].value_counts()
            assert (n.min(), n.max()) == (8, 8), (group, k)
            assert folds.forced is (group == "well")
        assert set(counts.values()) == {1}
        assert len(counts) == len(screen.sites[keys].drop_duplicates())
    with pytest.raises(FoldError, match=r"10 of 10 plates would be on both sides \(E0 plate 1"):
        stratified_group_folds(screen, group="well", n_folds=5, fold=0, seed=0)
    with pytest.raises(FoldError, match="11 folds of 10 plates: expected from 2"):
        stratified_group_folds(screen, group="plate", n_folds=11, fold=0, seed=0)


def test_dealing_spreads_rare_labels_that_chance_would_not() -> None:
    member = np.arange(40)
    codes = np.array([0] * 35 + [1] * 5)
    for seed in range(5):
        sets = assign_groups(member, codes, n_sets=5, rng=np.random.default_rng(seed))
        assert [np.bincount(codes[sets == k], minlength=2).tolist() for k in range(5)] == [[7, 1]] * 5


def test_a_well_whose_other_site_is_trained_on_is_refused_by_name(tmp_path: Path) -> None:
    screen = screen_of(tmp_path, {("E1", "1"): layout(1, NAMES), ("E2", "1"): layout(2, NAMES)}, sites=2)
    with pytest.raises(
        FoldError, match=r"100 wells would be on both sides, the same cells in another field \(E1 plate 1"
    ):
        hold_out(screen, column="site", values=["2"])
    folds_by_site = hold_out(screen, column="site", values=["2"], force=True)
    errors = [leak.what for leak in find_leaks(screen, folds_by_site) if leak.severity == "error"]
    assert [message.split(" are ")[0] for message in errors] == ["2 of 2 plates", "100 wells"]


def test_two_hundred_planted_copies_across_the_sides_are_all_found(tmp_path: Path) -> None:
    screen = screen_of(tmp_path, {(f"E{e}", "1"): layout(e, NAMES) for e in range(10)})
    folds = hold_out(screen, values=["E0", "E1", "E2", "E3"])
    side = folds.of(screen)
    hashes = np.array([hashlib.sha256(str(k).encode()).hexdigest() for k in range(len(side))], dtype=object)
    rng = np.random.default_rng(0)
    copies, train = (rng.permutation(np.flatnonzero(side == name))[:200] for name in ("held_out", "train"))
    hashes[copies] = hashes[train]
    screen_with_copies = dataclasses.replace(screen, sites=screen.sites.assign(sha256=hashes))
    with pytest.raises(FoldError, match="200 pictures would be on both sides, byte for byte"):
        hold_out(screen_with_copies, values=["E0", "E1", "E2", "E3"])
    assert any("200 pictures are on both sides" in leak.what for leak in find_leaks(screen_with_copies, folds))


def like_rxrx1(folder: Path) -> Screen:
    """Make a screen like RxRx1's tables of 2019: experiments, splits, numbers of wells, two sites per well."""
    train = {f"{cell}-{k:02d}": 1231 for cell, n in (("HEPG2", 7), ("HUVEC", 16), ("RPE", 7), ("U2OS", 3))
             for k in range(1, n + 1)}  # fmt: skip
    train["HEPG2-01"] -= 33 * 1231 - SIZES["train"]
    test = {"HEPG2-08": 1231, "HEPG2-09": 1232, "HEPG2-10": 1232, "HEPG2-11": 1230, "HUVEC-17": 1232,
            "HUVEC-18": 1231, "HUVEC-19": 1232, "HUVEC-20": 1232, "HUVEC-21": 1232, "HUVEC-22": 1232,
            "HUVEC-23": 1231, "HUVEC-24": 1232, "RPE-08": 1232, "RPE-09": 1231, "RPE-10": 1232, "RPE-11": 1217,
            "U2OS-04": 1232, "U2OS-05": 1220}  # fmt: skip
    names = [f"{row}{column:02d}" for row in "BCDEFGHIJKLMNO" for column in range(2, 24)]
    rows = [
        (experiment, str(1 + n // 308), names[n % 308], site, split)
        for split, sizes in (("train", train), ("test", test))
        for experiment, size in sizes.items()
        for n in range(size)
        for site in (1, 2)
    ]
    small = screen_of(folder, {("E1", "1"): layout(1, NAMES)})
    table = pd.DataFrame(rows, columns=["experiment", "plate", "well", "site", "split"])
    others = {name: small.sites[name].iloc[0] for name in small.sites.columns if name not in table.columns}
    return dataclasses.replace(small, sites=table.assign(**others)[list(small.sites.columns)])


def test_the_split_of_wilds_has_its_published_sizes(tmp_path: Path) -> None:
    screen = like_rxrx1(tmp_path)
    assert Counter(wilds_parts(screen)) == {"train": 40_612, "val": 9_854, "test": 34_432, "id_test": 40_612}
    folds = folds_from_options(screen, by="wilds=test")
    assert folds.table["fold"].value_counts().to_dict() == {"aside": 50_466, "train": 40_612, "held_out": 34_432}
    assert not folds.forced
    assert validate_folds(screen, folds) is folds  # the other site of a well is excluded
    assert set(screen.sites.loc[folds.of(screen) == "train", "site"]) == {1}
    assert set(screen.sites.loc[by_wilds(screen, part="val").of(screen) == "held_out", "experiment"]) == set(VALIDATION)
    with pytest.raises(FoldError, match="40612 wells would be on both sides"):
        folds_from_options(screen, by="wilds=id_test")
    with pytest.raises(FoldError, match="no part 'train' to hold out: expected val, test or id_test"):
        folds_from_options(screen, by="wilds=train")
    path = folds.write(tmp_path / "folds.parquet")
    assert Folds.read(path).sha256 == folds.sha256


def test_controls_in_their_columns_say_nothing_of_the_layout_of_treatments(tmp_path: Path) -> None:
    plates = {}
    for e in range(4):
        plate_map = layout(e, NAMES)
        plates[f"E{e}", "1"] = {**plate_map, **{well: "pos" for well in WELLS if well[1:] in ("02", "11")}}
    screen = screen_of(tmp_path, plates)
    findings = {leak.kind: leak for leak in find_leaks(screen, hold_out(screen, values=["E3"]))}
    assert set(findings) == {"accuracy without looking"}
    assert "of 40 held-out sites of treatments" in findings["accuracy without looking"].what


def test_a_plate_that_comes_again_is_part_of_a_layout_and_no_fixed_one(tmp_path: Path) -> None:
    plates = {(f"E{e}", str(p)): layout(10 * e + p, NAMES) for e in range(3) for p in range(5)}
    for p in (0, 1):
        plates["E2", str(p)] = plates["E0", str(p)]
    screen = screen_of(tmp_path, plates)
    (text,) = [leak.what for leak in find_leaks(screen) if leak.kind == "position predicts the label"]
    assert text.endswith("part of the layout repeats")


def test_replicate_plates_of_one_layout_are_told_where_every_experiment_has_its_own(tmp_path: Path) -> None:
    plates = {(f"E{e}", f"E{e}-{r}"): layout(e, NAMES) for e in range(5) for r in range(3)}
    screen = screen_of(tmp_path, plates)
    findings = {leak.kind: leak for leak in find_leaks(screen)}
    assert (findings["plates of one layout"].severity, findings["plates of one layout"].count) == ("note", 750)
    assert "gives 100.0% of 750 treated wells, guessing 4.0%" in findings["plates of one layout"].what
    assert "position predicts the label" not in findings  # experiments differ
    folds = hold_out(screen, column="plate", values=[f"E{e}-0" for e in range(5)])
    (place,) = [leak for leak in find_leaks(screen, folds) if leak.kind == "place predicts the label"]
    assert place.severity == "warning"
    assert "position alone 100.0%" in place.what
    folds_of_e0 = hold_out(screen, values=["E0"])
    assert "place predicts the label" not in kinds(screen, folds_of_e0)


def test_another_rxrx1_than_that_of_wilds_is_said_to_be_another(tmp_path: Path) -> None:
    screen = like_rxrx1(tmp_path)
    assert "other sizes than WILDS" not in kinds(screen, folds_from_options(screen, by="wilds=test"))
    fewer_sites = dataclasses.replace(screen, sites=screen.sites[screen.sites["experiment"] != "HUVEC-20"])
    (finding,) = [
        leak
        for leak in find_leaks(fewer_sites, folds_from_options(fewer_sites, by="wilds=test"))
        if leak.kind == "other sizes than WILDS"
    ]
    assert (finding.severity, finding.what) == ("warning", "here are 31,968 sites of test (published: 34,432)")
    last = screen.sites.iloc[-1:].assign(well="P24")  # as today's tables have more wells than those of 2019
    more_sites = dataclasses.replace(screen, sites=pd.concat([screen.sites, last], ignore_index=True))
    assert kinds(more_sites, folds_from_options(more_sites, by="wilds=test"))["other sizes than WILDS"] == "warning"


def test_another_screen_has_no_split_of_wilds(tmp_path: Path) -> None:
    screen = screen_of(tmp_path, {("E1", "1"): layout(1, NAMES), ("E2", "1"): layout(2, NAMES)})
    with pytest.raises(FoldError, match=r"RxRx1 with two sites per well.*Use --folds or --hold-out"):
        folds_from_options(screen, by="wilds=test")


@pytest.mark.real
def test_the_real_rxrx1_has_a_layout_triple_and_four_groups_of_277(real_data: Path, tmp_path: Path) -> None:
    screen = index(real_data / "rxrx1_kaggle" / "v1_original_2019", layout="rxrx1", tables_only=True)
    (twins,) = shared_layouts(screen)
    assert twins.experiments == ("HUVEC-07", "HUVEC-18", "RPE-03")
    assert "HUVEC-07 plate 4 = RPE-03 plate 1" in twins.plates
    assert plate_groups(screen) == [(277, 33)] * 4
    assert "position predicts the label" not in kinds(screen)
    write_screen(screen, tmp_path / "screen")
    stored_screen = read_screen(tmp_path / "screen")
    folds = hold_out(stored_screen, values=["RPE-03"])
    assert kinds(stored_screen, folds)["layout twins on both sides of the folds"] == "warning"


@pytest.mark.real
@pytest.mark.parametrize(
    ("tables", "sizes"),
    [
        ("v1_original_2019", SIZES),
        # Two wells more on either side than when WILDS divided them.
        ("v2_current", {"train": 40_614, "val": 9_854, "test": 34_436, "id_test": 40_614}),
    ],
)
def test_the_split_of_wilds_of_the_real_tables_has_its_published_sizes(
    real_data: Path, tables: str, sizes: dict[str, int]
) -> None:
    wells = index(real_data / "rxrx1_kaggle" / tables, layout="rxrx1", tables_only=True)
    two_sites_each = pd.concat([wells.sites.assign(site=1), wells.sites.assign(site=2)], ignore_index=True)
    assert Counter(wilds_parts(dataclasses.replace(wells, sites=two_sites_each))) == sizes
