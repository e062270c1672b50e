from pathlib import Path

import pandas as pd
import pytest

from distangle.cli.arguments import parse_filters
from distangle.core.io import write_json
from distangle.errors import ConfigError, ExplanationError
from distangle.explain import control_wells, matching_wells, select_sites, target_of
from distangle.explain.selection import training_remark, was_trained_on
from distangle.results import RunFolder
from distangle.screen import Screen
from tests_support import screen_of


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame({
        "Metadata_Experiment": "HUVEC-01",
        "Metadata_Plate": ["1", "1", "2", "2", "2", "1"],
        "Metadata_Well": ["B02", "B03", "B02", "B03", "C04", "B02"],
        "Metadata_Site": [1, 1, 1, 1, 1, 2],
        "Metadata_Role": "treatment",
        "Metadata_Fold": ["held_out", "held_out", "held_out", "train", "held_out", "held_out"],
        "perturbation": ["a", "b", "b", "a", "a", "a"],
        "reason": ["", "", "", "", "broken", ""],
    })  # fmt: skip


def test_only_readable_held_out_sites_of_the_values_asked_for(table: pd.DataFrame) -> None:
    assert select_sites(table, n_sites=9) == [0, 1, 2, 5]
    for n_sites in (0, -1):
        with pytest.raises(ExplanationError, match=f"{n_sites} sites to explain; expected at least 1"):
            select_sites(table, n_sites=n_sites)
    assert select_sites(table, n_sites=9, only={"well": ["B02"]}) == [0, 2, 5]
    assert select_sites(table, n_sites=9, only={"well": ["B02"], "Metadata_Plate": ["2"]}) == [2]
    assert select_sites(table, n_sites=9, only={"perturbation": ["b"]}) == [1, 2]
    assert select_sites(table, n_sites=9, only={"site": ["2"]}) == [5]
    assert select_sites(table, n_sites=9, only={"fold": ["train"]}) == [3]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"wel": ["B02"]}, r"no column 'wel'\. Did you mean 'well'\?"),
        ({"well": ["B2"]}, r"No site has well 'B2'\. Did you mean 'B02'"),
        ({"well": ["C04"]}, r"No held-out site with well C04 can be explained"),
        ({"well": ["B03"], "plate": ["2"]}, r"with well B03 with plate 2 can be explained.*`fold=train`"),
    ],
)
def test_what_is_not_there_is_named(table: pd.DataFrame, filters: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ExplanationError, match=message):
        select_sites(table, n_sites=9, only=filters)


def test_a_perturbation_that_the_network_never_saw_is_refused_with_the_nearest() -> None:
    assert target_of("actin", ["mito", "actin"]) == 1
    with pytest.raises(ExplanationError, match=r"never saw a perturbation 'actn'.*Did you mean 'actin'\?"):
        target_of("actn", ["mito", "actin"])


def test_words_with_several_values_of_a_column() -> None:
    assert parse_filters(["well=B02, B03", "well=C04", "plate=1"], flag="--only") == {
        "well": ["B02", "B03", "C04"],
        "plate": ["1"],
    }
    for word in ("well", "=B02", "well="):
        with pytest.raises(ConfigError, match="--only .*expected COLUMN=VALUE"):
            parse_filters([word], flag="--only")


def predictions(**columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({
        "Metadata_Experiment": "HUVEC-01",
        "Metadata_Plate": ["1", "1", "1", "2", "2", "1", "2"],
        "Metadata_Well": ["B02", "B02", "C03", "B02", "C03", "D04", "D04"],
        "Metadata_Role": ["negative_control"] * 3 + ["untreated", "negative_control", "treatment", "negative_control"],
        "Metadata_Fold": ["held_out"] * 6 + ["train"],
        "reason": ["broken", "", "", "", "", "", ""],
        **columns,
    })  # fmt: skip


def test_control_wells_give_one_readable_site_each_plates_in_turn() -> None:
    assert control_wells(predictions(), folds=["held_out"], n_wells=9) == [1, 3, 2, 4]
    assert control_wells(predictions(), folds=["held_out"], n_wells=2) == [1, 3]
    assert control_wells(predictions(), folds=["train"], n_wells=9) == [6]
    assert control_wells(predictions(), folds=["held_out", "train"], n_wells=9) == [1, 3, 2, 4, 6]
    assert control_wells(predictions(reason=["broken"] * 7), folds=["held_out"], n_wells=9) == []


def screen_with(wells: list[str], plates: list[str]) -> Screen:
    return screen_of(pd.DataFrame({"experiment": "HUVEC-01", "plate": plates, "well": wells}))


def test_another_well_is_of_the_same_plate_and_does_not_depend_on_who_else_is_asked() -> None:
    screen = screen_with([f"B{2 + k // 2:02d}" for k in range(20)], ["1"] * 12 + ["2"] * 8)
    partners = matching_wells(screen, range(20))
    for row, other in enumerate(partners):
        assert screen.sites["plate"][row] == screen.sites["plate"][other]
        assert screen.sites["well"][row] != screen.sites["well"][other]
    assert len(set(partners)) > 8
    assert matching_wells(screen, [7, 3]) == [partners[7], partners[3]]


def test_a_plate_with_one_well_has_no_other() -> None:
    assert matching_wells(screen_with(["B02", "B02", "B02", "B03"], ["1", "1", "2", "2"]), [2, 0]) is None


def test_a_second_site_of_a_control_well_is_not_another_witness() -> None:
    twice = pd.concat([predictions(), predictions()], ignore_index=True)
    assert control_wells(twice, folds=["held_out"], n_wells=9) == [1, 3, 2, 4]


def test_where_nothing_is_held_out_sites_of_the_training_are_chosen_and_said_to_be_seen(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    with_unlabelled = table.assign(Metadata_Fold=["train"] * 5 + ["unlabelled"])
    assert select_sites(with_unlabelled, n_sites=9) == [0, 1, 2, 3]
    run = RunFolder.create(tmp_path / "run")
    write_json(run.run, {"held_out": "nothing"})
    assert training_remark(run, with_unlabelled.iloc[:4]).startswith("The network was trained on all explained sites")
    write_json(run.run, {"held_out": "replicate=2"})
    assert training_remark(run, table.iloc[:3]) == ""
    assert training_remark(run, table.iloc[2:4]) == "The network was trained on 1 of the 2 explained sites."
    # After a cross-validation the final network was trained on what a fold held out.
    cross_validated = table.assign(Metadata_Fold="held_out", Metadata_Cross_Validation=[1, 1, 2, 2, 0, 1])
    assert was_trained_on(cross_validated).tolist() == [True, True, True, True, False, True]
    write_json(run.run, {"held_out": "cross-validation", "cross_validation": {"n_folds": 2}})
    assert f"`distangle explain {run.cross_validation / 'fold-1'}`" in training_remark(run, cross_validated)
