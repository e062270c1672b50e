"""Two runs side by side, against plain loops over their tables."""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from distangle.errors import ConfigError
from distangle.web.pair import check_pair
from distangle.web.source import open_source
from report_run import Plan, PlantedRun
from viewing import make_viewed_run, visit


@dataclass
class Pair:
    """Two runs and a client of their viewer."""

    first: PlantedRun
    second: PlantedRun
    client: httpx.Client

    def get(self, path: str) -> Any:
        """Return the JSON of an answer."""
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


def decode(table: dict[str, Any]) -> pd.DataFrame:
    columns = {}
    for name, column in table["columns"].items():
        if column["kind"] == "number":
            columns[name] = [math.nan if value is None else value for value in column["values"]]
        else:
            columns[name] = ["" if code < 0 else column["levels"][code] for code in column["codes"]]
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def pair_of_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two plates of each experiment and one; one cell type less."""
    folder = tmp_path_factory.mktemp("pair")
    first = make_viewed_run(folder / "one", Plan(size=32, explained=12))
    second = make_viewed_run(folder / "two", Plan(size=32, plates=1, cell_types=("HUVEC",), explained=9))
    with visit(open_source(first.run.root), open_source(second.run.root)) as viewer, viewer.client() as client:
        yield Pair(first, second, client)


def key_of(row: Any) -> tuple[str, str, str]:
    return str(row["Metadata_Experiment"]), str(row["Metadata_Plate"]), str(row["Metadata_Well"])


def test_what_is_not_shared_is_named(pair_of_runs: Pair) -> None:
    pair = pair_of_runs.get("/api/pair")
    assert pair["titles"] == ["pilot (first)", "pilot (second)"]  # both are runs/pilot
    keys = [
        {(row.experiment, row.plate, row.well) for row in planted_run.screen.sites.itertuples()}
        for planted_run in (pair_of_runs.first, pair_of_runs.second)
    ]
    rows = {row["what"]: row for row in pair["shared"]}
    assert rows["wells"]["both"] == len(keys[0] & keys[1]) > 0
    assert rows["wells"]["only_first"] == len(keys[0] - keys[1]) > 0
    assert rows["wells"]["only_second"] == len(keys[1] - keys[0])
    examples = {tuple(name.split(" ")) for name in rows["wells"]["examples_first"]}
    assert len(examples) == 5
    assert examples <= keys[0] - keys[1]
    assert rows["experiments"]["examples_first"] == ["RPE-01", "RPE-02"]
    assert rows["channels"] == {
        "what": "channels", "both": 6, "only_first": 0, "only_second": 0, "examples_first": [], "examples_second": [],
    }  # fmt: skip


def test_recall_counts_the_wells_that_both_held_out(pair_of_runs: Pair) -> None:
    pair = pair_of_runs.get("/api/pair")
    table = decode(pair["perturbations"]).set_index("perturbation")
    tables = [planted_run.wells.table for planted_run in (pair_of_runs.first, pair_of_runs.second)]
    rows = [{key_of(row): row for _, row in one.iterrows()} for one in tables]
    n_compared = 0
    for name in table.index:
        n_correct, n = [0, 0], 0
        for key, row in rows[0].items():
            other = rows[1].get(key)
            if other is None or row["perturbation"] != name:
                continue
            is_held_out = {row["Metadata_Fold"], other["Metadata_Fold"]} == {"held_out"}
            if is_held_out and row["predicted"] and other["predicted"]:
                n += 1
                n_correct[0] += row["predicted"] == name
                n_correct[1] += other["predicted"] == name
        n_compared += n
        assert table["wells_compared"][name] == n
        assert table["wells_first"][name] == (tables[0]["perturbation"] == name).sum()
        assert table["wells_second"][name] == (tables[1]["perturbation"] == name).sum()
        if n:
            assert table["recall_first"][name] == pytest.approx(n_correct[0] / n, abs=1e-6)
            assert table["recall_second"][name] == pytest.approx(n_correct[1] / n, abs=1e-6)
            assert table["recall_difference"][name] == pytest.approx((n_correct[1] - n_correct[0]) / n, abs=1e-6)
    assert n_compared == pair["n_compared"] > 10
    assert f"over the {n_compared} wells" in pair["notes"][0]
    assert table["recall_first"].nunique() > 1
    hits = [
        pd.read_parquet(planted_run.run.profiles / "hits.parquet")
        for planted_run in (pair_of_runs.first, pair_of_runs.second)
    ]
    for word, part in zip(("first", "second"), hits, strict=True):
        expected = part.set_index("perturbation")["mean_average_precision"]
        np.testing.assert_allclose(table[f"activity_{word}"].reindex(expected.index), expected, rtol=1e-5)


def test_scores_stand_side_by_side(pair_of_runs: Pair) -> None:
    scores = decode(pair_of_runs.get("/api/pair")["scores"])
    for word, planted_run in (("first", pair_of_runs.first), ("second", pair_of_runs.second)):
        for row in planted_run.scores.rows:
            selected_scores = scores
            for name in ("level", "wells", "subset", "metric", "layout", "views", "transductive"):
                value = getattr(row, name)
                selected_scores = selected_scores[selected_scores[name].fillna("") == ("" if value is None else value)]
            assert len(selected_scores) == 1
            assert row.value == pytest.approx(selected_scores[f"value_{word}"].iloc[0], rel=1e-5)
    difference = scores["value_second"] - scores["value_first"]
    np.testing.assert_allclose(scores["difference"], difference, atol=1e-6)


def test_a_well_has_both_predictions_and_both_maps(pair_of_runs: Pair) -> None:
    wells = decode(pair_of_runs.get("/api/plates")["wells"])
    plates = pair_of_runs.get("/api/plates")["plates"]
    rows = {key_of(row): k for k, row in pair_of_runs.second.wells.table.iterrows()}
    numbers = {}
    for well in range(len(wells)):
        plate = plates[wells["plate"][well]]
        numbers[plate["experiment"], plate["name"], wells["name"][well]] = well
    key = next(key for key in numbers if key in rows)
    answer = pair_of_runs.get(f"/api/pair/wells/{numbers[key]}")
    logits = pair_of_runs.second.wells.logits[rows[key]].astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum()
    assert answer["predictions"][0]["probability"] == pytest.approx(shares.max(), rel=1e-4)
    assert answer["predictions"][0]["perturbation"] == pair_of_runs.second.wells.perturbations[int(shares.argmax())]
    site_table = pair_of_runs.second.explanation.table
    for row, (_, entry) in enumerate(site_table.iterrows()):
        well = numbers[key_of(entry)]
        answer = pair_of_runs.get(f"/api/pair/wells/{well}")
        assert answer["explained"] == [well]  # one site per well
        assert [bar["value"] for bar in answer["attribution"]] == pytest.approx(
            [entry[f"shapley_{k}"] for k in range(1, 7)], rel=1e-5
        )
        raw = pair_of_runs.client.get(f"/api/pair/sites/{well}/attribution")
        picture = np.frombuffer(raw.content, "<f4").reshape(int(raw.headers["X-Height"]), -1)
        np.testing.assert_allclose(picture, pair_of_runs.second.explanation.maps[row], atol=1e-6)


def test_a_well_that_one_run_lacks_says_so(pair_of_runs: Pair) -> None:
    plates = pair_of_runs.get("/api/plates")
    missing_plate = next(k for k, plate in enumerate(plates["plates"]) if plate["experiment"] == "RPE-01")
    well = decode(plates["wells"])["plate"].tolist().index(missing_plate)
    answer = pair_of_runs.client.get(f"/api/pair/wells/{well}")
    assert answer.status_code == 404
    assert " lacks the well RPE-01 1 " in answer.json()["error"]
    assert pair_of_runs.client.get(f"/api/pair/sites/{well}/attribution").status_code == 404
    assert pair_of_runs.client.get("/api/pair/wells/999999").status_code == 404


def test_one_run_alone_has_no_pair(pair_of_runs: Pair) -> None:
    with visit(open_source(pair_of_runs.first.run.root)) as viewer, viewer.client() as client:
        for path in ("/api/pair", "/api/pair/wells/0", "/api/pair/sites/0/attribution"):
            answer = client.get(path)
            assert answer.status_code == 404
            assert "distangle view RUN OTHER_RUN" in answer.json()["next_step"]
        assert client.get("/api/summary").json()["other"] is None
    assert pair_of_runs.get("/api/summary")["other"] is not None


def test_folders_that_cannot_be_compared_are_named(pair_of_runs: Pair, tmp_path: Path) -> None:
    run, screen = (
        open_source(pair_of_runs.first.run.root),
        open_source(pair_of_runs.first.run.root.parent.parent / "screen"),
    )
    with pytest.raises(ConfigError, match="is a folder of kind screen: only two runs can be compared"):
        check_pair(run, screen)
    with pytest.raises(ConfigError, match="was named twice"):
        check_pair(run, open_source(pair_of_runs.first.run.root))
    distant_run = make_viewed_run(tmp_path, Plan(size=32, plates=1, cell_types=("U2OS",)))
    with pytest.raises(ConfigError, match=r"share no well \(experiment, plate and well\)"):
        check_pair(run, open_source(distant_run.run.root))


def test_runs_with_other_targets_or_labels_say_so(pair_of_runs: Pair, tmp_path: Path) -> None:
    shutil.copytree(pair_of_runs.first.run.root.parent.parent, tmp_path / "copy")
    other = tmp_path / "copy/runs/pilot"
    card = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**card, "target": "cell_type"}))
    with visit(open_source(pair_of_runs.first.run.root), open_source(other)) as viewer, viewer.client() as client:
        pair = client.get("/api/pair").json()
        assert "predicts perturbation and" in pair["notes"][0]
        assert "predicts cell_type" in pair["notes"][0]
        assert set(decode(pair["perturbations"])["recall_first"].isna()) == {True}
        assert str(tmp_path) not in json.dumps(pair)
