"""The table of perturbations and the answers at the top of the page."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distangle.report.data import ReportData, load
from distangle.report.sections import perturbations as section
from distangle.report.sections.decision import answers, batch_sentences, missing_sentences
from distangle.report.sections.perturbations import perturbation_table, perturbations
from distangle.results import RunFolder
from distangle.results.profile_result import ProfileResult
from distangle.screen import Channel, channel_labels
from profile_results import profile_result
from report_run import PlantedRun


@pytest.fixture
def data(run_data: PlantedRun) -> ReportData:
    return load(run_data.run, run_data.screen)


def with_profiles(data: ReportData, names: list[str], **changes: Any) -> ReportData:
    """Return the data with profiles of these perturbations, the strongest first."""
    result: ProfileResult = profile_result(names, **changes)
    return dataclasses.replace(data, profiles=result)


def cells_of(html: str) -> list[list[str]]:
    """Return the texts of the cells of the first table, row by row."""
    body = html.partition("<tbody>")[2].partition("</tbody>")[0]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in body.split("<tr>")[1:]]
    return [[re.sub(r"<[^>]+>", "", cell) for cell in row] for row in rows]


def test_wells_right_and_confidence_are_counted_over_the_held_out_wells(data: ReportData) -> None:
    table = perturbation_table(data)
    assert data.wells is not None
    expected: dict[str, list[Any]] = {}
    for entry in data.wells.table.to_dict("records"):
        # siRNA_3 has no training well, and one well could not be read.
        if entry["Metadata_Fold"] == "held_out" and not entry["reason"] and entry["perturbation"] != "siRNA_3":
            expected.setdefault(entry["perturbation"], []).append(
                (entry["predicted"] == entry["perturbation"], entry["confidence"])
            )
    assert set(table["perturbation"]) == set(expected)
    for entry in table.to_dict("records"):
        wells = expected[entry["perturbation"]]
        assert (entry["wells_correct"], entry["wells_scored"]) == (
            sum(is_correct for is_correct, _ in wells),
            len(wells),
        )
        assert entry["mean_confidence"] == pytest.approx(np.mean([confidence for _, confidence in wells]))
    # Without profiles the most often recognised come first, negative controls last.
    shares = (table["wells_correct"] / table["wells_scored"]).tolist()[:-1]
    assert shares == sorted(shares, reverse=True)
    assert table["perturbation"].iloc[-1] == "EMPTY"
    assert table["acts"].tolist() == [*[""] * (len(table) - 1), "control"]


def test_the_channel_is_named_only_if_its_p_allows_it(data: ReportData) -> None:
    assert data.explanation is not None
    means = {"a": [0.1, 2.0, 0, 0, 0, 0], "b": [0, 0, 0.4, 0, 0, 0], "c": [0, 0, 0, 0, 0, 3.0]}
    p = {"a": [1, 0.01, 1, 1, 1, 1], "b": [1, 1, 0.06, 1, 1, 1]}
    summary = {name: {"shapley": {"mean": mean, "p_family": p.get(name)}} for name, mean in means.items()}
    explanation = dataclasses.replace(data.explanation, summary={**data.explanation.summary, "perturbations": summary})
    page_data = with_profiles(
        dataclasses.replace(data, explanation=explanation), ["a", "b", "c"], n_hits=1, n_untested=1
    )
    html = str(perturbations(page_data, perturbation_table(page_data), pictures={"a": "site-02"}).__html__())
    rows = {row[0]: row for row in cells_of(html)}
    assert "endoplasmic reticulum (ConA), p = 0.01" in rows["a"]
    assert "none stands out (p = 0.06)" in rows["b"]
    assert "not tested" in rows["c"]
    assert "Phalloidin" not in html
    assert '<a href="#site-02">pictures</a>' in html
    assert "<strong>a</strong>" in html
    assert "<strong>b</strong>" not in html
    assert [rows[name][1] for name in "abc"] == ["yes", "not shown", "not tested"]


def test_the_answers_name_what_acts_how_sure_and_what_is_missing(data: ReportData) -> None:
    names = [f"gene_{k}" for k in range(12)]
    page_data = with_profiles(data, names, n_hits=10, n_untested=2)
    pairs = dict(answers(page_data, perturbation_table(page_data), explanation="Actin."))
    assert list(pairs) == [
        "Which perturbations act?", "How sure is that?", "In which channel?", "What is batch, not biology?",
        "What is missing?",
    ]  # fmt: skip
    assert pairs["Which perturbations act?"].startswith("10 of 12 perturbations were tested")
    assert "10 are hits" in pairs["Which perturbations act?"]
    assert pairs["Which perturbations act?"].endswith(f"{', '.join(names[:8])} and 2 more.")
    assert "up to 5\u202f% are expected to be false" in pairs["How sure is that?"]
    assert "2 perturbations could not be tested." in pairs["What is missing?"]


def test_what_is_missing_is_counted(data: ReportData) -> None:
    metadata = data.screen.metadata
    assert missing_sentences(data)[:3] == [
        f"{metadata.found:,} entries found, {metadata.indexed:,} indexed, 3 refused.",
        "The images of 1 well could not be read.",
        "Without a training well, and so not scored: siRNA_3.",
    ]


def test_batch_is_what_rules_without_cells_reach_and_what_profiles_tell_of_plates(data: ReportData) -> None:
    assert data.scores is not None
    assert batch_sentences(data) == []
    rows = [
        row.model_copy(update={"baselines": {"plate": 0.9, "position": 0.2}})
        if (row.metric, row.level) == ("balanced accuracy", "well")
        else row
        for row in data.scores.rows
    ]
    page_data = dataclasses.replace(data, scores=data.scores.model_copy(update={"rows": tuple(rows)}))
    first, second = batch_sentences(page_data)
    assert "90.0\u202f% from the plate, 20.0\u202f% from the position of the well, each alone" in first
    assert second == "So the network shows nothing that this does not."
    effects = pd.DataFrame(
        [
            ("none", "probe accuracy", "plate", 0.75, 0.25),
            ("center-plate", "probe accuracy", "plate", 0.3, 0.25),
            ("center-plate", "iLISI", "plate", 0.9, np.nan),
        ],
        columns=["alignment", "name", "of", "value", "chance"],
    )
    result = dataclasses.replace(profile_result(["a"]), batch_effects=effects)
    assert batch_sentences(dataclasses.replace(data, profiles=result)) == [
        "A linear classifier names the plate of a profile in 30.0\u202f% of the cases "
        "(75.0\u202f% before the alignment); chance is 25.0\u202f%."
    ]


def test_a_thousand_perturbations_are_folded_and_all_are_in_the_file(
    data: ReportData, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"g{k}" for k in range(150)]
    page_data = with_profiles(data, names, n_hits=3)
    table = perturbation_table(page_data)
    assert table["perturbation"].tolist()[:150] == names
    monkeypatch.setattr(section, "MAX_FOLDED", 100)
    html = str(perturbations(page_data, table, pictures={}).__html__())
    assert html.count("<tr>") == 2 + 100  # two headings
    assert f"<summary>{100 - section.MAX_ROWS} more perturbations</summary>" in html
    assert f"All {len(table)} perturbations with all columns as CSV" in html
    # A row of the page stays small, so that a thousand of them do.
    assert len(html) / 100 < 900


def test_genes_and_doses_of_the_hit_list_are_columns(data: ReportData) -> None:
    result = profile_result(["a", "b"])
    hits = result.hits.assign(
        Metadata_Gene=["KIF11", None], Metadata_Dose=["1 uM", "2 uM"], Metadata_Empty=[None, None]
    )
    page_data = dataclasses.replace(data, profiles=dataclasses.replace(result, hits=hits))
    table = perturbation_table(page_data)
    assert section.annotation_columns(table) == ["Gene", "Dose"]
    rows = cells_of(str(perturbations(page_data, table, pictures={}).__html__()))
    assert rows[0][:3] == ["a", "KIF11", "1 uM"]
    assert rows[1][:3] == ["b", "–", "2 uM"]


def test_a_run_without_predictions_names_the_command(tmp_path: Path, data: ReportData) -> None:
    empty = dataclasses.replace(data, wells=None, scores=None, explanation=None, run=RunFolder(tmp_path))
    table = perturbation_table(empty)
    assert not len(table)
    assert f"distangle predict {tmp_path}" in str(perturbations(empty, table, pictures={}).__html__())


@pytest.mark.parametrize(
    ("name", "stain", "organelle", "label"),
    [
        ("nuclei", "Hoechst 33342", "nuclei", "nuclei (Hoechst 33342)"),
        ("RNA", "SYTO 14", "nucleoli and cytoplasmic RNA", "RNA (SYTO 14)"),
        ("w1", "Hoechst", "nuclei", "nuclei (Hoechst)"),
        ("ch 02", "", "actin", "actin"),
        ("DAPI", "DAPI", "nuclei", "nuclei (DAPI)"),
        ("DAPI", "DAPI", "", "DAPI"),
        ("w3", "", "", "w3"),
    ],
)
def test_a_channel_has_one_name_for_readers(name: str, stain: str, organelle: str, label: str) -> None:
    assert Channel(name=name, stain=stain, organelle=organelle).label == label


def test_two_channels_of_one_label_keep_their_names() -> None:
    channels = [Channel(name="w1", stain="x", organelle="actin"), Channel(name="w2", stain="x", organelle="actin")]
    assert channel_labels([*channels, Channel(name="c")]) == ["actin (x) [w1]", "actin (x) [w2]", "c"]
