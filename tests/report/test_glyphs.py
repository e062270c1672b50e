"""Names in other scripts and pictographs: no warning, no box, the text in the SVG and its code in the PNG."""

import io
from collections.abc import Iterator

import pytest
from matplotlib.figure import Figure

from distangle.report import glyphs
from distangle.report.charts import confusion_matrix
from distangle.report.glyphs import drawable, replace_missing_glyphs


@pytest.fixture(autouse=True)
def _own_font_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use only our own font, as on a machine without others."""
    monkeypatch.setattr(glyphs, "FALLBACK_FONTS", ())
    for cached_function in (glyphs.families, glyphs._supported_codes):
        cached_function.cache_clear()
    yield
    for cached_function in (glyphs.families, glyphs._supported_codes):
        cached_function.cache_clear()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("🧬", "U+1F9EC"),
        ("gene 薬", "gene U+85AC"),
        ("薬剤投与後", "U+85AC U+5264 U+6295 …"),
        ("β-actin µM Δ", "β-actin µM Δ"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_letters_that_no_font_has_are_shown_by_their_code(name: str, text: str) -> None:
    assert replace_missing_glyphs(name) == text


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_figure_is_written_without_a_warning_and_keeps_its_texts(kind: str) -> None:
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.set_title("薬剤 🧬")
    with drawable(figure, kind):  # type: ignore[arg-type]
        figure.savefig(io.BytesIO(), format=kind)
    assert axes.get_title() == "薬剤 🧬"


def test_a_chart_of_the_page_keeps_the_names_as_text() -> None:
    import numpy as np

    chart = confusion_matrix(("薬剤", "🧬"), np.eye(2))
    assert "薬剤" in chart
    assert "🧬" in chart
