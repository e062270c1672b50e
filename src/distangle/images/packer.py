"""Pack images one by one, read them back, compare; keep those that are whole."""

import hashlib
import itertools
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from distangle.commit import commit_bytes, sha256_of, sweep
from distangle.errors import ImageError, ScreenError
from distangle.images.packed import ngff, records
from distangle.images.packed.read import read_packed
from distangle.images.site import SiteReader
from distangle.screen import Problem, Screen, well_name

Format = Literal["ome-zarr", "records"]

_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class PackedImage:
    """One image as it lies in the pack.

    Attributes:
        row: Of the screen.
        path: From the folder of the pack.
        size: Bytes.
        mtime: When it was written, s since 1970.
        sha256: Of the file.
        kept: It was there already.
    """

    row: int
    path: PurePosixPath
    size: int
    mtime: float
    sha256: str
    kept: bool


class Packer:
    """Packs the images of a screen, from any thread.

    Args:
        screen: With hashes.
        folder: Of the pack; locked.
        format: Of the pack.
        level: Of zstd.
    """

    def __init__(self, screen: Screen, folder: Path, *, format: Format, level: int) -> None:
        self._screen, self._folder, self._format, self._level = screen, folder, format, level
        self._reader = SiteReader(screen)
        sites = screen.sites
        plates = sites[["experiment", "plate"]].astype(str).apply(tuple, axis=1)
        self._plates: dict[tuple[str, str], str] = {}
        for plate in dict.fromkeys(plates):
            name = _PLAIN.sub("-", "_".join(plate)).strip("-.") or "plate"
            taken = set(self._plates.values())
            names = itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2)))
            self._plates[plate] = next(one for one in names if one not in taken)
        self._plate_of = list(plates)
        # Fields of a well are numbered from 0 in the order of their sites.
        self._field = sites.groupby(["experiment", "plate", "well"]).cumcount().tolist()

    def pack(self, row: int) -> PackedImage | Problem:
        """Pack the image of a site, or say why it cannot be read.

        Raises:
            ScreenError: The disk gives back another image than it was given.
            StorageError: It cannot be written.
        """
        site = self._screen.sites.iloc[row]
        about = {
            "experiment": str(site.experiment),
            "plate": str(site.plate),
            "well": str(site.well),
            "site": int(site.site),
            "source_sha256": str(site.sha256),
            "channels": [channel.name for channel in self._screen.card.channels],
            "level": self._level,
        }
        path = self._path(row)
        whole = self._folder / path
        kept = self._kept(whole, about)
        if kept is None:
            try:
                image = self._reader.read(row)
            except ImageError as error:
                return self._refused(row, str(error))
            if self._format == "records":
                commit_bytes(whole, records.encode_record(image, level=self._level, about=about))
            else:
                field = whole.parents[len(ngff.CHUNK) - 1]
                for left in whole.parents[: len(ngff.CHUNK)]:
                    sweep(left)
                ngff.write_image(field, image, level=self._level, channels=self._screen.card.channels, about=about)
            if not np.array_equal(read_packed(whole), image):
                raise ScreenError(
                    f"{whole} does not read back as it was written. Check the memory and the disk of this machine."
                )
        found = whole.stat()
        return PackedImage(row, path, found.st_size, found.st_mtime, kept or sha256_of(whole), kept is not None)

    def sweep(self) -> None:
        """Remove files of a killed packing.

        Fields of OME-Zarr are cleaned when they are written.
        """
        if self._format == "records":
            for name in self._plates.values():
                sweep(self._folder / name)

    def describe_plates(self, rows: list[int]) -> None:
        """Write the metadata of plates and wells, for the fields that are there."""
        card = self._screen.card
        wells: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            parts = self._path(row).parts
            wells[parts[0]]["/".join(parts[1:3])].append(parts[3])
        letters = [_row_and_column(well_name(row, 0))[0] for row in range(card.plate_rows)]
        numbers = [_row_and_column(well_name(0, column))[1] for column in range(card.plate_columns)]
        for plate, fields in wells.items():
            name = plate.removesuffix(".zarr")
            ngff.write_plate(self._folder / plate, name=name, wells=fields, rows=letters, columns=numbers)

    def _refused(self, row: int, said: str) -> Problem:
        site = self._screen.sites.iloc[row]
        # The message names one file of the site, or all of them.
        named = [k for k, path in enumerate(self._screen.image_paths(row)) if str(path) in said]
        return Problem(
            kind="unreadable file",
            file=", ".join(dict.fromkeys(str(site[f"path_{k + 1}"]) for k in named)),
            experiment=str(site.experiment),
            plate=str(site.plate),
            well=str(site.well),
            site=str(site.site),
            channel=", ".join(self._screen.card.channels[k].name for k in named),
            found=said.replace(f"{self._screen.source}/", ""),
            expected="an image",
            fix="Copy the file again from where it came, index and pack again.",
        )

    def _path(self, row: int) -> PurePosixPath:
        site = self._screen.sites.iloc[row]
        plate = self._plates[self._plate_of[row]]
        if self._format == "records":
            return PurePosixPath(plate, f"{site.well}_s{int(site.site)}{records.SUFFIX}")
        letters, number = _row_and_column(str(site.well))
        return PurePosixPath(f"{plate}.zarr", letters, number, str(self._field[row]), *ngff.CHUNK)

    def _kept(self, path: Path, about: dict[str, object]) -> str | None:
        """Return the hash of a whole image made from the same bytes; None otherwise."""
        if not path.exists():
            return None
        try:
            blob = path.read_bytes()
            if self._format == "records":
                header, _ = records.record_header(blob, path=path)
                said = {name: header.get(name) for name in about}
                records.decode_record(blob, path=path)
            else:
                said = ngff.about_of(path)
                ngff.read_chunk(blob, path=path)
        except (ImageError, OSError):
            return None
        return hashlib.sha256(blob).hexdigest() if said == about else None


def _row_and_column(well: str) -> tuple[str, str]:
    letters = well.rstrip("0123456789")
    return letters, well[len(letters) :]
