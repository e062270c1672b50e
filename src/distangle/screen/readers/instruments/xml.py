"""Parse untrusted XML as a stream with limits, without entities or downloads."""

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
_MAX_TEXT = 1 << 16  # maximum characters stored per element
_CHUNK = 1 << 20

Start = Callable[[str, Mapping[str, str]], None]
"""Called with the name and the attributes of an element, without prefixes."""
End = Callable[[str, str], None]
"""Called with the name and the text of an element."""


def open_regular(path: AnyPath, *, max_bytes: int) -> Any:
    """Open a regular file of limited size for reading bytes.

    Raises:
        ScreenError: The file is not regular, or too large.
        OSError: The file cannot be opened.
    """
    if isinstance(path, Path):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # do not block on a pipe
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
    """Parse an XML file and call back for every element.

    Args:
        path: The file.
        root: Required name of the root element.
        start: Called at the start of an element.
        end: Called at the end of an element.

    Raises:
        ScreenError: The XML is invalid, has another root, declares a document type or entities, or exceeds a limit.
        OSError: The file is unreadable.
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
            raise ScreenError(f"elements are nested more than {_MAX_DEPTH} deep")
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
        raise ScreenError("it declares a document type or entities, which instruments do not write")

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
            parser.Parse(b"", True)  # noqa: FBT003 - expat accepts no keyword here
        except (expat.ExpatError, ValueError) as error:
            if isinstance(error, ScreenError):
                raise
            raise ScreenError(f"it is not complete XML ({error})") from error
