"""Match pages of a file to channels, by the file itself or by option."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from distangle.screen.file_pages import ImageHeader, PlanePosition, Series, Stack
from distangle.screen.indexing.records import SiteRecord
from distangle.screen.problems import Problem

WRONG_PAGES = "wrong number of pages"
"""Kind of the problems."""
WHITE_IS_ZERO = "white is zero"
"""Kind of the warning about inverted files."""

_ONE_PLANE = (
    "Export one plane of each channel (or a projection), or name the pages in Frame_ columns of a load_data.csv."
)


class PageMismatch(NamedTuple):
    """Why pages do not match the channels: found, expected and fix."""

    found: str
    expected: str
    fix: str


class PageChoice(NamedTuple):
    """A page per channel, -1 for a file of one page; or a mismatch."""

    pages: tuple[int, ...] = ()
    mismatch: PageMismatch | None = None


def pages_of_site(
    entry: SiteRecord, names: Sequence[str], headers: Mapping[str, ImageHeader]
) -> tuple[tuple[int, ...], Problem | None]:
    """Return the page of every channel, and the problem that refuses the site.

    Args:
        entry: A record with the pages of its reader.
        names: Names of all channels.
        headers: Header of every file of the site.
    """
    series = entry.series or (0,) * len(entry.pages)
    if entry.numbering == "channels":
        choice = channel_pages(headers[entry.paths[0]], names)
        if choice.mismatch:
            return entry.pages, _refusal(entry, entry.paths[0], "", choice.mismatch)
        return choice.pages, None
    pages: list[int] = []
    for name, path, page, number in zip(names, entry.paths, entry.pages, series, strict=True):
        choice = (
            frame_page(headers[path], page, number)
            if entry.numbering == "frames"
            else _page_by_index(headers[path], page)
        )
        if choice.mismatch:
            return entry.pages, _refusal(entry, path, name, choice.mismatch)
        pages += choice.pages
    repeated = _repeated_channel(entry, pages, names, headers)
    return (tuple(pages), repeated) if repeated is None else (entry.pages, repeated)


def file_warnings(entries: Sequence[SiteRecord], headers: Mapping[str, ImageHeader]) -> list[Problem]:
    """Return warnings about inverted files and unused pages.

    Args:
        entries: The accepted records.
        headers: Headers of the files that may need a warning.
    """
    if not headers:
        return []
    paths = dict.fromkeys(path for entry in entries for path in entry.paths)
    inverted = [path for path in paths if path in headers and headers[path].is_inverted]
    pages_of_path: dict[str, set[int]] = {path: set() for path in paths if _has_further_pages(path, headers)}
    if pages_of_path:
        for entry in entries:
            for path, page in zip(entry.paths, entry.pages, strict=True):
                if path in pages_of_path:
                    pages_of_path[path].add(page)
    remarks = []
    if inverted:
        remarks.append(
            Problem(
                severity="warning",
                kind=WHITE_IS_ZERO,
                file=inverted[0],
                found=f"zero is white in {len(inverted)} of {len(paths)} files; their pixels are "
                "inverted on reading, whatever the compression",
                expected="PhotometricInterpretation 1: zero is black",
                fix="Nothing, if bright means much light in the images (`distangle check` draws one). If the "
                "stored values were right, set tag 262 to 1 and index again.",
                count=len(inverted),
            )
        )
    partial = [path for path, pages in pages_of_path.items() if headers[path].n_pages > len(pages)]
    if partial and any(entry.numbering == "frames" for entry in entries):
        first = partial[0]
        remarks.append(
            Problem(
                severity="warning",
                kind="pages that no row names",
                file=first,
                found=f"{_describe_pages(headers[first])}, "
                f"and the tables name {len(pages_of_path[first])}, as in {len(partial)} files",
                expected="a row for every page, or files without further pages",
                fix="Nothing, if the Frame_ and Series_ columns name the intended planes.",
                count=len(partial),
            )
        )
    return remarks


def _has_further_pages(path: str, headers: Mapping[str, ImageHeader]) -> bool:
    header = headers.get(path)
    return header is not None and header.n_pages > 1 and (header.stack is None or len(header.stack.image_pages) > 1)


def _refusal(entry: SiteRecord, path: str, channel: str, misfit: PageMismatch) -> Problem:
    return entry.problem(
        WRONG_PAGES, channel=channel, found=f"{path}: {misfit.found}", expected=misfit.expected, fix=misfit.fix
    )


def _page_by_index(header: ImageHeader, page: int) -> PageChoice:
    if page < 0:
        return only_page(header)
    if page >= header.n_pages:
        return _no_page(_describe_pages(header), f"page {page + 1}", "Check the list of channels: --channels.")
    return PageChoice(pages=(page,))


def _repeated_channel(
    entry: SiteRecord, pages: Sequence[int], names: Sequence[str], headers: Mapping[str, ImageHeader]
) -> Problem | None:
    """Return a problem if the file metadata give two channels one channel."""
    channel_of: dict[tuple[str, int, int], str] = {}
    for name, path, page in zip(names, entry.paths, pages, strict=True):
        position = position_of_page(headers[path], page) if page >= 0 else None
        if position is None:
            continue
        key = (path, position[0], position[1][0])
        if key in channel_of:
            found = f"{_describe_pages(headers[path])}; the pages of {channel_of[key]} and {name} "
            found += f"are both of its channel {key[2] + 1}"
            misfit = PageMismatch(
                found, "pages of another channel for each", "Correct the Frame_ columns of these rows."
            )
            return _refusal(entry, path, f"{channel_of[key]}, {name}", misfit)
        channel_of[key] = name
    return None


def only_page(header: ImageHeader) -> PageChoice:
    """Return the only image page of a file; thumbnails do not count."""
    if header.n_pages == 1:
        return PageChoice(pages=(-1,))
    if header.stack is not None and len(header.stack.image_pages) == 1:
        return PageChoice(pages=header.stack.image_pages)
    fix = "Files of many pages need --pages COLUMN (or, in layout folder, a --pattern without {channel}); --channels "
    fix += "then names the pages in order."
    if header.stack is not None and (header.stack.series or header.stack.error):
        fix = _ONE_PLANE
    return _no_page(_describe_pages(header), "one page", fix)


def channel_pages(header: ImageHeader, names: Sequence[str]) -> PageChoice:
    """Return the page of every channel by the file's channel names or order.

    Args:
        header: Header of the file.
        names: Names of all channels.
    """
    stack = header.stack or Stack(image_pages=tuple(range(header.n_pages)))
    n = len(names)
    if stack.error:
        return _no_page(_describe_pages(header), f"valid metadata of the pages, for {n} channels", _ONE_PLANE)
    if len(stack.series) > 1:
        fix = "Export each image as a separate file, or name it in Series_ columns of a load_data.csv."
        return _no_page(_describe_pages(header), "one image per file", fix)
    if stack.series:
        choice = _pages_from_metadata(stack.series[0], names, header)
    elif n == len(stack.image_pages):
        choice = PageChoice(pages=stack.image_pages)
    elif n > len(stack.image_pages):
        choice = _no_page(
            _describe_pages(header), f"page {len(stack.image_pages) + 1}", "Check the list of channels: --channels."
        )
    else:
        fix = f"Name all {len(stack.image_pages)} of them in --channels, if each is a channel. Otherwise: {_ONE_PLANE}"
        choice = _no_page(_describe_pages(header), f"{n} pages, one per named channel", fix)
    return choice if choice.mismatch else _check_uniform(choice.pages, header)


def frame_page(header: ImageHeader, frame: int, series: int) -> PageChoice:
    """Return the page of a frame, counted from 0 as in Bio-Formats.

    Args:
        header: Header of the file.
        frame: Index of a plane in its series; -1 if not named.
        series: Index of an image in the file.
    """
    stack = header.stack
    if frame < 0 and series == 0 and (stack is None or len(stack.series) < 2):
        choice = only_page(header)
        fix = "Export one plane (or a projection) per channel, or name the planes in the Frame_ columns; columns of "
        fix += "zeros do not name planes."
        return choice if choice.mismatch is None else PageChoice(mismatch=choice.mismatch._replace(fix=fix))
    if stack is not None and stack.error:
        return _no_page(_describe_pages(header), f"frame {frame} of series {series}", _ONE_PLANE)
    if stack is None or not stack.series:
        image_pages = tuple(range(header.n_pages)) if stack is None else stack.image_pages
        if series:
            fix = "Only OME-XML has several series. Export each as a separate file, and write Series 0."
            return _no_page(_describe_pages(header), f"series {series} (counted from 0)", fix)
        pages = image_pages
    else:
        if series >= len(stack.series):
            fix = "Correct the Series_ columns."
            return _no_page(_describe_pages(header), f"series {series} (counted from 0)", fix)
        pages = stack.series[series].pages
        if frame < 0 and stack.series[series].sizes == (1, 1, 1):
            pages, frame = tuple(stack.series[series].page_of.values()), 0
    if frame < 0:
        fix = "Name the plane of each channel in Frame_ columns, counted from 0."
        return _no_page(_describe_pages(header), "one page", fix)
    if frame >= len(pages):
        fix = "Correct the Frame_ columns: frames count from 0."
        return _no_page(_describe_pages(header), f"page {frame + 1}", fix)
    if pages[frame] < 0:
        fix = "Name the file that holds this plane, or export one file per channel."
        return _no_page(_describe_pages(header), f"frame {frame}, which lies in another file", fix)
    if header.n_pages == 1:
        return PageChoice(pages=(-1,))
    return _check_uniform((pages[frame],), header)


def position_of_page(header: ImageHeader, page: int) -> tuple[int, PlanePosition] | None:
    """Return series and position of a page; None without metadata."""
    for number, series in enumerate(header.stack.series if header.stack else ()):
        for position, other in series.page_of.items():
            if other == page:
                return (number, position) if series.sizes[0] > 1 else None
    return None


def _pages_from_metadata(series: Series, names: Sequence[str], header: ImageHeader) -> PageChoice:
    n = len(names)
    n_channels, n_planes, n_times = series.sizes
    page_of = series.page_of
    if n_planes * n_times == 1:
        channels = sorted(page_of)
        file_names = [series.names[position[0]] if position[0] < len(series.names) else "" for position in channels]
        matches = [_unique_match(name, file_names) for name in names]
        if None not in matches:
            return PageChoice(pages=tuple(page_of[channels[k]] for k in matches if k is not None))
        if any(k is not None and (k != index or n != n_channels) for index, k in enumerate(matches)):
            listed = ",".join(file_names)
            fix = f"Use the channel names of the file, --channels {listed}, or a subset of them."
            return _no_page(f"channels {listed} by its metadata", f"{', '.join(names)}", fix)
        if n == n_channels:
            return PageChoice(pages=tuple(page_of[position] for position in channels))
        name_list = f" ({', '.join(name or '-' for name in file_names)})" if any(file_names) else ""
        fix = f"Name all {n_channels} in --channels, or a subset by the names in the file."
        return _no_page(f"{_describe_pages(header)}{name_list}", f"{n} channel{'s' * (n > 1)}, as in --channels", fix)
    if n_channels == 1 and n == len(page_of):  # every page was named as a channel
        return PageChoice(pages=tuple(sorted(page_of.values())))
    expected = f"one focal plane and one time of {n} channel{'s' * (n > 1)}"
    return _no_page(_describe_pages(header), expected, _ONE_PLANE)


def _unique_match(name: str, file_names: Sequence[str]) -> int | None:
    """Return the index of the only channel with a name; None if there is not one."""
    matches = [k for k, other in enumerate(file_names) if other and other.strip().casefold() == name.strip().casefold()]
    return matches[0] if len(matches) == 1 else None


def _check_uniform(pages: tuple[int, ...], header: ImageHeader) -> PageChoice:
    odd_pages = header.stack.odd_pages if header.stack else {}
    bad = [page for page in pages if page in odd_pages]
    if bad:
        first = f"{header.dtype} {' x '.join(map(str, header.shape))}"
        found = f"page {bad[0] + 1} is {odd_pages[bad[0]]}, the first is {first}"
        fix = "Export the channels with the same settings, one file per channel."
        return _no_page(found, "pages of one size and bit depth", fix)
    return PageChoice(pages=pages)


def _no_page(found: str, expected: str, fix: str) -> PageChoice:
    return PageChoice(mismatch=PageMismatch(found, expected, fix))


def _describe_pages(header: ImageHeader) -> str:
    stack = header.stack or Stack(image_pages=tuple(range(header.n_pages)))
    return stack.describe(header.n_pages)
