"""Folders behind a URL: the same screen as from disk, by memory and HTTP; failures are named."""

import functools
import http.server
import re
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from distangle.core import remote
from distangle.core.remote import RemotePath, cache_folder
from distangle.errors import ImageError, RemoteError, ScreenError
from distangle.images import ImageCache, probe_image
from distangle.screen import Screen, conservation_line, index, read_screen, write_screen
from distangle.screen.checks import check_tables
from plate_maker import plate

WELLS = ("A01", "B02", "C03")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server that lists its folders, as `python -m http.server` does."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(params=["memory", "http"])
def upload(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serve a folder behind a URL; return the URL."""
    monkeypatch.setenv("DISTANGLE_CACHE", str(tmp_path / "cache"))
    if request.param == "memory":
        memory = fsspec.filesystem("memory")

        def put(folder: Path) -> str:
            memory.put(str(folder), f"/{tmp_path.name}", recursive=True)
            return f"memory:///{tmp_path.name}"

        yield put
        memory.rm(f"/{tmp_path.name}", recursive=True)
        return
    pytest.importorskip("aiohttp")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield lambda folder: f"http://127.0.0.1:{server.server_address[1]}/{folder.relative_to(tmp_path).as_posix()}"
    server.shutdown()
    server.server_close()
    thread.join()


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 200, (32, 32)).astype(np.uint8)


def png(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(path)


def rxrx1(lab: Path) -> dict[str, Any]:
    rows = ["id_code,experiment,plate,well,sirna"]
    for k, well in enumerate(WELLS):
        rows.append(f"U2OS-01_1_{well},U2OS-01,1,{well},sirna_{k}")
        for c in range(1, 7):
            png(lab / f"train/U2OS-01/Plate1/{well}_s1_w{c}.png", 10 * k + c)
    (lab / "train.csv").write_text("\n".join([*rows, "U2OS-01_1_D04,U2OS-01,1,D04,sirna_9", ""]))
    return {}


def table(lab: Path) -> dict[str, Any]:
    rows = ["plate,well,perturbation,dna"]
    for k, well in enumerate(WELLS):
        png(lab / f"images/{well}.png", k)
        rows.append(f"P1,{well},x{k},images/{well}.png")
    (lab / "wells.csv").write_text("\n".join([*rows, "P1,D04,x9,images/none.png", ""]))
    return {"channels": ["dna"]}


def folder(lab: Path) -> dict[str, Any]:
    for k, well in enumerate(WELLS):
        for c in (1, 2):
            png(lab / f"P1/{well}_s1_w{c}.png", 10 * k + c)
    png(lab / "P1/D04_s1_w1.png", 99)
    return {"layout": "folder", "pattern": "{plate}/{well}_s{site}_w{channel}.png"}


def cellpainting(lab: Path) -> dict[str, Any]:
    rows = []
    for k, well in enumerate([*WELLS, "D04"]):
        row = {"Metadata_Plate": "P1", "Metadata_Well": well, "Metadata_Site": 1}
        for c, name in enumerate(("DNA", "ER")):
            file = lab / f"images/B1/images/P1/Images/{well}_{name}.tiff"
            if well != "D04":
                file.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(file, pixels(10 * k + c), compression="zlib")
            row[f"FileName_Orig{name}"] = file.name
            row[f"PathName_Orig{name}"] = "s3://cellpainting-gallery/x/source_4/images/B1/images/P1/Images/"
        rows.append(row)
    tables = lab / "workspace/load_data_csv/B1/P1"
    tables.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(tables / "load_data_with_illum.parquet", index=False)
    wells = "".join(f"P1,{well},J{k}\n" for k, well in enumerate([*WELLS, "D04"]))
    (lab / "workspace/well.csv").write_text(f"Metadata_Plate,Metadata_Well,Metadata_JCP2022\n{wells}")
    return {}


def ome_zarr(lab: Path) -> dict[str, Any]:
    wells = {f"{well[0]}/{int(well[1:])}": [np.stack([pixels(k), pixels(k + 9)])] for k, well in enumerate(WELLS)}
    plate(lab / "P1.zarr", wells, version="0.5")
    (lab / "P1.zarr/C/3/0/zarr.json").unlink()
    return {}


def index_source(source: object, **options: Any) -> Screen:
    return index(source, probe=probe_image, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [rxrx1, table, folder, cellpainting, ome_zarr])
def test_a_url_gives_the_screen_of_the_disk_and_its_pixels(upload: Any, make: Any, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    options = make(lab)
    from_disk, from_url = index_source(lab, **options), index_source(upload(lab), **options)
    assert conservation_line(from_url) == conservation_line(from_disk)
    assert from_disk.metadata.refused > 0
    assert from_url.metadata.layout == from_disk.metadata.layout
    assert from_url.metadata.perturbations == from_disk.metadata.perturbations
    columns = [name for name in from_disk.sites.columns if name != "mtime"]
    pd.testing.assert_frame_equal(from_url.sites[columns], from_disk.sites[columns])
    kinds = ["severity", "kind", "plate", "well", "row"]
    assert from_url.problems[kinds].to_numpy().tolist() == from_disk.problems[kinds].to_numpy().tolist()
    write_screen(from_url, tmp_path / "screen")
    stored_screen = read_screen(tmp_path / "screen")
    assert isinstance(stored_screen.source, RemotePath)
    stores = ImageCache(from_disk), ImageCache(stored_screen)
    for row in range(len(from_disk.sites)):
        assert np.array_equal(stores[0].image(row), stores[1].image(row))
    assert not [
        finding
        for finding in check_tables(stored_screen).findings
        if finding.severity == "error" and "changed" in finding.kind
    ]


def test_the_official_table_of_rxrx1_tells_its_layout_behind_a_url_too(upload: Any, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    for c in range(1, 7):
        png(lab / f"images/U2OS-01/Plate1/A01_s1_w{c}.png", c)
    header = "site_id,well_id,cell_type,dataset,experiment,plate,well,site,well_type,sirna"
    (lab / "metadata.csv").write_text(f"{header}\n,,U2OS,train,U2OS-01,1,A01,1,treatment,s1\n")
    screen = index_source(upload(lab))
    assert screen.metadata.provenance["recognised_by"] == "metadata.csv"
    assert screen.metadata.layout == "rxrx1"


def test_a_file_is_fetched_once_and_refused_when_it_is_another(upload: Any, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    options = table(lab)
    screen = index_source(upload(lab), **options)
    (copy,) = cache_folder().rglob("A01.png")
    modified = copy.stat().st_mtime_ns
    assert np.array_equal(ImageCache(screen).image(0), pixels(0)[None])
    assert copy.stat().st_mtime_ns == modified
    png(copy, 77)  # another image overwrites the copy
    with pytest.raises(ImageError, match="A01.png"):
        ImageCache(screen).image(0)
    copy.unlink()
    assert np.array_equal(ImageCache(screen).image(0), pixels(0)[None])


def test_what_is_not_there_is_named_by_its_url(upload: Any, tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/note.txt").write_text("x")
    url = upload(tmp_path / "lab")
    with pytest.raises(ScreenError, match=rf"{url}/none does not exist"):
        index_source(f"{url}/none")
    with pytest.raises(ScreenError, match=rf"The layout of {url} cannot be detected"):
        index_source(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/lab", "ftp://host/lab cannot be read. Expected a path, or a URL of s3, gs"),
        ("s3://bucket/../other", "contains '..'. Write the full address of the folder."),
    ],
)
def test_an_address_of_another_kind_is_refused(url: str, message: str) -> None:
    with pytest.raises(RemoteError) as error:
        index_source(url)
    assert message in str(error.value)


def test_a_download_that_ends_early_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("DISTANGLE_CACHE", str(tmp_path / "cache"))

    class Short(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"x" * 10)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Short)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.raises(RemoteError, match=r"x\.png"):
        RemotePath(f"http://127.0.0.1:{server.server_address[1]}/x.png").local_copy()
    server.shutdown()
    server.server_close()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_server_that_nobody_answers_at_is_an_error_with_the_url(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(RemoteError, match=r"http://127.0.0.1:9/lab cannot be read \(.*\)\. Check the address"):
        RemotePath("http://127.0.0.1:9/lab").read_bytes()


def test_the_cloud_extra_installs_what_every_scheme_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    cloud = {re.split(r"[><=]", package)[0] for package in extras["project"]["optional-dependencies"]["cloud"]}
    assert cloud == {remote._PACKAGES[scheme] for scheme in remote.SCHEMES if scheme != "memory"}

    def absent(*_args: object) -> None:
        raise ImportError

    monkeypatch.setattr("fsspec.core.url_to_fs", absent)
    remote._file_system.cache_clear()
    with pytest.raises(RemoteError, match=r"the package adlfs is not installed: pip install '\.\[cloud\]'\."):
        remote.RemotePath("az://container/plate").exists()
    remote._file_system.cache_clear()
