"""Pages: every text is escaped, the policy comes first, and no address leaves the folder of the page."""

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import jinja2
import pytest
from markupsafe import Markup

from distangle.report.html import (
    Content,
    Section,
    Table,
    check_page,
    count,
    missing_notice,
    paragraph,
    percent,
    printable,
    render,
    render_page,
)
from distangle.report.inline_svg import tag

HOSTILE = ("<script>", '"><img onerror=alert(1)>', "' onclick='", "{{ 7 * 7 }}", "{% raw %}", "</title><script>")
TEMPLATES = sorted(Path(str(files("distangle.report") / "templates")).rglob("*.j2"))


def page_of(content: Content, *, title: str = "run", stamp: str = "") -> str:
    return render_page(
        title, stamp=stamp, header=paragraph("top"), sections=[Section(name="a", title="Scores", content=content)]
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_comes_out_as_text(name: str) -> None:
    cells = Table(columns=[name], rows=[[name]], caption=name, bold={(0, 0)})
    page = page_of(Content("stacked.html.j2", {"figures": [], "tables": [cells], "sentences": [name]}), title=name)
    escaped = str(Markup.escape(name))
    assert page.count(escaped) == 5
    assert page.replace(escaped, "").count(name) == 0


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_cannot_end_an_attribute(name: str) -> None:
    figures = [{"source": "figures/a.png", "alternative": name, "caption": name}]
    page = page_of(Content("stacked.html.j2", {"figures": figures, "tables": [], "sentences": []}))
    assert f'alt="{Markup.escape(name)}"' in page
    assert tag("text", name, aria_label=name) == Markup('<text aria-label="{0}">{0}</text>').format(name)


@pytest.mark.parametrize("sign", ["\x00", "\x1b", "\u202e", "\u2066", "\ud800", "\x9f"])
def test_signs_that_no_one_sees_become_a_mark(sign: str) -> None:
    assert printable(f"a{sign}b") == "a\ufffdb"
    assert "a\ufffdb" in page_of(paragraph(f"a{sign}b"))
    assert page_of(paragraph(f"a{sign}b"), title=f"a{sign}b").encode("utf-8")
    assert "a\ufffdb" in tag("title", f"a{sign}b", aria_label=f"a{sign}b")


@pytest.mark.parametrize(
    "address",
    [
        "http://evil.example/x.png", "//evil.example", "javascript:alert(1)", "/etc/passwd", "../x.png", "a/../x",
        "data:x", "", "a b", "a/./b", "#a b", "x\n", "file:x", "a//b", "https:x",
    ],
)  # fmt: skip
def test_addresses_outside_the_folder_are_refused(address: str) -> None:
    figures = [{"source": address, "alternative": "", "caption": ""}]
    with pytest.raises(ValueError, match="is not a file in the folder of the page"):
        page_of(Content("stacked.html.j2", {"figures": figures, "tables": [], "sentences": []}))


@pytest.mark.parametrize("address", ["#sites", "style.css", "figures/site-01-channel-3.png"])
def test_addresses_inside_the_folder_pass(address: str) -> None:
    check_page(f'<a href="{address}">x</a>')


@pytest.mark.parametrize(
    "part",
    [
        "<script>1</script>", '<p style="color: red">', '<p onclick="x">', "<iframe></iframe>", "<form></form>",
        '<base href="figures">', '<svg onload="x"></svg>', "<STYLE></STYLE>",
    ],
)  # fmt: skip
def test_what_the_policy_forbids_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match="policy forbids"):
        check_page(part)


@pytest.mark.parametrize(
    "part", ['<use xlink:href="http://x"/>', '<img srcset="//x/a.png 2x">', '<video poster="https://x">']
)
def test_every_attribute_that_loads_is_checked(part: str) -> None:
    with pytest.raises(ValueError, match="is not a file in the folder of the page"):
        check_page(part)


def test_the_page_has_its_policy_before_anything_is_loaded() -> None:
    page = page_of(paragraph("x"))
    policy = "default-src 'none'; img-src 'self' data:; style-src 'self'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in page
    assert page.index("Content-Security-Policy") < page.index("style.css")


def test_menu_and_heading_have_the_same_words() -> None:
    page = page_of(paragraph("x"))
    assert '<a href="#a">Scores</a>' in page
    assert '<section id="a" aria-label="Scores">\n<h2>Scores</h2>' in page


def test_a_name_that_the_context_lacks_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("missing.html.j2", what="No score.")


def test_none_is_never_printed() -> None:
    with pytest.raises(TypeError, match="prints None"):
        render("paragraph.html.j2", text=None)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_keep_the_escaping_on(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe|autoescape|Markup|https?:|=\{\{|='\{\{", source)


def test_a_wheel_contains_every_template_and_the_style() -> None:
    package = Path(str(files("distangle")))
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["distangle"]
    paths = {path for pattern in patterns for path in package.glob(pattern)}
    assert {*TEMPLATES, package / "report" / "assets" / "style.css"} <= paths
    assert {"jinja2", "markupsafe"} <= {re.split("[>=]", line)[0] for line in project["project"]["dependencies"]}


def test_every_template_of_the_code_exists() -> None:
    root = Path(str(files("distangle")))
    sources = [*(root / "report").rglob("*.py"), root / "ablation" / "page.py"]
    names = {name for path in sources for name in re.findall(r'"([a-z_/]+\.html\.j2)"', path.read_text("utf-8"))}
    existing = {path.relative_to(root / "report" / "templates").as_posix() for path in TEMPLATES}
    assert existing - names == {"macros.html.j2"}
    assert names <= existing


def test_a_table_aligns_its_numbers() -> None:
    cells = Table(columns=["name", "n"], rows=[["<a>", "3"]], numeric=[1])
    page = page_of(Content("stacked.html.j2", {"figures": [], "tables": [cells], "sentences": []}))
    assert '<tr><td>&lt;a&gt;</td><td class="number">3</td></tr>' in page
    assert '<th scope="col" class="number">n</th>' in page


def test_what_is_missing_stands_with_its_command() -> None:
    notice = missing_notice("No score.", "distangle predict 'a run' SCREEN").__html__()
    assert "This part appears after <code>distangle predict &#39;a run&#39; SCREEN</code>." in notice


def test_a_forced_split_marks_the_page() -> None:
    assert '<main class="forced">' in page_of(paragraph("x"), stamp="forced split")
    assert "<main>" in page_of(paragraph("x"))


def test_numbers_are_written_for_people() -> None:
    assert percent(0.6251) == "62.5\u202f%"
    assert percent(1.0, 0) == "100\u202f%"
    assert count(1, "entry", "entries") == "1 entry"
    assert count(36517, "well") == "36,517 wells"
