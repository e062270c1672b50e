"""Parse untrusted XML as a stream, bounded in depth and size.

No document type, no entity, nothing fetched.
"""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.parsers import expat

from distangle.core.remote import AnyPath
from distangle.errors import ScreenError

_LARGEST = 2 << 30  # bytes: an index of 300,000 images has about 0.5 GB
_DEEPEST = 64
_LONGEST = 1 << 16  # characters of one element that are kept
_PIECE = 1 << 20

Start = Callable[[str, Mapping[str, str]], None]
"""Called with the name of an element, without its prefix, and its attributes, likewise."""
End = Callable[[str, str], None]
"""Called with the name of an element and the text in it."""


def open_regular(path: AnyPath, *, largest: int) -> Any:
    """Open a file for reading its bytes, if it is a regular one of a bounded size.

    Raises:
        ScreenError: It is none, or larger.
        OSError: It cannot be opened.
    """
    if isinstance(path, Path):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe must not make us wait
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise ScreenError("it is not a regular file")
        size, opened = found.st_size, os.fdopen(descriptor, "rb")
    else:
        size, opened = path.size(), path.open("rb")
    if size > largest:
        opened.close()
        raise ScreenError(f"it has {size} bytes; the limit is {largest}")
    return opened


def parse_xml(path: AnyPath, *, root: str, start: Start, end: End) -> None:
    """Read a file of XML and call back for every element.

    Args:
        path: The file.
        root: What its first element must be called.
        start: Called where an element begins.
        end: Called where it ends.

    Raises:
        ScreenError: It is no such file, it declares a document type or entities, or it is too deep or too large.
        OSError: It cannot be read.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    texts: list[list[str]] = []
    lengths: list[int] = []

    def begin(name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        if not texts and local != root:
            raise ScreenError(f"its first element is {local!r}, expected {root!r}")
        if len(texts) == _DEEPEST:
            raise ScreenError(f"elements are more than {_DEEPEST} deep")
        texts.append([])
        lengths.append(0)
        start(local, {key.rpartition(":")[2]: value for key, value in attributes.items()})

    def finish(name: str) -> None:
        lengths.pop()
        end(name.rpartition(":")[2], "".join(texts.pop()).strip())

    def text(piece: str) -> None:
        if lengths[-1] < _LONGEST:
            texts[-1].append(piece[: _LONGEST - lengths[-1]])
            lengths[-1] += len(piece)

    def forbidden(*_: object) -> Any:
        raise ScreenError("it declares a document type or entities, which no instrument writes")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, finish, text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ExternalEntityRefHandler = forbidden
    with open_regular(path, largest=_LARGEST) as opened:
        read = 0
        try:
            while piece := opened.read(_PIECE):
                read += len(piece)
                if read > _LARGEST:
                    raise ScreenError(f"it has more than {_LARGEST} bytes")
                parser.Parse(piece)
            parser.Parse(b"", True)  # noqa: FBT003 - expat takes no name here
        except (expat.ExpatError, ValueError) as error:
            if isinstance(error, ScreenError):
                raise
            raise ScreenError(f"it is no whole XML ({error})") from error
