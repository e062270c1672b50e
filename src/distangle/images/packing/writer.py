"""Write packed images one by one into a locked folder, and verify them."""

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
from distangle.core.remote import address_of
from distangle.errors import ImageError, ScreenError
from distangle.images.cache import VerifiedReader
from distangle.images.packing import ngff, records
from distangle.images.readers.packed_image import read_packed
from distangle.screen import Problem, Screen, read_screen, well_name
from distangle.screen.screen import METADATA, WELL_COLUMNS

UNFINISHED = "packing.json"  # identifies the pack of a folder without a screen


@contextlib.contextmanager
def lock_folder(screen: Screen, folder: Path, *, format: str, say: Callable[[str], None]) -> Iterator[None]:
    """Lock the folder of a packed screen and remove files of killed processes.

    Args:
        screen: The screen to pack.
        folder: A new folder, or one of an earlier packing of this screen in this format.
        format: Format of the pack.
        say: Called with a message when the lock of a dead process is removed.

    Raises:
        RunError: Another process packs into the folder.
        ScreenError: The folder holds the screen, its images, or something other than an earlier packing of it.
        StorageError: The folder is not writable.
    """
    _check_target(screen, folder)
    make_folder(folder)
    identity = pack_identity(screen, folder, format=format)
    with run_lock(folder, say=say):
        _check_earlier_pack(folder, identity)
        remove_stale_temporaries(folder)
        write_json(folder / UNFINISHED, identity)
        yield
        (folder / UNFINISHED).unlink()


def pack_identity(screen: Screen, folder: Path, *, format: str) -> dict[str, str]:
    """Return what identifies a packing: its format and its source images."""
    source_path = screen.source
    if isinstance(source_path, Path):
        source_path = Path(os.path.relpath(source_path.resolve(), folder.resolve()))
    return {
        "format": format,
        "source_before": source_path.as_posix() if isinstance(source_path, Path) else str(source_path),
        "sites_sha256_before": screen.metadata.sites_sha256,
    }


def _check_target(screen: Screen, folder: Path) -> None:
    target = folder.resolve()
    if screen.folder is not None and target == screen.folder.resolve():
        raise ScreenError(f"{folder} is the screen itself. Name another folder for the packed screen.")
    source = screen.source
    images = source.resolve() if isinstance(source, Path) else source.cache_path.resolve()
    is_comparable = isinstance(source, Path) or address_of(target) is not None
    if is_comparable and target in (images, *images.parents):
        raise ScreenError(
            f"{folder} holds the images of the screen, {source}, which it might replace. Name another folder."
        )


def _check_earlier_pack(folder: Path, identity: Mapping[str, str]) -> None:
    """Check that the content of a folder is an earlier packing, if any.

    Raises:
        ScreenError: The folder holds an indexed screen, or the pack of another one.
    """
    if (folder / METADATA).exists():
        former = read_screen(folder).metadata.provenance.get("packed")
        if former is None:
            raise ScreenError(
                f"{folder} holds a screen that was indexed, not packed, and would be lost. Name another folder."
            )
    else:
        former = _read_unfinished(folder / UNFINISHED)
    if former is None:
        return
    if former.get("format") != identity["format"]:
        raise ScreenError(
            f"{folder} holds a pack in the format {former.get('format')}. Name another folder for {identity['format']}."
        )
    sources = [identity["source_before"], identity["sites_sha256_before"] or "nothing"]
    if not {former.get("source_before"), former.get("sites_sha256_before")} & set(sources):
        raise ScreenError(
            f"{folder} holds the pack of another screen ({former.get('source_before')}). Name another folder."
        )


def _read_unfinished(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else None
    return None


Format = Literal["ome-zarr", "records"]

_UNSAFE_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class PackedImage:
    """One image of a pack.

    Attributes:
        row: Row of its site in the screen.
        path: Path relative to the folder of the pack.
        size: Bytes.
        mtime: Time of the last change, s since 1970.
        sha256: Hash of the file.
        was_present: Whether an earlier call wrote it.
    """

    row: int
    path: PurePosixPath
    size: int
    mtime: float
    sha256: str
    was_present: bool


class PackWriter:
    """Pack the images of a screen, from any thread.

    Args:
        screen: The screen, with file hashes.
        folder: Folder of the pack; locked.
        format: Format of the pack.
        level: Level of zstd.
    """

    def __init__(self, screen: Screen, folder: Path, *, format: Format, level: int) -> None:
        self._screen, self._folder, self._format, self._level = screen, folder, format, level
        self._reader = VerifiedReader(screen)
        sites = screen.sites
        plates = sites[["experiment", "plate"]].astype(str).apply(tuple, axis=1)
        self._plates: dict[tuple[str, str], str] = {}
        for plate in dict.fromkeys(plates):
            name = _UNSAFE_CHARACTERS.sub("-", "_".join(plate)).strip("-.") or "plate"
            used_names = set(self._plates.values())
            names = itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2)))
            self._plates[plate] = next(candidate for candidate in names if candidate not in used_names)
        self._plate_of = list(plates)
        # Fields of a well are numbered from 0 in the order of their sites.
        self._field = sites.groupby(list(WELL_COLUMNS)).cumcount().tolist()

    def pack(self, row: int) -> PackedImage | Problem:
        """Pack the image of a site, or return why it cannot be read.

        Raises:
            ScreenError: The image read back differs from the image written.
            StorageError: It cannot be written.
        """
        site = self._screen.sites.iloc[row]
        about = {
            "experiment": str(site.experiment),
            "plate": str(site.plate),
            "well": str(site.well),
            "site": int(site.site),
            "source_sha256": str(site.sha256),
            "channels": [channel.name for channel in self._screen.metadata.channels],
            "level": self._level,
        }
        path = self._path(row)
        file = self._folder / path
        intact_hash = self._intact_hash(file, about)
        if intact_hash is None:
            try:
                image = self._reader.read(row)
            except ImageError as error:
                return self._problem(row, str(error))
            if self._format == "records":
                write_bytes(file, records.encode_record(image, level=self._level, about=about))
            else:
                field = file.parents[len(ngff.CHUNK) - 1]
                for stale_folder in file.parents[: len(ngff.CHUNK)]:
                    remove_stale_temporaries(stale_folder)
                ngff.write_image(field, image, level=self._level, channels=self._screen.metadata.channels, about=about)
            if not np.array_equal(read_packed(file), image):
                raise ScreenError(
                    f"{file} read back other pixels than were written. Check the memory and the disk of this machine."
                )
        status = file.stat()
        return PackedImage(
            row, path, status.st_size, status.st_mtime, intact_hash or sha256_of(file), intact_hash is not None
        )

    def sweep(self) -> None:
        """Remove files of a killed process.

        Fields of OME-Zarr are cleaned when they are written.
        """
        if self._format == "records":
            for name in self._plates.values():
                remove_stale_temporaries(self._folder / name)

    def describe_plates(self, rows: list[int]) -> None:
        """Write the metadata of plates and wells, for the existing fields."""
        metadata = self._screen.metadata
        wells: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            parts = self._path(row).parts
            wells[parts[0]]["/".join(parts[1:3])].append(parts[3])
        letters = [_row_and_column(well_name(row, 0))[0] for row in range(metadata.plate_rows)]
        numbers = [_row_and_column(well_name(0, column))[1] for column in range(metadata.plate_columns)]
        for plate, fields in wells.items():
            name = plate.removesuffix(".zarr")
            ngff.write_plate(self._folder / plate, name=name, wells=fields, rows=letters, columns=numbers)

    def _problem(self, row: int, reason: str) -> Problem:
        site = self._screen.sites.iloc[row]
        # The message names one file of the site, or all of them.
        k_channels = [k for k, path in enumerate(self._screen.image_paths(row)) if str(path) in reason]
        return Problem(
            kind="unreadable file",
            file=", ".join(dict.fromkeys(str(site[f"path_{k + 1}"]) for k in k_channels)),
            experiment=str(site.experiment),
            plate=str(site.plate),
            well=str(site.well),
            site=str(site.site),
            channel=", ".join(self._screen.metadata.channels[k].name for k in k_channels),
            found=reason.replace(f"{self._screen.source}/", ""),
            expected="an image",
            fix="Copy the file again from its source, then index and pack again.",
        )

    def _path(self, row: int) -> PurePosixPath:
        site = self._screen.sites.iloc[row]
        plate = self._plates[self._plate_of[row]]
        if self._format == "records":
            return PurePosixPath(plate, f"{site.well}_s{int(site.site)}{records.SUFFIX}")
        letters, number = _row_and_column(str(site.well))
        return PurePosixPath(f"{plate}.zarr", letters, number, str(self._field[row]), *ngff.CHUNK)

    def _intact_hash(self, path: Path, about: dict[str, object]) -> str | None:
        """Return the hash of an intact image from the same bytes; None otherwise."""
        if not path.exists():
            return None
        try:
            blob = path.read_bytes()
            if self._format == "records":
                header, _ = records.record_header(blob, path=path)
                metadata = {name: header.get(name) for name in about}
                records.decode_record(blob, path=path)
            else:
                metadata = ngff.metadata_of(path)
                ngff.read_chunk(blob, path=path)
        except (ImageError, OSError):
            return None
        return hashlib.sha256(blob).hexdigest() if metadata == about else None


def _row_and_column(well: str) -> tuple[str, str]:
    letters = well.rstrip("0123456789")
    return letters, well[len(letters) :]
