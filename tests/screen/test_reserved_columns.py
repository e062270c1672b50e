"""Columns of user tables with reserved names keep their values and never replace ours."""

from collections.abc import Callable
from pathlib import Path

import pytest

from distangle.inference.predict import average_wells, cell_free_table
from distangle.screen import Screen, index
from distangle.screen.reserved_columns import is_reserved, rename_columns

Write = Callable[..., Path]


def index_rows(write: Write, extra: str) -> Screen:
    """Two barcodes of one library plate; the extra column has one value for all of them."""
    rows = [
        (week, f"{week}-{copy}", well, compound, "7")
        for week in ("w1", "w2")
        for copy in (1, 2)
        for well, compound in (("A01", "x"), ("A02", "DMSO"))
    ]
    mapping = {"experiment": "week", "plate": "Barcode", "well": "Position", "perturbation": "compound"}
    mapping |= dict.fromkeys(
        ("site", "cell_type", "role", "split"), ""
    )  # these fields have no column, whatever the names
    return index(
        write([("week", "Barcode", "Position", "compound", extra), *rows]),
        layout="table",
        mapping=mapping,
        controls={"negative_control": ["DMSO"]},
        tables_only=True,
    )


@pytest.mark.parametrize(
    "name",
    [
        *("plate", "Plate", "PLATE", "Metadata_Plate", "well", "metadata_well", "Site", "Role", "Metadata_Role"),
        *("Experiment", "Fold", "Metadata_Fold", "CellType", "Cell Type", "cell-type", "Perturbation", "Split"),
        *("Row", "column", "Cross_Validation", "Metadata_Metadata_Plate", "Path_1", "Sha256"),
    ],
)
def test_a_column_called_like_ours_changes_no_well_and_is_kept_under_a_prefix(lab_table: Write, name: str) -> None:
    screen = index_rows(lab_table, name)
    assert screen.metadata.extra_columns == (f"table_{name}",)
    assert set(screen.sites[f"table_{name}"]) == {"7"}
    assert sorted(set(screen.sites["plate"])) == ["w1-1", "w1-2", "w2-1", "w2-2"]
    remark = screen.problems[screen.problems["kind"] == "reserved column name"].iloc[0]
    assert (remark["severity"], remark["file"], remark["found"]) == ("warning", "wells.csv", repr(name))
    assert f"renamed {name!r} as 'table_{name}'" in remark["fix"]
    result = cell_free_table(screen, "perturbation", ["held_out"] * 8, classes=("x", "DMSO"))
    assert result.table["Metadata_Plate"].tolist() == screen.sites["plate"].tolist()
    assert result.table["Metadata_Role"].tolist() == screen.sites["role"].tolist()
    assert set(result.table["Metadata_Fold"]) == {"held_out"}
    assert set(result.table[f"Metadata_table_{name}"]) == {"7"}
    assert len(average_wells(result).table) == 8


@pytest.mark.parametrize("name", ["plates", "Metadata_Row", "library_plate", "dose", "Metadata", "predicted"])
def test_other_names_stay_as_they_are(lab_table: Write, name: str) -> None:
    screen = index_rows(lab_table, name)
    assert screen.metadata.extra_columns == (name,)
    assert "reserved column name" not in set(screen.problems["kind"])


def test_a_screen_of_an_older_version_does_not_replace_our_columns_either(lab_table: Write) -> None:
    screen = index_rows(lab_table, "dose")
    old = Screen(
        metadata=screen.metadata.model_copy(update={"extra_columns": ("Plate", "table_Plate", "Fold")}),
        sites=screen.sites.assign(Plate="1", table_Plate="2", Fold="3"),
        problems=screen.problems,
    )
    table = cell_free_table(old, "perturbation", ["train"] * 8, classes=("x",)).table
    assert table["Metadata_Plate"].tolist() == screen.sites["plate"].tolist()
    assert set(table["Metadata_Fold"]) == {"train"}
    assert (set(table["Metadata_table_Plate"]), set(table["Metadata_table_table_Plate"])) == ({"2"}, {"1"})


def test_prefixes_are_added_until_a_name_is_free() -> None:
    assert rename_columns(("Plate", "table_Plate", "x", "x")) == ("table_table_Plate", "table_Plate", "table_x", "x")
    assert not is_reserved("metadata")
