import pytest

from distangle.report.page import Markup, count, document, element, escaped, joined, percent, section, table

HOSTILE = '"><svg onload=alert(1)>'


def test_text_is_escaped_and_markup_is_not() -> None:
    assert element("td", HOSTILE) == "<td>&quot;&gt;&lt;svg onload=alert(1)&gt;</td>"
    assert element("td", Markup("<b>x</b>")) == "<td><b>x</b></td>"
    assert joined(["<", Markup("<br>")], " & ") == "&lt; & <br>"


def test_attributes_are_escaped() -> None:
    assert element("img", alt=HOSTILE, width=3) == '<img alt="&quot;&gt;&lt;svg onload=alert(1)&gt;" width="3">'


def test_single_quotes_cannot_end_an_attribute() -> None:
    assert "'" not in element("a", "x", title="' onclick='")


@pytest.mark.parametrize("sign", ["\x00", "\x1b", "\u202e", "\u2066", "\ud800", "\x9f"])
def test_signs_that_no_one_sees_become_a_mark(sign: str) -> None:
    assert escaped(f"a{sign}b") == "a\ufffdb"
    assert escaped(f"a{sign}b").encode("utf-8")


@pytest.mark.parametrize(
    "address",
    [
        "http://evil.example/x.png", "//evil.example", "javascript:alert(1)", "/etc/passwd", "../x.png", "a/../x",
        "data:x", "", "a b", "a/./b", "#a b", "x\n", "file:x", "a//b", "https:x",
    ],
)  # fmt: skip
def test_addresses_outside_the_folder_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="no file of the report's folder"):
        element("a", "x", href=address)


@pytest.mark.parametrize("address", ["#sites", "style.css", "figures/site-01-stain-3.png"])
def test_addresses_inside_the_folder_pass(address: str) -> None:
    assert f'href="{address}"' in element("a", "x", href=address)


@pytest.mark.parametrize("name", ["style", "onclick", "onload"])
def test_attributes_that_the_policy_forbids_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="policy forbids"):
        element("p", "x", **{name: "x"})


def test_a_table_aligns_its_numbers() -> None:
    drawn = table(["name", "n"], [["<a>", "3"]], numeric=[1])
    assert '<td class="number">3</td>' in drawn
    assert "<td>&lt;a&gt;</td>" in drawn


def test_the_page_has_its_policy_before_anything_is_loaded() -> None:
    page = document("run", stamp="", header=Markup(""), sections=[("a", "A", section("a", "Title"))])
    assert page.index("Content-Security-Policy") < page.index("style.css")
    assert "default-src &#x27;none&#x27;; img-src &#x27;self&#x27; data:; style-src &#x27;self&#x27;" in page
    assert '<a href="#a">A</a>' in page
    assert "<script" not in page


def test_a_forced_split_marks_the_page() -> None:
    assert '<main class="forced">' in document("run", stamp="forced split", header=Markup(""), sections=[])
    assert "<main>" in document("run", stamp="", header=Markup(""), sections=[])


def test_numbers_are_written_for_people() -> None:
    assert percent(0.6251) == "62.5\u202f%"
    assert percent(1.0, 0) == "100\u202f%"
    assert count(1, "entry", "entries") == "1 entry"
    assert count(36517, "well") == "36,517 wells"
