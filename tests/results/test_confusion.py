"""Test the confusion of few and of many classes: both forms say the same."""

import json
from pathlib import Path

import numpy as np
import pytest

from distangle.core.untrusted_files import UnexpectedContent
from distangle.errors import RunError
from distangle.results import Scores
from distangle.results.confusion import MAX_MATRIX, N_LARGEST, read_confusion, summarize_confusion


def test_a_matrix_of_few_classes_is_stored_whole() -> None:
    content = summarize_confusion(["a", "b"], np.array([[3, 1], [0, 10]]))
    assert content == {"perturbations": ["a", "b"], "counts": [[3, 1], [0, 10]]}
    confusion = read_confusion(content)
    assert confusion.matrix is not None
    assert (confusion.n_sites.tolist(), confusion.n_correct.tolist(), confusion.largest) == (
        [4, 10],
        [3, 10],
        (("a", "b", 1),),
    )


def test_many_classes_are_summarized_and_agree_with_their_matrix() -> None:
    rng = np.random.default_rng(0)
    names = [f"sirna_{k}" for k in range(1139)]
    counts = rng.poisson(0.05, (1139, 1139)) + np.diag(rng.integers(0, 40, 1139))
    counts[7, 9], counts[1100, 3] = 50, 60
    content = summarize_confusion(names, counts)
    assert len(json.dumps(content, indent=2)) < 100_000
    confusion = read_confusion(json.loads(json.dumps(content)))
    whole_confusion = read_confusion({"perturbations": names, "counts": counts.tolist()})
    assert confusion.matrix is None
    assert confusion.n_sites.tolist() == whole_confusion.n_sites.tolist() == counts.sum(axis=1).tolist()
    assert confusion.n_correct.tolist() == [int(counts[k, k]) for k in range(1139)]
    assert confusion.largest == whole_confusion.largest[:N_LARGEST]
    assert confusion.largest[:2] == (("sirna_1100", "sirna_3", 60), ("sirna_7", "sirna_9", 50))


def test_the_limit_between_both_forms_is_a_number_of_classes() -> None:
    for n in (MAX_MATRIX, MAX_MATRIX + 1):
        content = summarize_confusion([str(k) for k in range(n)], np.eye(n, dtype=int))
        assert ("counts" in content) == (n <= MAX_MATRIX)
        assert read_confusion(content).largest == ()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"perturbations": ["a", "b"], "counts": [[1]]}, "expected 2 x 2 counts of classes"),
        ({"perturbations": ["a"], "sites": [1, 2], "correct": [1]}, "expected counts of 1 classes, found 2"),
        ({"perturbations": ["a"], "sites": [1], "correct": [1], "largest": [[0, 5, 1]]}, "expected errors among 1"),
        ({"perturbations": "a"}, "expected a list for 'perturbations', found a text"),
    ],
)
def test_counts_that_do_not_fit_are_refused(content: dict[str, object], text: str, tmp_path: Path) -> None:
    with pytest.raises(UnexpectedContent, match=text):
        read_confusion(content)
    scores = Scores(
        target="perturbation", held_out="x", forced=False, rows=(), never_trained=(), confusion=content, controls={},
        notes=(),
    )  # fmt: skip
    with pytest.raises(RunError, match=text):
        Scores.read(scores.write(tmp_path / "scores.json"))
