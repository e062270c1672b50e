"""The section on profiles: its numbers, its sentences on what is absent, its charts."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.errors import RunError
from distangle.report import build_report
from distangle.report.profile_charts import (
    Stage,
    activity_chart,
    front,
    map_charts,
    similarity_chart,
    trade_off,
    trade_off_chart,
)
from distangle.report.sections.profiles import batch_table, hit_table, lead, profiles
from distangle.results.profile_result import ProfileResult
from profile_results import NO_POSITION, profile_result
from report_run import Plan, make_run

NAMES = ["Paclitaxel", "Rotenone", "siRNA-7", "siRNA-8", "siRNA-9"]
COMMAND = "distangle profile RUN"


def page_of(result: ProfileResult | None) -> str:
    return str(profiles(result, command=COMMAND, file="profiles/hits.csv").__html__())


def words_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


@pytest.fixture(scope="module")
def result() -> ProfileResult:
    return profile_result(NAMES)


@pytest.fixture(scope="module")
def page(result: ProfileResult) -> str:
    return page_of(result)


def test_the_sentences_count_hits_and_what_cannot_be_tested(page: str) -> None:
    text = words_of(page)
    for sentence in (
        "4 of 5 perturbations were tested against the negative controls of the same plates. 2 are hits at q ≤ 0.05.",
        "1 perturbation cannot be tested: It has one well; a test needs two.",
        "Alignment of the well profiles: center-plate, then tvn.",
        "At this level, up to 5 % of the hits are expected to be false.",
        "1 row of the source was refused.",
        "Read this first The network was trained on these wells: activity is optimistic.",
    ):
        assert sentence in text


@pytest.mark.parametrize(
    ("n_hits", "n_untested", "expected"),
    [
        (0, 0, "5 perturbations were tested against the negative controls of the same plates. None is a hit"),
        (1, 4, "1 of 5 perturbations was tested against the negative controls of the same plates. 1 is a hit"),
        (0, 5, "None of 5 perturbations can be tested."),
    ],
)
def test_the_lead_in_the_extremes(n_hits: int, n_untested: int, expected: str) -> None:
    result = profile_result(NAMES, n_hits=n_hits, n_untested=n_untested)
    assert lead(result).startswith(expected)
    assert "nan" not in words_of(page_of(result)).lower()


def test_the_table_shows_every_number_of_a_hit(result: ProfileResult) -> None:
    table = hit_table(result.hits, 0.05)
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row == {
        "perturbation": "Paclitaxel", "mAP": "0.987", "by chance": "0.234", "p": "0.0001", "q": "0.0003",
        "agreement": "0.89", "effect size": row["effect size"], "wells / plates / experiments": "4 / 4 / 2",
        "channel that moved": "Mito", "nearest (cosine)": "Rotenone (+0.91)",
        "most opposite (cosine)": "siRNA-9 (−0.82)", "no value because": "–",
    }  # fmt: skip
    assert table.bold == {(0, 0), (1, 0)}
    assert table.rows[4][1:5] == ("–", "–", "–", "–")
    assert table.rows[4][-1] == "It has one well; a test needs two."


def test_without_channel_attribution_there_is_no_column_of_channels(result: ProfileResult) -> None:
    assert "channel that moved" not in hit_table(result.hits.assign(channel=""), 0.05).columns


def test_only_the_first_rows_are_shown_and_the_file_is_named() -> None:
    page = page_of(profile_result([f"drug {k}" for k in range(40)]))
    assert "The first 30 of 40 perturbations" in page
    assert "<code>profiles/hits.csv</code>" in page
    assert "<td><strong>drug 0</strong></td>" in page
    assert "<td>drug 29</td>" in page
    assert "<td>drug 30</td>" not in page


def test_all_four_charts_are_there_with_axes_that_say_what_is_better(page: str) -> None:
    assert page.count('class="scatter"><rect') == 4
    for text in ("−log₁₀ q, surer →", "effect size (energy distance), stronger →", "q = 0.05",
                 "← less is better: batch left (experiment probe above chance)", "more is better →: replicate mAP",
                 "2-D map (t-SNE of cosine distances) of the wells, colored by experiment",
                 "colored by role and by the 2 strongest hits"):  # fmt: skip
        assert text in page


def test_the_activity_is_minus_log_10_of_q(result: ProfileResult) -> None:
    chart = activity_chart(result.hits, 0.05)
    assert chart is not None
    assert chart.drawing.count('class="hit"') == 2
    assert chart.drawing.count('class="other"') == 2
    assert "Paclitaxel: mAP 0.987, q = 0.0003" in chart.drawing
    assert activity_chart(result.hits.assign(q=np.nan), 0.05) is None


def test_without_effect_sizes_the_activity_shows_the_precision(result: ProfileResult) -> None:
    chart = activity_chart(result.hits.assign(effect_size=np.nan), 0.05)
    assert chart is not None
    assert "mAP above chance, stronger →" in chart.drawing


def test_a_q_of_zero_is_drawn(result: ProfileResult) -> None:
    chart = activity_chart(result.hits.assign(q=0.0), 0.05)
    assert chart is not None
    assert chart.drawing.count("<circle") == 4
    assert "inf" not in chart.drawing


def test_the_map_colors_experiments_roles_and_hits(result: ProfileResult) -> None:
    by_experiment, by_role = map_charts(result, 0.05)
    assert [text for _, text in by_experiment.legend] == ["exp-1", "exp-2"]
    assert [text for _, text in by_role.legend] == [
        "Paclitaxel", "Rotenone", "negative control", "other perturbations",
    ]  # fmt: skip
    assert by_experiment.drawing.count('class="hue-1"') == len(result.wells) / 2
    assert by_role.drawing.count('class="negative"') == 24
    assert by_role.drawing.count('class="hue-1"') == 4


def test_a_screen_of_one_experiment_is_colored_by_plate() -> None:
    by_plate, _ = map_charts(profile_result(NAMES, n_experiments=1), 0.05)
    assert [text for _, text in by_plate.legend] == ["exp-1 · plate 1", "exp-1 · plate 2"]
    assert "colored by plate" in by_plate.caption


def test_a_single_plate_has_a_section() -> None:
    result = profile_result(NAMES, n_experiments=1)
    rows = (result.wells.table["Metadata_Plate"] == "1").to_numpy()
    single = dataclasses.replace(
        result,
        wells=result.wells.select(rows),
        coordinates=result.coordinates[rows].reset_index(drop=True),
        batch_effects=result.batch_effects[result.batch_effects["of"] != "plate"],
    )
    page = page_of(single)
    assert "exp-1 · plate 1" in page
    assert "Biology cannot be drawn against batch effects" in page
    assert "BRAS of experiment, probe accuracy of experiment: 1 batch(es); expected at least 2." in page


def test_without_coordinates_there_is_no_map(result: ProfileResult) -> None:
    page = page_of(dataclasses.replace(result, coordinates=None))
    assert "There is no 2-D map: it was not computed." in page
    assert page.count('class="scatter"><rect') == 2


def test_a_large_map_shows_some_wells_and_says_so(result: ProfileResult) -> None:
    n = 7000
    rows = np.arange(n) % len(result.wells)
    large = dataclasses.replace(
        result,
        wells=result.wells.select(rows),
        coordinates=result.coordinates.iloc[rows].reset_index(drop=True),
    )
    chart = map_charts(large, 0.05)[0]
    assert chart.drawing.count("<circle") == 3000
    assert "3,000 of 7,000 shown" in chart.caption


def test_biology_against_batch_has_a_point_per_alignment(result: ProfileResult) -> None:
    stages, batch = trade_off(result.batch_effects)
    assert batch == "experiment probe above chance"
    assert [stage.name for stage in stages] == ["none", "center-plate", "center-plate + tvn"]
    assert [stage.batch for stage in stages] == pytest.approx([0.412, 0.16, 0.043])
    assert [stage.biology for stage in stages] == pytest.approx([0.61, 0.702, 0.655])
    assert stages[0].batch_interval == pytest.approx((0.362, 0.462))
    assert [stage.name for stage in front(stages)] == ["center-plate", "center-plate + tvn"]
    chart = trade_off_chart(result.batch_effects)
    assert chart is not None
    assert "No other step beats: center-plate, center-plate + tvn." in chart.caption


def test_the_silhouette_replaces_a_probe_without_a_value(result: ProfileResult) -> None:
    table = result.batch_effects
    no_probe = table.assign(value=table["value"].where(table["name"] != "probe accuracy"))
    stages, batch = trade_off(no_probe)
    assert batch == "1 − BRAS of the experiment"
    assert [stage.batch for stage in stages] == pytest.approx([1 - 0.288, 1 - 0.54, 1 - 0.657])
    assert stages[0].batch_interval is None
    assert trade_off(no_probe[no_probe["name"] != "mAP"]) == ([], "")


def test_the_front_by_hand() -> None:
    places = {"a": (3.0, 1.0), "b": (2.0, 1.0), "c": (1.0, 0.0), "d": (2.0, 1.0)}
    a, b, c, d = (Stage(name=name, batch=x, biology=y) for name, (x, y) in places.items())
    assert front([a, b, c, d]) == [b, c, d]


def test_batch_measures_before_and_after_with_intervals_and_reasons(result: ProfileResult, page: str) -> None:
    table = batch_table(result.batch_effects)
    assert table is not None
    assert list(table.columns) == [
        "of", "measure", "better is", "no alignment", "after center-plate + tvn", "chance",
    ]  # fmt: skip
    rows = {(row[0], row[1]): tuple(row[2:]) for row in table.rows}
    assert rows["experiment", "probe accuracy"] == (
        "less", "0.912 (0.862 to 0.962)", "0.543 (0.493 to 0.593)", "0.500",
    )  # fmt: skip
    assert rows["experiment", "BRAS"] == ("more", "0.288", "0.657", "–")
    assert ("position", "BRAS") not in rows  # without a value; the reason is below the table
    assert f"BRAS of position: {NO_POSITION}" in page


def test_consistency_and_relations_are_shown_where_present(result: ProfileResult, page: str) -> None:
    assert "Groups and relations" in page
    for text in ("tubulin", "0.714", "n perturbations", "0.386"):
        assert text in page
    assert "Groups and relations" not in page_of(dataclasses.replace(result, consistency=None, relations=None))


def test_hostile_names_come_out_as_text() -> None:
    hostile = "<script>alert(1)</script>"
    result = profile_result([hostile, "b", "c"])
    result = dataclasses.replace(
        result,
        settings={**result.settings, "notes": [hostile], "map": hostile, "alignment": [hostile]},
        consistency=pd.DataFrame({"label": [hostile], "mean_average_precision": [0.5]}),
        hits=result.hits.assign(channel=hostile, reason=hostile),
        batch_effects=result.batch_effects.assign(alignment=hostile, reason=hostile),
    )
    page = page_of(result)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_text_in_place_of_numbers_is_no_number(result: ProfileResult) -> None:
    odd = dataclasses.replace(
        result, hits=result.hits.assign(q="x", reason=None), settings={"q": "many", "alignment": None, "notes": None}
    )
    page = page_of(odd)
    assert "None of 5 perturbations can be tested." in page
    assert "5 perturbations cannot be tested: No reason was recorded." in page


def test_without_profiles_the_report_names_the_command() -> None:
    assert "No profiles have been made." in page_of(None)
    assert f"<code>{COMMAND}</code>" in page_of(None)


def test_the_report_of_a_run_has_the_section_and_refuses_damaged_profiles(tmp_path: Path) -> None:
    planted_run = make_run(tmp_path, Plan(explained=4))
    index = build_report(planted_run.run, planted_run.screen)
    for name in ("index.html", "profiles.html"):
        assert f"distangle profile {planted_run.run.root}" in index.with_name(name).read_text()
    profile_result(NAMES).write(planted_run.run.profiles)
    page = build_report(planted_run.run, planted_run.screen, one_file=True).read_text()
    assert page.index('<section id="profiles"') < page.index('<section id="controls"')
    assert page.index('<section id="controls"') < page.index('id="faithfulness"')
    assert "2 are hits at q ≤ 0.05." in index.read_text()
    assert "Map of the wells" in index.with_name("profiles.html").read_text()
    (planted_run.run.profiles / "hits.parquet").write_bytes(b"no parquet")
    with pytest.raises(RunError, match=r"hits\.parquet is damaged"):
        build_report(planted_run.run, planted_run.screen)


def test_the_matrix_shows_alike_and_opposite_perturbations() -> None:
    hits = pd.DataFrame({"perturbation": ["a", "<b>", "c"]})
    square = pd.DataFrame(
        {"perturbation": ["<b>", "a", "c"], "<b>": [1, 0.5, -0.25], "a": [0.5, 1, 0], "c": [-0.25, 0, 1]}
    )
    chart = similarity_chart(square, hits)
    assert chart is not None
    drawing = str(chart.drawing)
    assert drawing.count("<rect") == 9
    assert "<b>" not in drawing
    cells = re.findall(r'class="(\w+)" fill-opacity="([\d.]+)"><title>([^<]*)</title>', drawing)
    assert ("alike", "0.5", "&lt;b&gt; and a: 0.50") in cells
    assert ("unlike", "0.25", "c and &lt;b&gt;: -0.25") in cells
    assert chart.caption.startswith("Similarity. All perturbations")
    assert similarity_chart(square.iloc[:2], hits.iloc[:2]) is None
    assert similarity_chart(None, hits) is None
