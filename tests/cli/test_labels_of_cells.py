"""A screen of single cells, each with a label of its own, through every verb from the table to the scores."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from distangle.cli import main

PHENOTYPES = ("interphase", "mitosis")
Index = Callable[..., Path]


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Three plates of four wells of four cells: cells in mitosis are bright, and every well has two of each."""
    rng = np.random.default_rng(0)
    rows = []
    for experiment in ("E1", "E2", "E3"):
        for well in range(4):
            for cell, kind in enumerate(rng.permutation([0, 1, 0, 1])):
                name = f"{experiment}_{well}_{cell}.png"
                level = 40 + 120 * int(kind)
                Image.fromarray(rng.integers(level, level + 40, (24, 24)).astype(np.uint8)).save(tmp_path / name)
                phenotype = "" if (experiment, well, cell) == ("E3", 0, 0) else PHENOTYPES[kind]
                rows.append((experiment, "1", f"B{well + 2:02d}", cell + 1, f"si{well % 2}", phenotype, name, name))
    with (tmp_path / "cells.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("experiment", "plate", "well", "cell", "siRNA", "phenotype", "id_code", "DNA"))
        writer.writerows(rows)
    return tmp_path


@pytest.fixture(params=["siRNA", ""], ids=["with treatments", "without"])
def screen(request: pytest.FixtureRequest, lab: Path) -> Path:
    treatment = str(request.param)
    arguments = ["index", str(lab / "cells.csv"), "--channels", "DNA", "--out", str(lab / "screen")]
    main([*arguments, "--map", f"site=cell,perturbation={treatment}"])
    return lab / "screen"


TRAINING = ("--preset", "scratch", "--epochs", "1", "--network.embedding_size", "8", "--batch_size", "8")
PLAIN = ("--correction.method", "none", "--preprocessing.standardize", "image")


def test_a_label_of_cells_goes_through_every_verb(screen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab, out = screen.parent, str(screen.parent / "run")
    main(["check", str(screen), "--target", "phenotype", "--fail-on", "error"])
    main(["statistics", str(screen), "--out", str(lab / "card")])
    main(
        ["folds", str(screen), "--out", str(lab / "f.parquet"), "--hold-out", "experiment=E3", "--target", "phenotype"]
    )
    main(["folds", str(screen), "--out", str(lab / "g.parquet"), "--group", "experiment", "--target", "phenotype"])
    capsys.readouterr()
    trained = ["train", str(screen), "--target", "phenotype", "--fold-file", str(lab / "f.parquet"), "--out", out]
    main([*trained, *TRAINING, *PLAIN])
    text = capsys.readouterr().err
    assert "1 of 16 held-out sites have no label in column 'phenotype'" in text
    assert json.loads((lab / "run" / "run.json").read_text())["classes"] == list(PHENOTYPES)
    main(["predict", out])
    output = capsys.readouterr()
    # One of the twelve wells has a cell without a label; its other cells still hold both labels.
    assert output.err.count("The wells have no single phenotype (12 of 12 wells hold several), so no score") == 1
    assert "1 of 16 held-out sites have no label in column 'phenotype': they are predicted and not" in output.err
    assert [line.split()[0] for line in output.out.splitlines()[1:] if line.split()[0] in ("site", "well")] == [
        "site"
    ] * 2
    wells = pd.read_parquet(lab / "run" / "predictions" / "wells.parquet")
    assert len(wells) == 12
    assert set(wells["perturbation"]) == set(wells["Metadata_phenotype"]) == set(wells["Metadata_id_code"]) == {""}
    assert set(wells["predicted"]) <= set(PHENOTYPES)
    rows = json.loads((lab / "run" / "predictions" / "scores.json").read_text())["rows"]
    assert {(row["level"], row["n"]) for row in rows if row["subset"] == "all"} == {("site", 15)}
    assert {rule for row in rows for rule in row["baselines"]} == {"position", "plate", "intensity"}
    main(["report", out])
    assert "no single phenotype" in (lab / "run" / "report" / "index.html").read_text()


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("nosuch", "error: No column 'nosuch' to predict. Known: cell_type, id_code, perturbation, phenotype"),
        ("Perturbation", "error: No column 'Perturbation' to predict. Did you mean 'perturbation'?"),
        ("id_code", "error: No label of column 'id_code' is on both sides of experiment=E3"),
    ],
)
def test_what_cannot_be_learnt_is_refused_in_a_sentence(
    screen: Path, target: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fold_arguments = ["--target", target, "--hold-out", "experiment=E3"]
    verbs = [["train", str(screen), "--out", str(screen.parent / "run"), *fold_arguments]]
    if target != "id_code":
        verbs.append(["folds", str(screen), "--out", str(screen.parent / "f.parquet"), *fold_arguments])
    for arguments in verbs:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main(arguments)
        assert exit_info.value.code == 1
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert len(errors) == 1
        assert errors[0].startswith(text)
    assert not (screen.parent / "run").exists()
    assert not (screen.parent / "f.parquet").exists()


def test_new_plates_without_the_label_are_predicted(screen: Path) -> None:
    lab, out = screen.parent, str(screen.parent / "run")
    main(
        ["train", str(screen), "--target", "phenotype", "--hold-out", "experiment=E3", "--out", out, *TRAINING, *PLAIN]
    )
    table = pd.read_csv(lab / "cells.csv", dtype=str).drop(columns="phenotype").assign(experiment="E9")
    table[:16].to_csv(lab / "new.csv", index=False)
    arguments = ["index", str(lab / "new.csv"), "--channels", "DNA", "--out", str(lab / "new")]
    main([*arguments, "--map", "site=cell,perturbation="])
    main(["predict", out, str(lab / "new"), "--out", str(lab / "predicted")])
    assert set(pd.read_parquet(lab / "predicted" / "sites.parquet")["perturbation"]) == {""}
