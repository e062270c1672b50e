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

_MAX_BYTES = 2 << 30  # bytes: an index of 300,000 images has about 0.5 GB
_MAX_DEPTH = 64
_MAX_TEXT = 1 << 16  # characters of one element that are kept
_CHUNK = 1 << 20

Start = Callable[[str, Mapping[str, str]], None]
"""Called with the name of an element, without its prefix, and its attributes, likewise."""
End = Callable[[str, str], None]
"""Called with the name of an element and the text in it."""


def open_regular(path: AnyPath, *, max_bytes: int) -> Any:
    """Open a file for reading its bytes, if it is a regular one of a bounded size.

    Raises:
        ScreenError: It is none, or larger.
        OSError: It cannot be opened.
    """
    if isinstance(path, Path):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe must not make us wait
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise ScreenError("it is not a regular file")
        size, stream = status.st_size, os.fdopen(descriptor, "rb")
    else:
        size, stream = path.size(), path.open("rb")
    if size > max_bytes:
        stream.close()
        raise ScreenError(f"it has {size} bytes; the limit is {max_bytes}")
    return stream


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
        local_name = name.rpartition(":")[2]
        if not texts and local_name != root:
            raise ScreenError(f"its first element is {local_name!r}, expected {root!r}")
        if len(texts) == _MAX_DEPTH:
            raise ScreenError(f"elements are more than {_MAX_DEPTH} deep")
        texts.append([])
        lengths.append(0)
        start(local_name, {key.rpartition(":")[2]: value for key, value in attributes.items()})

    def finish(name: str) -> None:
        lengths.pop()
        end(name.rpartition(":")[2], "".join(texts.pop()).strip())

    def text(chunk: str) -> None:
        if lengths[-1] < _MAX_TEXT:
            texts[-1].append(chunk[: _MAX_TEXT - lengths[-1]])
            lengths[-1] += len(chunk)

    def refuse(*_: object) -> Any:
        raise ScreenError("it declares a document type or entities, which no instrument writes")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, finish, text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ExternalEntityRefHandler = refuse
    with open_regular(path, max_bytes=_MAX_BYTES) as stream:
        n_read = 0
        try:
            while chunk := stream.read(_CHUNK):
                n_read += len(chunk)
                if n_read > _MAX_BYTES:
                    raise ScreenError(f"it has more than {_MAX_BYTES} bytes")
                parser.Parse(chunk)
            parser.Parse(b"", True)  # noqa: FBT003 - expat takes no name here
        except (expat.ExpatError, ValueError) as error:
            if isinstance(error, ScreenError):
                raise
            raise ScreenError(f"it is no whole XML ({error})") from error
