"""Verbs on a cross-validated run that was refit on all sites, and on a run that held nothing out."""

import html
import json
from pathlib import Path

import pytest

from distangle.cli import main
from distangle.results import Explanation, Predictions, RunFolder, TemplateComparison
from tiny_run import tiny_screen

TRAINING = (
    "--preset=small",
    "--epochs=1",
    "--network.backbone=resnet_small",
    "--network.weights=null",
    "--network.embedding-size=8",
    "--network.n_fixed_views=8",
    "--batch-size=8",
    "--precision=fp32",
    "--correction.epochs=1",
    "--correction.folds=2",
)
EXPLAINED = ("--n-sites", "4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """screen/ and runs/crossed, runs/everything: trained, predicted, explained, drawn and reported by the verbs."""
    root = tmp_path_factory.mktemp("cross-validated job")
    tiny_screen(root, n_wells=6, size=32)
    main(["train", str(root / "screen"), "--out", str(root / "runs/crossed"), *TRAINING, "--cross-validate", "2"])
    main(["train", str(root / "screen"), "--out", str(root / "runs/everything"), *TRAINING, "--hold-out", "none"])
    for name in ("crossed", "crossed/cross_validation/fold-1", "everything"):
        run = str(root / "runs" / name)
        if name != "crossed":  # which the training has predicted
            main(["predict", run])
        main(["explain", run, *EXPLAINED, "--parts", "templates"])
        if "fold" not in name:
            main(["figures", run, "--only", "9"])
            main(["report", run])
    return root


def page_of(run: RunFolder, name: str) -> str:
    return html.unescape((run.report / f"{name}.html").read_text(encoding="utf-8"))


def test_a_network_trained_on_everything_is_said_to_be_so_with_the_way_out(folder: Path) -> None:
    run = RunFolder.open(folder / "runs/crossed")
    explanation = Explanation.read(run.explanations)
    assert (explanation.table["Metadata_Fold"] == "held_out").all()
    assert explanation.table["Metadata_Cross_Validation"].isin([1, 2]).all()
    message = explanation.settings["remark"]
    assert message.startswith("The explained network was trained on all sites, including these")
    assert f"`distangle explain {run.cross_validation / 'fold-1'}`" in message
    assert message in page_of(run, "examples")
    assert "held out by fold" in page_of(run, "examples")
    assert TemplateComparison.read(run.explanations).numbers["trained_on"] == ["crossed"]
    entries = json.loads((run.explanations / "figures/figures.json").read_text())
    assert entries["9"]["title"] == "Embeddings of training sites"


def test_the_pages_say_how_the_run_was_scored_and_which_correction_was_chosen(folder: Path) -> None:
    cross_validated, on_all_sites = (RunFolder.open(folder / "runs" / name) for name in ("crossed", "everything"))
    assert "Scores are out of fold: in each of 2 folds" in page_of(cross_validated, "index")
    assert "Each fold of the cross-validation chose on its own training wells" in page_of(cross_validated, "method")
    assert "Nothing was held out and nothing was scored" in page_of(on_all_sites, "index")
    for page in (page_of(cross_validated, "method"), page_of(on_all_sites, "method")):
        assert "Batch correction" in page
        assert "center by the negative controls of the plate" in page


def test_a_network_of_a_fold_is_explained_on_sites_that_it_has_not_seen(folder: Path) -> None:
    run = RunFolder.open(folder / "runs/crossed/cross_validation/fold-1")
    explanation = Explanation.read(run.explanations)
    assert explanation.settings["remark"] == ""
    predictions = Predictions.read(folder / "runs/crossed/predictions", level="site").table
    assert set(explanation.table["Metadata_Experiment"]) <= set(
        predictions.loc[predictions["Metadata_Cross_Validation"] == 1, "Metadata_Experiment"]
    )
    assert TemplateComparison.read(run.explanations).numbers["trained_on"] == []


def test_a_run_that_held_nothing_out_is_explained_on_its_training_sites(folder: Path) -> None:
    run = RunFolder.open(folder / "runs/everything")
    explanation = Explanation.read(run.explanations)
    assert (explanation.table["Metadata_Fold"] == "train").all()
    assert explanation.settings["remark"].startswith("The network was trained on all explained sites")
    assert explanation.settings["remark"] in page_of(run, "examples")
    assert "the network was trained on these sites" in " ".join(
        TemplateComparison.read(run.explanations).numbers["sentences"]
    )


def test_what_is_left_out_is_tried_only_on_sites_that_the_network_has_not_seen(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, message_part in (
        ("crossed", "cross_validation/fold-1 --prune"),
        ("everything", "`distangle train SCREEN --hold-out COLUMN=VALUE`"),
    ):
        before = (folder / "runs" / name / "explanations/explanation.json").read_bytes()
        with pytest.raises(SystemExit) as exit_info:
            main(["explain", str(folder / "runs" / name), *EXPLAINED, "--prune"])
        assert exit_info.value.code == 1
        message = " ".join(capsys.readouterr().err.split())
        assert "was trained on all sites, so the accuracy on new sites without filters cannot be measured" in message
        assert message_part in message
        assert (folder / "runs" / name / "explanations/explanation.json").read_bytes() == before


def test_every_file_of_the_runs_and_of_the_folds_is_verified(folder: Path) -> None:
    main(["verify", str(folder / "runs/crossed")])
    main(["verify", str(folder / "runs/everything")])
    weights = folder / "runs/crossed/cross_validation/fold-2/checkpoints/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(SystemExit):
        main(["verify", str(folder / "runs/crossed")])
    content[-1] ^= 1
    weights.write_bytes(content)
    features = folder / "runs/crossed/features/statistics.npy"
    assert features.name in RunFolder.open(folder / "runs/crossed").manifest.read_text()
