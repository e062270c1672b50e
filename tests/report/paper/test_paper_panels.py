"""Figures 7 to 10 of a small run and of one with pseudo labels: their numbers are those of the full space."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from distangle.explain import FilterSettings, TemplateSettings, compare_templates, examine_filters
from distangle.inference import predict_run
from distangle.report import draw_figures
from distangle.report.charts import BLUE
from distangle.report.data import load
from distangle.report.paper import figure_7_8, figure_9, figure_10
from distangle.report.paper.figure import PaperFigure, UnavailableFigure
from distangle.report.paper.panels import center, group_by_run, half_span, main_map, projection_label, strip_plot
from distangle.results import FilterAnalysis, RunFolder, TemplateComparison
from distangle.screen import Screen, hold_out
from distangle.training import resolve_config, start_run
from tiny_run import TRAINING, finish_run, tiny_screen, tiny_start

PCA = TemplateSettings(methods=("pca",), n_draws=19, n_random=9)


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    return tiny_screen(tmp_path_factory.mktemp("figures"))


@pytest.fixture(scope="module")
def run(screen: Screen) -> RunFolder:
    """A run with pseudo labels and one without; the figures show the latter first."""
    folder = screen.folder.parent
    folds = hold_out(screen, column="experiment", values=["E3"])
    hidden = folds.table.assign(fold=folds.table["fold"].where(folds.table["experiment"] != "E2", "unlabelled"))
    folds = dataclasses.replace(folds, table=hidden, unlabelled="experiment=E2")
    extra = "network.extra_outputs=3"
    changes = [*TRAINING, extra, "pseudo_labels.strategy=progressive", "pseudo_labels.from_epoch=1"]
    pseudo = start_run(screen, folds, resolve_config("scratch", changes, epochs=2), folder / "pseudo")
    plain = tiny_start(screen, folder / "plain", extra, epochs=1)
    for one in (pseudo, plain):
        finish_run(one)
        predict_run(one, screen)
    pseudo.record(*compare_templates(pseudo, other_run=plain, settings=PCA).write(pseudo.explanations))
    bands = examine_filters(pseudo, settings=FilterSettings(n_draws=5))
    pseudo.record(*bands.write(pseudo.explanations))
    return pseudo


@pytest.fixture(scope="module")
def comparison(run: RunFolder) -> TemplateComparison:
    return TemplateComparison.read(run.explanations)


def draw_figure(run: RunFolder, screen: Screen, module: object) -> PaperFigure:
    paper_figure = module(load(run, screen))  # type: ignore[operator]
    assert isinstance(paper_figure, PaperFigure)
    return paper_figure


def marker_points(figure: Figure, panel: int, marker: str) -> list[np.ndarray]:
    return [
        line.get_xydata() for line in figure.axes[panel].lines if line.get_marker() == marker and len(line.get_xdata())
    ]


@pytest.mark.parametrize(("draw", "head"), [(figure_7_8.draw_arc, "arc"), (figure_7_8.draw_softmax, "softmax")])
def test_the_panels_of_figures_7_and_8_show_the_templates_of_their_head_in_one_scale(
    run: RunFolder, screen: Screen, comparison: TemplateComparison, draw: object, head: str
) -> None:
    paper_figure = draw_figure(run, screen, draw)
    panels = paper_figure.figure.axes
    assert [axes.get_title(loc="left") for axes in panels[:2]] == [
        "without pseudo labels\n(plain)", "with pseudo labels\n(pseudo)",
    ]  # fmt: skip
    for index, name in enumerate(("plain", "pseudo")):
        rows = comparison.templates[(comparison.templates["run"] == name) & (comparison.templates["head"] == head)]
        for marker, is_unused in (("o", False), ("D", True)):
            expected = rows.loc[rows["unused"] == is_unused, ["pca_x", "pca_y"]].to_numpy()
            np.testing.assert_allclose(marker_points(paper_figure.figure, index, marker)[0], expected)
    sides = [np.diff(axes.get_xlim())[0] for axes in panels[:2]] + [np.diff(axes.get_ylim())[0] for axes in panels[:2]]
    np.testing.assert_allclose(sides, sides[0])
    unused_line = next(line for line in panels[0].lines if line.get_marker() == "D")
    assert unused_line.get_color() == BLUE  # as in the paper


def test_figures_7_and_8_say_the_numbers_of_the_full_space(
    run: RunFolder, screen: Screen, comparison: TemplateComparison
) -> None:
    paper_figure = draw_figure(run, screen, figure_7_8.draw_softmax)
    for name in ("plain", "pseudo"):
        angle = comparison.numbers["templates"][name]["softmax"]["nearest_angle_deg_mean"]["value"]
        unused_numbers = comparison.numbers["unused"][name]["softmax"]["trained"]
        assert paper_figure.numbers[name]["unused"] == unused_numbers
        assert f"{angle:.1f}° to the nearest other trained template on average" in paper_figure.caption
        assert (
            f"3 unused classes separated from the 3 others with AUROC {unused_numbers['auroc_mean_cosine']:.2f} by mean"
            in paper_figure.caption
        )
    assert "so unused classes fall together with and without pseudo" in paper_figure.caption
    assert "its distances have no meaning, so read the numbers" in paper_figure.caption
    # The strip next to the maps shows the values behind the mean.
    strip = paper_figure.figure.axes[2]
    angles = np.sort(np.concatenate([line.get_ydata() for line in strip.lines if line.get_marker() == "o"][:1]))
    rows = comparison.templates.query("run == 'plain' and head == 'softmax' and not unused")["nearest_alike_angle_deg"]
    np.testing.assert_allclose(angles, np.sort(rows))
    assert comparison.numbers["templates"]["plain"]["softmax"]["nearest_angle_deg_mean"]["value"] == pytest.approx(
        rows.mean()
    )


def test_figure_9_shows_every_held_out_site_of_the_chosen_perturbations(
    run: RunFolder, screen: Screen, comparison: TemplateComparison
) -> None:
    paper_figure = draw_figure(run, screen, figure_9.draw)
    names = comparison.numbers["perturbations"]["names"]
    for index, name in enumerate(("plain", "pseudo")):
        for label, marker in zip(names, ("o", "^", "s"), strict=True):
            rows = comparison.embeddings[
                (comparison.embeddings["run"] == name) & (comparison.embeddings["perturbation"] == label)
            ]
            np.testing.assert_allclose(marker_points(paper_figure.figure, index, marker)[0], rows[["pca_x", "pca_y"]])
    silhouette = comparison.numbers["embeddings"]["plain"]["silhouette"]["value"]
    assert f"plain (without pseudo labels): silhouette {silhouette:.2f}" in paper_figure.caption
    means = comparison.embeddings.groupby("run")["silhouette"].mean()
    gain = means["plain"] - means["pseudo"]
    assert f"Silhouette of plain minus that of pseudo: {gain:+.2f} (too few experiments)" in paper_figure.caption
    # The caption counts the drawn wells, which are the held-out ones.
    plain = comparison.embeddings[comparison.embeddings["run"] == "plain"]
    wells = plain.groupby("perturbation")[["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]].apply(
        lambda rows: len({tuple(row) for row in rows.to_numpy()})
    )
    names_text = ", ".join(f"{name} ({wells[name]} held-out wells)" for name in names)
    assert f" Drawn: {names_text}." in paper_figure.caption
    assert len(names) == len(screen.metadata.perturbations) == 3
    assert paper_figure.caption.startswith("All 3 perturbations of the screen. Drawn: ")
    metadata = screen.metadata.model_copy(update={"perturbations": [*screen.metadata.perturbations, "a", "b"]})
    paper_figure = draw_figure(run, dataclasses.replace(screen, metadata=metadata), figure_9.draw)
    assert paper_figure.caption.startswith(
        "Only 3 of the 5 perturbations of the screen: those that `distangle explain` compares, by default the ones "
        "with the most wells. Drawn: "
    )


def test_figure_10_shows_a_filter_a_column(run: RunFolder, screen: Screen) -> None:
    paper_figure = draw_figure(run, screen, figure_10.draw)
    bands = FilterAnalysis.read(run.explanations)
    images = [axes.images[0].get_array() for axes in paper_figure.figure.axes if axes.images]
    kinds = [f"{name}|{kind}" for kind in ("printed", "gamma") for name in bands.stored_layers]
    assert len(images) == 4
    for image, kind in zip(images, kinds, strict=True):
        np.testing.assert_allclose(image, bands.weights[kind].T)
    assert "They do not stand out among the layers of this network." in paper_figure.caption
    assert paper_figure.caption.startswith("This network does not have the two layers of the paper")
    assert paper_figure.numbers["claim"] == bands.claim
    claim = {**(bands.claim or {}), "printed_names": True}
    assert figure_10._first_sentence(dataclasses.replace(bands, claim=claim)).startswith("The layers of the paper.")


def test_all_four_are_drawn_and_one_run_without_unused_classes_has_fewer_panels(
    run: RunFolder, screen: Screen, tmp_path: Path
) -> None:
    entries = draw_figures(run, screen, only=[7, 8, 9, 10])
    for number in ("7", "8", "9", "10"):
        png = run.explanations / "figures" / entries[number]["files"][0]
        pixels = np.asarray(Image.open(png).convert("L"))
        assert pixels.std() > 10
    plain_run = tiny_start(screen, tmp_path / "alone", "network.backbone=resnet_small", epochs=1)
    for draw, title, reason in (
        (figure_7_8.draw_arc, "Templates of the arc-margin head", "The templates have not been compared."),
        (figure_9.draw, "Embeddings of the held-out sites", "The embeddings have not been compared."),
        (figure_10.draw, "1x1 filters", "The filters have not been analyzed."),
    ):
        missing = UnavailableFigure(title=title, reason=reason, command=f"distangle explain {plain_run.root}")
        assert draw(load(plain_run, screen)) == missing
    finish_run(plain_run)
    predict_run(plain_run, screen)
    compare_templates(plain_run, settings=PCA).write(plain_run.explanations)
    examine_filters(plain_run, settings=FilterSettings(n_draws=5)).write(plain_run.explanations)
    paper_figure = draw_figure(plain_run, screen, figure_7_8.draw_arc)
    assert len(paper_figure.figure.axes) == 2
    assert "Every output has training wells, so there is no unused class." in paper_figure.caption
    # A single run is not compared: its name is the title, and every point has the name of its perturbation.
    points, angles = paper_figure.figure.axes
    assert points.get_title(loc="left") == plain_run.root.name
    labels = [text.get_text() for text in points.texts]
    assert sorted(labels) == sorted(
        TemplateComparison.read(plain_run.explanations).templates.query("head == 'arc'")["perturbation"]
    )
    assert angles.get_xticklabels() == []
    assert set(text.get_text() for text in angles.texts) <= set(labels)
    assert len(draw_figure(plain_run, screen, figure_9.draw).figure.axes) == 2
    assert len([axes for axes in draw_figure(plain_run, screen, figure_10.draw).figure.axes if axes.images]) == 2


def test_the_map_shown_large_is_the_widest_t_sne_of_the_first_seed() -> None:
    maps = [
        {"source": "templates", "name": name, "method": method, "neighbors": k, "seed": seed}
        for name, method, k, seed in (
            ("pca", "pca", 0, 0), ("a", "tsne", 5, 0), ("b", "tsne", 30, 1), ("c", "tsne", 30, 0), ("d", "umap", 99, 0),
        )
    ]  # fmt: skip
    assert main_map(maps, "templates")["name"] == "c"
    assert main_map(maps[:1], "templates")["name"] == "pca"
    assert [projection_label(one) for one in maps[2:]] == [
        "t-SNE, perplexity 30, seed 1", "t-SNE, perplexity 30, seed 0", "UMAP, neighbors 99, seed 0",
    ]  # fmt: skip
    two = [{"name": "x", "pseudo_labels": "alpha_ramp"}, {"name": "y", "pseudo_labels": "none"}]
    assert group_by_run({"runs": two[:1]}) == [("x", "")]
    assert group_by_run({"runs": two}) == [("y", "without pseudo labels"), ("x", "with pseudo labels")]


def test_panels_of_one_scale_hold_every_set_around_its_own_middle() -> None:
    near, far_points = np.array([[0.0, 0], [2, 1]]), np.array([[100.0, 100], [104, 100], [101, 103]])
    assert center(far_points).tolist() == [102, 101.5]
    assert half_span([near, far_points]) == pytest.approx(1.08 * 2)
    assert half_span([np.zeros((3, 2))]) == 1


def test_a_swarm_moves_dots_sideways_only_and_always_alike() -> None:
    values = np.array([1.0, 1, 1, 1, 5])
    columns = []
    for _ in range(2):
        axes = Figure().add_subplot()
        strip_plot(axes, 3.0, values, marker="o")
        columns.append(axes.lines[0].get_xydata())
    assert np.array_equal(*columns)
    assert columns[0][:, 1].tolist() == values.tolist()
    assert len(set(columns[0][:4, 0])) == 4
    assert columns[0][4, 0] == 3  # alone at its height
    assert np.abs(columns[0][:, 0] - 3).max() <= 0.3
