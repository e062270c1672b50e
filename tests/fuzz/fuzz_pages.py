"""Faults of files: pages that are no channels, polarity, chunks, and channel metadata of the instrument."""

import random
from collections.abc import Iterator, Sequence

from fuzz_drafts import PLATES, Draft, add_labels, dialect, text_of, well_text
from fuzz_names import position
from fuzz_pixels import FilePlan, Place, imagej_lines, ome_xml, thumbnail
from fuzz_schemes import SCHEMES, folder_screen, paged_screen, path_of
from fuzz_screens import NgffPlate, load_data_screen, ngff_screen, table_screen


def more_pages(rng: random.Random) -> Draft:
    instance = rng.choice(
        (
            "stack of a channel",
            "ome",
            "ome",
            "ome",
            "imagej",
            "plain",
            "thumbnail",
            "few",
            "ome blocks",
            "ome names",
            "frames",
            "series",
            "ngff",
        )
    )
    n_slices, n_frames = rng.choice(((2, 1), (3, 1), (1, 2), (2, 2)))
    if instance == "stack of a channel":
        d, _, _ = folder_screen(rng, schemes=[s for s in SCHEMES if s.endings != ("png",)])
        for plan in d.files.values():
            plan.pages = _stack(plan.pages[0], n_slices, n_frames)
            plan.way = "raw" if plan.way == "png" else plan.way
            if plan.way != "lzw":
                plan.description = rng.choice(("", imagej_lines(slices=n_slices, frames=n_frames)))
    elif instance == "frames":
        return _frames(rng)
    elif instance == "series":
        return _series(rng)
    elif instance == "ngff":
        d = ngff_screen(rng)
        for plate in d.deeds:
            assert isinstance(plate, NgffPlate)
            plate.axes, plate.sizes = "tczyx", {"z": n_slices, "t": n_frames}
            d.extra["advised"] = {"planes": [str(n_slices)], "time": "1"}
            for path, fields in plate.wells.items():
                plate.wells[path] = [
                    [
                        p._replace(plane=z + 1, time=t + 1)
                        for t in range(n_frames)
                        for p in places
                        for z in range(n_slices)
                    ]
                    for places in fields
                ]
    else:
        d = _stack_screen(rng, instance, n_slices, n_frames)
    d.says = r"page|plane|slice|frame|stack|\bz\b|\bt\b|order|times|thumbnail|reduced|channel"
    d.fault, d.instance = "more pages", instance
    return d


def _stack(place: Place, n_slices: int, n_frames: int) -> list[Place]:
    return [place._replace(plane=z + 1, time=t + 1) for t in range(n_frames) for z in range(n_slices)]


def _stack_screen(rng: random.Random, instance: str, n_slices: int, n_frames: int) -> Draft:
    if rng.random() < 0.6:
        d, _, _ = paged_screen(rng, n_channels=rng.choice((1, 2, 3)) if instance != "few" else 3)
        if rng.random() < 0.5:
            add_labels(d)
    else:
        d, rows = table_screen(rng, paged=True, n_channels=rng.choice((2, 3)))
        d.texts["sites.csv"] = dialect(rng, rows)
    names, count = list(d.channels), len(d.channels)
    order = rng.choice(("XYCZT", "XYZCT", "XYZTC", "XYCTZ", "XYTCZ"))
    sizes = {"C": count, "Z": n_slices, "T": n_frames}
    if instance in ("ome blocks", "ome names", "thumbnail", "few"):
        sizes = {"C": count, "Z": 1, "T": 1}
    shuffled = list(range(count))
    rng.shuffle(shuffled)
    reverse = rng.sample(names, count)
    side, small = rng.choice(("behind", "before")), rng.random() < 0.7
    for plan in d.files.values():
        first = plan.pages[0]
        plan.way = "raw" if plan.way == "lzw" else plan.way
        if instance == "few":
            plan.pages = list(plan.pages)[:-1]
        elif instance == "thumbnail":
            pages, extra = list(plan.pages), [thumbnail(first)]
            plan.pages = pages + extra if side == "behind" else extra + pages
            plan.reduced = count if side == "behind" and small else None
        elif instance == "ome blocks":
            plan.pages = [first._replace(channel=c) for c in shuffled]
            blocks = [
                {"IFD": k, "FirstC": c, "FirstZ": 0, "FirstT": 0, "PlaneCount": 1} for k, c in enumerate(shuffled)
            ]
            plan.description = ome_xml(d.shape, d.dtype, order="XYCZT", sizes=sizes, blocks=blocks)
        elif instance == "ome names":
            # The file names its pages; those who index name them otherwise.
            plan.pages = [first._replace(channel=names.index(name)) for name in reverse]
            plan.description = ome_xml(d.shape, d.dtype, order="XYCZT", sizes=sizes, channels=reverse)
        else:
            plan.pages = [
                first._replace(channel=place["C"], plane=place["Z"] + 1, time=place["T"] + 1)
                for place in _plane_order(order, sizes)
            ]
            if instance == "ome":
                channel_names = names if rng.random() < 0.5 else []
                plan.description = ome_xml(d.shape, d.dtype, order=order, sizes=sizes, channels=channel_names)
            elif instance == "imagej":
                plan.pages = [
                    first._replace(channel=place["C"], plane=place["Z"] + 1, time=place["T"] + 1)
                    for place in _plane_order("XYCZT", sizes)
                ]
                plan.description = imagej_lines(channels=count, slices=n_slices, frames=n_frames)
    return d


def _plane_order(order: str, sizes: dict[str, int]) -> Iterator[dict[str, int]]:
    """Give the planes of a file in DimensionOrder: the axis behind XY runs fastest."""
    first, second, third = order[2:]
    for c in range(sizes[third]):
        for b in range(sizes[second]):
            for a in range(sizes[first]):
                yield {first: a, second: b, third: c}


def _frames(rng: random.Random) -> Draft:
    """All channels of a site in one file, a page each, which `Frame_` says."""
    d, tables = load_data_screen(rng, n_channels=rng.choice((2, 3)))
    stacks = rng.random() < 0.5
    d.files.clear()
    header_rows: list[list[str]] = []
    for (e, p), table in tables.items():
        head = [
            *(f"{kind}_Orig{name}" for name in d.channels for kind in ("FileName", "PathName", "Frame")),
            *table[0][-4:],
        ]
        header_rows = header_rows or [head]
        for fields in table[1:]:
            row, column = position(fields[-3])
            s = d.sites.index(int(fields[-2]))
            places = [Place(e, p, row, column, s, c) for c in range(len(d.channels))]
            cells: list[str] = []
            if stacks:  # a file for each channel, a stack whose second plane is wanted
                for place in places:
                    file = f"{well_text(row, column)}-{s}-{place.channel}.tiff"
                    d.files[f"images/{d.plates[e, p]}/{file}"] = FilePlan(_stack(place, 2, 1), "raw")
                    cells += [file, f"/home/x/images/{d.plates[e, p]}", "1"]
            else:
                file, shift = f"{well_text(row, column)}-{s}.tiff", rng.randrange(len(places))
                d.files[f"images/{d.plates[e, p]}/{file}"] = FilePlan([*places[shift:], *places[:shift]], "raw")
                for place in places:
                    cells += [file, f"/home/x/images/{d.plates[e, p]}", str((place.channel - shift) % len(places))]
            header_rows.append([*cells, *fields[-4:]])
    d.texts["load_data.csv"] = text_of(header_rows)
    d.fault, d.instance = "more pages", "frames of stacks" if stacks else "frames"
    d.says = r"page|plane|frame|stack"
    return d


def _series(rng: random.Random) -> Draft:
    """A file with the sites of a well as series, which `Series_` says: no page is of two sites."""
    d, tables = load_data_screen(rng, n_channels=1, n_sites=rng.choice((2, 3)))
    d.files.clear()
    name = d.channels[0]
    table_rows = [
        [f"FileName_Orig{name}", f"PathName_Orig{name}", f"Series_Orig{name}", *next(iter(tables.values()))[0][-4:]]
    ]
    for (e, p), table in tables.items():
        for fields in table[1:]:
            row, column = position(fields[-3])
            file = f"{well_text(row, column)}.tiff"
            places = [Place(e, p, row, column, s, 0) for s in range(len(d.sites))]
            d.files[f"images/{d.plates[e, p]}/{file}"] = FilePlan(places, "raw")
            s = d.sites.index(int(fields[-2]))
            table_rows.append([file, f"/home/x/images/{d.plates[e, p]}", str(s), *fields[-4:]])
    d.texts["load_data.csv"] = text_of(table_rows)
    d.fault, d.instance, d.says = "more pages", "series", r"page|plane|series|two sites|stack"
    return d


def stored_pixels(rng: random.Random) -> Draft:
    instance = rng.choice(("white", "white", "white pages", "first byte", "first byte"))
    if instance == "first byte":
        d = ngff_screen(rng)
        for plate in d.deeds:
            assert isinstance(plate, NgffPlate)
            plate.packed, plate.first = False, rng.choice((2, 2, 1, 31, 40, 4, 120))
        d.extra["must_be_whole"] = True
    else:
        if instance == "white":
            d, _, _ = folder_screen(rng, schemes=[s for s in SCHEMES if s.endings[0] != "png"], n_wells=3)
            if any(path.endswith("png") for path in d.files):
                return stored_pixels(rng)
        else:
            d, _, _ = paged_screen(rng, n_wells=3)
        has_color = rng.random() < 0.5
        for plan in d.files.values():
            plan.way = rng.choice(("raw", "zlib", "lzw"))
            plan.white = rng.random() < 0.5 if has_color else True
        if not any(plan.white for plan in d.files.values()):
            next(iter(d.files.values())).white = True
    d.says = r"white|polarity|invert|photometric"
    d.fault, d.instance = "stored pixels", instance
    return d


def instrument_metadata(rng: random.Random) -> Draft:
    name = rng.choice(("harmony", "harmony", "imagexpress", "cellvoyager"))
    scheme = next(s for s in SCHEMES if s.name == name)
    instance = rng.choice(("order of a plate", "order of a plate", "against --channels", "agree", "agree", "wells"))
    if instance == "wells" and name == "imagexpress":
        instance = "agree"
    n_plates = rng.choice((2, 3)) if instance == "order of a plate" else None
    n_channels = rng.choice((2, 3))
    d, scheme, ending = folder_screen(rng, schemes=[scheme], n_channels=n_channels, n_plates=n_plates, first_site=1)
    stains = rng.sample(("DAPI", "GFP", "actin", "Mito", "AGP"), len(d.channels))
    has_names = instance != "order of a plate" or rng.random() < 0.7
    rotated = [*stains[1:], stains[0]]
    d.files.clear()
    for key, plate in d.plates.items():
        # The metadata of channels 1, 2, ... are the truth.
        order = rotated if instance == "order of a plate" and key[1] == len(d.plates) - 1 else stains
        folder, rows = "", []
        for place in d.places():
            if (place.experiment, place.plate) == key:
                path = path_of(d, scheme, place, ending)
                index_place = place
                if instance == "wells":  # the names of two wells are exchanged
                    wells = d.wells[key]
                    row, column = wells[(wells.index((place.row, place.column)) + 1) % len(wells)]
                    index_place = place._replace(row=row, column=column)
                d.files[path] = FilePlan([index_place._replace(channel=stains.index(order[place.channel]))], "raw")
                folder, file = path.rsplit("/", 1)
                rows.append((index_place, file))
        if name == "imagexpress":
            folder = plate
        d.texts.update(_metadata(d, name, folder=folder, plate=plate, order=order, rows=rows))
    if has_names:
        requested_stains = rotated if instance == "against --channels" else stains
        d.options["channels"] = [f"{stain}={k + 1}" for k, stain in enumerate(requested_stains)]
    else:
        d.options.pop("channels", None)
    if not has_names:
        d.extra["numbers"] = {f"{k + 1:0{pad}}": stain for k, stain in enumerate(stains) for pad in (1, 2)}
    d.channels = stains
    d.says = r"channel|stain" if instance != "wells" else r"well.*contradict|contradict.*well"
    d.fault, d.instance = "instrument metadata", f"{name}: {instance}"
    if instance == "agree":
        d.fault = ""
    return d


def _metadata(
    d: Draft, name: str, *, folder: str, plate: str, order: Sequence[str], rows: Sequence[tuple[Place, str]]
) -> dict[str, str]:
    if name == "harmony":
        images = "".join(
            f"<Image><id>x</id><URL>{file}</URL><Row>{p.row + 1}</Row><Col>{p.column + 1}</Col>"
            f"<FieldID>{d.sites[p.site]}</FieldID><PlaneID>1</PlaneID><TimepointID>0</TimepointID>"
            f"<ChannelID>{p.channel + 1}</ChannelID><ChannelName>{order[p.channel]}</ChannelName></Image>"
            for p, file in rows
        )
        document = f'<EvaluationInputData xmlns="http://www.perkinelmer.com/PEHH/HarmonyV5"><Images>{images}</Images>'
        file = d.rng.choice(("Index.idx.xml", "Index.xml"))
        return {f"{folder}/{file}": f'<?xml version="1.0"?>{document}</EvaluationInputData>'}
    if name == "imagexpress":
        waves = "".join(f'"WaveName{k}", "{stain}"\n' for k, stain in enumerate(order, 1))
        head = _htd({(p.row, p.column) for p, _ in rows}, len(d.sites), len(order))
        return {f"{folder}/{plate}.HTD": f'{head}{waves}"EndFile"\n'}
    head = '<?xml version="1.0" encoding="utf-8"?>'
    space = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
    channels = "".join(
        f'<bts:Channel bts:Ch="{k}" bts:Target="{stain}" bts:Fluorophore="{stain}"/>'
        for k, stain in enumerate(order, 1)
    )
    records = "".join(
        f'<bts:MeasurementRecord bts:Type="IMG" bts:Row="{p.row + 1}" bts:Column="{p.column + 1}" '
        f'bts:FieldIndex="{d.sites[p.site]}" bts:TimePoint="1" bts:ZIndex="1" '
        f'bts:ActionIndex="{p.channel + 1}" bts:Ch="{p.channel + 1}">{file}</bts:MeasurementRecord>'
        for p, file in rows
    )
    return {
        f"{folder}/{plate}.mes": f"{head}<bts:MeasurementSetting {space}><bts:ChannelList>{channels}</bts:ChannelList>"
        "</bts:MeasurementSetting>",
        f"{folder}/MeasurementData.mlf": f"{head}<bts:MeasurementData {space}>{records}</bts:MeasurementData>",
    }


def _htd(wells: set[tuple[int, int]], n_sites: int, n_channels: int) -> str:
    """Return what MetaXpress says of a plate before the names of its channels."""
    rows, columns = next(size for size in PLATES if all(r < size[0] and c < size[1] for r, c in wells))
    selections = "".join(
        f'"WellsSelection{r + 1}", {", ".join(str((r, c) in wells).upper() for c in range(columns))}\n'
        for r in range(rows)
    )
    return (
        f'"HTSInfoFile", Version 1.0\n"Description", ""\n"PlateType", 6\n"TimePoints", 1\n"ZSeries", FALSE\n'
        f'"XWells", {columns}\n"YWells", {rows}\n{selections}"Sites", {str(n_sites > 1).upper()}\n"XSites", {n_sites}\n'
        f'"YSites", 1\n"SiteSelection1", {", ".join(["TRUE"] * n_sites)}\n"Waves", TRUE\n"NWavelengths", {n_channels}\n'
    )
