"""Wells of one perturbation with contradicting attributes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from distangle.screen import Screen, index

Write = Callable[..., Path]


def index_wells(write: Write, *rows: tuple[str, ...], column: str) -> Screen:
    """Index wells of one plate in order: perturbation, and a value of the column."""
    wells = [("p", f"A{k:02d}", *row) for k, row in enumerate(rows, 1)]
    return index(write([("plate", "well", "perturbation", column), *wells]), layout="table", tables_only=True)


def test_a_perturbation_in_two_roles_is_named_with_both(lab_table: Write) -> None:
    rows = [("x", "trt"), ("x", "negcon"), ("y", "trt"), ("y", ""), ("z", "poscon")]
    (remark,) = index_wells(lab_table, *rows, column="role").problems.to_dict("records")
    assert (remark["severity"], remark["kind"], remark["count"]) == ("warning", "roles of one perturbation differ", 1)
    assert remark["found"] == "column role: x: negative_control and treatment"
    assert "--negative-control NAME" in remark["fix"]


@pytest.mark.parametrize("column", ["moa", "target", "smiles"])
def test_two_targets_of_one_compound_are_named(lab_table: Write, column: str) -> None:
    rows = [(name, f"{column} {name}") for name in "abc" for _ in range(2)]
    rows += [("q", "one"), ("q", "other"), ("q", ""), ("once", "this")]
    (remark,) = index_wells(lab_table, *rows, column=column).problems.to_dict("records")
    assert (remark["kind"], remark["count"]) == ("rows of one perturbation differ", 1)
    assert remark["found"] == f"column {column}: q: one and other"


@pytest.mark.parametrize(
    "values", [("1", "10", "1", "1", "1", "1"), ("w1", "w2", "w1", "w2", "w1", "w1"), ("k", "k", "l", "l", "m", "")]
)
def test_doses_batches_and_what_agrees_are_not(lab_table: Write, values: tuple[str, ...]) -> None:
    rows = [(name, value) for name, value in zip("aabbcc", values, strict=True)]
    assert index_wells(lab_table, *rows, column="note").problems.empty
