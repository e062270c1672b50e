"""Divide the sections of a report into pages by subject, linked with each other."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from distangle.report.html import Content, Navigation, PageLink, Section, check_page, render_page

INDEX = "index.html"
_GROUP = "group.html.j2"
_ANCHOR = re.compile(r'(?<= href=")#([a-z0-9-]+)(?=")')
_ID = re.compile(r' id="([a-z0-9-]+)"')
_OF_EVERY_PAGE = "contents"  # place behind the navigation, for its skip link


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A page of a report.

    Attributes:
        name: Name of the file without its suffix.
        title: Name in the navigation.
        summary: What the page shows, for the list on the first page.
        sections: Names of its sections, in their order.
    """

    name: str
    title: str
    summary: str
    sections: tuple[str, ...]

    @property
    def address(self) -> str:
        """The file of the page in the folder of the report."""
        return f"{self.name}.html"


SUBJECTS = (
    Subject(
        name="index", title="Overview", summary="What a decision needs, and the table of perturbations.",
        sections=("perturbations", "refused"),
    ),
    Subject(
        name="channels", title="Channels", summary="Which channel carries the answer, by perturbation.",
        sections=("channels",),
    ),
    Subject(
        name="examples", title="Example cells",
        summary="Images beside a control well, with attribution maps and the values of every channel.",
        sections=("sites",),
    ),
    Subject(
        name="plates", title="Plates and controls",
        summary="The held-out plates well by well, and the checks of the control wells.",
        sections=("plates", "controls"),
    ),
    Subject(
        name="scores", title="Accuracy",
        summary="Scores with intervals, chance and cell-free baselines; calibration; confusions.",
        sections=("scores",),
    ),
    Subject(
        name="profiles", title="Profiles and batch",
        summary="A map of the wells, perturbations alike and opposite, and what is left of the batches.",
        sections=("profiles",),
    ),
    Subject(
        name="checks", title="Trust checks", summary="Whether the maps show what the network used.",
        sections=("checks",),
    ),
    Subject(
        name="method", title="Method", summary="Training curves, batch correction, and details of the methods.",
        sections=("method",),
    ),
    Subject(
        name="provenance", title="Files and settings",
        summary="Commands, settings and the SHA-256 of every file, to repeat the run.", sections=("provenance",),
    ),
)  # fmt: skip


def render_pages(run: str, *, stamp: str, header: Content, sections: Sequence[Section]) -> dict[str, str]:
    """Render the pages of a report, each with its navigation.

    Args:
        run: Name of the run.
        stamp: Label of every figure if the split was forced; "" otherwise.
        header: Contents at the top of the first page.
        sections: All sections of the report.

    Returns:
        HTML by the name of the file; the first is `index.html`. Links between sections lead to their pages.

    Raises:
        ValueError: A section has no page, a link has no target, or an address leaves the folder.
    """
    by_name = {section.name: _unfold(section) for section in sections}
    homeless = sorted(set(by_name) - {name for subject in SUBJECTS for name in subject.sections})
    if homeless:
        raise ValueError(f"No page of the report has the section {homeless[0]!r}. Add it to a subject.")
    subjects = [
        subject for subject in SUBJECTS if subject.address == INDEX or any(name in by_name for name in subject.sections)
    ]
    links = [PageLink(address=subject.address, title=subject.title, summary=subject.summary) for subject in subjects]
    pages = {}
    for number, subject in enumerate(subjects):
        parts = [by_name[name] for name in subject.sections if name in by_name]
        title, top = f"{run} · distangle report", header
        if subject.address == INDEX:
            overview = Content("sections/pages.html.j2", {"links": links[1:]})
            parts.insert(1, Section(name="pages", title="Pages", content=overview))
        else:
            title = f"{subject.title} · {title}"
            top = Content("page_header.html.j2", {"run": run, "index": links[0]})
        navigation = Navigation(links=links, current=number)
        pages[subject.address] = render_page(title, stamp=stamp, header=top, sections=parts, navigation=navigation)
    return _connect(pages)


def _unfold(section: Section) -> Section:
    """Open the folded parts of a section that has a page of its own."""
    if section.content.template != _GROUP:
        return section
    parts = [replace(part, is_folded=False) for part in section.content.values["parts"]]
    return replace(section, content=Content(_GROUP, {"parts": parts}))


def _connect(pages: Mapping[str, str]) -> dict[str, str]:
    """Lead links to anchors of other pages to their pages.

    Raises:
        ValueError: Two pages have the same anchor, or no page has the anchor of a link.
    """
    homes: dict[str, str] = {}
    for address, page in pages.items():
        for anchor in _ID.findall(page):
            if anchor != _OF_EVERY_PAGE and homes.setdefault(anchor, address) != address:
                raise ValueError(f"{homes[anchor]} and {address} both have the anchor {anchor!r}.")
    connected = {}
    for address, page in pages.items():

        def locate(match: re.Match[str], address: str = address) -> str:
            anchor = match.group(1)
            home = address if anchor == _OF_EVERY_PAGE else homes.get(anchor)
            if home is None:
                raise ValueError(f"{address} has a link to #{anchor}, which is on no page.")
            return f"#{anchor}" if home == address else f"{home}#{anchor}"

        connected[address] = _ANCHOR.sub(locate, page)
        check_page(connected[address])
    return connected
