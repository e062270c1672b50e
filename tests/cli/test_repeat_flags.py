"""Pairs on the command line: separated by commas, by spaces, or each after its own flag."""

from pathlib import Path

import pytest

from distangle.cli import main
from distangle.cli.arguments import parse_key_values, repeat_flags
from distangle.screen import read_screen


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("index S --map plate=P well=W", "index S --map plate=P --map well=W"),
        ("index --map plate=P well=W S", "index --map plate=P --map well=W S"),
        (
            "index --map=plate=P well=W perturbation=",
            "index --map=plate=P --map well=W --map perturbation=",
        ),
        ("train S --set a.b=1 c=2 --out x", "train S --set a.b=1 --set c=2 --out x"),
        ("explain R --only well=B02 fold=train", "explain R --only well=B02 --only fold=train"),
        ("index S --map plate=P --tables a=b", "index S --map plate=P --tables a=b"),
        ("index S --map plate=P --map well=W", "index S --map plate=P --map well=W"),
    ],
)
def test_a_flag_takes_several_pairs(line: str, expected: str) -> None:
    assert repeat_flags(line.split()) == expected.split()


def test_a_folder_that_is_there_is_no_pair(tmp_path: Path) -> None:
    folder = tmp_path / "plate=1"
    folder.mkdir()
    assert repeat_flags(["index", "--map", "well=W", str(folder)]) == ["index", "--map", "well=W", str(folder)]


def test_a_comma_at_the_end_of_a_pair_is_nothing() -> None:
    assert parse_key_values(["plate=P,", "well=W"], flag="--map") == {"plate": "P", "well": "W"}


@pytest.mark.parametrize(
    "mapping",
    [
        ["--map", "plate=Dish", "well=Hole", "perturbation=Drug"],
        ["--map", "plate=Dish", "--map", "well=Hole", "--map", "perturbation=Drug"],
        ["--map", "plate=Dish,well=Hole", "perturbation=Drug"],
    ],
)
def test_index_takes_every_form(tmp_path: Path, mapping: list[str]) -> None:
    table = tmp_path / "lab" / "wells.csv"
    table.parent.mkdir()
    table.write_text("Dish,Hole,Drug\nP1,A01,x\nP1,A02,y\n")
    main(["index", *mapping, str(table), "--layout", "table", "--tables-only", "--out", str(tmp_path / "screen")])
    columns = ["plate", "well", "perturbation"]
    assert read_screen(tmp_path / "screen").sites[columns].to_numpy().tolist() == [
        ["P1", "A01", "x"],
        ["P1", "A02", "y"],
    ]


def test_a_pair_of_no_column_of_ours_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "wells.csv"
    table.write_text("Dish,Hole,Drug\nP1,A01,x\n")
    arguments = [str(table), "--out", str(tmp_path / "screen"), "--layout", "table"]
    with pytest.raises(SystemExit):
        main(["index", *arguments, "--map", "plate=Dish", "wel=Hole"])
    assert "unknown field 'wel'. Did you mean 'well'?" in capsys.readouterr().err
