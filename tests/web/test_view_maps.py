"""Mean maps of perturbations and the null of the channel bars, against the stored values."""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import numpy as np
import pandas as pd
import pytest

from distangle.results import Explanation
from distangle.web.index import build_index
from distangle.web.perturbations import describe_perturbation
from distangle.web.source import open_source
from report_run import Plan, PlantedRun
from viewing import make_viewed_run, visit

N_CONTROL_WELLS = 11


@pytest.fixture(scope="module")
def explained_run(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    """A run with mean maps by perturbation and cell type, two images of a well, and a null of its bars."""
    planted_run = make_viewed_run(tmp_path_factory.mktemp("maps"), Plan(size=32, explained=9))
    rng = np.random.default_rng(5)
    names = [name for name in planted_run.screen.metadata.perturbations if name != "EMPTY"][:2]
    groups = pd.DataFrame(
        {
            "explained": [names[0], names[0], "EMPTY", names[1]],
            "Metadata_Cell_Type": ["HUVEC", "RPE", "HUVEC", "HUVEC"],
            "sites": [6, 3, 9, 1],
            "wells": [3, 3, 5, 1],
            **{f"shapley_{k}": rng.normal(size=4) for k in range(1, 7)},
        }
    )
    table = planted_run.explanation.table.copy()
    for k in range(1, 7):
        table[f"shapley_null_low_{k}"] = -0.5 - 0.01 * np.arange(len(table)) - k
        table[f"shapley_null_high_{k}"] = 0.5 + 0.01 * np.arange(len(table)) + k
    wells = table.groupby(["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"], as_index=False).first()
    explanation = replace(
        planted_run.explanation,
        table=table,
        settings={**planted_run.explanation.settings, "n_control_wells": N_CONTROL_WELLS},
        wells=wells[[name for name in wells if "null" not in name]],
        well_maps=np.zeros((len(wells), 4, 4), dtype=np.float32),
        perturbations=groups,
        perturbation_maps=rng.random((4, 20, 24)).astype(np.float32),
    )
    planted_run.run.record(*explanation.write(planted_run.run.explanations))
    return replace(planted_run, explanation=explanation)


@pytest.fixture(scope="module")
def client(explained_run: PlantedRun) -> Iterator[httpx.Client]:
    with visit(open_source(explained_run.run.root)) as viewer, viewer.client() as http_client:
        yield http_client


def test_a_perturbation_names_its_mean_maps_and_those_of_controls(
    client: httpx.Client, explained_run: PlantedRun
) -> None:
    explanation: Explanation = explained_run.explanation
    names = explained_run.screen.metadata.perturbations
    groups = explanation.perturbations
    assert groups is not None
    answer = client.get(f"/api/perturbations/{names.index(groups['explained'][0])}").json()
    first, second = answer["maps"]
    assert (first["row"], first["cell_type"], first["sites"], first["wells"]) == (0, "HUVEC", 6, 3)
    assert [(control["row"], control["perturbation"], control["sites"]) for control in first["controls"]] == [
        (2, "EMPTY", 9)
    ]
    assert (second["row"], second["cell_type"], second["controls"]) == (1, "RPE", [])  # another cell type
    assert client.get(f"/api/perturbations/{names.index('EMPTY')}").json()["maps"][0]["role"] == "negative_control"
    for row in range(4):
        raw = client.get(f"/api/maps/{row}")
        shape = int(raw.headers["X-Height"]), int(raw.headers["X-Width"])
        assert explanation.perturbation_maps is not None
        np.testing.assert_array_equal(
            np.frombuffer(raw.content, "<f4").reshape(shape), explanation.perturbation_maps[row]
        )


def test_a_map_that_is_absent_is_named(client: httpx.Client) -> None:
    for path in ("/api/maps/4", "/api/maps/-1", "/api/maps/x", "/api/maps/999999999"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert answer.json()["error"].startswith("There is no such mean map")


def test_bars_have_the_null_of_control_wells(client: httpx.Client, explained_run: PlantedRun) -> None:
    table = explained_run.explanation.table
    row = table.iloc[3]
    wells = client.get("/api/plates").json()
    column = {name: wells["wells"]["columns"][name] for name in ("plate", "name")}
    plates = [(plate["experiment"], plate["name"]) for plate in wells["plates"]]
    key = (row["Metadata_Experiment"], row["Metadata_Plate"], row["Metadata_Well"])
    places = zip(column["plate"]["values"], column["name"]["codes"], strict=True)
    well = [(*plates[plate], column["name"]["levels"][code]) for plate, code in places].index(key)
    bars = client.get(f"/api/wells/{well}").json()["attribution"]
    assert [bar["null_low"] for bar in bars] == pytest.approx([-0.53 - k for k in range(1, 7)])
    assert [bar["null_high"] for bar in bars] == pytest.approx([0.53 + k for k in range(1, 7)])
    assert [bar["value"] for bar in bars] == pytest.approx([row[f"shapley_{k}"] for k in range(1, 7)])
    assert {bar["null_wells"] for bar in bars} == {N_CONTROL_WELLS}


def test_the_effect_by_dose_is_the_mean_length_of_its_profiles(explained_run: PlantedRun) -> None:
    source = open_source(explained_run.run.root)
    source.sites["Dose_uM"] = [("0.1", "1", "10", "")[k % 4] for k in range(len(source.sites))]
    index = build_index(source)
    assert source.profiles is not None
    features = source.profiles.features("wells").astype(np.float64)
    n_charts = 0
    for perturbation in range(len(index.perturbations)):
        lengths: dict[float, list[float]] = {}
        for row, well in enumerate(index.profile_wells):
            dose = str(index.wells["Dose_uM"][well])
            if dose and index.perturbation_of_well[well] == perturbation:
                lengths.setdefault(float(dose), []).append(float(np.sqrt((features[row] ** 2).sum())))
        answer = describe_perturbation(index, perturbation)
        doses = answer["doses"]
        if len(lengths) < 2:
            assert doses is None
            continue
        n_charts += 1
        controls = [row for row, well in enumerate(index.profile_wells) if index.wells["perturbation"][well] == "EMPTY"]
        expected = np.mean([float(np.sqrt((features[row] ** 2).sum())) for row in controls])
        assert answer["control_effect"] == pytest.approx(expected, rel=1e-3)
        assert [dose for dose, _, _ in doses] == sorted(lengths)
        for dose, mean, n in doses:
            assert n == len(lengths[dose])
            assert mean == pytest.approx(sum(lengths[dose]) / n, rel=1e-3)
    assert n_charts > 0
