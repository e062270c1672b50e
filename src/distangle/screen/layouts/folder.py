"""Any folder whose names of files follow a pattern, with or without a table of the wells."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from distangle.errors import ScreenError
from distangle.remote import AnyPath
from distangle.screen.channel import named_channels
from distangle.screen.entry import Entry, Found, Layout, Request
from distangle.screen.layouts.names.instruments import KNOWN, WITHOUT_WELLS
from distangle.screen.layouts.names.listing import LOOKS, NOT_UNDERSTOOD, folders_below, not_understood
from distangle.screen.layouts.names.pattern import FIELDS, Pattern, parse_pattern
from distangle.screen.layouts.names.pictures import Picture, choose_channels, into_sites, n_sites_of
from distangle.screen.layouts.names.plates import moment_of, plates_of
from distangle.screen.layouts.names.thumbnails import IGNORED, is_thumbnail, thumbnails_ignored
from distangle.screen.layouts.wells.columns import renamed
from distangle.screen.layouts.wells.controls import apply_controls
from distangle.screen.layouts.wells.labels import Labels, join_labels, read_labels
from distangle.screen.layouts.wells.reading import sort_out
from distangle.screen.problems import Problem

_ENOUGH = 2000  # files looked at to guess a pattern


def find_folder(request: Request) -> Found:
    """Find the sites whose files' names follow `pattern`, and their wells in the table that `tables` names.

    Where the pattern has no plate, the folder of a file names it; without an experiment all are one, `all`;
    without a site every well has one. Without a table nothing is known of the wells.

    Raises:
        ScreenError: The pattern cannot be read or fits no file, the channels cannot be told, or `tables` is no
            table of wells.
    """
    source = request.source
    if not source.is_dir():
        message = f"{source} is no folder. Expected the folder of the images."
        raise ScreenError(message)
    if request.tables_only:
        message = "Layout 'folder' finds the wells by their images: leave --tables-only away, or use --layout table."
        raise ScreenError(message)
    if request.pattern is None:
        message = f"Layout 'folder' needs --pattern. {guess(source) or _without_wells(source) or _EXAMPLE}"
        raise ScreenError(message)
    pattern = parse_pattern(request.pattern)
    extra = tuple(name for name in pattern.names if name not in FIELDS)
    pictures, problems = list_pictures(source, pattern, extra=extra)
    if not pictures:
        odd = [problem for problem in problems if problem.kind == NOT_UNDERSTOOD]
        message = f"No file below {source} is named like {pattern.text!r}. "
        small = next((f", only {problem.found}" for problem in problems if problem.kind == IGNORED), "")
        message += (
            f"There is {odd[0].file}/{odd[0].found.split(', ')[0]}. " if odd else f"There is no image at all{small}. "
        )
        message += guess(source) or _without_wells(source)
        raise ScreenError(message.rstrip())
    return found_pictures(request, pictures, problems, pattern=pattern, extra=extra)


def found_pictures(
    request: Request, pictures: list[Picture], problems: list[Problem], *, pattern: Pattern, extra: tuple[str, ...]
) -> Found:
    """Make sites of pictures, and give them the labels of the request's table.

    Args:
        request: For its channels, tables, mapping and controls.
        pictures: What was found.
        problems: Remarks so far.
        pattern: How the pictures were read.
        extra: Names of the pictures' extra columns.

    Raises:
        ScreenError: The channels cannot be told, or `tables` is no table of wells.
    """
    tables: tuple[AnyPath, ...] = ()
    labels, remarks = None, list[Problem]()
    known = frozenset({"experiment", "plate"} & set(pattern.names))
    if request.tables is not None:
        labels = read_labels(request.tables, request.mapping)
        if "plate" not in known and not _is_named_by(labels, pictures, remarks):
            known |= {"plate"}
    read, labels, doubts, n_doubtful = sort_out(
        pictures,
        labels,
        shared=labels.keys & known if labels is not None else frozenset(),
        request=request,
        count=n_sites_of,
        base=pattern.base,
    )
    names, entries, wrong, n_sites = _sites(request, pictures, read, pattern)
    refused = [problem for problem in wrong if problem.severity == "refused"]
    wrong = [*remarks, *doubts, *wrong]
    n_sites += n_doubtful
    found = n_sites
    if labels is not None:
        entries, unmet, n_rows_apart = join_labels(entries, labels, known=known, aside=refused)
        wrong += unmet
        found, tables, extra = n_sites + n_rows_apart, labels.tables, (*extra, *labels.extra_columns)
    elif request.mapping:
        message = "--map names columns of a table: name the table too, --tables FILE."
        raise ScreenError(message)
    apply_controls(entries, request.controls)
    return Found(
        source=request.source,
        channels=named_channels(names),
        entries=entries,
        problems=[*problems, *wrong],
        found=found,
        extra_columns=renamed(extra),
        tables=tables,
        site_hint="Tell the plates apart with {plate} in --pattern.",
        notes={"pattern": pattern.text, "columns": dict(labels.columns) if labels else {}},
    )


def list_pictures(
    source: AnyPath, pattern: Pattern, *, extra: tuple[str, ...] = ()
) -> tuple[list[Picture], list[Problem]]:
    """Read the names of all files below a folder.

    Args:
        source: The folder.
        pattern: How the names are built.
        extra: Fields of the pattern that become columns.

    Returns:
        The files that follow the pattern, and a remark for each folder with images that do not.
    """
    read: list[tuple[str, str, dict[str, str]]] = []
    remarks: list[Problem] = []
    folders, thumbnails = _without_thumbnails(folders_below(source, remarks))
    if not any(_follows(pattern, folder, name) for folder, names in folders for name in names):
        pattern = pattern.with_any_well()
    for folder, names in folders:
        others: list[str] = []
        for name in names:
            path = f"{folder}/{name}".lstrip("/")
            fields = pattern.read(path) if _follows(pattern, folder, name) else None
            if fields is not None:
                read.append((_without_time(folder, fields), path, {**moment_of(folder), **fields}))
            elif LOOKS.fullmatch(name):
                others.append(name)
        if others:
            listed = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
            remarks.append(not_understood(folder or ".", listed, pattern.text, count=len(others)))
    if thumbnails:
        remarks.append(thumbnails_ignored(thumbnails))
    _number_sites([fields for _, _, fields in read])
    plates = plates_of({folder for folder, _, _ in read}, root=source.resolve().name or "all")
    return [_picture(path, fields, plates[folder], extra) for folder, path, fields in read], remarks


def _without_time(folder: str, fields: Mapping[str, str]) -> str:
    """Return the folder that may name a plate: the one above, where the last is the time that the pattern reads."""
    above, _, last = folder.rpartition("/")
    return above if last and last == fields.get("time") else folder


def _follows(pattern: Pattern, folder: str, name: str) -> bool:
    is_meant = name.isprintable() and not name.startswith(".")
    return is_meant and pattern.read(f"{folder}/{name}".lstrip("/")) is not None


def guess(source: AnyPath) -> str:
    """Return which known pattern the names in a folder follow, as advice; "" if none."""
    counts: Counter[str] = Counter()
    example: dict[str, str] = {}
    seen = 0
    known = {name: parse_pattern(name) for name in KNOWN}
    for path in _first_paths(source):
        follows = [key for key, pattern in known.items() if pattern.read(path)]
        counts.update(follows)
        example.update({key: path for key in follows if key not in example})
        seen += 1
    if not counts:
        return ""
    name, count = counts.most_common(1)[0]
    written = next(way for way in KNOWN[name] if parse_pattern(way).read(example[name]))
    return f"{count} of {seen} names are as in --pattern {name}, which stands for {written!r}."


def _without_wells(source: AnyPath) -> str:
    """Return what to do where an instrument's names number places and say no well, as advice; "" elsewhere."""
    names = [path.rsplit("/", 1)[-1] for path in _first_paths(source)]
    for instrument, form in WITHOUT_WELLS.items():
        if found := [name for name in names if form.fullmatch(name)]:
            return (
                f"{len(found)} of {len(names)} names, such as {found[0]!r}, are of {instrument}: they number places in "
                f"the order in which they were taken, and say no well. Write a table with the well and the path of "
                f"each, and take --layout table."
            )
    return ""


def _first_paths(source: AnyPath) -> Iterator[str]:
    """Give the paths of so many files as tell how all are named, without thumbnails."""
    seen = 0
    for folder, names in folders_below(source, []):
        if seen > _ENOUGH:
            return
        seen += len(names)
        yield from (f"{folder}/{name}" for name in names if not is_thumbnail(folder, name))


def _without_thumbnails(
    folders: Iterable[tuple[str, list[str]]],
) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Return folders with the names of their files but for thumbnails, and the paths of those."""
    kept: list[tuple[str, list[str]]] = []
    thumbnails: list[str] = []
    for folder, names in folders:
        kept.append((folder, [name for name in names if not is_thumbnail(folder, name)]))
        thumbnails += [f"{folder}/{name}".lstrip("/") for name in names if is_thumbnail(folder, name)]
    return kept, [path for path in thumbnails if LOOKS.fullmatch(path.rsplit("/", 1)[-1])]


def _number_sites(read: Sequence[dict[str, str]]) -> None:
    """Number fields that are told by their column and row, row by row over all wells, from 1."""
    placed = [fields for fields in read if "site_x" in fields or "site_y" in fields]
    places = [(int(fields.pop("site_y", "0")), int(fields.pop("site_x", "0"))) for fields in placed]
    number = {place: str(k) for k, place in enumerate(sorted(set(places)), start=1)}
    for fields, place in zip(placed, places, strict=True):
        fields["site"] = number[place]


def _picture(path: str, fields: dict[str, str], plate: str, extra: tuple[str, ...]) -> Picture:
    return Picture(
        path=path,
        experiment=fields.get("experiment", "all"),
        plate=fields.get("plate", plate),
        well=fields["well"],
        site=int(fields.get("site", "1")),
        channel=fields.get("channel", ""),
        moment=" ".join(f"{name} {fields[name]}" for name in ("plane", "time") if name in fields),
        cell_type=fields.get("cell_type", ""),
        extra=tuple(fields[name] for name in extra),
    )


def _sites(
    request: Request, pictures: list[Picture], read: list[Picture], pattern: Pattern
) -> tuple[list[str], list[Entry], list[Problem], int]:
    if "channel" in pattern.names:
        channels = choose_channels(pictures, request.channels)
        entries, problems, n_sites = into_sites(read, channels)
        return [name for name, _ in channels], entries, problems, n_sites
    names = [name.strip() for name in request.channels]
    if not names or "" in names or len(set(names)) < len(names):
        message = f"{pattern.text!r} has no {{channel}}: a file has all of them. Name its pages in their order, each "
        message += "once: --channels DNA,actin (one name for files of one plane)."
        raise ScreenError(message)
    entries, problems, n_sites = into_sites(read, [("", "")])
    if len(names) > 1:
        for entry in entries:
            entry.paths, entry.pages = entry.paths * len(names), tuple(range(len(names)))
    return names, entries, problems, n_sites


def _is_named_by(labels: Labels, pictures: list[Picture], remarks: list[Problem]) -> bool:
    """Whether one folder of images without a plate's name has the only plate of the table, which is remarked on.

    Raises:
        ScreenError: The table has several plates, none of the folder's name.
    """
    folders = {picture.plate for picture in pictures}
    told = sorted({row.plate for row in labels.rows})
    if "plate" not in labels.keys or len(folders) > 1 or not told or folders & set(told):
        return False
    (folder,) = folders
    if len(told) > 1:
        message = (
            f"{labels.tables[0]} names {len(told)} plates ({', '.join(told[:5])}, ...), and the images lie in one "
        )
        message += f"folder, {folder!r}. Say which plate they are of: {{plate={told[0]}}} in --pattern."
        raise ScreenError(message.replace(", ...)", ")") if len(told) <= 5 else message)
    remarks.append(
        Problem(
            severity="warning",
            kind="plate named by the table",
            plate=told[0],
            found=f"one folder of images, {folder!r}",
            expected=f"a folder {told[0]!r}",
            fix=f"Nothing, if they are of this plate; if not, name the table of {folder!r}.",
        )
    )
    return True


def _sign(source: AnyPath) -> str:
    return advice.removesuffix(".") if source.is_dir() and (advice := guess(source)) else ""


_EXAMPLE = "Write how the names are built, such as --pattern '{plate}/{well}_s{site}_w{channel}.tif'."

LAYOUT = Layout(
    name="folder",
    find=find_folder,
    sign=_sign,
    options=frozenset({"pattern", "mapping", "channels", "controls", "well_base", "well_order"}),
)
