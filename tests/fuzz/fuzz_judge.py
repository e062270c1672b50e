"""Compare a screen with its source: every site by its pixels, every absence by a refusal."""

import inspect
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz_drafts import Draft, well_text
from fuzz_pixels import Place, place_of
from fuzz_screens import NgffPlate

from distangle.errors import DistangleError
from distangle.images import ImageCache, find_zeroed_rows, probe_image
from distangle.screen import Screen, index

_STEP = re.compile(
    r"--[a-z]|`|\b(Write|Name|Say|Give|Take|Correct|Copy|Fill|Keep|Use|Save|Export|Index|Check|Fetch|Mend|Remove|Map|"
    r"Project|Number|Put|Split|Choose|Rename|Sort|Move|Tell|Leave|Delete|List|Expected|Read|Add|Open|Set|Call|Find)\b"
)
HARMLESS = frozenset({"larger plate assumed", "same bytes"})
"""Remarks that a screen without a fault may bring."""


@dataclass
class Verdict:
    """The result of indexing a source.

    Attributes:
        draft: What was made.
        error: What was raised; "" for nothing.
        screen: What was indexed.
        wrong: Differences from the draft, one per line, each beginning with its kind.
        n_indexed: Sites in the screen.
        n_true: Sites in the source.
    """

    draft: Draft
    error: str = ""
    screen: Screen | None = None
    wrong: list[str] = field(default_factory=list)
    n_indexed: int = 0
    n_true: int = 0

    @property
    def outcome(self) -> str:
        if self.wrong:
            return "WRONG"
        return "refused" if self.error else "whole" if self.n_indexed == self.n_true else "in part"


def plain(text: str) -> str:
    """Return a name in one form: NFC, and the micro sign as the letter mu."""
    return unicodedata.normalize("NFC", text).replace("\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}")


def judge(d: Draft, folder: Path, *, reader: Callable[..., Screen] = index) -> Verdict:
    """Write a screen, index it, and compare every site with what its pixels say.

    Args:
        d: Made up.
        folder: Where it is written.
        reader: `index`, or one with a fault of its own.
    """
    source = d.write(folder)
    true = list(_planes(d))
    verdict = Verdict(d, n_true=len({(*place.well, place.site) for place in true}))
    options: dict[str, Any] = dict(d.options)
    if "tables" in options:
        options["tables"] = source / options["tables"]
    layout = options.pop("layout", d.layout)
    options |= {"layout": layout, "probe": probe_image, "find_zeroed_rows": find_zeroed_rows}
    try:
        screen = reader(source, **options)
    except DistangleError as error:
        verdict.error = str(error)
        verdict.wrong += _silent_refusal(d, str(error))
        if not verdict.wrong:
            verdict.wrong += _problems_as_advised(d, source, options, true)
        return verdict
    verdict.screen, verdict.n_indexed = screen, len(screen.sites)
    complaints = list(_problems(d, screen, true))
    if d.extra.get("must_be_whole") and not complaints and verdict.n_indexed < verdict.n_true:
        complaints = [f"refused: {len(screen.problems)} problems, {screen.problems['found'][0]}"]
    verdict.wrong += [line for line in complaints if not (d.fault and _is_said(d, screen, line))]
    return verdict


_MAY_BE_SAID = ("plate", "moments", "channels", "channel ")
_ASIDE = ("name not recognized", "images without a table row", *sorted(HARMLESS))


def _is_said(d: Draft, screen: Screen, line: str) -> bool:
    """Return whether a remark or refusal names the difference; none can name pixels or labels."""
    if not line.startswith(_MAY_BE_SAID):
        return False
    rows = screen.problems
    rows = rows if line.startswith("moments") else rows[~rows["kind"].isin(_ASIDE)]
    texts = (" ".join(map(str, fields)) for fields in rows[["kind", "found", "fix", "channel"]].to_numpy())
    return any(re.search(d.says, text, re.IGNORECASE) for text in texts)


def _problems_as_advised(d: Draft, source: Path, options: dict[str, Any], true: list[Place]) -> Iterator[str]:
    """Index again with the option that the refusal advises: then every site must be read."""
    if not known_options(d.extra.get("advised", {})):
        return
    try:
        screen = index(source, **{**options, **d.extra["advised"]})
    except DistangleError as error:
        yield f"as advised: {error}"
        return
    allowed_prefix = "moments: "  # planes that were not asked for
    yield from (f"as advised: {line}" for line in _problems(d, screen, true) if not line.startswith(allowed_prefix))
    n_true = len({(*place.well, place.site) for place in true})
    if len(screen.sites) < n_true:
        yield f"as advised: {len(screen.sites)} of {n_true} sites, {screen.problems['found'].tolist()[:1]}"


def known_options(options: Mapping[str, Any]) -> bool:
    return bool(options) and set(options) <= set(inspect.signature(index).parameters)


def _silent_refusal(d: Draft, error: str) -> Iterator[str]:
    if not d.fault or d.extra.get("must_be_whole"):
        yield f"refused: {error}"
        return
    if not _STEP.search(error):
        yield f"no next step: {error}"
    if not re.search(d.says, error, re.IGNORECASE):
        yield f"other reason: {error}"


def _planes(d: Draft) -> Iterator[Place]:
    for plan in d.files.values():
        yield from (page for page in plan.pages if page.kind == 0)
    for source in d.deeds:
        if isinstance(source, NgffPlate):
            yield from (place for fields in source.wells.values() for field in fields for place in field)


def _as_number(name: str) -> str:
    """Return a bare number without leading zeros: Phenix Plus writes channel 1 as `ch01`."""
    return str(int(name)) if name.isdecimal() else name


def _problems(d: Draft, screen: Screen, true: list[Place]) -> Iterator[str]:
    store = ImageCache(screen, workers=1)
    try:
        places_of_row = [_seen(store, row) for row in range(len(screen.sites))]
    finally:
        store.close()
    numbers = d.extra.get("numbers", {})  # channels may bear their numbers where nobody named them
    names = [_as_number(plain(numbers.get(channel.name, channel.name))) for channel in screen.metadata.channels]
    expected = [_as_number(plain(name)) for name in d.channels]
    number = {name: k for k, name in enumerate(expected)}
    unknown = [name for name in names if name not in number]
    if unknown:
        yield f"channels: {names}, made {expected}"
        number |= {name: k for k, name in enumerate(names) if name not in number}
    elif set(names) != set(expected):
        yield f"channels: {names} are left of {expected}"
    plates: dict[tuple[str, str], set[tuple[int, int]]] = defaultdict(set)
    holders: dict[tuple[int, ...], list[str]] = defaultdict(list)
    used_places: set[Place] = set()
    moments: dict[tuple[Any, ...], set[tuple[int, int, int]]] = defaultdict(set)
    for k, site in enumerate(screen.sites.to_dict("records")):
        where_text = f"{site['experiment']}/{site['plate']}/{site['well']} site {site['site']}"
        places = places_of_row[k]
        if isinstance(places, str):
            yield f"pixels: {where_text}: {places}"
            continue
        first = places[0]
        used_places.update(places)
        for name, place in zip(names, places, strict=True):
            if place.kind:
                yield f"pixels: {where_text}: {name} is a thumbnail"
            if place.channel != number[name]:
                yield f"channel {name} of {where_text} is {expected[place.channel]}"
            if (*place.well, place.site) != (*first.well, first.site):
                yield f"pixels: {where_text}: channels of {first} and {place}"
        if len({(place.time, place.acquisition) for place in places}) > 1 or (
            len({place.plane for place in places}) > 1 and not d.extra.get("planes_by_channel")
        ):
            yield f"stitched: {where_text}: moments {[place.axis_values for place in places]}"
        if (site["row"], site["column"]) != (first.row, first.column):
            yield f"well: {where_text} shows {well_text(first.row, first.column)}"
        plates[site["experiment"], site["plate"]].add((first.experiment, first.plate))
        place = (*first.well, first.site)
        holders[place].append(where_text)
        moments[place].update(one.axis_values for one in places)
        if d.labels is not None:
            label = d.labels.get(first.well, "")
            if plain(site["perturbation"]) != plain(label):
                yield f"label: {where_text} is {site['perturbation']!r}, truly {label!r}"
        if "sites" not in d.untold and site["site"] != d.sites[first.site]:
            yield f"site: {where_text} shows site {d.sites[first.site]}"
    yield from _plates(d, plates)
    for holders_of_pixels in holders.values():
        if len(holders_of_pixels) > 1:
            yield f"moments: one place is {' and '.join(holders_of_pixels)}"
    yield from _absent(screen, true, used_places, set(holders))
    yield from d.extra.get("more", lambda _: ())(screen)
    if not d.fault:
        for problem in screen.problems.to_dict("records"):
            if problem["severity"] == "refused" or problem["kind"] not in HARMLESS:
                yield f"remark: {problem['severity']} {problem['kind']} {problem['found']!r}"


def _seen(store: ImageCache, row: int) -> list[Place] | str:
    try:
        image = store.image(row)
    except DistangleError as error:
        return f"cannot be read: {error}"
    places = [place_of(plane) for plane in image]
    written_places = [place for place in places if place is not None]
    return written_places if len(written_places) == len(places) else "other pixels than were written"


def _plates(d: Draft, plates: dict[tuple[str, str], set[tuple[int, int]]]) -> Iterator[str]:
    names: dict[tuple[int, int], set[tuple[str, str]]] = defaultdict(set)
    for name, wells_of_plate in plates.items():
        if len(wells_of_plate) > 1:
            yield f"merged: {name} holds the plates {sorted(wells_of_plate)}"
        for plate in wells_of_plate:
            names[plate].add(name)
    for plate, pairs in names.items():
        if len(pairs) > 1:
            yield f"plates: one plate is {sorted(pairs)}"
        written_pair = (plain(d.experiments[plate[0]]), plain(d.plates[plate]))
        screen_pairs = {(plain(experiment), plain(name)) for experiment, name in pairs}
        if "plates" not in d.untold and written_pair not in screen_pairs:
            yield f"plate: {written_pair} is called {sorted(screen_pairs)}"


def _absent(
    screen: Screen, true: Iterable[Place], used_places: set[Place], indexed_sites: set[tuple[int, ...]]
) -> Iterator[str]:
    metadata = screen.metadata
    sites = {(*place.well, place.site) for place in true}
    if metadata.found != metadata.indexed + metadata.refused or metadata.indexed != len(screen.sites):
        yield f"absent: found {metadata.found} is not indexed {metadata.indexed} + refused {metadata.refused}"
    absent = sites - indexed_sites
    n_refused = int(screen.problems.loc[screen.problems["severity"] == "refused", "count"].sum())
    if len(absent) > n_refused:
        yield f"absent: {len(absent)} of {len(sites)} sites, {n_refused} refused; one is {sorted(absent)[0]}"
    for problem in screen.problems.to_dict("records"):
        if not problem["fix"]:
            yield f"no next step: {problem['kind']}"
    rest = [place for place in true if place not in used_places and (*place.well, place.site) in indexed_sites]
    if rest:
        yield f"moments: {len(rest)} planes of indexed sites are not used, one is {rest[0]}"
