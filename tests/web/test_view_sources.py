"""Unusual sources: unfinished runs, lost or altered files, odd numbers of channels, wells and bits."""

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from distangle.core.lock import run_lock
from distangle.errors import ConfigError
from distangle.screen import Channel, Screen, read_screen, well_name, write_screen
from distangle.web.app import Viewer
from distangle.web.source import ViewSource, open_source
from distangle.web.tables import to_csv
from report_run import STAINS, Plan, PlantedRun, make_run, make_screen
from viewing import make_viewed_run, visit


@contextmanager
def client_of(source: ViewSource) -> Iterator[httpx.Client]:
    with visit(source) as viewer, viewer.client() as client:
        yield client


def summary_of(source: ViewSource) -> dict[str, Any]:
    with client_of(source) as client:
        answer = client.get("/api/summary")
        assert answer.status_code == 200, answer.text
        assert client.get("/api/plates").status_code == 200
        assert client.get("/api/sites").status_code == 200
        return dict(answer.json())


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    return make_viewed_run(tmp_path_factory.mktemp("finished"), Plan(size=32, cell_types=("HUVEC",), plates=1))


@pytest.fixture
def copied_run(finished_run: PlantedRun, tmp_path: Path) -> Path:
    """Return the folder of a run that a test may damage."""
    shutil.copytree(finished_run.run.root.parent.parent, tmp_path / "copy")
    # The indexed images lie elsewhere now: name them beside the copy.
    card = tmp_path / "copy/screen/screen.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"source": "../lab"}))
    return tmp_path / "copy/runs/pilot"


def test_a_folder_that_is_nothing_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be viewed: it has none of run.json, screen.json or profile.json"):
        open_source(tmp_path)
    with pytest.raises(ConfigError, match="there is no folder with run.json"):
        open_source(tmp_path / "nothing")


def test_a_run_that_is_still_training_shows_its_curves(tmp_path: Path) -> None:
    planted_run = make_run(tmp_path, Plan(size=32, cell_types=("",), plates=1), parts=("metrics",))
    folds = planted_run.screen.sites[["experiment", "plate", "well", "site"]].assign(fold="train")
    folds.loc[::3, "fold"] = "held_out"
    folds.sample(frac=1, random_state=0).to_parquet(planted_run.run.folds, index=False)
    with run_lock(planted_run.run.root, say=print), client_of(open_source(planted_run.run.root)) as client:
        summary = client.get("/api/summary").json()
        assert summary["state"] == "training"
        assert summary["problems"] == []
        assert not summary["has_scores"]
        assert not summary["has_map"]
        column = client.get("/api/sites").json()["columns"]["fold"]
        assert [column["levels"][code] for code in column["codes"]] == folds["fold"].tolist()
        assert client.get("/api/training").json()["metrics"]["n"] == 12
        with planted_run.run.metrics.open("a") as file:
            file.write("13,0.1,0.9,0.001,0.7\n")
        assert client.get("/api/training").json()["metrics"]["n"] == 13
        assert client.get("/api/wells/0").json()["predictions"] == []
        assert client.get("/api/points?of=wells").status_code == 404
    assert open_source(planted_run.run.root).state() == ""


def test_new_results_are_announced(copied_run: Path) -> None:
    hits = copied_run / "profiles/profile.json"
    content = hits.read_bytes()
    with client_of(open_source(copied_run)) as client:
        assert len(client.get("/api/summary").json()["problems"]) == 1  # the training did not finish
        hits.unlink()
        hits.write_bytes(content)
        assert client.get("/api/summary").json()["problems"][1] == {
            "text": "The folder has new results since the viewer was started.",
            "next_step": "Start it again.",
        }


def test_a_finished_run_is_finished(copied_run: Path) -> None:
    record = json.loads((copied_run / "run.json").read_text())
    (copied_run / "run.json").write_text(json.dumps({**record, "finished": True}))
    summary = summary_of(open_source(copied_run))
    assert summary["state"] == "finished"
    assert summary["problems"] == []


@pytest.mark.parametrize(
    ("name", "part", "command"),
    [
        ("predictions/sites.parquet", "scores", "distangle predict"),
        ("predictions/wells.parquet", "scores", "distangle predict"),
        ("profiles/hits.parquet", "hits", "distangle profile"),
        ("profiles/coordinates.parquet", "hits", "distangle profile"),
        ("explanations/sites.parquet", "explanations", "distangle explain"),
        ("explanations/maps.npz", "explanations", "distangle explain"),
    ],
)
@pytest.mark.parametrize("fault", ["changed", "missing"])
def test_a_damaged_part_is_named_and_the_others_are_shown(
    copied_run: Path, name: str, part: str, command: str, fault: str
) -> None:
    path = copied_run / name
    if fault == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    summary = summary_of(open_source(copied_run))
    assert summary[f"has_{part}"] is False
    texts = [problem["text"] + problem["next_step"] for problem in summary["problems"]]
    assert any(name in text and command in text for text in texts), texts
    assert str(copied_run) not in json.dumps(summary)
    assert summary["has_images"] is True


def test_a_run_without_its_screen_is_shown_by_its_predictions(copied_run: Path) -> None:
    shutil.rmtree(copied_run.parent.parent / "screen")
    source = open_source(copied_run)
    summary = summary_of(source)
    assert "No screen.json" in summary["problems"][0]["text"]
    assert "--screen FOLDER" in summary["problems"][0]["text"] + summary["problems"][0]["next_step"]
    assert summary["has_images"] is False
    assert summary["n_wells"] == len(pd.read_parquet(copied_run / "predictions/wells.parquet"))
    assert len(summary["channels"]) == 6
    with client_of(source) as client:
        assert client.get("/api/sites/0/image").json()["error"] == "There are no images here."
        site = client.get("/api/wells/0").json()["sites"][0]
        assert site["available"] is False
        assert "--screen FOLDER" in site["problem"]


def test_a_screen_whose_images_moved_has_a_placeholder_with_the_reason(copied_run: Path) -> None:
    lab = copied_run.parent.parent / "lab"
    lab.rename(lab.with_name("archive"))
    with client_of(open_source(copied_run.parent.parent / "screen")) as client:
        answer = client.get("/api/sites/0/thumbnail.png")
        assert answer.status_code == 410
        assert "cannot be opened" in answer.json()["error"]
        assert "--images FOLDER" in answer.json()["next_step"]
        assert str(copied_run.parent.parent) not in answer.text
        assert client.get("/api/plates").status_code == 200
    source = open_source(copied_run.parent.parent / "screen", images=lab.with_name("archive"))
    with client_of(source) as client:
        assert client.get("/api/sites/0/thumbnail.png").status_code == 200


def test_one_lost_image_is_named_and_the_plate_is_shown(copied_run: Path) -> None:
    lab = copied_run.parent.parent / "lab"
    screen = read_screen(copied_run.parent.parent / "screen")
    damaged_file = str(screen.sites["path_2"][0])
    (lab / damaged_file).write_bytes((lab / damaged_file).read_bytes()[:-40])
    with client_of(open_source(copied_run)) as client:
        answer = client.get("/api/sites/0/image")
        assert answer.status_code == 410
        assert damaged_file in answer.json()["error"]
        assert str(lab) not in answer.text
        other = int(np.flatnonzero(screen.sites["path_2"] != damaged_file)[0])
        assert client.get(f"/api/sites/{other}/image").status_code == 200


def test_images_elsewhere_need_a_permission(copied_run: Path, tmp_path: Path) -> None:
    card = copied_run.parent.parent / "screen/screen.json"
    other_folder = tmp_path / "outside"
    shutil.copytree(copied_run.parent.parent / "lab", other_folder)
    card.write_text(json.dumps(json.loads(card.read_text()) | {"source": str(other_folder)}))
    source = open_source(copied_run.parent.parent / "screen")
    assert source.has_images is False
    assert "distangle trust" in source.notices[0].text + source.notices[0].next_step
    assert summary_of(source)["has_images"] is False


def test_an_empty_screen_says_so(tmp_path: Path) -> None:
    screen = make_screen(tmp_path, Plan(size=32, cell_types=("",), plates=1))
    problems = screen.problems.iloc[:0]
    metadata = screen.metadata.model_copy(update={"found": 0, "indexed": 0, "refused": 0})
    write_screen(Screen(metadata=metadata, sites=screen.sites.iloc[:0], problems=problems), tmp_path / "empty")
    source = open_source(tmp_path / "empty")
    summary = summary_of(source)
    assert (summary["n_sites"], summary["n_wells"], summary["n_plates"]) == (0, 0, 0)
    assert summary["problems"][-1]["text"] == "There is no site here."
    with client_of(source) as client:
        assert client.get("/api/wells/0").status_code == 404
        assert client.get("/api/perturbations").status_code == 200


@pytest.mark.parametrize(("n_channels", "bits"), [(1, 8), (1, 16), (16, 8), (16, 16), (6, 16)])
def test_one_to_sixteen_channels_of_8_or_16_bits(tmp_path: Path, n_channels: int, bits: int) -> None:
    names = tuple(Channel(name=f"c{k}") for k in range(n_channels))
    plan = Plan(channels=STAINS if n_channels == 6 else names, bits=bits, size=40, cell_types=("",), plates=1)
    made_screen = make_screen(tmp_path, plan)
    with client_of(open_source(tmp_path / "screen")) as client:
        summary = client.get("/api/summary").json()
        assert len(summary["channels"]) == n_channels
        image = client.get("/api/sites/0/image").json()
        assert image["bits"] == bits
        last = np.asarray(Image.open(made_screen.image_paths(0)[-1]))
        answer = client.get(f"/api/sites/0/channels/{n_channels - 1}")
        pixels = np.frombuffer(answer.content, "<u2" if bits == 16 else "u1").reshape(40, 40)
        np.testing.assert_array_equal(pixels, last)
        layers = "&".join(f"c={k},ffffff,0,{2**bits - 1},1" for k in range(n_channels))
        picture = np.asarray(Image.open(io.BytesIO(client.get(f"/api/sites/0/composite.png?{layers}").content)))
        planes = [np.asarray(Image.open(path)).astype(float) for path in made_screen.image_paths(0)]
        expected = np.floor(np.clip(sum(planes) / (2**bits - 1), 0, 1) * 255 + 0.5)
        assert np.abs(picture[..., 0] - expected).max() <= 1  # float32 at a half
        assert client.get("/api/sites/0/thumbnail.png").status_code == 200
        if n_channels == 1:
            assert summary["channels"][0]["color"] == "#ffffff"


def test_sixty_thousand_wells_with_one_site(tmp_path: Path) -> None:
    screen = make_screen(tmp_path, Plan(size=32, cell_types=("",), plates=1))
    wells = [(f"{p:03d}", well_name(r, c), r, c) for p in range(160) for r in range(16) for c in range(24)][:60_000]
    table = pd.DataFrame(wells, columns=["plate", "well", "row", "column"])
    first = screen.sites.iloc[[0] * len(table)].drop(columns=table.columns)
    sites = first.reset_index(drop=True)
    sites = pd.concat([sites, table], axis=1)[screen.sites.columns]
    metadata = screen.metadata.model_copy(
        update={"found": 60_000, "indexed": 60_000, "refused": 0, "plate_rows": 16, "plate_columns": 24}
    )
    write_screen(Screen(metadata=metadata, sites=sites, problems=screen.problems.iloc[:0]), tmp_path / "many")
    viewer = Viewer(open_source(tmp_path / "many"))
    viewer.warm()
    plates = viewer.index.plate_table()
    assert len(plates["plates"]) == 157
    assert plates["wells"]["n"] == 60_000
    assert viewer.index.n_sites.tolist() == [1] * 60_000
    assert viewer.index.sites_of(59_999) == range(59_999, 60_000)


def test_profiles_alone_have_plates_and_hits_but_no_images(finished_run: PlantedRun, tmp_path: Path) -> None:
    shutil.copytree(finished_run.run.profiles, tmp_path / "profiles")
    source = open_source(tmp_path / "profiles")
    summary = summary_of(source)
    assert summary["kind"] == "profiles"
    assert summary["has_hits"]
    assert summary["has_map"]
    assert not summary["has_images"]
    with client_of(source) as client:
        assert client.get("/api/tables/hits").json()["source"] == "hits.csv"
        assert client.get("/api/wells/0").json()["sites"][0]["problem"] == "Profiles have no images."
        points = client.get("/api/points?of=wells")
        assert int(points.headers["x-count"]) == summary["n_wells"]


def test_sites_of_a_well_are_together_whatever_the_order_of_the_predictions(copied_run: Path) -> None:
    for level in ("sites", "wells"):
        path = copied_run / f"predictions/{level}.parquet"
        table = pd.read_parquet(path)
        table["confidence"] = np.linspace(0, 1, len(table))
        table.sample(frac=1, random_state=1).to_parquet(path, index=False)
    (copied_run / "manifest.json").unlink()
    viewer = Viewer(open_source(copied_run))
    columns = viewer.index.columns
    np.testing.assert_allclose(columns["confidence"], np.linspace(0, 1, len(columns)))


def test_a_hostile_cell_is_no_formula_in_the_download() -> None:
    table = pd.DataFrame({"=name": ["=1+1", "@x", "-2", "+3", "\tq", "plain", "'=1"], "n": range(7)})
    lines = to_csv(table).splitlines()
    assert lines[0] == "'=name,n"
    assert [line.rpartition(",")[0] for line in lines[1:]] == [
        "'=1+1", "'@x", "'-2", "'+3", "'\tq", "plain", "''=1",
    ]  # fmt: skip


def test_a_message_has_no_folder_of_this_machine(finished_run: PlantedRun) -> None:
    source = open_source(finished_run.run.root)
    texts = [
        f"{finished_run.run.root}/predictions/sites.parquet is gone",
        f"{source.screen.source}/p1_1.png cannot be opened" if source.screen else "",
        "see /home/somebody/plates/b.png, or /etc/passwd",
    ]
    assert [source.without_folders(text) for text in texts] == [
        "predictions/sites.parquet is gone",
        "p1_1.png cannot be opened",
        "see b.png, or passwd",
    ]


def test_two_sources_do_not_share_anything(finished_run: PlantedRun) -> None:
    first, second = open_source(finished_run.run.root), open_source(finished_run.run.root)
    second = replace(second, kind="screen")
    assert summary_of(first)["kind"] == "run"
    assert summary_of(second)["kind"] == "screen"
