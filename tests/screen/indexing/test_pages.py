"""Files of many pages: each channel is the page that the file declares, or the file is refused."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from distangle.errors import ScreenError
from distangle.images import probe_image, read_image
from distangle.screen import Screen, conservation_line, index
from distangle.screen.checks.edits import check_edits

SIZE = 16
OME = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"{uuid}>{images}</OME>'


def plane(value: int, dtype: str = "uint16", size: int = SIZE) -> np.ndarray:
    """Return a unique plane with values around a number."""
    noise = np.random.default_rng(value).integers(0, 5, (size, size))
    return (value + noise).astype(dtype)


def pages(path: Path, planes: Sequence[np.ndarray], *, text: str | None = None, aside: Sequence[int] = ()) -> Path:
    """Write planes as pages; the first has `text` as description, those in `aside` are marked as thumbnails."""
    with tifffile.TiffWriter(path) as writer:
        for k, page in enumerate(planes):
            writer.write(
                page,
                contiguous=False,
                metadata=None,
                photometric="minisblack",
                description=text if k == 0 else None,
                subfiletype=1 if k in aside else 0,
            )
    return path


def image_xml(sizes: dict[str, int], *, order: str = "XYCZT", names: Sequence[str] = (), blocks: str = "") -> str:
    text = " ".join(f'Size{axis}="{sizes.get(axis, 1)}"' for axis in "CZT")
    channels = "".join(f'<Channel ID="C{k}" SamplesPerPixel="1" Name="{name}"/>' for k, name in enumerate(names))
    pixels = f'<Pixels ID="P" DimensionOrder="{order}" Type="uint16" SizeX="{SIZE}" SizeY="{SIZE}" {text}>'
    return f"<Image>{pixels}{channels}{blocks}</Pixels></Image>"


def ome(*images: str, uuid: str = "") -> str:
    return OME.format(uuid=f' UUID="{uuid}"' if uuid else "", images="".join(images))


def index_folder(folder: Path, channels: Sequence[str] = ("DAPI", "GFP"), **options: Any) -> Screen:
    return index(
        folder, **{"layout": "folder", "pattern": "{well}.tif", "channels": channels, "probe": probe_image, **options}
    )


def levels(screen: Screen, row: int = 0) -> list[int]:
    """Return the level of each channel of a site, rounded to hundreds."""
    image = read_image(screen.image_paths(row), screen.pages(row))
    return [round(float(mean) / 100) * 100 for mean in image.mean(axis=(1, 2))]


def error_of(folder: Path, channels: Sequence[str] = ("DAPI", "GFP"), **options: Any) -> str:
    with pytest.raises(ScreenError) as error:
        index_folder(folder, channels, **options)
    return str(error.value)


def test_channels_of_a_z_stack_are_never_its_first_pages(tmp_path: Path) -> None:
    stack = np.stack([np.stack([plane(1000 * (c + 1) + 100 * z) for z in range(3)]) for c in range(2)])
    tifffile.imwrite(tmp_path / "A01.tif", stack, ome=True, metadata={"axes": "CZYX"}, photometric="minisblack")
    message = error_of(tmp_path)
    assert "A01.tif: 2 channels x 3 focal planes by its OME-XML metadata, 6 pages" in message
    assert "expected one focal plane and one time of 2 channels" in message
    assert "name the pages in Frame_ columns of a load_data.csv" in message


@pytest.mark.parametrize(
    ("order", "sizes", "values"),
    [
        ("XYZCT", {"C": 2, "Z": 1}, [1000, 2000]),
        ("XYTCZ", {"C": 3}, [1000, 2000, 3000]),
    ],
)
def test_one_plane_of_each_channel_needs_no_names(
    tmp_path: Path, order: str, sizes: dict[str, int], values: list[int]
) -> None:
    pages(tmp_path / "A01.tif", [plane(value) for value in values], text=ome(image_xml(sizes, order=order)))
    assert levels(index_folder(tmp_path, ["a", "b", "c"][: len(values)])) == values


def test_ome_blocks_say_where_a_channel_lies(tmp_path: Path) -> None:
    blocks = '<TiffData IFD="1" FirstC="0" PlaneCount="1"/><TiffData IFD="0" FirstC="1"/>'
    message = ome(image_xml({"C": 2}, blocks=blocks))
    pages(tmp_path / "A01.tif", [plane(2000), plane(1000)], text=message)
    screen = index_folder(tmp_path)
    assert (levels(screen), screen.pages(0)) == ([1000, 2000], [1, 0])
    assert screen.metadata.provenance["pages_told_by_files"] == 1
    assert list(check_edits(screen)) == []


def test_channels_are_found_by_the_names_that_the_file_has(tmp_path: Path) -> None:
    message = ome(image_xml({"C": 3}, names=["GFP", "Brightfield", "DAPI"]))
    pages(tmp_path / "A01.tif", [plane(2000), plane(5000), plane(1000)], text=message)
    assert levels(index_folder(tmp_path, ["DAPI", "gfp"])) == [1000, 2000]
    message = error_of(tmp_path, ["DAPI", "RFP", "GFP"])
    assert "channels GFP,Brightfield,DAPI by its metadata, expected DAPI, RFP, GFP. Use the channel names of" in message
    assert "3 channels by its OME-XML metadata, 3 pages (GFP, Brightfield, DAPI)" in error_of(tmp_path, ["a", "b"])


def test_a_data_set_of_many_files_tells_each_its_planes(tmp_path: Path) -> None:
    blocks = "".join(
        f'<TiffData IFD="{c}" FirstC="{c}" FirstZ="{z}" PlaneCount="1"><UUID FileName="{well}.tif">urn:{well}</UUID>'
        "</TiffData>"
        for z, well in enumerate(["A01", "A02"])
        for c in (1, 0)
    )
    for k, well in enumerate(["A01", "A02"]):
        message = ome(image_xml({"C": 2, "Z": 2}, blocks=blocks), uuid=f"urn:{well}")
        pages(tmp_path / f"{well}.tif", [plane(1000 + k * 100), plane(2000 + k * 100)], text=message)
    assert levels(index_folder(tmp_path), 1) == [1100, 2100]
    (tmp_path / "A02.tif").rename(tmp_path / "B07.tif")  # its own identifier is still there
    assert levels(index_folder(tmp_path), 1) == [1100, 2100]


def test_a_companion_beside_the_file_is_read_and_nothing_else(tmp_path: Path) -> None:
    blocks = '<TiffData IFD="1" FirstC="0"><UUID FileName="A01.tif">urn:1</UUID></TiffData>'
    blocks += '<TiffData IFD="0" FirstC="1"><UUID FileName="A01.tif">urn:1</UUID></TiffData>'
    (tmp_path / "set.companion.ome").write_text(ome(image_xml({"C": 2}, blocks=blocks)))
    message = ome('<BinaryOnly MetadataFile="set.companion.ome" UUID="urn:1"/>')
    pages(tmp_path / "A01.tif", [plane(2000), plane(1000)], text=message)
    assert levels(index_folder(tmp_path)) == [1000, 2000]
    pages(tmp_path / "A01.tif", [plane(2000), plane(1000)], text=message.replace("set.comp", "../set.comp"))
    assert "they are in '../set.companion.ome', which does not exist beside the file" in error_of(tmp_path)


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        (ome(image_xml({"C": 2, "Z": 3})), "they describe 6 planes of this file, which has 2 pages"),
        (ome(image_xml({"C": 2}), image_xml({"C": 2})), "they describe 4 planes of this file"),
        (ome(image_xml({"C": 2}, order="XYQ")), "dimension order 'Q'"),
        (
            ome(image_xml({"C": 2}, blocks='<TiffData FirstC="2" IFD="0"/>')),
            "a TiffData element starts outside the image",
        ),
        ('<!DOCTYPE x [<!ENTITY a "b">]>' + ome(image_xml({"C": 2})), "defines a document type"),
        (ome(image_xml({"C": 2}))[:-30] + "</OME>", "the XML is broken"),
        (
            "ImageJ=1.54f\nimages=2\nchannels=2\nslices=3\n",
            "2 channels x 3 slices x 1 frames, but the file has 2 pages",
        ),
    ],
)
def test_metadata_that_contradict_the_file_are_not_believed(tmp_path: Path, description: str, expected: str) -> None:
    pages(tmp_path / "A01.tif", [plane(1000), plane(2000)], text=description)
    assert "metadata are invalid: " in (message := error_of(tmp_path))
    assert expected in message


def test_several_images_in_a_file_are_counted(tmp_path: Path) -> None:
    block = '<TiffData IFD="{}" PlaneCount="2"/>'
    images = [image_xml({"C": 2}, blocks=block.format(first)) for first in (0, 2)]
    pages(tmp_path / "A01.tif", [plane(value) for value in (1000, 2000, 3000, 4000)], text=ome(*images))
    message = error_of(tmp_path)
    assert "2 images, the first of 2 channels by its OME-XML metadata, 4 pages, expected one image per file" in message


def test_hyperstacks_of_imagej_run_over_channels_first(tmp_path: Path) -> None:
    message = "ImageJ=1.54f\nimages=6\nchannels=2\nslices=3\nhyperstack=true\n"
    pages(tmp_path / "A01.tif", [plane(1000 * (k % 2 + 1) + 100 * (k // 2)) for k in range(6)], text=message)
    assert "A01.tif: 2 channels x 3 focal planes by its ImageJ metadata, 6 pages" in error_of(tmp_path)
    pages(tmp_path / "A01.tif", [plane(1000), plane(2000)], text="ImageJ=1.54f\nimages=2\nchannels=2\n")
    assert levels(index_folder(tmp_path)) == [1000, 2000]
    # Channels that were saved as slices, each named by the user.
    pages(tmp_path / "A01.tif", [plane(1000), plane(2000)], text="ImageJ=1.54f\nimages=2\nslices=2\n")
    assert levels(index_folder(tmp_path)) == [1000, 2000]
    assert "2 focal planes by its ImageJ metadata, 2 pages, expected one page" in error_of(tmp_path, ["DAPI"])


def test_axes_that_tifffile_noted_are_read(tmp_path: Path) -> None:
    stack = np.stack([np.stack([plane(1000 * (c + 1) + 100 * t) for t in range(4)]) for c in range(2)])
    tifffile.imwrite(tmp_path / "A01.tif", stack, metadata={"axes": "CTYX"}, photometric="minisblack")
    assert "2 channels x 4 times by its tifffile metadata, 8 pages" in error_of(tmp_path)


def test_pages_of_which_nothing_is_told_must_be_named_all(tmp_path: Path) -> None:
    pages(tmp_path / "A01.tif", [plane(value) for value in (1000, 2000, 3000)])
    message = error_of(tmp_path)
    assert "A01.tif: 3 pages, expected 2 pages, one per named channel. Name all 3 of them in --channels" in message
    assert levels(index_folder(tmp_path, ["a", "b", "c"])) == [1000, 2000, 3000]


def test_thumbnails_are_no_pages(tmp_path: Path) -> None:
    small = plane(9, "uint8", 4)
    pages(tmp_path / "A01.tif", [small, plane(1000), plane(2000)], aside=[0])
    pages(tmp_path / "A02.tif", [plane(1100), plane(2100)])
    screen = index_folder(tmp_path)
    assert [levels(screen, row) for row in (0, 1)] == [[1000, 2000], [1100, 2100]]
    assert (screen.metadata.dtype, screen.metadata.shape) == ("uint16", (SIZE, SIZE))
    single = tmp_path / "single"
    single.mkdir()
    pages(single / "A01_w1.tif", [plane(1000), small], aside=[1])
    pages(single / "A01_w2.tif", [small, plane(2000)], aside=[0])
    assert levels(index_folder(single, (), pattern="{well}_w{channel}.tif")) == [1000, 2000]
    pages(single / "A01_w2.tif", [small, plane(2000)])
    message = error_of(single, (), pattern="{well}_w{channel}.tif")
    assert "A01_w2.tif: 2 pages, expected one page. Files of many pages need --pages COLUMN" in message


def test_pages_of_another_size_are_no_channels(tmp_path: Path) -> None:
    pages(tmp_path / "A01.tif", [plane(1000), plane(9, "uint8", 4)])
    assert "page 2 is uint8 4 x 4, the first is uint16 16 x 16" in error_of(tmp_path)


def test_planes_under_one_page_are_counted(tmp_path: Path) -> None:
    stack = np.stack([plane(1000 + k) for k in range(5)])
    tifffile.imwrite(tmp_path / "A01.tif", stack, imagej=True, truncate=True)
    assert "is a stack of 5 planes under one page (ImageJ)" in error_of(tmp_path, ["DAPI"])
    tifffile.imwrite(tmp_path / "A01.tif", stack, truncate=True, photometric="minisblack")
    assert "is a stack of 5 planes under one page (tifffile)" in error_of(tmp_path, ["DAPI"])
    tifffile.imwrite(tmp_path / "A01.tif", stack[0], metadata=None, extratags=[(33629, 5, 5, [1] * 10, True)])
    assert "is a stack of 5 planes under one page (MetaMorph)" in error_of(tmp_path, ["DAPI"])


def test_an_animated_png_is_refused_with_its_frames(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(plane(20 * k, "uint8")) for k in range(1, 4)]
    first.save(tmp_path / "A01_w1.png", save_all=True, append_images=others)
    first.save(tmp_path / "A02_w1.png")
    screen = index_folder(tmp_path, (), pattern="{well}_w{channel}.png")
    assert conservation_line(screen) == "found 2 = indexed 1 + refused 1"
    assert "an animation of 3 frames; expected one plane" in screen.problems["found"][0]


def test_a_table_with_a_column_of_files_is_held_to_the_same(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.stack([plane(1000 + 100 * k) for k in range(4)]).reshape(2, 2, SIZE, SIZE),
        metadata={"axes": "CZYX"},
        photometric="minisblack",
    )
    (tmp_path / "wells.csv").write_text("plate,well,perturbation,file\nP1,A01,x,a.tif\n")
    message = error_of(tmp_path / "wells.csv", layout="table", pattern=None, pages="file")
    assert "a.tif: 2 channels x 2 focal planes" in message


HEADER = "FileName_DNA,Frame_DNA,Series_DNA,FileName_ER,Frame_ER,Series_ER,Metadata_Plate,Metadata_Well,Metadata_Site"


def load_data(folder: Path, *rows: str) -> Path:
    (folder / "load_data.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return folder


def of_rows(folder: Path) -> Screen:
    return index_folder(folder, (), layout="cellpainting", pattern=None)


def test_series_of_a_table_are_the_images_of_the_file(tmp_path: Path) -> None:
    images = [
        image_xml({"C": 2}, order="XYZCT", blocks='<TiffData IFD="2" PlaneCount="2"/>'),
        image_xml({"C": 2}, order="XYZCT", blocks='<TiffData IFD="0" PlaneCount="2"/>'),
    ]
    pages(tmp_path / "w.tif", [plane(3000), plane(4000), plane(1000), plane(2000)], text=ome(*images))
    screen = of_rows(load_data(tmp_path, "w.tif,0,0,w.tif,1,0,P1,A01,1", "w.tif,0.0,1,w.tif,1.0,1,P1,A01,2"))
    assert [levels(screen, row) for row in (0, 1)] == [[1000, 2000], [3000, 4000]]
    assert "series 3 (counted from 0)" in error_of(
        load_data(tmp_path, "w.tif,0,3,w.tif,1,3,P1,A01,1"), (), layout="cellpainting", pattern=None
    )
    # One file per channel, a series per channel, and no frame given.
    message = error_of(load_data(tmp_path, "w.tif,0,0,w.tif,0,1,P1,A01,1"), (), layout="cellpainting", pattern=None)
    assert "2 images, the first of 2 channels" in message
    assert "Name the plane of each channel in Frame_ columns" in message


def test_frames_are_planes_in_the_order_that_the_file_tells(tmp_path: Path) -> None:
    stack = [plane(1000 * (c + 1) + 100 * z) for c in range(2) for z in range(3)]
    pages(tmp_path / "w.tif", stack, text=ome(image_xml({"C": 2, "Z": 3}, order="XYZCT")))
    screen = of_rows(load_data(tmp_path, "w.tif,1,0,w.tif,4,0,P1,A01,1"))
    assert levels(screen) == [1100, 2100]
    remark = screen.problems.iloc[0]
    assert (remark["severity"], remark["kind"]) == ("warning", "pages that no row names")
    assert "2 channels x 3 focal planes by its OME-XML metadata, 6 pages, and the tables name 2" in remark["found"]
    message = error_of(load_data(tmp_path, "w.tif,0,0,w.tif,1,0,P1,A01,1"), (), layout="cellpainting", pattern=None)
    assert "the pages of DNA and ER are both of its channel 1" in message


def test_tables_that_name_no_frame_name_no_plane(tmp_path: Path) -> None:
    for name in ("d.tif", "e.tif"):
        pages(tmp_path / name, [plane(1000), plane(1100), plane(1200)])
    message = error_of(load_data(tmp_path, "d.tif,0,0,e.tif,0,0,P1,A01,1"), (), layout="cellpainting", pattern=None)
    assert "d.tif: 3 pages, expected one page" in message
    assert re.search(
        "Series_.* 'x'.*expected a whole number",
        error_of(load_data(tmp_path, "d.tif,0,x,e.tif,0,0,P1,A01,1"), (), layout="cellpainting", pattern=None),
    )
    message = error_of(load_data(tmp_path, "d.tif,0,1,e.tif,0,0,P1,A01,1"), (), layout="cellpainting", pattern=None)
    assert "Only OME-XML has several series" in message
    for name in ("d.tif", "e.tif"):
        pages(tmp_path / name, [plane(1000)])
    assert of_rows(load_data(tmp_path, "d.tif,0,0,e.tif,0,0,P1,A01,1")).pages(0) == [None, None]
