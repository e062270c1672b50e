import csv
import hashlib
import itertools
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from distangle.core.io import sha256_of
from distangle.errors import ImageError, ScreenError
from distangle.images import probe_image
from distangle.screen import Screen, conservation_line, index, site_sha256
from distangle.screen.indexing.files import read_files
from distangle.screen.indexing.index import _check_conservation
from distangle.screen.indexing.records import SiteRecord
from distangle.screen.indexing.wells import assign_well_positions
from rxrx1_lab import RxRx1Lab

Header = tuple[str, tuple[int, int], int]
PLATE = "train/HUVEC-01/Plate1"


def plain(path: Path) -> Header:
    return "uint8", (512, 512), 1


def index_lab(lab: RxRx1Lab, probe: Callable[[Path], Header] | None = plain, **options: object) -> Screen:
    return index(lab.root, layout="rxrx1", probe=probe, **options)  # type: ignore[arg-type]


# --- The conservation law, on tables as dirty as they come -------------------------------------------------------


def index_or_reason(root: Path, **options: object) -> Screen | None:
    """Return None if nothing can be indexed; pass on any other error, such as a broken conservation law."""
    try:
        return index(root, **options)  # type: ignore[arg-type]
    except ScreenError as error:
        if str(error).startswith(("Nothing can be indexed", "No size and bit depth")):
            return None
        raise


KAGGLE_ROW = st.tuples(
    st.sampled_from(["HUVEC-01", "RPE-02", ""]),
    st.sampled_from(["1", "01", "2", "x"]),
    st.sampled_from(["B02", "b2", "B03", "Q30", "ZZ99", "zz", ""]),
    st.sampled_from(["sirna_1", "sirna_2", ""]),
    st.sampled_from(["", "treatment", "negative_control", "nonsense"]),
    st.sampled_from([0, 0, 0, 0, -1, 1]),
)
KAGGLE_FILE = st.tuples(
    st.sampled_from(["train", "images", "."]),
    st.sampled_from(["HUVEC-01/Plate1", "RPE-02/Plate2", "HUVEC-01/plate3", "RPE-02/other"]),
    st.sampled_from(["B02", "b2", "B03", "Q30", "ZZ99", "C05", "bad"]),
    st.sampled_from(["1", "2", "0"]),
    st.sampled_from([(1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6), (1, 2, 3, 4), (6, 7)]),
)


def count_by_hand(rows: list[tuple[str, ...]], root: Path) -> tuple[int, int]:
    """Count the sites in the folders and the rows of the table."""
    sites = set()
    for split, experiment, plate in itertools.product(("train", "images", "."), ("HUVEC-01", "RPE-02"), "123"):
        for folder_name in (f"Plate{plate}", f"plate{plate}"):
            folder = root / split / experiment / folder_name
            for path in folder.glob("*.png") if folder.is_dir() else ():
                parts = path.stem.split("_")
                if len(parts) == 3 and parts[0] != "bad" and parts[1] != "s0" and parts[2] != "w7":
                    sites.add((folder, parts[0].upper().replace("B2", "B02"), parts[1]))
    return len(sites), len(rows)


KAGGLE = {
    "rows": st.lists(KAGGLE_ROW, min_size=1, max_size=6),
    "files": st.lists(KAGGLE_FILE, max_size=4, unique=True),
    "tables_only": st.booleans(),
}


@settings(max_examples=150, deadline=None)
@given(**KAGGLE)
def test_found_is_indexed_plus_refused_on_any_rxrx1_folder(
    rows: list[tuple[str, str, str, str, str, int]],
    files: list[tuple[str, str, str, str, tuple[int, ...]]],
    tables_only: bool,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lines = [("experiment", "plate", "well", "sirna", "well_type")]
        for *row, more in rows:
            lines.append((*row, "x") if more > 0 else tuple(row[: 5 + more]))
        with (root / "train.csv").open("w", newline="") as file:
            csv.writer(file).writerows(lines)
        for split, place, well, site, channels in files:
            (root / split / place).mkdir(parents=True, exist_ok=True)
            for channel in channels:
                (root / split / place / f"{well}_s{site}_w{channel}.png").write_text(f"{split}{place}{well}{site}")
        n_sites, n_rows = count_by_hand([line for line in lines[1:] if any(line)], root)
        screen = index_or_reason(root, layout="rxrx1", tables_only=tables_only, hash_files=False)
        if screen is None:
            return
        n_refused = screen.problems.loc[screen.problems["severity"] == "refused", "count"].sum()
        assert screen.metadata.found == len(screen.sites) + n_refused
        assert not screen.sites.duplicated(["experiment", "plate", "well", "site"]).any()
        if tables_only:
            assert screen.metadata.found == n_rows
        else:
            # Every site is an entry, and so is every row without an indexed or refused site.
            assert n_sites <= screen.metadata.found <= n_sites + n_rows
            assert len(screen.sites) <= n_sites


TABLE_ROW = st.tuples(
    st.sampled_from(["1", "2", "", "=1"]),
    st.sampled_from(["A1", "A01", "B02", "AA30", "A0", "ZZ99"]),
    st.sampled_from(["1", "2", "x", ""]),
    st.sampled_from(["a", "b", ""]),
    st.sampled_from(["", "negcon", "nonsense"]),
    st.sampled_from(["a.tif", "b.tif", "c.tif", "none.tif", "../a.tif", "", "empty.tif", "odd.tif"]),
    st.sampled_from([0, 0, 0, 0, 0, -1, 1]),
)


TABLE = {"rows": st.lists(TABLE_ROW, max_size=8), "delimiter": st.sampled_from([",", ";", "\t"])}


@settings(max_examples=150, deadline=None)
@given(**TABLE)
def test_found_is_indexed_plus_refused_on_any_table(
    rows: list[tuple[str, str, str, str, str, str, int]], delimiter: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("a.tif", "b.tif", "c.tif", "odd.tif"):
            (root / name).write_text(name)
        (root / "empty.tif").touch()
        lines = [(*row[:6], "x") if row[6] > 0 else row[: 6 + row[6]] for row in rows]
        with (root / "wells.csv").open("w", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(("plate", "well", "site", "perturbation", "role", "DAPI"))
            writer.writerows(lines)
        screen = index_or_reason(root, layout="table", channels=["DAPI"], probe=odd_header, well_base=1)
        if screen is None:
            return
        n_refused = screen.problems.loc[screen.problems["severity"] == "refused", "count"].sum()
        n_rows = sum(any(field.strip() for field in line) for line in lines)
        assert screen.metadata.found == n_rows == len(screen.sites) + n_refused
        assert conservation_line(screen) == f"found {n_rows} = indexed {len(screen.sites)} + refused {n_refused}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "strategies"),
    [
        (test_found_is_indexed_plus_refused_on_any_rxrx1_folder, KAGGLE),
        (test_found_is_indexed_plus_refused_on_any_table, TABLE),
    ],
)
def test_the_law_holds_on_ten_thousand_tables(law: Callable[..., None], strategies: dict[str, object]) -> None:
    inner = law.hypothesis.inner_test  # type: ignore[attr-defined]
    checks = settings(max_examples=5_000, deadline=None, database=None)
    checks(given(**strategies)(inner))()  # type: ignore[arg-type]


def odd_header(path: Path) -> Header:
    return "uint16", (16, 16) if path.name == "odd.tif" else (8, 8), 1


def test_a_sum_that_does_not_hold_is_called_a_bug() -> None:
    with pytest.raises(ScreenError, match=r"found 3 is not indexed 1 \+ refused 1: this is a bug in distangle"):
        _check_conservation(3, 1, 1, [])


# --- Files -------------------------------------------------------------------------------------------------------


def test_sizes_and_bit_depths_of_most_sites_are_the_screens(rxrx1: RxRx1Lab) -> None:
    def probe(path: Path) -> Header:
        if path.name.startswith("B03_s1"):
            return "uint16", (512, 512), 1
        return "uint8", (512, 256) if path.name.startswith("B04_s2") else (512, 512), 1

    screen = index_lab(rxrx1, probe)
    assert conservation_line(screen) == "found 6 = indexed 4 + refused 2"
    assert (screen.metadata.dtype, screen.metadata.shape) == ("uint8", (512, 512))
    rows = screen.problems
    assert rows["kind"].tolist() == ["size or bit depth"] * 2
    assert rows["found"].tolist() == [
        f"{PLATE}/B03_s1_w1.png: uint16 512 x 512",
        f"{PLATE}/B04_s2_w1.png: uint8 512 x 256",
    ]
    assert rows["expected"].tolist() == ["uint8 512 x 512, as in 4 of 6 sites"] * 2


def test_without_a_majority_the_counts_are_listed(rxrx1: RxRx1Lab) -> None:
    def probe(path: Path) -> Header:
        return "uint8", (512, 512 if path.name[:3] in {"B02", "B03"} and "_s1_" in path.name else int(path.name[2])), 1

    with pytest.raises(ScreenError) as error:
        index_lab(rxrx1, probe)
    assert "shared by more than half of the sites: 2 sites uint8 512 x 512, 2 sites uint8 512 x 4" in str(error.value)

    def half(path: Path) -> Header:
        return "uint8", (512, 512) if "_s1_" in path.name else (256, 256), 1

    with pytest.raises(ScreenError, match="3 sites uint8 512 x 512, 3 sites uint8 256 x 256"):
        index_lab(rxrx1, half)


def test_channels_of_a_site_that_differ_refuse_the_site(rxrx1: RxRx1Lab) -> None:
    def probe(path: Path) -> Header:
        return "uint16" if path.name == "B04_s1_w5.png" else "uint8", (512, 512), 1

    row = index_lab(rxrx1, probe).problems.iloc[0]
    assert row[["kind", "well", "site"]].tolist() == ["channels differ", "B04", "1"]
    assert "RNA uint8 512 x 512; mitochondria uint16 512 x 512" in row["found"]


def test_what_the_header_reader_refuses_is_refused_by_name(rxrx1: RxRx1Lab) -> None:
    def probe(path: Path) -> Header:
        if path.name == "B02_s2_w3.png":
            message = f"{path} is HTML, no image"
            raise ImageError(message)
        if path.name == "B03_s2_w3.png":
            raise PermissionError(13, os.strerror(13), str(path))
        return plain(path)

    screen = index_lab(rxrx1, probe)
    rows = screen.problems
    assert conservation_line(screen) == "found 6 = indexed 4 + refused 2"
    assert rows["kind"].tolist() == ["unreadable file"] * 2
    assert rows["channel"].tolist() == ["actin"] * 2
    assert rows["found"][0] == f"{PLATE}/B02_s2_w3.png: is HTML, no image"  # the path once
    assert rows["fix"][0] == "Copy the file again from its origin."
    assert rows["found"][1] == f"{PLATE}/B03_s2_w3.png: cannot be read: Permission denied"


def test_a_whole_file_of_another_kind_is_to_be_exported_otherwise_not_copied_again(rxrx1: RxRx1Lab) -> None:
    color = rxrx1.root / PLATE / "B02_s2_w3.png"
    Image.new("RGB", (512, 512)).save(color)
    row = index_lab(rxrx1, lambda path: probe_image(path) if path == color else plain(path)).problems.iloc[0]
    assert row["found"] == f"{PLATE}/B02_s2_w3.png: is RGB of 8 bit; expected one gray channel of 8 or 16 bit per file."
    assert row["fix"] == "Export gray planes of 8 or 16 bit: a file per channel."


def test_every_damaged_channel_of_a_site_is_named_at_once(rxrx1: RxRx1Lab) -> None:
    """Otherwise each repaired file would reveal the next only after indexing again."""
    for name in ("B03_s1_w2.png", "B03_s1_w5.png"):
        (rxrx1.root / PLATE / name).write_bytes(b"")
    screen = index_lab(rxrx1, None)
    row = screen.problems.iloc[0]
    assert len(screen.problems) == 1
    assert row["channel"] == f"{screen.metadata.channels[1].name}, {screen.metadata.channels[4].name}"
    assert row["found"] == f"{PLATE}/B03_s1_w2.png: 0 bytes; {PLATE}/B03_s1_w5.png: 0 bytes"
    assert row["expected"] == "an image of each of the 6 channels"


def test_empty_files_are_refused_even_without_a_header_reader(rxrx1: RxRx1Lab) -> None:
    (rxrx1.root / PLATE / "B03_s1_w2.png").write_bytes(b"")
    row = index_lab(rxrx1, None).problems.iloc[0]
    assert row[["kind", "found"]].tolist() == ["unreadable file", f"{PLATE}/B03_s1_w2.png: 0 bytes"]


def test_hashes_sizes_and_times_are_those_of_the_files(rxrx1: RxRx1Lab) -> None:
    files = sorted((rxrx1.root / PLATE).glob("B03_s2_*"))
    os.utime(files[4], (2e9, 2e9))
    row = index_lab(rxrx1).sites.iloc[3]
    assert row["sha256"] == site_sha256([sha256_of(path) for path in files], [-1] * 6)
    assert row["size"] == sum(path.stat().st_size for path in files)
    assert row["mtime"] == 2e9
    assert index_lab(rxrx1, hash_files=False).sites["sha256"].unique().tolist() == [""]


def test_without_hashes_a_file_has_the_same_size_time_and_error(rxrx1: RxRx1Lab) -> None:
    (rxrx1.root / PLATE / "B03_s1_w2.png").write_bytes(b"")
    (rxrx1.root / PLATE / "B03_s1_w3.png").unlink()
    (rxrx1.root / PLATE / "B03_s1_w4.png").unlink()
    (rxrx1.root / PLATE / "B03_s1_w4.png").mkdir()
    names = [f"{PLATE}/B03_s1_w{channel}.png" for channel in range(1, 7)]
    hashed = dict(read_files(names, rxrx1.root, None, None, hash_files=True))
    unhashed = dict(read_files(names, rxrx1.root, None, None, hash_files=False))
    assert unhashed == {name: replace(file, sha256="") for name, file in hashed.items()}
    status = (rxrx1.root / names[0]).stat()
    assert (unhashed[names[0]].size, unhashed[names[0]].mtime) == (status.st_size, status.st_mtime)
    errors = [file.error for file in unhashed.values()]
    assert errors == ["", "0 bytes", "no such file", "not a regular file", "", ""]


def test_the_hash_of_a_site_sees_the_order_of_channels_and_the_page() -> None:
    assert site_sha256(["a", "b"], [-1, -1]) != site_sha256(["b", "a"], [-1, -1])
    assert site_sha256(["a", "a"], [0, 1]) != site_sha256(["a", "a"], [2, 3])
    assert site_sha256(["ab", "cd"], [-1, -1]) == hashlib.sha256(b"abcd").hexdigest()


def test_the_same_bytes_under_two_names_are_remarked_on_in_pairs(rxrx1: RxRx1Lab) -> None:
    (rxrx1.root / PLATE / "B04_s1_w2.png").write_bytes((rxrx1.root / PLATE / "B03_s2_w2.png").read_bytes())
    screen = index_lab(rxrx1)
    assert conservation_line(screen) == "found 6 = indexed 6 + refused 0"
    row = screen.problems.iloc[0]
    assert row[["severity", "kind", "count"]].tolist() == ["warning", "same bytes", 2]
    assert row["found"] == f"{PLATE}/B03_s2_w2.png = {PLATE}/B04_s1_w2.png"


def test_progress_counts_every_file_once(rxrx1: RxRx1Lab) -> None:
    message: list[tuple[int, int]] = []
    index_lab(rxrx1, progress=lambda n_done, total: message.append((n_done, total)))
    assert message == [(k, 36) for k in range(1, 37)]


def test_sites_are_sorted_as_people_count(tmp_path: Path) -> None:
    lab = RxRx1Lab(tmp_path / "lab")
    wells = [("HUVEC-10", "1", "B03"), ("HUVEC-2", "10", "B03"), ("HUVEC-2", "2", "C01"), ("HUVEC-2", "2", "B10")]
    lab.table("train.csv", [(*well, "sirna_1") for well in wells])
    sites = index_lab(lab, tables_only=True).sites
    assert list(zip(sites["experiment"], sites["plate"], sites["well"], strict=True)) == wells[::-1]


# --- Plates ------------------------------------------------------------------------------------------------------


def entries(*wells: str) -> list[SiteRecord]:
    return [SiteRecord(experiment="e", plate="p", well=well, site=1) for well in wells]


def test_a_plate_grows_only_when_a_well_needs_it_and_says_so() -> None:
    assert assign_well_positions(entries("A01", "P24"), None)[1:] == ((16, 24), [])
    placed_wells, plate, problems = assign_well_positions(entries("A01", "q1", "ZZ99"), None)
    assert plate == (32, 48)
    assert [entry.well for entry in placed_wells] == ["A01", "Q01"]
    assert [problem.kind for problem in problems] == ["well off the plate", "larger plate assumed"]
    assert problems[0].expected == "a well from A01 to AF48"
    assert problems[1].found == "Q01 and 0 more outside 16 x 24 wells"
    assert assign_well_positions(entries("A25"), None)[1] == (32, 48)


def test_a_plate_that_was_given_stays() -> None:
    placed_wells, plate, problems = assign_well_positions(entries("H12", "A13", "I01"), (8, 12))
    assert plate == (8, 12)
    assert [entry.well for entry in placed_wells] == ["H12"]
    assert [problem.found for problem in problems] == ["'A13'", "'I01'"]
    assert assign_well_positions(entries("AF48"), (32, 48))[2] == []
