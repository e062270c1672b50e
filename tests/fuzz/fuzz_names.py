"""Faults of names: rows counted from 0, folders of times, spellings of wells, thumbnails."""

import random
from collections.abc import Callable, Sequence

from fuzz_drafts import Draft, add_labels, dialect, label_rows, letters, text_of
from fuzz_pixels import FilePlan, thumbnail
from fuzz_schemes import SCHEMES, Scheme, folder_screen, path_of, way_of
from fuzz_screens import NgffPlate, load_data_screen, ngff_screen, table_screen


def _scheme(path: str, *, ending: str = "tif", pattern: str = "", by_number: bool = True, moments: str = "") -> Scheme:
    """Return a way of naming; its pattern, if not given, is the name of the file in the words of `index`."""
    if not pattern:
        pattern = path.rsplit("/", 1)[-1]
        for ours, theirs in (
            *(
                ("{letter}{col1}", "{well}"),
                ("{letter}{col0}", "{well}"),
                ("{k0:02}", "{channel}"),
                ("{k}", "{channel}"),
            ),
            *(("{row0:02}", "{row}"), ("{row0}", "{row}"), ("{col0:02}", "{column}"), ("{col0}", "{column}")),
            *(("{stain}", "{channel}"), ("{plane:02}", "{plane}"), ("{time:04}", "{time}"), ("{letter}", "{row}")),
        ):
            pattern = pattern.replace(ours, theirs)
    return Scheme("own", path, pattern, by_number=by_number, endings=(ending,), moments=moments)


ZERO_BASED = (
    _scheme(
        "{plate}/image--L0000--S00--U{col0:02}--V{row0:02}--J08--E00--O00--X00--Y{site}--C{k}.{ext}",
        pattern="image--L0000--S00--U{column}--V{row}--J08--E00--O00--X00--Y{site}--C{channel}.{ext}",
    ),
    _scheme("{plate}/r{row0:02}c{col0:02}_f{site}_w{k}.{ext}"),
    _scheme("{plate}/{row0}_{col0}_s{site}_{stain}.{ext}", ending="png", by_number=False),
    _scheme("{plate}/{letter}{col0}_s{site}_{stain}.{ext}", ending="png", by_number=False),
    _scheme("{plate}/{letter}_{col0:02}_s{site}_w{k}.{ext}"),
    _scheme("{plate}/R{row0}C{col0}_s{site}_w{k}.{ext}", pattern="{well}_s{site}_w{channel}.{ext}"),
)


def counting_from_0(rng: random.Random) -> Draft:
    instance = rng.choice(("names", "names", "names", "table of wells", "table of sites", "load_data", "ngff", "ngff"))
    rows, columns = plate = rng.choice(((4, 6), (8, 12), (16, 24)))
    edge = rng.choice([(0, rng.randrange(columns)), (rng.randrange(rows), 0)])
    choices = {"plate": plate, "wells": [edge, (0, 0)][: rng.choice((1, 1, 2))]}
    if instance == "names":
        scheme = rng.choice(ZERO_BASED)
        if "letter" in scheme.path:
            choices["wells"] = [(edge[0], 0)]
        d, _, _ = folder_screen(rng, schemes=[scheme], **choices)
        instance += f" {scheme.pattern}"
        add_labels(d, style="A01")
        if rng.random() < 0.3:
            d.texts.pop(str(d.options.pop("tables")))
            d.labels = None
    elif instance == "table of wells":
        by_number = rng.random() < 0.3
        if by_number:
            choices["wells"] = [(0, 0)]
        from_1 = [scheme for scheme in SCHEMES if scheme.name != "leica"]
        d, _, _ = folder_screen(rng, schemes=from_1, **choices)
        header, lines = label_rows(d)
        well_column = header.index("well")
        by_letter = rng.random() < 0.4
        if by_letter and all(c for wells in d.wells.values() for _, c in wells):
            by_letter = False
        header[well_column : well_column + 1] = ["well"] if by_number else ["row", "column"]
        for fields in lines:
            row, column = position(fields[well_column])
            parts = [letters(row) if by_letter else str(row), str(column)]
            fields[well_column : well_column + 1] = [str(row * columns + column)] if by_number else parts
        if by_number:
            d.options |= {"plate_rows": rows, "plate_columns": columns}
            instance = "table of well numbers"
        d.texts["wells.csv"] = dialect(rng, [header, *lines])
        d.options["tables"] = "wells.csv"
    elif instance == "table of sites":
        d, lines = table_screen(rng, **choices)
        if rng.random() < 0.5:
            replace_wells(lines, rng.choice((("row", "column"), ("Row", "Col"))), lambda r, c: [str(r), str(c)])
        else:
            replace_wells(lines, ("well",), lambda r, c: [f"r{r}c{c}"])
        d.texts["sites.csv"] = dialect(rng, lines)
    elif instance == "load_data":
        d, tables = load_data_screen(rng, **choices)
        by_row = rng.random() < 0.5
        for table in tables.values():
            if by_row:
                replace_wells(table, ("Metadata_Row", "Metadata_Col"), lambda r, c: [str(r), str(c)])
            else:
                replace_wells(table, ("Metadata_Well",), lambda r, c: [f"r{r:02d}c{c:02d}"])
        all_tables = list(tables.values())
        d.texts["load_data.csv"] = text_of([all_tables[0][0], *(row for table in all_tables for row in table[1:])])
    else:
        d = ngff_screen(rng, **choices)
        numbers = rng.random() < 0.5
        if not numbers and all(c for wells in d.wells.values() for _, c in wells):
            numbers = True
        for source in d.deeds:
            assert isinstance(source, NgffPlate)
            source.wells = {
                f"{first[0].row if numbers else letters(first[0].row)}/{first[0].column}": [first, *rest]
                for first, *rest in source.wells.values()
            }
        if rng.random() < 0.6:
            add_labels(d, style="A01")
    d.says = r"from 0|zero|base 0|well-base"
    d.fault, d.instance = "counting from 0", instance
    d.extra["advised"] = {"well_base": "images=1,tables=0" if instance.startswith("table of well") else 0}
    return d


def position(name: str) -> tuple[int, int]:
    head = name.rstrip("0123456789")
    row = ord(head[-1]) - 65 + (26 if len(head) > 1 else 0)
    return row, int(name[len(head) :]) - 1


def replace_wells(table: list[list[str]], names: Sequence[str], write: Callable[[int, int], list[str]]) -> None:
    """Write the wells of a table, which stand as `A01`, `A1` or `r01c01`, in other columns."""
    index = next(k for k, name in enumerate(table[0]) if name.removeprefix("Metadata_").lower() == "well")
    for fields in table[1:]:
        name = fields[index]
        if name.startswith("r"):
            row, column = (int(part) - 1 for part in name[1:].split("c"))
        else:
            row, column = position(name)
        fields[index : index + 1] = write(row, column)
    table[0][index : index + 1] = names


def mixed_moments(rng: random.Random) -> Draft:
    instance = rng.choice(
        (
            "half copied",
            "half copied",
            "all mixed",
            "all mixed",
            "two of all",
            "stack and one",
            "fixed plane",
            "acquisitions",
            "acquisitions",
        )
    )
    if instance == "acquisitions":
        d = ngff_screen(rng, n_sites=rng.choice((1, 2)))
        for plate in d.deeds:
            assert isinstance(plate, NgffPlate)
            n = rng.choice((2, 2, 3))
            plate.acquisitions = [a for a in range(n) for _ in d.sites]
            plate.said = rng.choice(({}, {"acquisitions": [{"id": a, "name": f"day {a}"} for a in range(n)]}))
            for path, fields in plate.wells.items():
                plate.wells[path] = [[p._replace(acquisition=a) for p in places] for a in range(n) for places in fields]
        if rng.random() < 0.5:
            add_labels(d)
        d.untold = frozenset({"plates", "sites"})
        d.extra["advised"] = {"acquisition": "1"}
    elif instance in ("stack and one", "fixed plane"):
        schemes = [s for s in SCHEMES if "plane" in s.moments and s.name != "imagexpress z"]
        d, scheme, ending = folder_screen(rng, schemes=schemes, n_channels=rng.choice((2, 3)))
        for place in d.places():
            if place.channel == 0:
                plan = d.files[path_of(d, scheme, place, ending)]
                for z in (2, 3):
                    d.files[path_of(d, scheme, place._replace(plane=z), ending)] = FilePlan(
                        [place._replace(plane=z)], plan.way
                    )
        if instance == "fixed plane":
            d.options["pattern"] = _with_plane(scheme, ending)
            if scheme.by_number and "channels" in d.options and rng.random() < 0.5:
                del d.options["channels"]
                d.channels = [f"{c + 1:0{2 if scheme.name == 'cellvoyager' else 1}}" for c in range(len(d.channels))]
        planes = [f"{name}={1 if c else 2}" for c, name in enumerate(d.channels)]
        d.extra |= {"advised": {"planes": planes, "pattern": scheme.pattern.replace("{ext}", ending)}}
        d.extra["planes_by_channel"] = True
    else:
        d, scheme, ending = folder_screen(
            rng, schemes=[s for s in SCHEMES if s.moments], n_channels=rng.choice((2, 3)), n_wells=3
        )
        axis = rng.choice(scheme.moments.split())
        wells = {place.well for place in d.places()}
        broken_wells = wells if instance != "half copied" else set(rng.sample(sorted(wells), 1))
        for place in list(d.places()):
            later = place._replace(**{axis: 2})
            plan = FilePlan([later], way_of(rng, ending))
            if place.well in broken_wells and (instance == "two of all" or place.channel == 1):
                d.files[path_of(d, scheme, later, ending)] = plan
                if instance == "two of all":
                    d.extra["advised"] = {"planes": ["2"]} if axis == "plane" else {"time": "2"}
                elif instance == "all mixed" and axis == "plane":
                    planes = [f"{name}={2 if c == 1 else 1}" for c, name in enumerate(d.channels)]
                    d.extra |= {"advised": {"planes": planes}, "planes_by_channel": True}
                if instance != "two of all":
                    del d.files[path_of(d, scheme, place, ending)]
    d.says = r"plane|time|moment|acqui|\bz\b|stack|missing channel|channel.*(lost|lack|no file|left)|no channel"
    d.fault, d.instance = "mixed moments", instance
    return d


def _with_plane(scheme: Scheme, ending: str) -> str:
    own_patterns = {
        "harmony": "r{row}c{column}f{site}p02-ch{channel}sk{time}fk{}fl{}.tiff",
        "cellvoyager": "{}_{well}_T{time}F{site}L{}A{}Z02C{channel}.tif",
        "incell": "{row} - {column}(fld {site} wv {channel} z 2).tif",
    }
    return own_patterns.get(scheme.name, scheme.pattern.replace("{plane}", "2").replace("{ext}", ending))


MOMENT_FOLDERS = (
    *("t{time}", "T{time:04}", "time_{time}", "Timepoint{time}", "TimePoint_{time}", "timepoint-{time}"),
    *("z{plane}", "Z{plane:02}", "plane_{plane}", "ZStep_{plane}"),
    *("cycle{time}", "Cycle_{time:02}", "round{time}", "Round_{time}"),
)
WELL_FOLDERS = ("r{row1:02}c{col1:02}", "Well_{well}", "{well}", "well {well}", "{letter}{col1}", "R{row1}_C{col1}")
FIELD_FOLDERS = ("field_{site}", "f{site:02}", "site{site}", "Pos{site}", "fov_{site}")


def folders_that_are_no_plates(rng: random.Random) -> Draft:
    instance = rng.choice(("moment", "moment", "moment", "moment alone", "well", "well", "field"))
    above = rng.choice(("{plate}/", "{plate}/", "{plate}/Images/", ""))
    n_plates = 1 if not above else None
    stain = rng.choice(("{stain}", "w{k}"))
    if instance.startswith("moment"):
        folder = rng.choice(MOMENT_FOLDERS)
        path = f"{above}{folder}/{{letter}}{{col1}}_s{{site}}_{stain}.{{ext}}"
    elif instance == "well":
        folder = rng.choice(WELL_FOLDERS)
        path = f"{above}{folder}/{{letter}}{{col1}}_s{{site}}_{stain}.{{ext}}"
    else:
        folder = rng.choice(FIELD_FOLDERS)
        path = f"{above}{folder}/{{letter}}{{col1}}_{stain}.{{ext}}"
    ending = rng.choice(("png", "tif"))
    by_number = stain == "w{k}"
    scheme = _scheme(path, ending=ending, by_number=by_number)
    d, _, _ = folder_screen(rng, schemes=[scheme], n_plates=n_plates, n_sites=2 if instance == "field" else None)
    if not above:
        d.plates = {key: "in" for key in d.plates}
    if instance.startswith("moment"):
        axis = "plane" if "plane" in folder else "time"
        for place in list(d.places()):
            later = place._replace(**{axis: 2})
            d.files[path_of(d, scheme, later, ending)] = FilePlan([later], way_of(rng, ending))
            if instance == "moment alone" and len(d.channels) > 1:
                mixed_place = place if place.channel else later  # channels of different moments
                del d.files[path_of(d, scheme, mixed_place, ending)]
    if rng.random() < 0.6:
        add_labels(d, keys=())
    d.untold = frozenset({"plates", "sites"} if instance == "field" else {"plates"})
    d.says = r"folder|time|plane|moment|cycle|round|two files"
    d.fault, d.instance = "folders that are no plates", f"{instance}: {above}{folder}"
    return d


def well_spelling(rng: random.Random) -> Draft:
    instance = rng.choice(
        (
            "small and large",
            "small alone",
            "dash",
            "dash table",
            "numbers table",
            "numbers",
            "R2C7",
            "R2C7 table",
            "quadrants",
        )
    )
    if instance in ("small and large", "small alone"):
        wells = [(rng.randrange(26, 32), rng.randrange(1, 48)) for _ in range(2)]
        wells += (
            [(row - 26, column) for row, column in wells[: rng.choice((1, 2))]] if instance == "small and large" else []
        )
        d, scheme, ending = folder_screen(
            rng,
            schemes=[
                _scheme("{plate}/{letter}{col1:02}_s{site}_w{k}.{ext}", pattern="{well}_s{site}_w{channel}.{ext}")
            ],
            plate=(32, 48),
            wells=wells,
            n_wells=len(wells),
            n_plates=rng.choice((1, 2)),
        )
        d.wells = {key: sorted(set(wells)) for key in d.wells}
        d.files = {path_of(d, scheme, p, ending, letter=_small(p.row)): FilePlan([p], "raw") for p in d.places()}
        header, rows = label_rows(d, keys=("plate",))
        well_column, small = header.index("well"), rng.random() < 0.5
        for row in rows:
            r, c = position(row[well_column])
            row[well_column] = f"{_small(r) if small else letters(r)}{c + 1:02d}"
        d.texts["wells.csv"] = text_of([header, *rows])
        d.options["tables"] = "wells.csv"
        if instance == "small alone" and small:  # without a plate size, a and A may be one row
            d.options.update(plate_rows=32, plate_columns=48)
        if instance == "small alone" and not small:
            instance += ", map in AA"
    else:
        plate = rng.choice(((8, 12), (16, 24)) if instance != "quadrants" else ((32, 48),))
        rows_, columns = plate
        schemes: Sequence[Scheme] = SCHEMES
        in_names = {"dash": "{letter}-{col1:02}", "numbers": "{n}", "R2C7": "R{row1}C{col1}"}
        if instance in in_names:
            schemes = [
                _scheme(
                    f"{{plate}}/{in_names[instance]}_s{{site}}_w{{k}}.{{ext}}",
                    pattern="{well}_s{site}_w{channel}.{ext}",
                )
            ]
        d, scheme, ending = _screen_by_number(rng, schemes, plate, columns)
        header, lines = label_rows(d)
        well_column = header.index("well")
        for fields in lines:
            r, c = position(fields[well_column])
            fields[well_column] = {
                "dash table": f"{letters(r)}-{c + 1:02d}",
                "numbers table": f"{r * columns + c + 1}",
                "R2C7 table": f"R{r + 1}C{c + 1}",
                "quadrants": f"{letters(r // 2)}{c // 2 + 1:02d}.{'ab'[r % 2]}{c % 2 + 1}",
            }.get(instance, fields[well_column])
        d.texts["wells.csv"] = dialect(rng, [header, *lines])
        d.options["tables"] = "wells.csv"
        if "numbers" in instance and rng.random() < 0.5:
            d.options.update(plate_rows=rows_, plate_columns=columns)
    d.says = r"well|spell|row"
    d.fault, d.instance = "well spelling", instance
    return d


def _screen_by_number(
    rng: random.Random, schemes: Sequence[Scheme], plate: tuple[int, int], columns: int
) -> tuple[Draft, Scheme, str]:
    if schemes[0].name != "own" or "{n}" not in schemes[0].path:
        return folder_screen(rng, schemes=schemes, plate=plate)
    plain = Scheme("own", schemes[0].path.replace("{n}", "{letter}{col1}"), schemes[0].pattern)
    d, _, ending = folder_screen(rng, schemes=[plain], plate=plate)
    d.files = {
        path_of(d, schemes[0], p, ending, n=p.row * columns + p.column + 1): FilePlan([p], "raw") for p in d.places()
    }
    return d, schemes[0], ending


def _small(row: int) -> str:
    return letters(row) if row < 26 else letters(row - 26).lower()


def thumbnails(rng: random.Random) -> Draft:
    scheme = rng.choice(
        (
            _scheme(
                "{plate}/{tag}_{well}_s{site}_w{k}.{ext}", ending="TIF", pattern="{}_{well}_s{site}_w{channel}.tif"
            ),
            _scheme(
                "{plate}/{well}_s{site}_{stain}.{ext}",
                ending="png",
                by_number=False,
                pattern="{well}_s{site}_{channel}.png",
            ),
            _scheme(
                "{plate}/TimePoint_1/{tag}_{well}_s{site}_w{k}.{ext}",
                ending="tif",
                pattern="{}_{well}_s{site}_w{channel}.tif",
            ),
        )
    )
    d, _, ending = folder_screen(rng, schemes=[scheme])
    suffix = rng.choice(("_thumb", "_Thumb", "_thumbnail"))
    for path, plan in list(d.files.items()):
        stem, _, end = path.rpartition(".")
        d.files[f"{stem}{suffix}.{end}"] = FilePlan([thumbnail(plan.pages[0])], plan.way)
    if rng.random() < 0.5:
        add_labels(d)
    d.says = r"thumb"
    d.fault, d.instance = "thumbnails", suffix
    return d
