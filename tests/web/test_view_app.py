"""Every answer of the server, against the content of the run."""

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from distangle.screen import parse_well
from report_run import HOSTILE, PlantedRun
from viewing import Visit


@pytest.fixture(scope="module")
def client(running_viewer: Visit) -> Iterator[httpx.Client]:
    with running_viewer.client() as http_client:
        yield http_client


def decode(table: dict[str, Any]) -> pd.DataFrame:
    """Return a columnar table as the page reads it."""
    columns: dict[str, Any] = {}
    for name, column in table["columns"].items():
        if column["kind"] == "number":
            columns[name] = [np.nan if value is None else value for value in column["values"]]
        else:
            columns[name] = ["" if code < 0 else column["levels"][code] for code in column["codes"]]
        assert len(columns[name]) == table["n"]
    return pd.DataFrame(columns)


def get(client: httpx.Client, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_summary_counts_what_is_there(client: httpx.Client, viewed_run: PlantedRun) -> None:
    summary, sites = get(client, "/api/summary"), viewed_run.screen.sites
    assert summary["kind"] == "run"
    assert summary["n_sites"] == len(sites)
    assert summary["n_wells"] == len(sites)
    assert summary["n_plates"] == 8
    assert summary["n_experiments"] == 4
    assert summary["n_perturbations"] == 10
    assert [channel["label"] for channel in summary["channels"]][:2] == ["w1 (Hoechst)", "w2 (ConA)"]
    assert summary["channels"][0]["color"] == "#1300f9"
    for name in ("images", "map", "explanations", "hits", "scores", "checks", "training"):
        assert summary[f"has_{name}"] is True, name
    # The run has no `finished` in its record, and nothing trains it.
    assert summary["problems"] == [
        {"text": "The training of this run did not finish.", "next_step": "Resume it: `distangle train --resume RUN`."}
    ]


def test_every_well_has_the_place_and_the_labels_of_the_screen(client: httpx.Client, viewed_run: PlantedRun) -> None:
    answer = get(client, "/api/plates")
    wells = decode(answer["wells"])
    sites = viewed_run.screen.sites
    assert wells["name"].tolist() == sites["well"].tolist()  # one site each
    assert wells["perturbation"].tolist() == sites["perturbation"].tolist()
    assert wells["role"].tolist() == sites["role"].tolist()
    assert wells["n_sites"].tolist() == [1] * len(sites)
    assert wells["first_site"].tolist() == list(range(len(sites)))
    plates = answer["plates"]
    assert [(p["experiment"], p["name"]) for p in plates] == list(
        dict.fromkeys(zip(sites["experiment"], sites["plate"], strict=True))
    )
    for row in wells.itertuples():
        assert (row.row, row.column) == parse_well(row.name, rows=8, columns=12)
        assert plates[row.plate]["experiment"] == sites["experiment"][row.Index]
    assert {(p["n_rows"], p["n_columns"]) for p in plates} == {(8, 12)}
    names = viewed_run.screen.metadata.perturbations
    assert [names[k] for k in wells["perturbation_id"]] == wells["perturbation"].tolist()
    table = viewed_run.wells.table
    np.testing.assert_allclose(wells["confidence"], table["confidence"], rtol=1e-6)
    has_score = table["reason"] == ""
    assert (
        wells["correct"][has_score].tolist()
        == (table["predicted"] == table["perturbation"])[has_score].astype(int).tolist()
    )
    assert wells["correct"][~has_score].isna().all()


def test_every_column_of_the_summary_is_a_column_of_the_wells(client: httpx.Client) -> None:
    columns = get(client, "/api/plates")["wells"]["columns"]
    for column in get(client, "/api/summary")["columns"]:
        assert columns[column["name"]]["kind"] == column["kind"]


def test_sites_have_their_fold_and_probability(client: httpx.Client, viewed_run: PlantedRun) -> None:
    sites = decode(get(client, "/api/sites"))
    assert sites["well"].tolist() == list(range(len(viewed_run.screen.sites)))
    assert sites["fold"].tolist() == viewed_run.wells.table["Metadata_Fold"].tolist()
    np.testing.assert_allclose(sites["probability"], viewed_run.wells.table["confidence"], rtol=1e-6)


@pytest.mark.parametrize("path", ["/api/plates", "/api/sites", "/api/perturbations"])
def test_packed_and_plain_answers_are_the_same(client: httpx.Client, path: str) -> None:
    compressed, plain = (client.get(path, headers={"Accept-Encoding": name}) for name in ("gzip", "identity"))
    assert compressed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert compressed.content == plain.content


@pytest.mark.parametrize("target", ["sites", "wells", "perturbations"])
def test_points_have_two_floats_and_a_number_each(client: httpx.Client, viewed_run: PlantedRun, target: str) -> None:
    answer = client.get(f"/api/points?of={target}")
    n = int(answer.headers["x-count"])
    assert len(answer.content) == 12 * n
    places = np.frombuffer(answer.content[: 8 * n], dtype="<f4").reshape(n, 2)
    numbers = np.frombuffer(answer.content[8 * n :], dtype="<u4")
    assert answer.headers["x-of"] == target
    assert np.isfinite(places).all()
    assert len(set(numbers.tolist())) == n
    if target == "sites":
        assert n == (viewed_run.wells.table["reason"] == "").sum()
    if target == "wells":
        coordinates = pd.read_parquet(viewed_run.run.profiles / "coordinates.parquet")
        np.testing.assert_allclose(places, coordinates[["x", "y"]], rtol=1e-6)
        assert numbers.tolist() == list(range(n))


def test_a_well_says_what_was_predicted_and_shows_a_control(client: httpx.Client, viewed_run: PlantedRun) -> None:
    sites = viewed_run.screen.sites
    number = int(np.flatnonzero((sites["role"] == "treatment") & (viewed_run.wells.table["reason"] == ""))[3])
    well = get(client, f"/api/wells/{number}")
    assert (well["name"], well["perturbation"]) == (sites["well"][number], sites["perturbation"][number])
    logits = viewed_run.wells.logits[number].astype(float)
    shares = np.exp(logits) / np.exp(logits).sum()
    best = np.argsort(-shares)[:5]
    assert [prediction["perturbation"] for prediction in well["predictions"]] == [
        viewed_run.wells.perturbations[k] for k in best
    ]
    np.testing.assert_allclose(
        [prediction["probability"] for prediction in well["predictions"]], shares[best], rtol=1e-5
    )
    assert well["sites"] == [
        {
            "id": number,
            "number": 1,
            "available": True,
            "problem": None,
            "explained": well["sites"][0]["explained"],
        }
    ]
    # The nearest control by hand: over all wells of the plate.
    own_site = sites.iloc[number]
    best_distance, best_well = np.inf, -1
    for other, row in sites.iterrows():
        is_on_plate = row["experiment"] == own_site["experiment"] and row["plate"] == own_site["plate"]
        distance = np.hypot(row["row"] - own_site["row"], row["column"] - own_site["column"])
        if is_on_plate and row["role"] == "negative_control" and distance < best_distance:
            best_distance, best_well = distance, other
    assert well["control"] == best_well
    others = [int(k) for k in np.flatnonzero(sites["perturbation"] == own_site["perturbation"]) if k != number]
    assert well["same_perturbation"] == others


def test_the_nearest_wells_are_those_of_the_largest_cosine(client: httpx.Client, viewed_run: PlantedRun) -> None:
    features = pd.read_parquet(viewed_run.run.profiles / "wells.parquet").filter(like="feature_").to_numpy()
    cosines = [np.dot(features[4], other) / np.linalg.norm(features[4]) / np.linalg.norm(other) for other in features]
    order = [k for k in np.argsort(-np.array(cosines)) if k != 4][:12]
    nearest = get(client, "/api/wells/4")["nearest"]
    assert [one["well"] for one in nearest] == order
    np.testing.assert_allclose([one["similarity"] for one in nearest], [cosines[k] for k in order], atol=2e-3)


def test_a_site_that_was_not_read_says_why(client: httpx.Client, viewed_run: PlantedRun) -> None:
    number = int(np.flatnonzero(viewed_run.wells.table["reason"] != "")[0])
    well = get(client, f"/api/wells/{number}")
    assert well["sites"][0]["problem"] == "truncated PNG"
    assert well["predictions"] == []


def image_of(viewed_run: PlantedRun, site: int) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in viewed_run.screen.image_paths(site)])


@pytest.mark.parametrize("channel", range(6))
def test_a_channel_is_the_pixels_of_its_file(client: httpx.Client, viewed_run: PlantedRun, channel: int) -> None:
    answer = client.get(f"/api/sites/5/channels/{channel}")
    assert (answer.headers["x-width"], answer.headers["x-height"], answer.headers["x-bits"]) == ("64", "64", "8")
    np.testing.assert_array_equal(
        np.frombuffer(answer.content, np.uint8).reshape(64, 64), image_of(viewed_run, 5)[channel]
    )


def test_a_level_is_the_mean_of_squares(client: httpx.Client, viewed_run: PlantedRun) -> None:
    answer = client.get("/api/sites/5/channels/2?level=1")
    pixels = image_of(viewed_run, 5)[2].astype(float)
    expected = np.array([[pixels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean() for x in range(32)] for y in range(32)])
    np.testing.assert_array_equal(np.frombuffer(answer.content, np.uint8).reshape(32, 32), np.rint(expected))


def test_an_image_names_its_files_and_its_contrast(client: httpx.Client, viewed_run: PlantedRun) -> None:
    image = get(client, "/api/sites/5/image")
    assert (image["width"], image["height"], image["bits"], image["n_levels"]) == (64, 64, 8, 2)
    assert image["names"] == [path.name for path in viewed_run.screen.image_paths(5)]
    assert all(0 <= channel["low"] < channel["high"] <= 255 for channel in image["channels"])


def test_a_composite_is_the_sum_of_its_channels(client: httpx.Client, viewed_run: PlantedRun) -> None:
    answer = client.get("/api/sites/5/composite.png?c=0,ff8000,10,200,1&c=3,0000FF,5.5,150.25,0.5")
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    image = image_of(viewed_run, 5).astype(float)
    total = np.zeros((64, 64, 3))
    for channel, color, low, high, gamma in ((0, (255, 128, 0), 10, 200, 1), (3, (0, 0, 255), 5.5, 150.25, 0.5)):
        share = np.clip((image[channel] - low) / (high - low), 0, 1) ** gamma
        for k in range(3):
            total[..., k] += share * color[k] / 255
    np.testing.assert_array_equal(picture, np.floor(np.clip(total, 0, 1) * 255 + 0.5))


def test_a_composite_without_channels_is_black(client: httpx.Client) -> None:
    picture = np.asarray(Image.open(io.BytesIO(client.get("/api/sites/5/composite.png").content)))
    assert picture.shape == (64, 64, 3)
    assert not picture.any()


def test_a_thumbnail_is_small_and_not_black(client: httpx.Client) -> None:
    picture = np.asarray(Image.open(io.BytesIO(client.get("/api/sites/5/thumbnail.png").content)))
    assert max(picture.shape[:2]) <= 96
    assert picture.max() > 50


def test_a_map_is_that_of_its_site(client: httpx.Client, viewed_run: PlantedRun) -> None:
    table, sites = viewed_run.explanation.table, viewed_run.screen.sites
    keys = list(zip(sites["experiment"], sites["plate"], sites["well"], strict=True))
    for row in (0, len(table) - 1):
        entry = table.iloc[row]
        site = keys.index((entry["Metadata_Experiment"], entry["Metadata_Plate"], entry["Metadata_Well"]))
        answer = client.get(f"/api/sites/{site}/attribution?channel=all")
        assert answer.status_code == 200, answer.text
        values = np.frombuffer(answer.content, "<f4").reshape(
            int(answer.headers["x-height"]), int(answer.headers["x-width"])
        )
        np.testing.assert_array_equal(values, viewed_run.explanation.maps[row])
        well = get(client, f"/api/wells/{site}")
        assert well["sites"][0]["explained"] is True
        assert [bar["value"] for bar in well["attribution"]] == pytest.approx(
            [entry[f"shapley_{k}"] for k in range(1, 7)]
        )
    keys_with_map = {
        (e, p, w)
        for e, p, w in table[["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]].itertuples(index=False)
    }
    other = next(site for site, key in enumerate(keys) if key not in keys_with_map)
    assert client.get(f"/api/sites/{other}/attribution").status_code == 404


def test_perturbations_are_counted_by_hand(client: httpx.Client, viewed_run: PlantedRun) -> None:
    table, sites = decode(get(client, "/api/perturbations")), viewed_run.screen.sites
    assert table["perturbation"].tolist() == list(viewed_run.screen.metadata.perturbations)
    for row in table.itertuples():
        part = sites[sites["perturbation"] == row.perturbation]
        assert row.n_wells == len(part)
        assert row.n_plates == len({*zip(part["experiment"], part["plate"], strict=True)})
        assert row.n_experiments == part["experiment"].nunique()
        assert row.role == part["role"].iloc[0]
    hits = pd.read_parquet(viewed_run.run.profiles / "hits.parquet").set_index("perturbation")
    values = table.set_index("perturbation")["effect_size"]
    for name in hits.index:
        assert values[name] == pytest.approx(hits["effect_size"][name], abs=1e-6, nan_ok=True)


def test_a_perturbation_lists_its_wells_and_neighbors(client: httpx.Client, viewed_run: PlantedRun) -> None:
    number = viewed_run.screen.metadata.perturbations.index("PLK1")
    answer = get(client, f"/api/perturbations/{number}")
    assert answer["wells"] == np.flatnonzero(viewed_run.screen.sites["perturbation"] == "PLK1").tolist()
    assert answer["nearest"][0]["similarity"] == 0.5
    assert dict(answer["row"])["role"] == "positive_control"


def test_tables_name_their_file_and_link_to_sites(client: httpx.Client, viewed_run: PlantedRun) -> None:
    hits = get(client, "/api/tables/hits")
    assert hits["source"] == "profiles/hits.csv"
    assert (
        decode(hits)["perturbation"].tolist()
        == pd.read_parquet(viewed_run.run.profiles / "hits.parquet")["perturbation"].tolist()
    )
    scores = get(client, "/api/tables/scores")
    assert scores["source"] == "predictions/scores.json"
    assert decode(scores)["value"].tolist() == pytest.approx([row.value for row in viewed_run.scores.rows], rel=1e-6)
    checks = decode(get(client, "/api/tables/checks"))
    assert checks["kind"].tolist() == ["image missing", "odd name"]
    assert checks["site"].tolist() == [-1, -1]  # B07 is not in the screen


@pytest.mark.parametrize("name", ["hits", "scores", "checks"])
def test_a_table_can_be_downloaded_without_formulas(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/api/tables/{name}.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}.csv"'
    table = pd.read_csv(io.StringIO(answer.text))
    assert not any(
        isinstance(cell, str) and cell[:1] in "=+-@\t\r" for cell in table.to_numpy(dtype=object).ravel() if cell
    )


def test_the_curves_of_a_training_are_the_rows_of_its_file(client: httpx.Client, viewed_run: PlantedRun) -> None:
    answer = get(client, "/api/training")
    expected = pd.read_csv(viewed_run.run.metrics)
    pd.testing.assert_frame_equal(
        decode(answer["metrics"]), expected, check_dtype=False, rtol=1e-5, check_column_type=False
    )
    assert answer["finished"] is False


@pytest.mark.parametrize(
    "path", ["/", "/plates", "/map", "/well/12", "/perturbation/3", "/hits?sort=q", "/scores", "/checks", "/compare"]
)
def test_every_page_is_the_shell(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<html" in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/wells/99999", 404),
        ("/api/wells/x", 404),
        ("/api/sites/5/channels/6", 404),
        ("/api/sites/5/channels/0?level=9", 400),
        ("/api/sites/5/channels/0?level=-1", 400),
        ("/api/sites/5/composite.png?c=9,ffffff,0,1,1", 404),
        ("/api/sites/5/composite.png?c=0,red,0,1,1", 400),
        ("/api/sites/5/composite.png?c=0,ffffff,nan,1,1", 400),
        ("/api/points?of=cells", 400),
        ("/api/tables/secrets", 404),
        ("/api/perturbations/1000", 404),
        ("/nothing", 404),
        ("/assets/nothing.js", 404),
        ("/well/1/", 404),
    ],
)
def test_a_wrong_request_is_answered_with_its_reason(client: httpx.Client, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "next_step"}
    assert answer.json()["error"]


def test_hostile_names_are_text(client: httpx.Client) -> None:
    for path in ("/api/summary", "/api/plates", "/api/perturbations", "/api/tables/checks"):
        text = client.get(path).text
        assert "<" not in text
        assert path == "/api/summary" or HOSTILE in json.dumps(json.loads(text)).encode().decode("unicode_escape")
