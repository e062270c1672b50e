"""The highest logits of each row, stored and read: probabilities by hand, sizes, and damaged files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import logsumexp

from distangle.errors import ConfigError, RunError
from distangle.results import Predictions
from distangle.results.predictions import LogitStorage
from distangle.results.top_logits import default_top, highest_logits, spread_logits


def predictions(n_classes: int, *, n_rows: int = 5, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n_rows, n_classes)).astype(np.float32)
    logits[1] = np.nan
    table = pd.DataFrame({"predicted": ["x"] * n_rows, "reason": ["", "unreadable"] + [""] * (n_rows - 2)})
    return Predictions(
        level="site",
        table=table,
        logits=logits,
        embedding=rng.normal(size=(n_rows, 4)).astype(np.float32),
        perturbations=tuple(f"c{k}" for k in range(n_classes)),
        views=8,
    )


def test_the_highest_logits_and_their_probabilities_by_hand() -> None:
    logits = np.log(np.array([[0.1, 0.6, 0.1, 0.2], [0.25, 0.25, 0.25, 0.25]], dtype=np.float32)) + 7
    values, classes, log_sums = highest_logits(logits, 2)
    assert classes.tolist()[0] == [1, 3]
    assert classes.dtype == np.uint16
    np.testing.assert_allclose(np.exp(values - log_sums[:, None]), [[0.6, 0.2], [0.25, 0.25]], rtol=1e-6)
    dense = spread_logits(values, classes, log_sums, 4)
    np.testing.assert_allclose(np.exp(dense[0] - 7), [0.1, 0.6, 0.1, 0.2], rtol=1e-5)
    np.testing.assert_allclose(np.exp(dense[1] - 7), [0.25] * 4, rtol=1e-5)


def test_a_file_of_the_highest_logits_has_the_probabilities_of_all_of_them(tmp_path: Path) -> None:
    whole = predictions(300)
    paths = whole.write(tmp_path)
    arrays = load_file(paths[1])
    assert {name: array.shape for name, array in arrays.items()} == {
        "top_logits": (5, 32),
        "top_classes": (5, 32),
        "log_sums": (5,),
        "embedding": (5, 4),
    }
    from_file = Predictions.read(tmp_path, level="site", views=8)
    assert from_file.n_top == 32
    readable = [0, 2, 3, 4]
    for row in readable:
        order = np.argsort(-whole.logits[row])[:32]
        assert arrays["top_classes"][row].tolist() == order.tolist()
        expected = np.exp(whole.logits[row] - logsumexp(whole.logits[row]))
        np.testing.assert_allclose(from_file.probabilities[row][order], expected[order], rtol=1e-4)
        np.testing.assert_array_equal(from_file.logits[row][order], whole.logits[row][order])
        assert from_file.probabilities[row].sum() == pytest.approx(1, abs=1e-4)
    assert np.isnan(from_file.logits[1]).all()
    np.testing.assert_array_equal(from_file.embedding, whole.embedding)
    second_paths = from_file.write(tmp_path / "again")
    assert second_paths[1].read_bytes() == paths[1].read_bytes()


def test_few_classes_or_top_0_store_all_logits_and_half_has_half_the_bytes(tmp_path: Path) -> None:
    few_classes, many_classes = predictions(256), predictions(300, n_rows=50)
    few_classes.write(tmp_path / "few")
    assert Predictions.read(tmp_path / "few", level="site", views=8).n_top is None
    _, path = many_classes.write(tmp_path / "all", storage=LogitStorage(top=0))
    from_file = Predictions.read(tmp_path / "all", level="site", views=8)
    np.testing.assert_array_equal(from_file.logits, many_classes.logits)
    _, half = many_classes.write(tmp_path / "half", storage=LogitStorage(top=0, half=True))
    assert half.stat().st_size < 0.55 * path.stat().st_size
    from_file = Predictions.read(tmp_path / "half", level="site", views=8)
    assert from_file.logits.dtype == from_file.embedding.dtype == np.float32
    np.testing.assert_allclose(from_file.logits, many_classes.logits, rtol=1e-3)
    assert default_top(256) is None
    assert default_top(257) == 32
    with pytest.raises(ConfigError, match="top is -1: expected 0"):
        LogitStorage(top=-1)


def test_a_class_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    _, path = predictions(300).write(tmp_path)
    arrays = load_file(path)
    arrays["top_classes"][0, 0] = 300
    names = "\x1f".join(f"c{k}" for k in range(300))
    save_file(arrays, path, metadata={"perturbations": names, "views": "8", "n_top": "32"})
    with pytest.raises(RunError, match="it names class 300 of 300"):
        Predictions.read(tmp_path, level="site", views=8)
