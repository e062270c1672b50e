"""Match pages of a file to channels, by the file itself or by option."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from distangle.screen.file_pages import ImageHeader, PlanePosition, Series, Stack
from distangle.screen.indexing.records import SiteRecord
from distangle.screen.problems import Problem

WRONG_PAGES = "wrong number of pages"
"""Kind of the refusals."""
WHITE_IS_ZERO = "white is zero"
"""Kind of the remark."""

_ONE_PLANE = (
    "Export one plane of each channel (or a projection), or name the pages in Frame_ columns of a load_data.csv."
)


class PageMismatch(NamedTuple):
    """Why pages do not fit: what was found, what was expected, and the fix."""

    found: str
    expected: str
    fix: str


class PageChoice(NamedTuple):
    """A page per channel, -1 for a file of one; or why there is none."""

    pages: tuple[int, ...] = ()
    mismatch: PageMismatch | None = None


def pages_of_site(
    entry: SiteRecord, names: Sequence[str], headers: Mapping[str, ImageHeader]
) -> tuple[tuple[int, ...], Problem | None]:
    """Return the page of every channel, and why the site is refused, if it is.

    Args:
        entry: With its pages as the layout named them.
        names: Of all channels.
        headers: Of every file of the site.
    """
    series = entry.series or (0,) * len(entry.pages)
    if entry.numbering == "channels":
        chosen = channel_pages(headers[entry.paths[0]], names)
        if chosen.mismatch:
            return entry.pages, _refusal(entry, entry.paths[0], "", chosen.mismatch)
        return chosen.pages, None
    pages: list[int] = []
    for name, path, page, number in zip(names, entry.paths, entry.pages, series, strict=True):
        chosen = frame_page(headers[path], page, number) if entry.numbering == "frames" else _page(headers[path], page)
        if chosen.mismatch:
            return entry.pages, _refusal(entry, path, name, chosen.mismatch)
        pages += chosen.pages
    twice = _one_channel_twice(entry, pages, names, headers)
    return (tuple(pages), twice) if twice is None else (entry.pages, twice)


def remarks_on_files(entries: Sequence[SiteRecord], headers: Mapping[str, ImageHeader]) -> list[Problem]:
    """Return warnings about files read in part or in an unusual way.

    Args:
        entries: Those that stay.
        headers: Of their files.
    """
    named: dict[str, set[int]] = {}
    for entry in entries:
        for path, page in zip(entry.paths, entry.pages, strict=True):
            named.setdefault(path, set()).add(page)
    inverted = [path for path in named if path in headers and headers[path].is_inverted]
    remarks = []
    if inverted:
        remarks.append(
            Problem(
                severity="warning",
                kind=WHITE_IS_ZERO,
                file=inverted[0],
                found=f"{len(inverted)} of {len(named)} files say that their zero is white; their pixels are turned "
                "round when they are read, whatever their compression",
                expected="PhotometricInterpretation 1: zero is black",
                fix="Nothing, if bright is light in the images (`distangle check` draws one). If their numbers were "
                "right as they stood, write the tag 262 anew as 1, and index again.",
                count=len(inverted),
            )
        )
    left = {path: headers[path].n_pages - len(pages) for path, pages in named.items() if _is_partly(path, headers)}
    partly = [path for path, n in left.items() if n > 0]
    if partly and any(entry.numbering == "frames" for entry in entries):
        first = partly[0]
        remarks.append(
            Problem(
                severity="warning",
                kind="pages that no row names",
                file=first,
                found=f"{_held(headers[first])}, and the tables name {len(named[first])}; so in {len(partly)} files",
                expected="a row for every page, or files without others",
                fix="Nothing, if the Frame_ and Series_ columns name the planes that are wanted.",
                count=len(partly),
            )
        )
    return remarks


def _is_partly(path: str, headers: Mapping[str, ImageHeader]) -> bool:
    header = headers.get(path)
    return header is not None and header.n_pages > 1 and (header.stack is None or len(header.stack.image_pages) > 1)


def _refusal(entry: SiteRecord, path: str, channel: str, misfit: PageMismatch) -> Problem:
    return entry.problem(
        WRONG_PAGES, channel=channel, found=f"{path}: {misfit.found}", expected=misfit.expected, fix=misfit.fix
    )


def _page(header: ImageHeader, page: int) -> PageChoice:
    if page < 0:
        return only_page(header)
    if page >= header.n_pages:
        return _no_page(_held(header), f"page {page + 1}", "Check the list of channels: --channels.")
    return PageChoice(pages=(page,))


def _one_channel_twice(
    entry: SiteRecord, pages: Sequence[int], names: Sequence[str], headers: Mapping[str, ImageHeader]
) -> Problem | None:
    """Refuse two channels whose pages the file says are one channel."""
    seen: dict[tuple[str, int, int], str] = {}
    for name, path, page in zip(names, entry.paths, pages, strict=True):
        told = place_of(headers[path], page) if page >= 0 else None
        if told is None:
            continue
        key = (path, told[0], told[1][0])
        if key in seen:
            found = f"{_held(headers[path])}; the pages of {seen[key]} and {name} are both of its channel {key[2] + 1}"
            misfit = PageMismatch(
                found, "pages of another channel for each", "Correct the Frame_ columns of these rows."
            )
            return _refusal(entry, path, f"{seen[key]}, {name}", misfit)
        seen[key] = name
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
    return _no_page(_held(header), "one page", fix)


def channel_pages(header: ImageHeader, names: Sequence[str]) -> PageChoice:
    """Return the pages of a file's channels, named in order or by its own names.

    Args:
        header: Of the file.
        names: Of all channels.
    """
    stack = header.stack or Stack(image_pages=tuple(range(header.n_pages)))
    n = len(names)
    if stack.error:
        return _no_page(_held(header), f"pages that are told apart, for {n} channels", _ONE_PLANE)
    if len(stack.series) > 1:
        fix = "Export each image as a file of its own, or name it in Series_ columns of a load_data.csv."
        return _no_page(_held(header), "one image per file", fix)
    if stack.series:
        chosen = _told(stack.series[0], names, header)
    elif n == len(stack.image_pages):
        chosen = PageChoice(pages=stack.image_pages)
    elif n > len(stack.image_pages):
        chosen = _no_page(
            _held(header), f"page {len(stack.image_pages) + 1}", "Check the list of channels: --channels."
        )
    else:
        fix = f"Name all {len(stack.image_pages)} of them in --channels, if each is a channel. If not: {_ONE_PLANE}"
        chosen = _no_page(_held(header), f"as many pages as channels were named, {n}", fix)
    return chosen if chosen.mismatch else _alike(chosen.pages, header)


def frame_page(header: ImageHeader, frame: int, series: int) -> PageChoice:
    """Return the page of a frame, counted from 0 as Bio-Formats counts.

    Args:
        header: Of the file.
        frame: Number of a plane in its series; -1 where none was named.
        series: Number of an image in the file.
    """
    stack = header.stack
    if frame < 0 and series == 0 and (stack is None or len(stack.series) < 2):
        chosen = only_page(header)
        fix = "Export one plane (or a projection) per channel, or name the planes in the Frame_ columns: where all of "
        fix += "them are 0, they name none."
        return chosen if chosen.mismatch is None else PageChoice(mismatch=chosen.mismatch._replace(fix=fix))
    if stack is not None and stack.error:
        return _no_page(_held(header), f"frame {frame} of series {series}", _ONE_PLANE)
    if stack is None or not stack.series:
        full = tuple(range(header.n_pages)) if stack is None else stack.image_pages
        if series:
            fix = "Only OME-XML tells series apart. Export each as a file of its own, and say Series 0."
            return _no_page(_held(header), f"series {series} (counted from 0)", fix)
        pages = full
    else:
        if series >= len(stack.series):
            fix = "Correct the Series_ columns."
            return _no_page(_held(header), f"series {series} (counted from 0)", fix)
        pages = stack.series[series].pages
        if frame < 0 and stack.series[series].sizes == (1, 1, 1):
            pages, frame = tuple(stack.series[series].page_of.values()), 0
    if frame < 0:
        fix = "Name the plane of each channel in Frame_ columns, counted from 0."
        return _no_page(_held(header), "one page", fix)
    if frame >= len(pages):
        fix = "Correct the Frame_ columns: frames count from 0."
        return _no_page(_held(header), f"page {frame + 1}", fix)
    if pages[frame] < 0:
        fix = "Name the file that holds this plane, or export one file per channel."
        return _no_page(_held(header), f"frame {frame}, which lies in another file", fix)
    if header.n_pages == 1:
        return PageChoice(pages=(-1,))
    return _alike((pages[frame],), header)


def place_of(header: ImageHeader, page: int) -> tuple[int, PlanePosition] | None:
    """Return series and place of a page; None where the file does not tell."""
    for number, series in enumerate(header.stack.series if header.stack else ()):
        for place, at in series.page_of.items():
            if at == page:
                return (number, place) if series.sizes[0] > 1 else None
    return None


def _told(series: Series, names: Sequence[str], header: ImageHeader) -> PageChoice:
    n = len(names)
    n_channels, n_planes, n_times = series.sizes
    page_of = series.page_of
    if n_planes * n_times == 1:
        channels = sorted(page_of)
        theirs = [series.names[place[0]] if place[0] < len(series.names) else "" for place in channels]
        places = [_position(name, theirs) for name in names]
        if None not in places:
            return PageChoice(pages=tuple(page_of[channels[k]] for k in places if k is not None))
        if any(k is not None and (k != at or n != n_channels) for at, k in enumerate(places)):
            named = ",".join(theirs)
            fix = f"Name the channels as the file does, --channels {named}, or those of them that you want."
            return _no_page(f"channels {named} by its metadata", f"{', '.join(names)}", fix)
        if n == n_channels:
            return PageChoice(pages=tuple(page_of[place] for place in channels))
        shown = f" ({', '.join(name or '-' for name in theirs)})" if any(theirs) else ""
        fix = f"Name all {n_channels} in --channels, or those that you want by the names that the file has."
        return _no_page(f"{_held(header)}{shown}", f"{n} channel{'s' * (n > 1)}, as were named", fix)
    if n_channels == 1 and n == len(page_of):  # every page was named by itself
        return PageChoice(pages=tuple(sorted(page_of.values())))
    expected = f"one focal plane and one time of {n} channel{'s' * (n > 1)}"
    return _no_page(_held(header), expected, _ONE_PLANE)


def _position(name: str, theirs: Sequence[str]) -> int | None:
    """Return which of a file's channels has a name; None for none, or for several."""
    same = [k for k, other in enumerate(theirs) if other and other.strip().casefold() == name.strip().casefold()]
    return same[0] if len(same) == 1 else None


def _alike(pages: tuple[int, ...], header: ImageHeader) -> PageChoice:
    unlike = header.stack.odd_pages if header.stack else {}
    odd = [page for page in pages if page in unlike]
    if odd:
        found = (
            f"page {odd[0] + 1} is {unlike[odd[0]]}, the first is {header.dtype} {' x '.join(map(str, header.shape))}"
        )
        fix = "Export the channels with the same settings, one file per channel."
        return _no_page(found, "pages of one size and bit depth", fix)
    return PageChoice(pages=pages)


def _no_page(found: str, expected: str, fix: str) -> PageChoice:
    return PageChoice(mismatch=PageMismatch(found, expected, fix))


def _held(header: ImageHeader) -> str:
    stack = header.stack or Stack(image_pages=tuple(range(header.n_pages)))
    return stack.describe(header.n_pages)
