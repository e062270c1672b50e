"""Benchmark rows, counted by hand, and made from a run on a synthetic screen."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from distangle.core.progress import no_progress
from distangle.core.shrinkage import Correction
from distangle.errors import ExplanationError, RunError, ScreenError
from distangle.explain import MAP_METHODS, benchmark_lines, benchmark_run, benchmark_sentences
from distangle.explain.benchmark import methods
from distangle.explain.benchmark.run import channel_rows, criteria, mean_row, region_row
from distangle.explain.context import SiteSelection, load_context
from distangle.explain.ground_truth import PlantedCircle, circle_masks, peak_of, pointing_hits
from distangle.inference import predict_run
from distangle.results import Benchmark, Predictions
from distangle.screen import hold_out, index, read_screen, write_screen
from distangle.synthetic import SimulationConfig, read_truth, simulate
from distangle.training import resolve_config, start_run, train

CHANNEL_METHODS = {"shapley", "ablation", "eq15", "eq15_inverse", "correlation"}


def test_channels_are_counted_by_site_and_by_well():
    scores = {"one": np.array([[3.0, 1, 0], [0, 2, 1], [0, 5, 1], [0, 0, 1]])}
    strongest = np.array([0, 0, 1, 1])
    (by_site,) = channel_rows(scores, strongest, wells=np.array(list("AABB")), unit="sites", network="trained")
    assert (by_site["hits"], by_site["n_total"], by_site["unit"]) == (2, 4, "sites")
    assert by_site["chance"] == pytest.approx(1 / 3)
    # Answers 0, 1, 1, 2 for truths 0, 0, 1, 1: by chance, answer 0 (1/4) or 1 (1/2) meets a truth of share 1/2.
    assert by_site["swapped"] == pytest.approx(0.25 * 0.5 + 0.5 * 0.5)
    # Wells: mean of the first two is [1.5, 1.5, 0.5] (first of equals: 0, right); of the others [0, 2.5, 1] (1, right).
    (by_well,) = channel_rows(scores, strongest, wells=np.array(list("AABB")), unit="wells", network="trained")
    assert (by_well["hits"], by_well["n_total"], by_well["unit"]) == (2, 2, "wells")
    assert (by_well["low"], by_well["high"]) == (None, None)  # of two wells


def test_a_method_that_always_says_the_same_hits_no_more_than_its_habit():
    scores = {"always the first": np.tile([1.0, 0, 0], (6, 1))}
    wells = np.arange(6)
    (row,) = channel_rows(scores, np.array([0, 0, 0, 1, 2, 2]), wells=wells, unit="sites", network="trained")
    assert row["share"] == row["swapped"] == pytest.approx(0.5)


def test_regions_are_counted_by_peak_and_by_mass():
    maps = np.zeros((3, 10, 10), dtype=np.float32)
    maps[0, 2, 7], maps[0, 9, 9] = 1, 0.5
    maps[1, 7, 2] = 1  # row and column exchanged
    circles = [
        PlantedCircle(2.0, 7.0, 1.0),
        PlantedCircle(2.0, 7.0, 1.0),
        PlantedCircle(7.0, 2.0, 1.0),
    ]  # 5 pixels of 100
    masks = circle_masks(circles, (10, 10))
    row = region_row(maps, masks, wells=np.arange(3), network="trained", method="grad_cam", layer="image")
    assert (row["hits"], row["n_total"]) == (1, 3)
    assert row["mass"] == pytest.approx((1 / 1.5) / 3)
    assert row["area"] == row["chance"] == pytest.approx(0.05)
    # Peaks of other sites: (2,7) beside regions 2, 3; (7,2) beside 1, 3; the empty map beside 1, 2: hits 1, 1 and 0.
    assert row["swapped"] == pytest.approx(2 / 6)


def test_the_middle_of_a_plateau_is_its_peak():
    plateau = np.zeros((12, 12))
    plateau[3:8, 4:9] = 1
    assert peak_of(plateau) == (5, 6)
    corner = np.zeros((12, 12))
    corner[:4, :4] = 1
    corner[0, 0] = 1 - 1e-3
    assert peak_of(corner) in {(1, 1), (1, 2), (2, 1), (2, 2)}
    hits, masses = pointing_hits(np.zeros((1, 3, 3)), np.ones((1, 3, 3), dtype=bool))
    assert (hits.tolist(), masses.tolist()) == ([False], [0.0])


def a_row(network, question, method, share, *, chance=0.2):
    unit = "wells" if question == "channel" else "sites"
    result = {"network": network, "question": question, "method": method, "unit": unit}
    return result | {"share": share, "chance": chance, "low": 0.0, "high": 1.0, "hits": 1, "n_total": 1, "swapped": 0.1}


def test_aims_take_shapley_for_the_channel_the_best_map_for_the_region_and_the_same_of_random_weights():
    rows = [
        a_row("trained", "channel", "shapley", 0.96),
        a_row("trained", "channel", "ablation", 0.5),
        a_row("trained", "channel", "eq15", 0.99),
        a_row("trained", "region", "grad_cam", 0.7),
        a_row("trained", "region", "occlusion", 0.89),
        a_row("untrained", "channel", "shapley", 0.31),
        a_row("untrained", "channel", "eq15", 0.99),
        a_row("untrained", "region", "grad_cam", 0.9),
        a_row("untrained", "region", "occlusion", 0.3),
    ]
    stain, place, blind_stain, blind_place = criteria(rows)
    assert (stain["value"], stain["met"]) == (0.96, True)
    assert (place["method"], place["value"], place["met"]) == ("occlusion", 0.89, False)
    assert (blind_stain["method"], blind_stain["met"]) == ("shapley", False)
    assert blind_stain["value"] == pytest.approx(0.11)
    assert (blind_place["method"], blind_place["met"]) == ("occlusion", True)
    assert blind_place["value"] == pytest.approx(0.1)
    output = benchmark_sentences(Benchmark(rows=rows, aims=criteria(rows), settings={}))
    assert output[0] == "reached: planted channel ranked first by Shapley: 96% (shapley; at least 95%)."
    assert output[1] == "MISSED: peak of the best map in the planted region: 89% (occlusion; at least 90%)."
    assert "MISSED: channel hits of untrained networks over chance: 11% (shapley; at most 10%)." in output
    assert benchmark_sentences(Benchmark(rows=[], aims=criteria([]), settings={}))[0].startswith("no site to count")


def test_several_networks_make_one_row_of_means_over_the_same_sites():
    rows = [
        {
            **a_row("untrained", "region", "grad_cam", hits / 4),
            "hits": hits,
            "n_total": 4,
            "mass": hits / 8,
            "low": hits / 10,
        }
        for hits in (1, 2)
    ]
    result = mean_row(rows)
    assert (result["hits"], result["n_total"], result["share"], result["mass"]) == (1.5, 4, 0.375, 0.1875)
    assert (result["low"], result["high"]) == (pytest.approx(0.15), 1.0)


@pytest.fixture(scope="module")
def run_and_screen(tmp_path_factory):
    """Train two epochs on a synthetic screen; set all predictions to correct except one well with an effect."""
    folder = tmp_path_factory.mktemp("benchmark")
    config = SimulationConfig(
        image_size=48,
        cell_types=["HUVEC"],
        experiments_per_cell_type=2,
        plates_per_experiment=1,
        plate_groups=False,
        n_treatments=6,
        wells_per_treatment=1,
        n_positive_controls=1,
        n_negative_controls=2,
        local_share=0.5,
    )
    simulate(folder / "plates", config)
    write_screen(index(folder / "plates", layout="rxrx1"), folder / "screen")
    screen = read_screen(folder / "screen")
    folds = hold_out(screen, column="experiment", values=["HUVEC-02"])
    settings = resolve_config("scratch", ["batch_size=8", "network.embedding_size=8", "precision=fp32"], epochs=1)
    run = start_run(screen, folds, settings, folder / "run")
    train(run, advance=no_progress, say=no_progress)
    predict_run(run, screen)
    treatment_rows = methods.planted_rows(run, read_truth(screen.source), n_sites=None)
    sites = Predictions.read(run.predictions, level="site", views=1).table
    wrong_well, other = sites["Metadata_Well"].iloc[treatment_rows[0]], sites["perturbation"].iloc[treatment_rows[-1]]
    for level in ("site", "well"):
        result = Predictions.read(run.predictions, level=level, views=1)
        predicted_names = result.table["perturbation"].where(result.table["Metadata_Well"] != wrong_well, other)
        replace(result, table=result.table.assign(predicted=predicted_names)).write(run.predictions)
    return run, screen


@pytest.fixture(scope="module")
def benchmark(run_and_screen):
    run, screen = run_and_screen
    return benchmark_run(run, screen, n_untrained=1)


def planted_by_hand(run, screen):
    """Map (well, site) of held-out sites to planted channels and to whether the effect has a place, from the tables."""
    truth = json.loads((screen.source / "truth.json").read_text())
    table = Predictions.read(run.predictions, level="site", views=1).table
    result = {}
    for site in truth["sites"]:
        if site["experiment"] != "HUVEC-02":
            continue
        channels = truth["perturbations"][site["perturbation"]]["channels"]
        row = table[
            (table["Metadata_Experiment"] == site["experiment"])
            & (table["Metadata_Well"] == site["well"])
            & (table["Metadata_Site"] == site["site"])
        ]
        is_correct = row["predicted"].item() == site["perturbation"]
        result[site["well"], site["site"]] = (channels, site["place"] is not None, is_correct)
    return result


def test_all_held_out_sites_that_are_correctly_predicted_are_asked_about(run_and_screen, benchmark):
    run, screen = run_and_screen
    result = planted_by_hand(run, screen)
    single = {key for key, (channels, _, is_correct) in result.items() if len(channels) == 1 and is_correct}
    placed = [key for key, (_, place, is_correct) in result.items() if place and is_correct]
    assert placed
    totals = {(row["network"], row["question"], row["unit"]): set() for row in benchmark.rows}
    for row in benchmark.rows:
        totals[row["network"], row["question"], row["unit"]].add(row["n_total"])
    for network in ("trained", "untrained"):
        assert totals[network, "channel", "sites"] == {len(single)}
        assert totals[network, "channel", "wells"] == {len({well for well, _ in single})}
        assert totals[network, "region", "sites"] == {len(placed)}
    assert benchmark.settings["sites"] == sum(
        bool(channels) and is_correct for channels, _, is_correct in result.values()
    )


def test_every_method_has_its_rows_beside_the_untrained_network(benchmark):
    for network in ("trained", "untrained"):
        rows = [row for row in benchmark.rows if row["network"] == network]
        for unit in ("wells", "sites"):
            of_channels = [row["method"] for row in rows if (row["question"], row["unit"]) == ("channel", unit)]
            assert set(of_channels) == CHANNEL_METHODS
            assert len(of_channels) == len(CHANNEL_METHODS)
        assert [row["method"] for row in rows if row["question"] == "region"] == list(MAP_METHODS)
    for row in benchmark.rows:
        assert 0 <= row["share"] <= 1
        assert row["low"] is None or 0 <= row["low"] <= row["share"] <= row["high"] <= 1
    trained, untrained = (
        [row["mass"] for row in benchmark.rows if row["question"] == "region" and row["network"] == network]
        for network in ("trained", "untrained")
    )
    assert trained != untrained


def test_what_was_found_is_written_entered_into_the_manifest_and_read_again(run_and_screen, benchmark):
    run, _ = run_and_screen
    copy = Benchmark.read(run.explanations)
    assert copy.rows == [dict(row) for row in benchmark.rows]
    assert [aim["aim"] for aim in copy.aims] == [aim["aim"] for aim in benchmark.aims]
    assert copy.settings["untrained_networks"] == 1
    assert "explanations/benchmark.json" in json.loads(run.manifest.read_text())["files"]
    assert "NaN" not in (run.explanations / "benchmark.json").read_text()
    with pytest.raises(RunError, match=r"No benchmark at .*Run `distangle explain RUN --benchmark` first"):
        Benchmark.read(run.predictions)


def test_scores_are_those_of_the_true_perturbation(run_and_screen):
    run, screen = run_and_screen
    rows = methods.planted_rows(run, read_truth(screen.source), n_sites=None)
    context = load_context(run, screen, selection=SiteSelection(rows=rows))
    selected_sites = methods.select_benchmark_sites(
        context, rows, correct_wells=set(methods.wells_of(context.sites.table))
    )
    # Every well counts as correct here, even the one whose sites have a wrong prediction.
    assert len(selected_sites.sites) == len(rows)
    assert not selected_sites.site_is_correct.all()
    target_names = [selected_sites.sites.perturbations[int(target)] for target in selected_sites.sites.targets]
    assert target_names == selected_sites.sites.table["perturbation"].tolist()
    assert selected_sites.rows == rows
    for row, circle in selected_sites.regions.items():
        key = selected_sites.sites.table.iloc[row]
        place = read_truth(screen.source).place("HUVEC-02", 1, key["Metadata_Well"], int(key["Metadata_Site"]))
        assert circle == (place.row, place.column, place.radius)
        assert selected_sites.site_is_correct[row]


def test_fewer_sites_are_spread_over_the_perturbations_those_with_a_region_first(run_and_screen):
    run, screen = run_and_screen
    truth = read_truth(screen.source)
    table = Predictions.read(run.predictions, level="site", views=1).table
    local = {name for name, effect in truth.perturbations.items() if effect.local}
    few_names = table.iloc[methods.planted_rows(run, truth, n_sites=len(local))]["perturbation"].tolist()
    assert sorted(few_names) == sorted(local)
    n_planted = sum(bool(effect.channels) for effect in truth.perturbations.values())
    more_names = table.iloc[methods.planted_rows(run, truth, n_sites=n_planted)]["perturbation"].tolist()
    assert len(set(more_names)) == n_planted


def test_a_network_with_random_weights_is_another_network_with_its_own_references(run_and_screen):
    run, screen = run_and_screen
    rows = methods.planted_rows(run, read_truth(screen.source), n_sites=4)
    context = load_context(run, screen, selection=SiteSelection(rows=rows))
    selected_sites = methods.select_benchmark_sites(
        context, rows, correct_wells=set(methods.wells_of(context.sites.table))
    )
    blank_model, sites = methods.untrained_copy(context, selected_sites, run, screen, seed=3)
    second, _ = methods.untrained_copy(context, selected_sites, run, screen, seed=3)
    weights = [dict(model.named_parameters()) for model in (context.model, blank_model, second)]
    assert not torch.equal(weights[0]["linear_templates.weight"], weights[1]["linear_templates.weight"])
    assert all(torch.equal(weights[1][name], weights[2][name]) for name in weights[1])
    assert not blank_model.training
    assert sites.norms is None
    assert sites.references is None
    model = context.model.config.model_copy(update={"freeze_backbone": True, "correction": Correction(method="center")})
    centred = replace(context, model=methods.build_classifier(model, seed=0))
    centred_sites = replace(
        selected_sites, sites=replace(selected_sites.sites, references=torch.zeros(4, centred.model.n_features))
    )
    _, sites = methods.untrained_copy(centred, centred_sites, run, screen, seed=3)
    assert sites.references.shape == (4, centred.model.n_features)
    assert sites.references.abs().max() > 0


def test_a_screen_without_a_planted_truth_is_refused(run_and_screen, tmp_path):
    run, screen = run_and_screen
    (tmp_path / "screen").mkdir()
    moved_screen = replace(
        screen, metadata=screen.metadata.model_copy(update={"source": "../plates"}), folder=tmp_path / "screen"
    )
    with pytest.raises(ScreenError, match=r"plates.* does not exist\. .*real screens have none"):
        benchmark_run(run, moved_screen)


def test_a_run_that_knows_nothing_of_what_was_planted_is_refused(run_and_screen):
    run, screen = run_and_screen
    rows = methods.planted_rows(run, read_truth(screen.source), n_sites=None)
    context = load_context(run, screen, selection=SiteSelection(rows=rows))
    with pytest.raises(ExplanationError, match="learned 'cell_type', but the planted truth is about perturbations"):
        methods.select_benchmark_sites(
            replace(context, channels_of=None, card=replace(context.card, target="cell_type")),
            rows,
            correct_wells=set(),
        )
    wrong_sites = replace(context.sites, table=context.sites.table.assign(predicted="nothing"))
    with pytest.raises(ExplanationError, match=f"predicts none of {len(rows)} held-out sites with a planted effect"):
        methods.select_benchmark_sites(replace(context, sites=wrong_sites), rows, correct_wells=set())
    with pytest.raises(
        ExplanationError, match=f"1 of {len(rows) + 1} sites with a planted effect can no longer be read"
    ):
        methods.select_benchmark_sites(context, [*rows, 0], correct_wells=set())
    truth = read_truth(screen.source)
    untouched = {name: effect.model_copy(update={"channels": []}) for name, effect in truth.perturbations.items()}
    with pytest.raises(ExplanationError, match="No held-out site has a planted effect, so there is nothing to find"):
        methods.planted_rows(run, truth.model_copy(update={"perturbations": untouched}), n_sites=None)


def test_the_table_fits_a_terminal(benchmark):
    lines = benchmark_lines(benchmark)
    assert len(lines) == len(benchmark.rows)
    first = lines[0]
    assert first[:3] == ("trained", "channel, by well", "shapley")
    assert first[3].endswith(f" of {benchmark.rows[0]['n_total']}")
    assert max(sum(len(cell) + 1 for cell in line) for line in lines) < 120
