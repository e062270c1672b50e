"""The folders of RxRx1: one listing per plate, no file opened."""

import dataclasses
import re
from collections.abc import Iterator

from distangle.remote import AnyPath
from distangle.screen.layouts.names.listing import LOOKS, not_understood, scan
from distangle.screen.layouts.wells.base import require_base_one
from distangle.screen.plate import split_well, well_name
from distangle.screen.problems import Problem

SPLITS = ("train", "test", "images")  # folders that may stand between the source and its experiments

_PLATE = re.compile(r"plate0*([0-9]+)", re.IGNORECASE)
_IMAGE = re.compile(r"([A-Za-z]{1,2}[0-9]{1,3})_s([1-9][0-9]{0,3})_w([1-6])\.png", re.IGNORECASE)

_EXPECTED = "images in EXPERIMENT/Plate<number>/, such as HUVEC-01/Plate1/"

SiteKey = tuple[str, str, str, str, int]  # folder, experiment, plate, well, site


@dataclasses.dataclass(kw_only=True, slots=True)
class RxRx1Site:
    """Files of one site; `taken` names files of a channel that is there twice."""

    folder: str
    experiment: str
    plate: str
    well: str
    site: int
    files: dict[int, str] = dataclasses.field(default_factory=dict)
    taken: list[str] = dataclasses.field(default_factory=list)


def list_images(source: AnyPath) -> tuple[list[RxRx1Site], list[Problem]]:
    """List images site by site; report names that are not understood."""
    sites: dict[SiteKey, RxRx1Site] = {}
    remarks: list[Problem] = []
    for split in (*SPLITS, ""):
        for experiment in _folders(source, split, remarks):
            if not split and experiment in SPLITS:
                continue
            if not experiment.isprintable():
                remarks.append(not_understood(f"{split}/{experiment}", experiment, "a printable name such as HUVEC-01"))
                continue
            above = f"{split}/{experiment}" if split else experiment
            for name in _folders(source, above, remarks):
                match = _PLATE.fullmatch(name)
                if match is not None:
                    plate = (experiment, str(int(match[1])))
                    _list_plate(source, f"{above}/{name}", plate, sites, remarks)
                elif _has_images(source, f"{above}/{name}"):
                    remarks.append(not_understood(f"{above}/{name}", name, _EXPECTED))
    return list(sites.values()), remarks


def _list_plate(
    source: AnyPath,
    folder: str,
    plate: tuple[str, str],
    sites: dict[SiteKey, RxRx1Site],
    remarks: list[Problem],
) -> None:
    for name, is_folder in scan(source, folder, remarks):
        if is_folder and not name.startswith(".") and _has_images(source, f"{folder}/{name}"):
            remarks.append(not_understood(f"{folder}/{name}", name, "images in the folder of their plate"))
            continue
        match = _IMAGE.fullmatch(name)
        position = split_well(match[1]) if match else None
        if match is not None and position is None:
            require_base_one(match[1], f"{folder}/{name}")
        if match is None or position is None:
            if LOOKS.fullmatch(name):
                expected = "<well>_s<site>_w<channel 1-6>.png, such as B03_s1_w1.png"
                remarks.append(not_understood(f"{folder}/{name}", name, expected))
            continue
        key = (folder, *plate, well_name(*position), int(match[2]))
        site = sites.get(key)
        if site is None:
            site = sites[key] = RxRx1Site(folder=folder, experiment=key[1], plate=key[2], well=key[3], site=key[4])
        if int(match[3]) in site.files:
            site.taken += [site.files[int(match[3])], name]
        site.files.setdefault(int(match[3]), name)


def _folders(source: AnyPath, folder: str, remarks: list[Problem]) -> Iterator[str]:
    # The depth is fixed at three, so a link to a folder above cannot lead round in a circle.
    strays: list[str] = []
    for name, is_folder in scan(source, folder, remarks, may_lack=folder in SPLITS):
        if is_folder and not name.startswith("."):
            yield name
        elif not is_folder and LOOKS.fullmatch(name):
            strays.append(name)
    if strays:
        listed = ", ".join(strays[:5]) + (", ..." if len(strays) > 5 else "")
        remarks.append(not_understood(folder or ".", listed, _EXPECTED, count=len(strays)))


def _has_images(source: AnyPath, folder: str) -> bool:
    """Whether a folder of another name holds images, or plates with some."""
    return any(
        _PLATE.fullmatch(name) if is_folder else LOOKS.fullmatch(name) for name, is_folder in scan(source, folder, [])
    )
