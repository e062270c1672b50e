"""Experiments on both sides of the folds: each side has its own estimates; few or shared controls are named."""

from pathlib import Path

import numpy as np
import pytest

from distangle.errors import FoldError
from distangle.screen import Screen, hold_out
from distangle.screen.checks.leaks import find_leaks
from distangle.screen.folds.folds import build_folds
from tiny_run import tiny_screen


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    """Three experiments of two plates with four wells, three of them controls."""
    folder = tiny_screen(tmp_path_factory.mktemp("references"))
    late = folder.sites["well"].isin(["B06", "B07", "B08", "B09"])
    sites = folder.sites.assign(plate=np.where(late, "2", "1"))
    return Screen(metadata=folder.metadata, sites=sites, folder=folder.folder, problems=folder.problems)


def findings(screen: Screen, column: str, values: list[str]) -> dict[str, str]:
    folds = hold_out(screen, column=column, values=values)
    return {finding.kind: finding.what for finding in find_leaks(screen, folds)}


def test_experiments_on_both_sides_are_told_with_the_controls_of_each_side(screen: Screen) -> None:
    text = findings(screen, "plate", ["2"])
    assert text["references of each side its own"] == (
        "3 experiments have wells on both sides (control wells for training and held out): "
        "E1 (2 and 1), E2 (2 and 1), E3 (2 and 1)"
    )
    assert text["few controls on a side"] == (
        "fewer than 2 control wells: E1 (1, held out), E2 (1, held out), E3 (1, held out)"
    )


def test_of_whole_experiments_nothing_is_said(screen: Screen) -> None:
    assert not {"references of each side its own", "few controls on a side"} & set(
        findings(screen, "experiment", ["E3"])
    )


def test_control_wells_on_both_sides_are_refused_by_experiment_and_stamped_when_forced(
    screen: Screen, tmp_path: Path
) -> None:
    import pandas as pd

    two = pd.concat([screen.sites.assign(site=1), screen.sites.assign(site=2)], ignore_index=True)
    doubled = Screen(metadata=screen.metadata, sites=two, folder=screen.folder, problems=screen.problems)
    held_out = ((two["site"] == 2) & (two["experiment"] == "E2")).to_numpy()
    with pytest.raises(FoldError, match="controls of E2 would be used on both sides"):
        build_folds(doubled, held_out, "site 2 of E2")
    folds_by_site = build_folds(doubled, held_out, "site 2 of E2", force=True)
    assert "controls of E2 would be used on both sides" in folds_by_site.notes
    findings = [leak.what for leak in find_leaks(doubled, folds_by_site) if leak.severity == "error"]
    assert "controls of E2 are used on both sides" in findings
