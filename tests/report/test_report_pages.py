"""Pages by subject: every section is on one page, and links between sections work."""

import re

import pytest

from distangle.report.html import Content, Section, check_page, link, paragraph
from distangle.report.pages import SUBJECTS, render_pages

ALL = tuple(name for subject in SUBJECTS for name in subject.sections)


def section(name: str, content: Content | None = None) -> Section:
    return Section(name=name, title=name.title(), content=content or paragraph(f"Text of {name}."))


def pages_of(*sections: Section) -> dict[str, str]:
    return render_pages("a <run>", stamp="", header=paragraph("top"), sections=sections)


def test_every_section_is_on_one_page_and_the_first_page_is_the_overview() -> None:
    pages = pages_of(*map(section, ALL))
    assert next(iter(pages)) == "index.html"
    assert len(set(ALL)) == len(ALL)
    for subject in SUBJECTS:
        names = re.findall(r"Text of ([a-z]+)\.", pages[subject.address])
        assert tuple(names) == subject.sections
    assert [address for address, page in pages.items() if "<p>top</p>" in page] == ["index.html"]
    assert all("a &lt;run&gt;" in page for page in pages.values())


def test_a_page_without_a_section_is_in_no_navigation() -> None:
    pages = pages_of(section("perturbations"), section("sites"))
    assert list(pages) == ["index.html", "examples.html"]
    assert re.findall(r'<a href="([a-z.]+)"', pages["examples.html"].partition("</nav>")[0]) == list(pages)


def test_the_open_page_is_marked_and_its_neighbors_are_linked() -> None:
    pages = pages_of(*map(section, ALL))
    names = list(pages)
    for number, (address, page) in enumerate(pages.items()):
        assert re.findall(r'<a href="([a-z.]+)" aria-current="page">', page) == [address]
        neighbors = dict(re.findall(r'<a rel="([a-z]+)" href="([a-z.]+)">', page))
        expected = {"prev": names[number - 1] if number else None, "next": (names[number + 1 :] or [None])[0]}
        assert neighbors == {key: name for key, name in expected.items() if name}
        # The first key press leads past the navigation.
        assert page.index('class="skip" href="#contents"') < page.index("<nav") < page.index('id="contents"')


def test_a_link_between_sections_leads_to_the_page_of_its_target() -> None:
    target = Content("group.html.j2", {"parts": [section("deep")]})
    own_link = Content("paragraph.html.j2", {"text": link("here", "#sites")})
    other = Content("paragraph.html.j2", {"text": link("there", "#deep")})
    pages = pages_of(section("perturbations", other), section("sites", own_link), section("method", target))
    assert '<a href="method.html#deep">there</a>' in pages["index.html"]
    assert 'id="deep"' in pages["method.html"]
    assert '<a href="#sites">here</a>' in pages["examples.html"]
    for page in pages.values():
        check_page(page)


def test_text_that_looks_like_a_link_is_left_alone() -> None:
    pages = pages_of(section("perturbations", paragraph('<a href="#deep">')))
    assert "&lt;a href=&#34;#deep&#34;&gt;" in pages["index.html"]


def test_a_link_without_a_target_and_an_anchor_on_two_pages_are_errors() -> None:
    dead_link = Content("paragraph.html.j2", {"text": link("x", "#nowhere")})
    with pytest.raises(ValueError, match="index.html has a link to #nowhere, which is on no page"):
        pages_of(section("perturbations", dead_link))
    twice = Content("group.html.j2", {"parts": [section("same")]})
    with pytest.raises(ValueError, match="scores.html and method.html both have the anchor 'same'"):
        pages_of(section("scores", twice), section("method", twice))


def test_a_section_that_no_page_wants_is_an_error() -> None:
    with pytest.raises(ValueError, match="No page of the report has the section 'new'. Add it to a subject"):
        pages_of(section("perturbations"), section("new"))


def test_folded_parts_are_open_on_their_own_page() -> None:
    part = Section(name="curves", title="Curves", content=paragraph("x"), is_folded=True)
    pages = pages_of(section("method", Content("group.html.j2", {"parts": [part]})))
    assert '<div class="part" id="curves">' in pages["method.html"]
    assert "<details" not in pages["method.html"]
