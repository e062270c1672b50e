"""Find fallback fonts for missing letters, or print the codes of the letters."""

import contextlib
import functools
import warnings
from collections.abc import Iterator
from typing import Literal

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

FONT = "DejaVu Sans"
# Fonts with Chinese, Japanese, Korean or pictographs on common systems; the installed ones are used in this order.
FALLBACK_FONTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Source Han Sans", "WenQuanYi Zen Hei"),
    *("Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic"),
    *("Noto Emoji", "Segoe UI Symbol", "Symbola", "Arial Unicode MS"),
)
MAX_CODES = 3  # per text; the rest is cut


@functools.cache
def families() -> tuple[str, ...]:
    """Return the font of the figures and its installed fallbacks."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return (FONT, *(name for name in FALLBACK_FONTS if name in installed))


@functools.cache
def _supported_codes() -> frozenset[int]:
    paths = [font_manager.findfont(font_manager.FontProperties(family=[name])) for name in families()]
    return frozenset(code for path in paths for code in font_manager.get_font(path).get_charmap())


def replace_missing_glyphs(text: str) -> str:
    """Replace letters that no font has by codes such as `U+1F9EC`."""
    parts: list[str] = []
    n_codes = 0
    for letter in text:
        if ord(letter) in _supported_codes() or letter in "\n\t":
            parts.append(letter)
            continue
        n_codes += 1
        if n_codes > MAX_CODES:
            parts.append("…")
            break
        parts.append(f"U+{ord(letter):04X} ")
    return "".join(parts).rstrip() if n_codes else text


@contextlib.contextmanager
def drawable(figure: Figure, kind: Literal["png", "svg"]) -> Iterator[None]:
    """Suppress warnings about missing letters while a figure is written.

    Args:
        figure: Figure to write; its texts are restored afterwards.
        kind: File type. An `svg` keeps its texts for the fonts of the reader; a `png` shows the codes of missing
            letters.
    """
    texts = [(text, text.get_text()) for text in figure.findobj(Text)] if kind == "png" else []
    for text, original in texts:
        if replace_missing_glyphs(original) != original:
            text.set_text(replace_missing_glyphs(original))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Glyph \d+", category=UserWarning)
            yield
    finally:
        for text, original in texts:
            if text.get_text() != original:
                text.set_text(original)
