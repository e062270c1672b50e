"""Channels in a report: which one mattered, and what was planted."""

import dataclasses
from pathlib import Path

import numpy as np

from distangle.report.data import load
from distangle.report.sections.channels import channel_column, channel_names, explanation_sentence, planted_rows
from distangle.results import Explanation
from report_pages import SECTIONS, build, copy_of
from report_run import STAINS, PlantedRun


def test_a_real_screen_has_no_planted_section(run_data: PlantedRun, tmp_path: Path) -> None:
    run = copy_of(run_data, tmp_path)
    explanation = run_data.explanation
    Explanation(
        table=explanation.table, maps=explanation.maps, settings=explanation.settings, summary=explanation.summary
    ).write(run.explanations)
    pages = build(run, run_data)
    assert {name: page.ids for name, page in pages.items()} == SECTIONS
    assert not any("planted" in page.values("id") for page in pages.values())


def test_what_was_planted_is_set_beside_what_was_found(run_data: PlantedRun) -> None:
    data = load(run_data.run, run_data.screen, truth=run_data.truth)
    rows = {row[0]: row for row in planted_rows(data)}
    means = run_data.explanation.summary["perturbations"]
    stains = [channel.label for channel in STAINS]
    assert stains[0] == "nuclei (Hoechst)"
    for name, entry in means.items():
        top = int(np.argmax(entry["shapley"]["mean"]))
        assert rows[name][3] == stains[top]
        effect = run_data.truth["perturbations"].get(name)
        if effect is not None:
            assert rows[name][1] == stains[effect["channels"][0] - 1]
            assert rows[name][4] == ("yes" if effect["channels"] == [top + 1] else "no")
    names = list(run_data.scores.confusion["perturbations"])  # type: ignore[call-overload]
    counts = np.array(run_data.scores.confusion["counts"])
    index = names.index("siRNA_1")
    assert rows["siRNA_1"][5] == f"{counts[index, index]} of {counts[index].sum()}"


def test_the_headline_claims_no_stain_that_its_own_p_denies(run_data: PlantedRun) -> None:
    data, summary = load(run_data.run, run_data.screen), run_data.explanation.summary

    def text(p: float) -> str:
        shapley = {**summary["shapley"], "p_family": [p] * 6}
        explanation = dataclasses.replace(run_data.explanation, summary={**summary, "shapley": shapley})
        return explanation_sentence(dataclasses.replace(data, explanation=explanation))

    top = channel_names(data)[int(np.argmax(summary["shapley"]["mean"]))]
    no_channel, one = text(0.77), text(0.01)
    assert no_channel.endswith("No single channel stands out over all perturbations (p = 0.77).")
    assert "contributed most" not in no_channel
    assert f"explained sites, {top} contributed most" in one
    assert one.endswith("contributed most to the predictions (p = 0.01).")
    # The sentence on all perturbations comes first.
    assert no_channel.startswith(
        f"Across {len(summary['perturbations'])} explained perturbations, the channel with the largest Shapley value"
    )


def test_the_stains_are_those_of_the_summary_with_intervals_and_null(run_data: PlantedRun) -> None:
    column = channel_column(run_data.explanation, "shapley", 6)
    assert column is not None
    summary = run_data.explanation.summary["shapley"]
    assert column.mean.tolist() == summary["mean"]
    assert column.interval is None  # of two experiments
    assert {name: values.tolist() for name, values in column.by_group.items()} == summary["by_group"]
    assert len(column.by_group) == run_data.explanation.summary["groups"]
    assert column.null is not None
    assert column.null.tolist() == summary["null"]
