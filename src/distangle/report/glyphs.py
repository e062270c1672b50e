"""Find fonts for letters that the figures lack, or print their codes."""

import contextlib
import functools
import warnings
from collections.abc import Iterator
from typing import Literal

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

OWN = "DejaVu Sans"
# Fonts that have Chinese, Japanese, Korean or pictographs, on the usual systems; the first installed ones are taken.
OTHERS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Source Han Sans", "WenQuanYi Zen Hei"),
    *("Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic"),
    *("Noto Emoji", "Segoe UI Symbol", "Symbola", "Arial Unicode MS"),
)
MOST_CODES = 3  # of one text; what follows is cut


@functools.cache
def families() -> tuple[str, ...]:
    """Return the font of the figures and the fallbacks for its missing letters."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return (OWN, *(name for name in OTHERS if name in installed))


@functools.cache
def _known() -> frozenset[int]:
    paths = [font_manager.findfont(font_manager.FontProperties(family=[name])) for name in families()]
    return frozenset(code for path in paths for code in font_manager.get_font(path).get_charmap())


def plain(text: str) -> str:
    """Replace letters that no font has by a few codes such as `U+1F9EC`."""
    found: list[str] = []
    codes = 0
    for letter in text:
        if ord(letter) in _known() or letter in "\n\t":
            found.append(letter)
            continue
        codes += 1
        if codes > MOST_CODES:
            found.append("…")
            break
        found.append(f"U+{ord(letter):04X} ")
    return "".join(found).rstrip() if codes else text


@contextlib.contextmanager
def drawable(figure: Figure, kind: Literal["png", "svg"]) -> Iterator[None]:
    """Let a figure be written without a warning of missing letters.

    Args:
        figure: Its texts are as before afterwards.
        kind: In `svg` names stay text, for the fonts of who reads it; a `png` shows the codes of missing letters.
    """
    before = [(text, text.get_text()) for text in figure.findobj(Text)] if kind == "png" else []
    for text, words in before:
        if plain(words) != words:
            text.set_text(plain(words))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Glyph \d+", category=UserWarning)
            yield
    finally:
        for text, words in before:
            if text.get_text() != words:
                text.set_text(words)
