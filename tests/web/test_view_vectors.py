"""Vectors that stay on disk give the same numbers as in memory."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.decomposition import PCA

from distangle.core.result_files import write_arrays
from distangle.core.untrusted_files import UnexpectedContent
from distangle.errors import RunError
from distangle.web import vectors
from distangle.web.explanations import read_row
from distangle.web.vectors import ArrayFile, first_components, most_similar, principal_components


@pytest.fixture
def rows() -> np.ndarray:
    random = np.random.default_rng(0)
    return (random.normal(size=(90, 6)) * np.array([5, 3, 1, 1, 0.5, 0.1]) + 4).astype(np.float32)


@pytest.fixture
def file(rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArrayFile:
    monkeypatch.setattr(vectors, "CHUNK", 17)
    save_file({"embedding": rows, "other": rows[:3]}, tmp_path / "a.safetensors")
    return ArrayFile(tmp_path / "a.safetensors", "embedding", fix="Make it again.")


def test_chunks_are_all_rows_once(file: ArrayFile, rows: np.ndarray) -> None:
    parts = list(file.chunks())
    assert [start for start, _ in parts] == [0, 17, 34, 51, 68, 85]
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), rows)
    np.testing.assert_allclose(file.mean, rows.mean(axis=0), rtol=1e-6)


def test_the_map_is_the_principal_components(file: ArrayFile, rows: np.ndarray) -> None:
    expected = PCA(2).fit_transform(rows)
    for places in (principal_components(file), first_components(rows)):
        signs = np.sign((places * expected).sum(axis=0))
        np.testing.assert_allclose(places * signs, expected, atol=1e-4)


def test_the_fit_uses_evenly_spaced_rows(file: ArrayFile, rows: np.ndarray) -> None:
    fit = PCA(2).fit(rows[::4])
    expected = fit.transform(rows)
    places = principal_components(file, n_fit=23)  # a step of 4
    signs = np.sign((places * expected).sum(axis=0))
    np.testing.assert_allclose(places * signs, expected, atol=1e-4)


def test_rows_that_are_not_finite_have_no_place(tmp_path: Path, rows: np.ndarray) -> None:
    rows[5] = np.nan
    save_file({"embedding": rows}, tmp_path / "b.safetensors")
    file = ArrayFile(tmp_path / "b.safetensors", "embedding", fix="")
    places = principal_components(file)
    assert np.flatnonzero(np.isnan(places).any(axis=1)).tolist() == [5]
    cosines = most_similar(file, 0, mean=file.mean)
    assert np.flatnonzero(np.isnan(cosines)).tolist() == [5]


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (3, 1)])
def test_few_rows_or_features_have_a_map(tmp_path: Path, shape: tuple[int, int]) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    save_file({"embedding": values}, tmp_path / "c.safetensors")
    assert principal_components(ArrayFile(tmp_path / "c.safetensors", "embedding", fix="")).shape == (shape[0], 2)
    assert first_components(values).shape == (shape[0], 2)


def test_cosines_by_hand(file: ArrayFile, rows: np.ndarray) -> None:
    center = rows.mean(axis=0)
    for row in (0, 50):
        expected = [
            np.dot(other - center, rows[row] - center)
            / (np.linalg.norm(other - center) * np.linalg.norm(rows[row] - center))
            for other in rows
        ]
        np.testing.assert_allclose(most_similar(file, row, mean=file.mean), expected, atol=1e-5)


def test_a_damaged_file_is_named_with_the_next_step(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(RunError, match=r"d\.safetensors is damaged: .* Make it again\."):
        ArrayFile(path, "embedding", fix="Make it again.")


def test_one_map_is_read_without_the_others(tmp_path: Path) -> None:
    maps = np.random.default_rng(1).random((7, 5, 9)).astype(np.float32)
    maps[3, 0, 0] = np.nan
    write_arrays(tmp_path / "maps.npz", {"sites": maps, "flat": maps[0]})
    with zipfile.ZipFile(tmp_path / "maps.npz") as archive:
        for row in range(7):
            np.testing.assert_array_equal(read_row(archive, "sites", row), np.nan_to_num(maps[row]))
        with pytest.raises(UnexpectedContent, match="row 7 was wanted"):
            read_row(archive, "sites", 7)
        with pytest.raises(UnexpectedContent, match="the shape"):
            read_row(archive, "flat", 0)
