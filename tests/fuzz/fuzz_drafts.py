"""A random screen in the making: plates, wells, sites, channels, and the table of its wells."""

import csv
import io
import random
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_pixels import FilePlan, Place, write_file

PLATES = ((4, 6), (8, 12), (16, 24), (32, 48))


STAINS = ("DAPI", "GFP", "actin", "Mito", "AGP", "RNA", "ER")


@dataclass
class Draft:
    """A screen that is being made up.

    Attributes:
        rng: Makes every choice.
        layout: Name of the layout.
        shape: Height and width of a plane, px.
        dtype: Of a pixel.
        experiments: Their names.
        plates: Number of experiment and of plate to the plate's name.
        wells: The same to rows and columns from 0.
        sites: Numbers of the sites of every well, as they are written.
        channels: Names that the screen's channels must have, by their numbers.
        options: For `index`.
        files: Path to the planned content of an image file.
        texts: Path to the text of a table or of metadata.
        deeds: Functions that write everything else.
        labels: Experiment, plate, row and column to the true perturbation; None where no file gives it.
        fault: Kind of the fault; "" for none.
        instance: Which one of the kind.
        says: Regular expression that a remark or refusal about the fault matches.
        untold: Facts that may differ from the draft because the fault hides them, such as the names of plates.
        extra: What the judge should know beside: `must_be_whole`, where a refusal is wrong; `advised`, options with
            which all is read where it was refused; `planes_by_channel`; `numbers` that channels may be called by;
            `more`, a check of the screen.
    """

    rng: random.Random
    layout: str
    shape: tuple[int, int]
    dtype: str
    experiments: list[str]
    plates: dict[tuple[int, int], str]
    wells: dict[tuple[int, int], list[tuple[int, int]]]
    sites: list[int]
    channels: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FilePlan] = field(default_factory=dict)
    texts: dict[str, str | bytes] = field(default_factory=dict)
    deeds: list[Callable[[Path, np.random.Generator], None]] = field(default_factory=list)
    labels: dict[tuple[int, int, int, int], str] | None = None
    fault: str = ""
    instance: str = ""
    says: str = ""
    untold: frozenset[str] = frozenset()
    extra: dict[str, Any] = field(default_factory=dict)

    def places(self) -> Iterator[Place]:
        for (e, p), wells in self.wells.items():
            for row, column in wells:
                for s in range(len(self.sites)):
                    for c in range(len(self.channels)):
                        yield Place(e, p, row, column, s, c)

    def write(self, folder: Path) -> Path:
        """Write everything below `folder/in`, and return that."""
        rng = np.random.default_rng(self.rng.randrange(1 << 30))
        source = folder / "in"
        source.mkdir(parents=True)
        for path, plan in self.files.items():
            write_file(source / path, plan, self.shape, self.dtype, rng)
        for path, text in self.texts.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(text if isinstance(text, bytes) else text.encode())
        for write_files in self.deeds:
            write_files(source, rng)
        return source


def letters(row: int) -> str:
    return string.ascii_uppercase[row] if row < 26 else "A" + string.ascii_uppercase[row - 26]


def well_text(row: int, column: int, style: str = "A01") -> str:
    return {
        "A01": f"{letters(row)}{column + 1:02d}",
        "A1": f"{letters(row)}{column + 1}",
        "A001": f"{letters(row)}{column + 1:03d}",
        "r01c01": f"r{row + 1:02d}c{column + 1:02d}",
    }[style]


def draft(
    rng: random.Random,
    layout: str,
    *,
    n_plates: int | None = None,
    n_experiments: int = 1,
    plate: tuple[int, int] | None = None,
    n_wells: int | None = None,
    n_channels: int | None = None,
    n_sites: int | None = None,
    wells: Sequence[tuple[int, int]] = (),
    first_site: int | None = None,
    numbered: bool = True,
) -> Draft:
    """Make up plates, wells, sites and channels.

    Args:
        rng: Decides.
        layout: Name of the layout.
        n_plates: Of each experiment.
        n_experiments: In all.
        plate: Rows and columns.
        n_wells: Of each plate.
        n_channels: In all.
        n_sites: Of each well.
        wells: That every plate has, beside others.
        first_site: Number of the first site.
        numbered: Plates may bear bare numbers.
    """
    rows, columns = plate or rng.choice(PLATES)
    n_plates = n_plates or rng.choice((1, 1, 2, 3))
    style = rng.choice(("P{}", "BR0011700{}", "plate_{}", "20-041{}", "{}", "HTS week {}", "rep{}"))
    style = style if numbered or style != "{}" else "P{}"
    has_same_wells = rng.random() < 0.6  # most screens have the same wells on every plate
    plates, labels = {}, {}
    for e in range(n_experiments):
        for p in range(n_plates):
            plates[e, p] = style.format(p + 1 + e * n_plates)
            positions: dict[tuple[int, int], None] = dict.fromkeys(
                [*wells, *(next(iter(labels.values()), []) if has_same_wells else [])]
            )
            want = max(n_wells or rng.randint(2, 4), len(positions))
            while len(positions) < want:
                positions[rng.randrange(rows), rng.randrange(columns)] = None
            labels[e, p] = sorted(positions)
    first = rng.choice((0, 1, 1, 1)) if first_site is None else first_site
    n_sites = n_sites or rng.choice((1, 1, 2, 3))
    n_channels = n_channels or rng.choice((1, 2, 2, 3))
    return Draft(
        rng=rng,
        layout=layout,
        shape=(rng.randint(8, 16), rng.randint(8, 16)),
        dtype=rng.choice(("uint8", "uint16")),
        experiments=[f"week{e + 1}" for e in range(n_experiments)],
        plates=plates,
        wells=labels,
        sites=[first + s for s in range(n_sites)],
        channels=rng.sample(STAINS, n_channels),
    )


def label(experiment: str, plate: str, row: int, column: int) -> str:
    return f"c {experiment}:{plate} r{row}c{column}".replace(" :", " ")


def label_rows(d: Draft, *, style: str = "A01", keys: Sequence[str] | None = None) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a table with a row per well, and note the true labels."""
    rng = d.rng
    if keys is None:
        keys = rng.choice((("plate",), ("plate",), ("plate", "experiment"), ()))
        if "experiment" in keys and d.experiments[0] == "all":
            keys = ("plate",)
        if not keys and len(d.experiments) > 1:
            keys = ("plate", "experiment")
    rows: dict[tuple[str, str, int, int], str] = {}
    d.labels = {}
    for (e, p), wells in d.wells.items():
        experiment = d.experiments[e] if "experiment" in keys else ""
        plate = d.plates[e, p] if "plate" in keys else ""
        for row, column in wells:
            name = label(experiment, plate, row, column)
            d.labels[e, p, row, column] = name
            rows[experiment, plate, row, column] = name
    header = [*keys, "well", "perturbation", "dose"]
    lines = []
    for (experiment, plate, row, column), name in rows.items():
        values = {"experiment": experiment, "plate": plate}
        lines.append(
            [*(values[key] for key in keys), well_text(row, column, style), name, rng.choice("1 2.5 10".split())]
        )
    rng.shuffle(lines)
    return header, lines


def text_of(rows: Sequence[Sequence[str]], *, delimiter: str = ",", line: str = "\n") -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, lineterminator=line).writerows(rows)
    return stream.getvalue()


def dialect(rng: random.Random, rows: Sequence[Sequence[str]]) -> bytes:
    """Return a table in one of the ways that tables are usually written."""
    text = text_of(rows, delimiter=rng.choice(",,;\t"), line=rng.choice(("\n", "\r\n")))
    return (b"\xef\xbb\xbf" if rng.random() < 0.2 else b"") + text.encode()


def add_labels(d: Draft, **choices: Any) -> None:
    """Put a table of the wells beside the images, and name it."""
    header, rows = label_rows(d, **{"style": d.rng.choice(("A01", "A01", "A1", "A001", "r01c01")), **choices})
    d.texts["wells.csv"] = dialect(d.rng, [header, *rows])
    d.options["tables"] = "wells.csv"
