from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest

from distangle.errors import ScreenError
from distangle.screen import Screen, conservation_line, index, statistics

Write = Callable[..., Path]
HEADER = ("plate", "well", "perturbation", "DAPI", "actin")
CHANNELS = ("DAPI", "actin")


def paths(well: str, plate: str = "p1") -> tuple[str, str]:
    return f"images/{plate}/{well}_dapi.tif", f"images/{plate}/{well}_actin.tif"


def index_table(table: Path, **options: object) -> Screen:
    return index(table, **{"layout": "table", "channels": CHANNELS, **options})  # type: ignore[arg-type]


def reasons(screen: Screen) -> dict[str, str]:
    return dict(zip(screen.problems["kind"], screen.problems["found"], strict=True))


def test_a_table_with_our_names_needs_no_mapping(lab_table: Write) -> None:
    table = lab_table([HEADER, ("p1", "A1", "taxol", *paths("A01")), ("p1", "B02", "DMSO", *paths("B02"))])
    screen = index_table(table)
    assert conservation_line(screen) == "found 2 = indexed 2 + refused 0"
    assert screen.sites["experiment"].tolist() == ["all", "all"]
    assert screen.sites["well"].tolist() == ["A01", "B02"]
    assert screen.sites["site"].tolist() == [1, 1]
    assert screen.sites["role"].tolist() == ["treatment", "treatment"]
    assert screen.sites["path_2"].tolist() == ["images/p1/A01_actin.tif", "images/p1/B02_actin.tif"]
    assert [channel.name for channel in screen.metadata.channels] == ["DAPI", "actin"]
    assert screen.image_paths(1)[0].read_text() == "images/p1/B02_dapi.tif"


def test_columns_are_found_with_metadata_before_them_and_in_any_case(lab_table: Write) -> None:
    header = ("Metadata_Plate", "WELL", "Metadata_Perturbation", "Cell Type", "metadata_role", "DAPI", "actin")
    table = lab_table([header, ("p1", "A01", "taxol", "U2OS", "negcon", *paths("A01"))])
    row = index_table(table).sites.iloc[0]
    assert row[["plate", "perturbation", "cell_type", "role"]].tolist() == ["p1", "taxol", "U2OS", "negative_control"]


def test_mapped_columns_win_and_the_rest_is_kept_as_text(lab_table: Write) -> None:
    header = ("batch", "plate", "well", "row", "perturbation", "compound", "dose", "size", "DAPI", "actin")
    table = lab_table([header, ("W1", "0012", "A01", "A", "NA", "taxol", "1E05", "9", *paths("A01"))])
    screen = index_table(table, mapping={"experiment": "batch", "perturbation": "compound"}, missing=[])
    row = screen.sites.iloc[0]
    assert row[["experiment", "plate", "perturbation"]].tolist() == ["W1", "0012", "taxol"]
    assert screen.metadata.extra_columns == ("table_row", "table_perturbation", "dose", "table_size")
    assert row[list(screen.metadata.extra_columns)].tolist() == ["A", "NA", "1E05", "9"]
    assert row["row"] == 0


def test_rows_and_columns_apart_name_the_well(lab_table: Write) -> None:
    header = ("plate", "Row", "Col", "perturbation", "DAPI", "actin")
    site = ("p1", "2", "03", "taxol", *paths("B03"))
    screen = index_table(
        lab_table([header, site, ("p1", "c", "4", "x", *paths("C04")), ("p1", "?", "4", "y", *paths("D04"))])
    )
    assert screen.sites["well"].tolist() == ["B03", "C04"]
    assert screen.metadata.extra_columns == ("table_Row", "Col")
    assert reasons(screen) == {"bad well": "'?4'", "reserved column name": "'Row'"}
    header_row = [("plate", "first", "second", *header[3:]), site]
    with pytest.raises(ScreenError, match="no column 'first\\+third'. Did you mean 'first'"):
        index_table(lab_table(header_row), mapping={"well": "first+third"})
    assert index_table(lab_table(header_row), mapping={"well": "first+second"}).sites["well"].tolist() == ["B03"]


@pytest.mark.parametrize(
    ("column", "mapping"), [("well", {}), ("Position", {"well": "Position"}), ("A+B", {"well": "A+B"})]
)
def test_a_column_of_wells_outranks_row_and_column(lab_table: Write, column: str, mapping: dict[str, str]) -> None:
    header = ("plate", column, "Row", "Col", "A", "B", "perturbation", "DAPI", "actin")
    screen = index_table(
        lab_table([header, ("p1", "B03", "7", "8", "C", "9", "taxol", *paths("B03"))]), mapping=mapping
    )
    assert screen.sites["well"].tolist() == ["B03"]
    assert screen.metadata.extra_columns == ("table_Row", "Col", "A", "B")


def test_a_parquet_table_reads_as_its_csv(lab_table: Write) -> None:
    table = lab_table([HEADER, ("0012", "A1", "1E05", *paths("A01")), ("0012", "B02", "NA", *paths("B02"))])
    by_csv = index_table(table).sites.drop(columns=["mtime"])
    pd.read_csv(table, dtype=str, keep_default_na=False).to_parquet(table.with_suffix(".parquet"), index=False)
    table.unlink()
    for source in (table.with_suffix(".parquet"), table.parent):
        pd.testing.assert_frame_equal(index_table(source).sites.drop(columns=["mtime"]), by_csv)


def test_semicolons_byte_order_marks_and_windows_paths_are_read(lab_table: Write) -> None:
    table = lab_table([HEADER, ("p1", "A01", "taxol", *paths("A01"))], delimiter=";")
    text = table.read_text().replace("images/p1/", "images\\p1\\").replace("\n", "\r\n")
    table.write_text("\ufeff" + text, encoding="utf-8", newline="")
    assert index_table(table).sites["path_1"].tolist() == ["images/p1/A01_dapi.tif"]


def test_channels_may_have_other_names_than_their_columns(lab_table: Write) -> None:
    table = lab_table([HEADER, ("p1", "A01", "taxol", *paths("A01"))])
    screen = index_table(table, channels=["F-actin=actin", "DNA=DAPI"])
    assert [channel.name for channel in screen.metadata.channels] == ["F-actin", "DNA"]
    assert screen.sites["path_1"].tolist() == ["images/p1/A01_actin.tif"]


def test_pages_of_one_file_are_channels(lab_table: Write) -> None:
    table = lab_table([("plate", "well", "perturbation", "file"), ("p1", "A01", "taxol", "images/a.tif")])

    def two_pages(path: Path) -> tuple[str, tuple[int, int], int]:
        return "uint16", (8, 9), 2

    screen = index_table(table, pages="file", probe=two_pages)
    assert screen.pages(0) == [0, 1]
    assert screen.sites["path_1"].tolist() == screen.sites["path_2"].tolist() == ["images/a.tif"]
    assert (screen.metadata.dtype, screen.metadata.shape) == ("uint16", (8, 9))
    assert screen.sites["size"].tolist() == [len("images/a.tif")]
    with pytest.raises(ScreenError, match=r"1 x wrong number of pages.*images/a.tif: 2 pages, expected page 3"):
        index_table(table, pages="file", channels=["a", "b", "c"], probe=two_pages)
    with pytest.raises(ScreenError, match=r"found images/a.tif: 2 pages, expected one page. Files of many pages need"):
        index_table(table, channels=["file"], probe=two_pages)


def test_two_sites_may_share_a_file_on_pages_of_their_own_only(lab_table: Write) -> None:
    rows = [("p1", "A01", "a", *paths("A01")), ("p1", "A02", "b", paths("A01")[0], paths("A02")[1])]
    rows += [("p1", "A03", "c", *paths("A03"))]
    screen = index_table(lab_table([HEADER, *rows]))
    assert conservation_line(screen) == "found 3 = indexed 1 + refused 2"
    rows_ = screen.problems[screen.problems["kind"] == "file of two sites"]
    assert rows_["row"].tolist() == ["2", "3"]
    assert rows_["found"].tolist()[0] == "images/p1/A01_dapi.tif is also of p1 A02 site 1 (line 3)"


def test_several_rows_of_a_well_need_a_site_column(lab_table: Write) -> None:
    header = (*HEADER, "field")
    rows = [("p1", "A01", "a", *paths(f"A01{k}"), str(k)) for k in (1, 2)] + [("p1", "A02", "a", *paths("A02"), "1")]
    table = lab_table([header, *rows])
    screen = index_table(table)
    assert conservation_line(screen) == "found 3 = indexed 1 + refused 2"
    first = screen.problems.iloc[0]
    assert (first["kind"], first["row"]) == ("conflicting rows", "2")
    assert first["found"].startswith("in conflict with wells.csv line 3")
    assert "--map site=COLUMN" in first["fix"]
    assert index_table(table, mapping={"site": "field"}).sites["site"].tolist() == [1, 2, 1]


def test_wells_spelled_in_two_ways_are_one_well_and_said_to_be(lab_table: Write) -> None:
    rows = [("p1", "A1", "a", *paths("A01")), ("p2", "A01", "a", *paths("A01", "p2"))]
    screen = index_table(lab_table([HEADER, *rows]))
    assert screen.metadata.indexed == 2
    assert reasons(screen) == {"wells spelled in several ways": "'A01' and 'A1'"}


def test_sites_of_a_well_that_tell_of_two_perturbations_are_refused(lab_table: Write) -> None:
    header = (*HEADER, "site")
    rows = [("p1", "A01", name, *paths(f"A01{name}"), site) for name, site in (("a", "1"), ("b", "2"))]
    screen = index_table(lab_table([header, *rows, ("p1", "A02", "a", *paths("A02"), "1")]))
    assert conservation_line(screen) == "found 3 = indexed 1 + refused 2"
    assert reasons(screen) == {"well contradicts itself": "'a' (treatment), 'b' (treatment)"}


@pytest.mark.parametrize(
    ("change", "kind", "value"),
    [
        ({"site": ""}, "bad site", "''"),
        ({"well": "A0"}, "bad well", "'A0'"),
        ({"well": "AZ99"}, "well off the plate", "'AZ99'"),
        ({"plate": " "}, "no plate", "''"),
        ({"site": "1.0"}, "bad site", "'1.0'"),
        ({"site": "-1"}, "bad site", "'-1'"),
        ({"role": "contol"}, "bad role", "'contol'"),
        ({"DAPI": "../outside.tif"}, "path outside the source", "../outside.tif"),
        ({"DAPI": "images/../../x.tif"}, "path outside the source", "images/../../x.tif"),
        ({"DAPI": "/etc/passwd"}, "path outside the source", "/etc/passwd"),
        ({"DAPI": "C:\\x\\a.tif"}, "path outside the source", "C:\\x\\a.tif"),
        ({"DAPI": "s3://bucket/a.tif"}, "path outside the source", "s3://bucket/a.tif"),
        ({"DAPI": ""}, "missing channel", "no path"),
        ({"DAPI": "none.tif"}, "missing channel", "no file none.tif"),
        ({"DAPI": "none.tif", "actin": "no.tif"}, "no image", "no file none.tif"),
        ({"DAPI": "images/p1/A01_actin.tif"}, "one file for two channels", "images/p1/A01_actin.tif"),
        ({"DAPI": "images"}, "unreadable file", "images: not a regular file"),
    ],
)
def test_a_bad_row_is_refused_by_line_and_costs_no_other(
    lab_table: Write, change: Mapping[str, str], kind: str, value: str
) -> None:
    header = ("plate", "well", "perturbation", "DAPI", "actin", "site", "role")
    good = dict(zip(header, ("p1", "A01", "a", *paths("A01"), "1", "trt"), strict=True))
    table = lab_table([header, tuple(good.values()), ("p1", "A02", "a", *paths("A02"), "1", "trt")])
    lines = table.read_text().splitlines()
    lines[1] = ",".join({**good, **change}.values())
    table.write_text("\n".join(lines) + "\n")
    screen = index_table(table, well_base=1)
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    row = screen.problems.iloc[0]
    assert row[["severity", "kind", "file", "row", "found"]].tolist() == ["refused", kind, "wells.csv", "2", value]
    assert row["expected"]
    assert row["fix"]
    assert row["channel"] == ("DAPI" if kind in {"missing channel", "path outside the source"} else row["channel"])


def test_absolute_paths_inside_the_source_are_made_relative(lab_table: Write) -> None:
    table = lab_table([HEADER, ("p1", "A01", "a", *paths("A01"))])
    table.write_text(table.read_text().replace("images/", f"{table.parent}/./images/"))
    assert index_table(table).sites["path_1"].tolist() == ["images/p1/A01_dapi.tif"]


def test_ragged_rows_keep_their_line_numbers(lab_table: Write) -> None:
    table = lab_table([HEADER, ("p1", "A01", "a", *paths("A01")), ("p1", "A02", "a", *paths("A02"))])
    table.write_text(table.read_text().replace("A02_actin.tif", "A02_actin.tif,"))
    screen = index_table(table)
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    assert screen.problems[screen.problems["kind"] == "ragged row"]["row"].tolist() == ["3"]


def test_images_that_no_row_names_are_counted_by_folder(lab_table: Write) -> None:
    table = lab_table([HEADER, ("p1", "A01", "a", *paths("A01"))])
    for name in ("B01_dapi.tif", "B01_actin.TIFF", "notes.txt"):
        (table.parent / "images" / "p1" / name).write_text("x")
    screen = index_table(table)
    row = screen.problems.iloc[0]
    assert row[["severity", "file", "found", "count"]].tolist() == [
        "warning",
        "images/p1",
        "B01_actin.TIFF, B01_dapi.tif",
        2,
    ]
    assert conservation_line(screen) == "found 1 = indexed 1 + refused 0"
    (table.parent / "other").mkdir()
    (table.parent / "other" / "x1.jpg").write_text("x")
    assert index_table(table).problems[["file", "found"]].to_numpy().tolist() == [
        ["images/p1", "B01_actin.TIFF, B01_dapi.tif"],
        ["other", "x1.jpg"],
    ]


def test_controls_can_be_named_by_the_caller(lab_table: Write) -> None:
    rows = [("p1", f"A0{k}", name, *paths(f"A0{k}")) for k, name in enumerate(("DMSO", "taxol", "x"), 1)]
    table = lab_table([HEADER, *rows])
    with_controls = index_table(table, controls={"negative_control": ["DMSO"], "positive_control": ["taxol"]})
    assert with_controls.sites["role"].tolist() == ["negative_control", "positive_control", "treatment"]
    with pytest.raises(ScreenError, match="-control dmso: no row has the perturbation 'dmso'. Did you mean 'DMSO'"):
        index_table(table, controls={"negative_control": ["dmso"]})
    with pytest.raises(ScreenError, match="Controls 'negative': unknown role. Did you mean 'negative_control'"):
        index_table(table, controls={"negative": ["DMSO"]})
    with pytest.raises(ScreenError, match="'x' is named both as negative_control and as positive_control"):
        index_table(table, controls={"negative_control": ["x"], "positive_control": ["x"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mapping": {"wel": "well"}}, "--map wel=well: unknown field 'wel'. Did you mean 'well'"),
        ({"mapping": {"well": "Wells"}}, "has no column 'Wells'. Did you mean 'well'"),
        ({"channels": ["DAPI", "Actin"]}, "no column 'Actin' with paths of images. Did you mean 'actin'"),
        ({"channels": ["DAPI", "DAPI"]}, "every channel needs a unique name"),
        ({"channels": []}, "Name them: --channels DAPI,actin (or NAME=COLUMN)"),
        ({"pages": "fil"}, "no column 'fil' with paths of images"),
        (
            {"layout": "tabel"},
            "Unknown layout 'tabel'. Did you mean 'table'? Known: cellpainting, folder, ome-zarr, rxrx1, table.",
        ),
        ({"plate_rows": 16}, "belong together: give both, or neither"),
        ({"tables": Path("other.csv")}, "is a table, and --tables names other.csv"),
    ],
)
def test_an_option_that_names_nothing_is_an_error_with_the_nearest(
    lab_table: Write, options: Mapping[str, object], message: str
) -> None:
    table = lab_table([HEADER, ("p1", "A01", "a", *paths("A01"))])
    with pytest.raises(ScreenError) as error:
        index_table(table, **options)
    assert message in str(error.value)


def test_a_table_without_perturbations_must_say_so(lab_table: Write) -> None:
    table = lab_table([("plate", "well", "compound", "DAPI", "actin"), ("p1", "A01", "a", *paths("A01"))])
    with pytest.raises(
        ScreenError, match=r"no column 'perturbation'. .*--map perturbation=COLUMN \(--map perturbation="
    ):
        index_table(table)
    screen = index_table(table, mapping={"perturbation": ""})
    assert screen.sites[["perturbation", "role"]].to_numpy().tolist() == [["", "unknown"]]
    assert screen.metadata.perturbations == ()


def test_two_columns_that_may_both_be_meant_are_an_error(lab_table: Write) -> None:
    header = ("Plate", "plate ID", "PLATE", "well", "perturbation", "DAPI", "actin")
    table = lab_table([header, ("p1", "x", "p2", "A01", "a", *paths("A01"))])
    with pytest.raises(ScreenError, match="'Plate' and 'PLATE' may both be 'plate'. Name one: --map plate=COLUMN"):
        index_table(table)
    assert index_table(table, mapping={"plate": "PLATE"}).sites["plate"].tolist() == ["p2"]


def test_the_source_may_be_the_folder_with_one_table_or_a_named_one(lab_table: Write, tmp_path: Path) -> None:
    table = lab_table([HEADER, ("p1", "A01", "a", *paths("A01"))])
    assert index_table(table.parent).metadata.indexed == 1
    (table.parent / "other.csv").write_text("x\n")
    with pytest.raises(
        ScreenError, match=r"contains several tables: other.csv, wells.csv. Name the table with --tables FILE"
    ):
        index_table(table.parent)
    assert index_table(table.parent, tables=table).metadata.indexed == 1
    moved_table = tmp_path / "moved.csv"
    table.rename(moved_table)
    assert index_table(table.parent, tables=moved_table).image_paths(0)[0].is_file()
    with pytest.raises(ScreenError, match="does not exist"):
        index_table(tmp_path / "none")


def test_when_nothing_can_be_indexed_the_reasons_are_counted_and_the_first_ones_told(lab_table: Write) -> None:
    rows = [("p1", f"A0{k}", "a", f"{k}a.tif", f"{k}b.tif") for k in range(1, 6)]
    rows += [("p1", "zz", "a", *paths("x"))]
    with pytest.raises(ScreenError) as error:
        index_table(lab_table([HEADER, *rows]))
    assert "Nothing can be indexed: found 6, all refused (5 x no image, 1 x bad well)." in str(error.value)
    assert "(wells.csv, line 2, experiment all, plate p1, well A01, site 1): found no file 1a.tif" in str(error.value)
    with pytest.raises(ScreenError, match="Nothing can be indexed: the tables have no rows"):
        index_table(lab_table([HEADER]))


def test_tables_only_asks_for_no_channels(lab_table: Write) -> None:
    table = lab_table([HEADER, ("p1", "A01", "a", "none.tif", "no.tif")])
    screen = index_table(table, channels=None, tables_only=True)
    assert screen.sites["site"].tolist() == [0]
    assert screen.metadata.extra_columns == ("DAPI", "actin")
    assert index_table(table, tables_only=True).metadata.extra_columns == ()


def test_sites_may_count_from_zero(lab_table: Write) -> None:
    header = (*HEADER, "site")
    rows = [("p1", "A01", "a", *paths(f"A01{k}"), str(k)) for k in (0, 1)]
    screen = index_table(lab_table([header, *rows]))
    assert screen.sites["site"].tolist() == [0, 1]
    assert statistics(screen).all.sites == 2


def test_a_row_written_twice_counts_once_and_one_that_differs_not_at_all(lab_table: Write) -> None:
    rows = [("p1", "A01", "a", *paths("A01")), ("p1", "A02", "b", *paths("A02"))]
    screen = index_table(lab_table([HEADER, *rows, rows[0]]))
    assert conservation_line(screen) == "found 3 = indexed 2 + refused 1"
    assert screen.sites["well"].tolist() == ["A01", "A02"]
    row = screen.problems.iloc[0]
    assert row[["severity", "kind", "row"]].tolist() == ["refused", "duplicate row", "4"]
    assert row["found"] == "the same as wells.csv line 2 (images/p1/A01_dapi.tif)"
    screen = index_table(
        lab_table([HEADER, *rows, ("p1", "A1", "a", *paths("A01"))])
    )  # but for the spelling of the well
    assert (screen.problems["kind"].tolist()[0], screen.metadata.indexed) == ("duplicate row", 2)
    screen = index_table(lab_table([HEADER, *rows, rows[0], ("p1", "A1", "c", *paths("A01"))]))
    assert conservation_line(screen) == "found 4 = indexed 1 + refused 3"
    assert screen.problems["kind"].tolist()[:3] == ["conflicting rows"] * 3


def test_a_mapped_column_is_not_found_a_second_time_by_its_own_name(lab_table: Write) -> None:
    header = ("experiment", *HEADER)
    row = index_table(
        lab_table([header, ("W1", "p1", "A01", "a", *paths("A01"))]), mapping={"split": "experiment"}
    ).sites.iloc[0]
    assert row[["split", "experiment"]].tolist() == ["W1", "all"]


def test_rows_in_any_order_bring_their_own_files_and_positions_along(lab_table: Write) -> None:
    header = ("plate", "well", "site", "perturbation", "DAPI")
    wells = [("p10", "C05", "1"), ("p2", "B12", "2"), ("p2", "B12", "1"), ("p2", "A03", "1")]
    table = lab_table([header, *[(*well, "a", f"{''.join(well)}.tif") for well in wells]])
    for k, well in enumerate(wells):
        (table.parent / f"{''.join(well)}.tif").write_text("x" * (k + 1))
    sites = index_table(table, channels=["DAPI"]).sites
    assert sites["path_1"].tolist() == ["p2A031.tif", "p2B121.tif", "p2B122.tif", "p10C051.tif"]
    assert sites[["row", "column", "site", "size"]].to_numpy().tolist() == [
        [0, 2, 1, 4],
        [1, 11, 1, 3],
        [1, 11, 2, 2],
        [2, 4, 1, 1],
    ]
