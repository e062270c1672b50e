"""The verb writes a whole folder or nothing, and refuses what it cannot export."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distangle.cli import main
from distangle.export.folders import PROFILE_FILE, new_folder
from distangle.results import Predictions, ProfileResult, Profiles
from distangle.results.profile_result import BATCH_COLUMNS, HIT_COLUMNS, JSON_FILE


def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    rows = [(e, "1", well, site) for e in ("E1", "E2") for well in ("B02", "B03") for site in (1, 2)]
    names = ["Metadata_Experiment", "Metadata_Plate", "Metadata_Well", "Metadata_Site"]
    table = pd.DataFrame(rows, columns=names)
    table["Metadata_Role"] = ["negative_control", "negative_control", "treatment", "treatment"] * 2
    table["perturbation"] = ["DMSO", "DMSO", "taxol", "taxol"] * 2
    table["Metadata_Fold"] = "held_out"
    table["predicted"], table["confidence"], table["reason"] = "DMSO", 0.5, ""
    values = rng.normal(size=(len(table), 5)).astype(np.float32)
    values[1] = np.nan
    table.loc[1, "reason"] = "truncated PNG"
    return Predictions(
        level="site", table=table, logits=values[:, :2], embedding=values[:, 2:], perturbations=("DMSO", "taxol"),
        views=1,
    )  # fmt: skip


def profile_result() -> ProfileResult:
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "Metadata_Experiment": ["E1", "E2"],
            "Metadata_Plate": "1",
            "Metadata_Well": "B02",
            "Metadata_Role": "treatment",
        }
    )
    table["Metadata_Perturbation"] = "taxol"
    names = ("embedding_0", "embedding_1")
    wells = Profiles(
        level="well", table=table, features=rng.normal(size=(2, 2)).astype(np.float32), feature_names=names
    )
    mean = Profiles(
        level="perturbation",
        table=table[["Metadata_Perturbation"]][:1],
        features=wells.features.mean(0, keepdims=True),
        feature_names=names,
    )
    return ProfileResult(
        wells=wells,
        perturbations=mean,
        hits=pd.DataFrame(columns=HIT_COLUMNS),
        neighbors=pd.DataFrame(columns=("name", "kind", "rank", "other", "cosine")),
        batch_effects=pd.DataFrame(columns=BATCH_COLUMNS),
        refused=pd.DataFrame(columns=("row", "reason")),
        settings={"source": "runs/a"},
        coordinates=pd.DataFrame({"x": [0.0, 1.0], "y": [2.0, 3.0]}),
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    root = tmp_path / "run"
    predictions().write(root / "predictions")
    (root / "run.json").write_text("{}", encoding="utf-8")
    return root


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_run_gives_the_embeddings_of_its_sites_and_its_profiles(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anndata = pytest.importorskip("anndata", reason="needs the extra profiles")
    profile_result().write(run / "profiles")
    main(["export", str(run), "--format", "h5ad", "--out", str(tmp_path / "out")])
    assert names_in(tmp_path / "out") == ["embeddings.h5ad", "perturbations.h5ad", "profiles.h5ad"]
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    sites = anndata.read_h5ad(tmp_path / "out" / "embeddings.h5ad")
    expected = np.delete(predictions().embedding, 1, axis=0)
    np.testing.assert_array_equal(sites.X, expected)
    assert list(sites.obs_names[:2]) == ["E1/1/B02/1", "E1/1/B03/1"]
    wells = anndata.read_h5ad(tmp_path / "out" / "profiles.h5ad")
    np.testing.assert_array_equal(wells.obsm["X_map"], [[0, 2], [1, 3]])
    assert list(anndata.read_h5ad(tmp_path / "out" / "perturbations.h5ad").obs_names) == ["taxol"]


def test_tables_of_pycytominer_have_one_file_per_plate(run: Path, tmp_path: Path) -> None:
    main(["export", str(run), "--format", "pycytominer", "--out", str(tmp_path / "out")])
    plates = ["embeddings/plates/E1_1.parquet", "embeddings/plates/E2_1.parquet"]
    assert names_in(tmp_path / "out") == ["embeddings/assembled.parquet", *plates]
    assert [len(pd.read_parquet(tmp_path / "out" / name)) for name in plates] == [3, 4]


def test_a_folder_of_profiles_is_exported_without_torch(tmp_path: Path) -> None:
    pytest.importorskip("anndata", reason="needs the extra profiles")
    profile_result().write(tmp_path / "profiles")
    program = """
import sys
from distangle.cli import main
for format in ("h5ad", "pycytominer"):
    main(["export", "profiles", "--format", format, "--out", format])
assert "torch" not in sys.modules
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert names_in(tmp_path / "h5ad") == ["perturbations.h5ad", "profiles.h5ad"]
    assert len(names_in(tmp_path / "pycytominer" / "profiles")) == 3
    assert "The profiles of perturbations have no plate and are not written" in process.stderr


def _no_source(root: Path, run: Path) -> list[str]:
    return [str(root / "nosuch"), "--format", "h5ad"]


def _no_results(root: Path, run: Path) -> list[str]:
    (root / "empty").mkdir()
    return [str(root / "empty"), "--format", "h5ad"]


def _no_network(root: Path, run: Path) -> list[str]:
    profile_result().write(root / "profiles")
    return [str(root / "profiles"), "--format", "onnx"]


def _no_predictions(root: Path, run: Path) -> list[str]:
    (run / "predictions" / "sites.parquet").unlink()
    return [str(run), "--format", "pycytominer"]


def _no_weights(root: Path, run: Path) -> list[str]:
    return [str(run), "--format", "torch"]


def _size_of_tables(root: Path, run: Path) -> list[str]:
    return [str(run), "--format", "h5ad", "--size", "3"]


@pytest.mark.parametrize(
    ("arguments_of", "text"),
    [
        (_no_source, "nosuch cannot be exported: it does not exist. Expected the folder of a run or a folder of"),
        (_no_results, "it has neither run.json nor profile.json"),
        (_no_network, "has no network: it has no run.json. Expected the folder of a run."),
        (_no_predictions, "Run `distangle predict RUN SCREEN` first."),
        (_no_weights, "has no final weights yet"),
        (_size_of_tables, "--size 3 is the size of the input of a network, and h5ad has no network."),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_left(
    arguments_of: Callable[[Path, Path], list[str]],
    text: str,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = arguments_of(tmp_path, run)
    before = names_in(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        main(["export", *arguments, "--out", str(tmp_path / "out")])
    assert exit_info.value.code == 1
    assert text in " ".join(capsys.readouterr().err.split())
    assert names_in(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_files_are_never_replaced(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "file").touch()
    main(["export", str(run), "--format", "pycytominer", "--out", str(tmp_path / "out")])
    for out, text in (
        ("out", "out exists and is not empty"),
        ("file", "file exists. Expected a new folder"),
    ):
        with pytest.raises(SystemExit):
            main(["export", str(run), "--format", "pycytominer", "--out", str(tmp_path / out)])
        assert text in capsys.readouterr().err


def test_a_failure_leaves_no_folder(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "out") as folder:
            (folder / "a").write_text("a", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not [*tmp_path.iterdir()]


def test_the_name_of_the_file_of_profiles_is_that_of_the_results() -> None:
    assert PROFILE_FILE == JSON_FILE


def test_a_folder_in_a_run_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in run.rglob("*"))
    with pytest.raises(SystemExit):
        main(["export", str(run), "--format", "h5ad", "--out", str(run / "export" / "h5ad")])
    text = " ".join(capsys.readouterr().err.split())
    assert f"lies in the run {run.resolve()}. Expected a folder outside of a run" in text
    assert sorted(path.name for path in run.rglob("*")) == before
