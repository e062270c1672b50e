"""Check and lock the folder of a packed screen; one process writes at a time.

Pack images one by one, read them back, compare; keep those that are whole.
"""

import contextlib
import hashlib
import itertools
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from distangle.core.io import make_folder, remove_stale_temporaries, sha256_of, write_bytes, write_json
from distangle.core.lock import run_lock
from distangle.errors import ImageError, ScreenError
from distangle.images.cache import VerifiedReader
from distangle.images.packing import ngff, records
from distangle.images.readers.packed import read_packed
from distangle.screen import Problem, Screen, read_screen, well_name
from distangle.screen.screen import CARD

UNFINISHED = "packing.json"  # says whose pack a folder holds that has no card yet


@contextlib.contextmanager
def hold_folder(screen: Screen, folder: Path, *, format: str, say: Callable[[str], None]) -> Iterator[None]:
    """Lock the folder of a packed screen and remove files of killed packings.

    Args:
        screen: That is packed.
        folder: New, or of an earlier packing of this screen in this format.
        format: Of the pack.
        say: Told when the lock of a dead process is cleared.

    Raises:
        RunError: Another process packs into it.
        ScreenError: It holds the screen, its images, or something else than an earlier packing of it.
        StorageError: It cannot be written to.
    """
    _check_apart(screen, folder)
    make_folder(folder)
    own = owner_mark(screen, folder, format=format)
    with run_lock(folder, say=say):
        _check_former(folder, own)
        remove_stale_temporaries(folder)
        write_json(folder / UNFINISHED, own)
        yield
        (folder / UNFINISHED).unlink()


def owner_mark(screen: Screen, folder: Path, *, format: str) -> dict[str, str]:
    """Return what identifies a packing: its format, and the images it is made of."""
    source = screen.source
    if isinstance(source, Path):
        source = Path(os.path.relpath(source.resolve(), folder.resolve()))
    return {
        "format": format,
        "source_before": source.as_posix() if isinstance(source, Path) else str(source),
        "sites_sha256_before": screen.card.sites_sha256,
    }


def _check_apart(screen: Screen, folder: Path) -> None:
    there = folder.resolve()
    if screen.folder is not None and there == screen.folder.resolve():
        raise ScreenError(f"{folder} is the screen itself. Name another folder for the packed one.")
    source = screen.source
    if isinstance(source, Path) and there in (source.resolve(), *source.resolve().parents):
        raise ScreenError(
            f"{folder} holds the images of the screen, {source}, which it might replace. Name another folder."
        )


def _check_former(folder: Path, own: Mapping[str, str]) -> None:
    """Check what a folder holds already.

    Raises:
        ScreenError: A screen that was indexed, or the pack of another one.
    """
    if (folder / CARD).exists():
        said = read_screen(folder).card.provenance.get("packed")
        if said is None:
            raise ScreenError(
                f"{folder} holds a screen that was indexed, not packed, and would be lost. Name another folder."
            )
    else:
        said = _read(folder / UNFINISHED)
    if said is None:
        return
    if said.get("format") != own["format"]:
        raise ScreenError(
            f"{folder} holds a pack in the format {said.get('format')}. Name another folder for {own['format']}."
        )
    known_by = [own["source_before"], own["sites_sha256_before"] or "nothing"]
    if not {said.get("source_before"), said.get("sites_sha256_before")} & set(known_by):
        raise ScreenError(
            f"{folder} holds the pack of another screen ({said.get('source_before')}). Name another folder."
        )


def _read(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        said = json.loads(path.read_text(encoding="utf-8"))
        return said if isinstance(said, dict) else None
    return None


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


class PackWriter:
    """Packs the images of a screen, from any thread.

    Args:
        screen: With hashes.
        folder: Of the pack; locked.
        format: Of the pack.
        level: Of zstd.
    """

    def __init__(self, screen: Screen, folder: Path, *, format: Format, level: int) -> None:
        self._screen, self._folder, self._format, self._level = screen, folder, format, level
        self._reader = VerifiedReader(screen)
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
                write_bytes(whole, records.encode_record(image, level=self._level, about=about))
            else:
                field = whole.parents[len(ngff.CHUNK) - 1]
                for left in whole.parents[: len(ngff.CHUNK)]:
                    remove_stale_temporaries(left)
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
                remove_stale_temporaries(self._folder / name)

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
                said = ngff.metadata_of(path)
                ngff.read_chunk(blob, path=path)
        except (ImageError, OSError):
            return None
        return hashlib.sha256(blob).hexdigest() if said == about else None


def _row_and_column(well: str) -> tuple[str, str]:
    letters = well.rstrip("0123456789")
    return letters, well[len(letters) :]
