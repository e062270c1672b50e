import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from distangle.core.random import rng_for
from distangle.errors import ExplanationError, RunError
from distangle.explain import TemplateSettings, compare_templates
from distangle.explain.templates.embeddings import choose_perturbations, clustering, shared_sites
from distangle.inference import open_model, predict_run
from distangle.profiles.geometry import cosines, nearest, silhouettes
from distangle.results import Predictions, RunFolder, TemplateComparison
from distangle.screen import hold_out
from distangle.training import resolve_config, start_run
from tiny_run import TRAINING, finish_run, tiny_screen, tiny_start

FEW = TemplateSettings(seeds=(0,), perplexities=(5,), n_draws=39, n_random=20)
KNOWN = ["DMSO", "nocodazole", "taxol"]


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    return tiny_screen(tmp_path_factory.mktemp("templates"))


@pytest.fixture(scope="module")
def runs(screen):
    """Train two runs: without pseudo labels and with three unused classes, and with pseudo labels and two."""
    plain = tiny_start(screen, screen.folder.parent / "without", "network.extra_outputs=3", epochs=1)
    folds = hold_out(screen, column="experiment", values=["E3"])
    hidden = folds.table.assign(fold=folds.table["fold"].where(folds.table["experiment"] != "E2", "unlabelled"))
    folds = dataclasses.replace(folds, table=hidden, unlabelled="experiment=E2")
    changes = [*TRAINING, "network.extra_outputs=2", "pseudo_labels.strategy=progressive", "pseudo_labels.from_epoch=1"]
    config = resolve_config("scratch", changes, epochs=2)
    pseudo = start_run(screen, folds, config, screen.folder.parent / "pseudo")
    for run in (plain, pseudo):
        finish_run(run)
        predict_run(run, screen)
    return plain, pseudo


@pytest.fixture(scope="module")
def result(runs):
    return compare_templates(runs[0], other_run=runs[1], settings=FEW)


def test_every_output_of_both_heads_of_both_runs_has_its_row(result, runs):
    templates = result.templates
    assert templates.groupby(["run", "head"], sort=False).size().to_dict() == {
        ("without", "softmax"): 6, ("without", "arc"): 6, ("pseudo", "softmax"): 5, ("pseudo", "arc"): 5,
    }  # fmt: skip
    first = templates[(templates["run"] == "without") & (templates["head"] == "softmax")]
    assert first["perturbation"].tolist() == [*KNOWN, "unused 1", "unused 2", "unused 3"]
    assert first["training_wells"].tolist() == [6, 4, 6, 0, 0, 0]
    assert first["unused"].tolist() == [False] * 3 + [True] * 3
    hidden = templates[(templates["run"] == "pseudo") & (templates["head"] == "arc")]
    assert hidden["training_wells"].tolist() == [3, 2, 3, 0, 0]  # pseudo labels are no training wells
    assert hidden["bias"].isna().all()
    model, _ = open_model(runs[0])
    weight, bias = (tensor.detach().double().numpy() for tensor in model.linear_templates.parameters())
    np.testing.assert_allclose(first["norm"], np.linalg.norm(weight, axis=1))
    np.testing.assert_allclose(first["bias"], bias)
    near = nearest(cosines(weight))
    np.testing.assert_allclose(first["nearest_angle_deg"], near.angle_deg)
    np.testing.assert_allclose(first["nearest_alike_angle_deg"][:3], nearest(cosines(weight[:3])).angle_deg)
    np.testing.assert_allclose(first["nearest_alike_angle_deg"][3:], nearest(cosines(weight[3:])).angle_deg)
    assert first["nearest"].tolist() == [first["perturbation"].iloc[k] for k in near.index]


def test_both_heads_of_both_runs_lie_in_one_map_with_its_trustworthiness(result):
    assert [(one["source"], one["name"]) for one in result.maps] == [
        ("templates", "pca"), ("templates", "tsne_perplexity5_seed0"), ("embeddings", "pca"),
        ("embeddings", "tsne_perplexity5_seed0"),
    ]  # fmt: skip
    for one in result.maps:
        table = result.templates if one["source"] == "templates" else result.embeddings
        regions = table[[f"{one['name']}_x", f"{one['name']}_y"]]
        assert np.isfinite(regions.to_numpy()).all()
        assert 0 < one["trustworthiness"] <= 1
    assert set(result.maps[0]["trustworthiness_of"]) == {
        "without, softmax", "without, arc", "pseudo, softmax", "pseudo, arc",
    }  # fmt: skip
    assert set(result.maps[2]["trustworthiness_of"]) == {"without", "pseudo"}
    # PCA centres all sets together: only jointly is the mean at zero.
    regions = result.templates[["pca_x", "pca_y"]]
    np.testing.assert_allclose(regions.mean(), 0, atol=1e-9)
    assert np.abs(regions.groupby(result.templates["run"]).mean()).to_numpy().max() > 1e-4


def test_the_numbers_are_of_the_trained_outputs_and_of_the_unused_classes_beside_them(result, runs):
    numbers = result.numbers
    assert numbers["runs"] == [
        {"name": "without", "pseudo_labels": "none"},
        {"name": "pseudo", "pseudo_labels": "progressive"},
    ]
    model, _ = open_model(runs[0])
    weight = model.linear_templates.weight.detach().double().numpy()
    bias = model.linear_templates.bias.detach().double().numpy()
    own_numbers = numbers["templates"]["without"]
    assert own_numbers["softmax"]["n"] == 3
    assert own_numbers["softmax"]["nearest_angle_deg_mean"]["value"] == pytest.approx(
        nearest(cosines(weight[:3])).angle_deg.mean()
    )
    with_bias = np.concatenate([weight, bias[:, None]], axis=1)[:3]
    assert own_numbers["softmax with bias"]["dimension"] == 9
    assert own_numbers["softmax with bias"]["nearest_angle_deg_mean"]["value"] == pytest.approx(
        nearest(cosines(with_bias)).angle_deg.mean()
    )
    assert numbers["unused"]["without"]["outputs"] == ["unused 1", "unused 2", "unused 3"]
    for name, n in (("without", 3), ("pseudo", 2)):
        for head in ("softmax", "arc"):
            for state in ("trained", "first_values"):
                assert numbers["unused"][name][head][state]["n_unused"] == n
    first = numbers["unused"]["without"]["softmax"]
    assert first["trained"]["cosine_unused_unused"] == pytest.approx(cosines(weight[3:])[np.triu_indices(3, 1)].mean())
    assert first["trained"] != first["first_values"]
    assert numbers["means"]["without"]["n"] == 3


def test_the_sentences_compare_both_runs_and_warn_about_unused_classes(result):
    output = "\n".join(result.numbers["sentences"])
    assert "softmax templates, mean angle to the nearest other template: in without (no pseudo labels) " in output
    assert "in pseudo (progressive pseudo labels) 2 of 5 outputs, separated from the others with AUROC" in output
    assert "their separation is no evidence for pseudo labels" in output
    assert "silhouette of pseudo minus that of without: " in output
    assert "(fewer than 5 experiments: no interval)" in output


def test_the_embeddings_are_those_of_the_held_out_sites(result, runs, screen):
    table = result.embeddings
    assert set(table["Metadata_Experiment"]) == {"E3"}
    for kind in ("silhouette", "purity"):
        means = table.groupby("run")[kind].mean()
        gain = result.numbers["embeddings"]["difference"][kind]
        assert gain["value"] == pytest.approx(means["pseudo"] - means["without"])
    assert len(table) == 2 * 8
    sites = Predictions.read(runs[0].predictions, level="site")
    rows = (sites.table["Metadata_Fold"] == "held_out").to_numpy()
    expected = silhouettes(cosines(sites.embedding[rows].astype(float)), sites.table["perturbation"][rows].tolist())
    np.testing.assert_allclose(table["silhouette"][:8], expected, atol=1e-6)
    assert result.numbers["perturbations"] == {"names": ("DMSO", "taxol", "nocodazole"), "wells": (9, 9, 6), "tied": ()}


def test_what_was_found_is_written_and_read_again(result, tmp_path):
    paths = result.write(tmp_path)
    assert [path.name for path in paths] == ["templates.parquet", "embeddings.parquet", "templates.json"]
    copy = TemplateComparison.read(tmp_path)
    pd.testing.assert_frame_equal(copy.templates, result.templates, check_dtype=False)
    pd.testing.assert_frame_equal(copy.embeddings, result.embeddings, check_dtype=False)
    assert copy.maps == list(result.maps)
    assert copy.numbers == json.loads(json.dumps(result.numbers))
    with pytest.raises(RunError, match=r"No templates at .*templates\.json\. Run `distangle explain RUN` first"):
        TemplateComparison.read(tmp_path / "nowhere")


def test_the_same_runs_give_the_same_bytes_and_one_run_needs_no_other(result, runs, tmp_path):
    repeat = compare_templates(runs[0], other_run=runs[1], settings=FEW)
    for first, second in zip(result.write(tmp_path / "a"), repeat.write(tmp_path / "b"), strict=True):
        assert first.read_bytes() == second.read_bytes()
    single_comparison = compare_templates(
        runs[0], perturbations=["taxol", "DMSO"], settings=FEW.model_copy(update={"methods": ("pca",)})
    )
    assert single_comparison.numbers["perturbations"]["names"] == ("taxol", "DMSO")
    assert "difference" not in single_comparison.numbers["embeddings"]
    assert [one["name"] for one in single_comparison.maps] == ["pca", "pca"]
    assert not any("in without" in message for message in single_comparison.numbers["sentences"])


def test_a_run_without_unused_classes_says_how_to_make_some(screen, tmp_path):
    run = tiny_start(screen, tmp_path / "run", "network.embedding_size=12", epochs=1)
    finish_run(run)
    predict_run(run, screen)
    result = compare_templates(run, settings=FEW.model_copy(update={"methods": ("pca",)}))
    assert result.numbers["unused"]["run"] == {
        "outputs": [],
        "softmax": {"trained": None, "first_values": None},
        "arc": {"trained": None, "first_values": None},
    }
    assert any("set network.extra_outputs=k" in message for message in result.numbers["sentences"])


def test_runs_that_cannot_be_compared_are_refused(runs, screen, tmp_path):
    wide = tiny_start(screen, tmp_path / "wide", "network.embedding_size=12", epochs=1)
    with pytest.raises(RunError, match=r"wide has no final weights yet"):
        compare_templates(runs[0], other_run=wide, settings=FEW)
    finish_run(wide)
    with pytest.raises(
        ExplanationError,
        match=r"embeddings of different sizes \(without: 8, wide: 12\), so they have no common projection",
    ):
        compare_templates(runs[0], other_run=wide, settings=FEW)
    with pytest.raises(RunError, match=r"No predictions at"):
        compare_templates(wide, settings=FEW)
    other_screen = dataclasses.replace(screen, sites=screen.sites.assign(perturbation="other"))
    with pytest.raises(RunError, match=r"learned DMSO, nocodazole, taxol and others, none of which is in .*screen"):
        compare_templates(runs[0], screen=other_screen, settings=FEW)


def test_two_runs_of_one_name_are_told_apart_by_their_folders(runs, tmp_path):
    shutil.copytree(runs[0].root, tmp_path / "without")
    pca_only = FEW.model_copy(update={"methods": ("pca",)})
    from distangle.screen import read_screen

    copy = RunFolder.open(tmp_path / "without")
    result = compare_templates(runs[0], screen=read_screen(runs[0].screen_folder()), other_run=copy, settings=pca_only)
    assert result.templates["run"].nunique() == 2
    assert result.numbers["embeddings"]["difference"]["silhouette"]["value"] == 0


def table_of(*wells, fold="held_out"):
    """One row per (perturbation, experiment, well, site)."""
    rows = [
        dict(zip(("perturbation", "Metadata_Experiment", "Metadata_Well", "Metadata_Site"), well, strict=True))
        for well in wells
    ]
    return pd.DataFrame(rows).assign(Metadata_Plate="1", Metadata_Fold=fold, reason="", predicted="a")


def test_the_most_frequent_are_counted_in_wells_and_ties_are_broken_by_name():
    wells = [("p10", "E1", "A1", 1), ("p10", "E1", "A1", 2), ("p10", "E1", "A1", 3), ("p2", "E1", "B1", 1),
             ("p2", "E1", "B2", 1), ("p1", "E1", "C1", 1), ("", "E1", "D1", 1), ("", "E1", "D2", 1)]  # fmt: skip
    table = pd.concat([table_of(*wells), table_of(("seen", "E2", "A1", 1), fold="train")], ignore_index=True)
    choice = choose_perturbations(table, max_names=2)
    assert (choice.names, choice.wells, choice.tied) == (("p2", "p1"), (2, 1), ("p10",))
    longer_table = pd.concat([table, table_of(("p9", "E1", "F1", 1))], ignore_index=True)
    assert choose_perturbations(longer_table, max_names=2).tied == ("p9", "p10")  # in natural order
    assert choose_perturbations(table, perturbations=["p10", "p2", "p10"]).names == ("p10", "p2")
    with pytest.raises(ExplanationError, match=r"No site of the screen has the perturbation 'p3'\. Did you mean 'p"):
        choose_perturbations(table, perturbations=["p1", "p3"])
    with pytest.raises(ExplanationError, match=r"No held-out site that can be read has the perturbation 'seen'"):
        choose_perturbations(table, perturbations=["seen", "p1"])
    with pytest.raises(ExplanationError, match=r"1 perturbation\(s\) to compare embeddings of \(p1\); at least two"):
        choose_perturbations(table, perturbations=["p1"])


def predictions_of(table, embedding):
    return Predictions(
        level="site", table=table, logits=np.zeros((len(table), 1), np.float32), embedding=np.float32(embedding),
        perturbations=("a",), views=1,
    )  # fmt: skip


def test_two_runs_show_the_same_sites_in_one_order():
    first = table_of(("a", "E1", "A1", 1), ("a", "E1", "A1", 2), ("b", "E1", "B1", 1), ("c", "E1", "C1", 1))
    second = first.iloc[[2, 0, 3]].reset_index(drop=True)
    pair = [predictions_of(first, np.arange(4)[:, None]), predictions_of(second, np.array([[2.0], [0], [3]]))]
    (one, vectors), (other, others) = shared_sites(pair, ["a", "b"], max_sites=10, rng=rng_for(1, "sites"))
    assert vectors.ravel().tolist() == others.ravel().tolist() == [0, 2]
    assert one["perturbation"].tolist() == other["perturbation"].tolist() == ["a", "b"]
    assert len(shared_sites(pair, ["a", "b", "c"], max_sites=2, rng=rng_for(1, "sites"))[0][0]) == 2
    unread = predictions_of(second.assign(reason="torn"), np.zeros((3, 1)))
    with pytest.raises(ExplanationError, match="The runs share no held-out site"):
        shared_sites([pair[0], unread], ["a"], max_sites=10, rng=rng_for(1, "sites"))


def sites_of_wells(n_wells=12, n_sites=3):
    return table_of(
        *[(f"p{well % 3}", f"E{well % 2}", f"A{well:02d}", site) for well in range(n_wells) for site in range(n_sites)]
    )


def test_perturbations_that_lie_together_are_found_and_noise_of_whole_wells_is_not():
    table = sites_of_wells()
    labels = table["perturbation"].str[1:].astype(int).to_numpy()
    rng = rng_for(5, "embeddings")
    centres = rng.normal(size=(3, 8))
    result = clustering(centres[labels] + 0.2 * rng.normal(size=(36, 8)), table, k=3, rng=rng_for(6, "d"), n_draws=99)
    assert result.summary["silhouette"]["p"] == result.summary["purity"]["p"] == 1 / 100
    assert result.summary["purity"]["value"] == 1
    assert result.summary["silhouette"]["value"] == pytest.approx(result.silhouette.mean())
    assert result.summary["silhouette"]["value"] > result.summary["silhouette"]["random_range"][1]
    assert result.summary["silhouette"]["interval"] is None
    assert (result.summary["sites"], result.summary["wells"], result.summary["k"]) == (36, 12, 3)
    # Labels are random, but sites of a well are similar: neighbors in the same well must not count.
    p_values, purities = [], []
    for trial in range(60):
        rng = rng_for(7, "wells", trial)
        embeddings = np.repeat(rng.normal(size=(12, 8)), 3, axis=0) + 0.1 * rng.normal(size=(36, 8))
        output = clustering(embeddings, table, k=3, rng=rng_for(8, "d", trial), n_draws=19).summary
        p_values.append((output["silhouette"]["p"], output["purity"]["p"]))
        purities.append(output["purity"]["value"])
    assert ((np.array(p_values) <= 0.1).mean(axis=0) < 0.25).all()
    assert np.mean(purities) == pytest.approx(3 / 11, abs=0.08)  # of 11 other wells, 3 have the same perturbation
