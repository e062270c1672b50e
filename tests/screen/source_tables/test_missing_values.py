"""Words that stand for a missing value are no classes, in any column; a name that looks like one can be kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distangle.cli import main
from distangle.screen import Screen, class_coverage, conservation_line, hold_out, index, read_screen
from distangle.screen.indexing.provenance import reread_source
from distangle.screen.source_tables.cells import MISSING, is_missing

Write = Callable[..., Path]
HEADER = ("experiment", "plate", "well", "perturbation", "role", "moa", "cell_type")


def table(write: Write, *cells: tuple[str, str, str, str]) -> Path:
    """Write wells A01, A02, ... of two experiments with perturbation, role, moa and cell type."""
    rows = [(e, "P1", f"A{k:02d}", *row) for e in ("E1", "E2") for k, row in enumerate(cells, 1)]
    return write([HEADER, *rows])


def index_table(path: Path, **options: Any) -> Screen:
    return index(path, layout="table", tables_only=True, **options)


@pytest.mark.parametrize(
    "word",
    [
        *(
            "nan",
            "NaN",
            "NAN",
            "NA",
            "na",
            "N/A",
            "n/a",
            "#N/A",
            "<NA>",
            "None",
            "none",
            "NULL",
            "null",
            "-",
            "--",
            "–",
        ),
        *("", " ", "\u00a0", " NA ", "#REF!", "#VALUE!", "NaT", "n.a."),
    ],
)
def test_a_word_for_nothing_is_no_class_in_any_column(lab_table: Write, word: str) -> None:
    cells = [("x", word, "Eg5", "U2OS"), (word, "treatment", word, word), ("y", "", "Aurora", "")]
    screen = index_table(table(lab_table, *cells))
    assert screen.metadata.perturbations == ("x", "y")
    assert screen.sites["moa"].tolist() == ["Eg5", "", "Aurora"] * 2
    assert screen.sites["cell_type"].tolist() == ["U2OS", "", ""] * 2
    assert screen.sites["role"].tolist() == ["treatment"] * 6  # from its own column, or by its name
    folds = hold_out(screen, column="experiment", values=["E2"])
    report = class_coverage(screen, folds, "moa")
    assert (report.classes, report.n_unknown_train, report.n_unknown_held_out) == (("Aurora", "Eg5"), 1, 1)
    remarks = screen.problems[screen.problems["kind"] == "missing values"]
    if not word.strip():
        assert remarks.empty
        return
    (remark,) = remarks.to_dict("records")
    message = "; ".join(f"{name}: {word.strip()!r} 2" for name in ("role", "perturbation", "moa", "cell_type"))
    assert (remark["severity"], remark["count"], remark["found"]) == ("warning", 8, message)
    assert "--missing nan,NA" in remark["fix"]


@pytest.mark.parametrize("word", ["Na", "NAP", "nano", "unknown", "0", "none of these", "?", "N", "A-"])
def test_other_words_are_names(lab_table: Write, word: str) -> None:
    screen = index_table(table(lab_table, ("x", "", word, ""), (word, "", "Eg5", "")))
    assert screen.metadata.perturbations == tuple(sorted(("x", word)))
    assert word in set(screen.sites["moa"])
    assert "missing values" not in set(screen.problems["kind"])


def test_a_compound_that_is_called_so_is_kept_by_naming_the_words_that_are_none(lab_table: Write) -> None:
    path = table(lab_table, ("NA", "", "nan", ""), ("x", "", "Eg5", ""), ("None", "", "-", ""))
    assert index_table(path).metadata.perturbations == ("x",)
    with_missing = index_table(path, missing=["nan", "-"])
    assert with_missing.metadata.perturbations == ("NA", "None", "x")
    assert set(with_missing.sites["moa"]) == {"", "Eg5"}
    assert set(index_table(path, missing=[]).sites["moa"]) == {"nan", "Eg5", "-"}


def test_a_control_that_is_named_is_never_missing(lab_table: Write) -> None:
    path = table(lab_table, ("None", "", "nan", ""), ("x", "", "Eg5", ""))
    screen = index_table(path, controls={"negative_control": ["None"]})
    assert screen.sites["role"].tolist() == ["negative_control", "treatment"] * 2
    assert (screen.metadata.perturbations, set(screen.sites["moa"])) == (("None", "x"), {"", "Eg5"})


def test_a_plate_or_experiment_that_is_missing_refuses_its_row(lab_table: Write) -> None:
    rows = [("E1", "P1", "A01", "x"), ("E1", "nan", "A02", "y"), ("NA", "P1", "A03", "y"), ("E1", "P1", "#N/A", "y")]
    screen = index_table(lab_table([HEADER[:4], *rows]))
    assert conservation_line(screen) == "found 4 = indexed 1 + refused 3"
    refusals = screen.problems[screen.problems["severity"] == "refused"]
    assert sorted(refusals["kind"]) == ["bad well", "no experiment", "no plate"]


def test_a_screen_is_read_again_with_the_words_of_its_index(lab_table: Write, tmp_path: Path) -> None:
    path = table(lab_table, ("NA", "", "nan", ""), ("x", "", "Eg5", ""))
    source_flags = [str(path), "--layout", "table", "--tables-only"]
    for details, names in (([], {"", "x"}), (["--missing", "nan"], {"NA", "x"}), (["--missing="], {"NA", "x"})):
        main(["index", *source_flags, *details, "--out", str(tmp_path / "screen")])
        screen = read_screen(tmp_path / "screen")
        assert set(screen.sites["perturbation"]) == names
        entries = reread_source(screen).entries
        assert {entry.perturbation for entry in entries} == names


def test_a_table_of_wells_and_the_map_of_a_plate_are_read_so_too(tmp_path: Path) -> None:
    images = tmp_path / "P1"
    images.mkdir()
    for well in ("A01", "A02", "B01"):
        (images / f"{well}_w1.tif").write_text(well)
    rows = "well,perturbation,moa\nA01,x,NA\nA02,nan,Eg5\nB01,y,\n"
    for name, text in (("wells.csv", rows), ("grid.csv", ",1,2\nA,x,nan\nB,y,\n")):
        (tmp_path / name).write_text(text)
        options = {"tables": tmp_path / name, "pattern": "{well}_w{channel}.tif"}
        screen = index(images, layout="folder", hash_files=False, **options)  # type: ignore[arg-type]
        assert screen.sites["perturbation"].tolist() == ["x", "", "y"]
        assert "missing values" in set(screen.problems["kind"])


def test_every_word_is_told_in_any_case() -> None:
    assert all(is_missing(word) and is_missing(f" {word.upper()} ") and is_missing(word.lower()) for word in MISSING)
    assert not is_missing("Na")
    assert not is_missing("NA", ["nan"])
