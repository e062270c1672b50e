"""Acquisitions of OME-Zarr plates that were measured more than once."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distangle.errors import ScreenError, did_you_mean
from distangle.screen.readers.filenames.plates import is_same_value


@dataclass(frozen=True, kw_only=True)
class Acquisitions:
    """The acquisitions of one plate.

    Source: OME-NGFF 0.4 and 0.5, "plate" and "well" metadata

    Attributes:
        names: Id of each acquisition that the plate lists, and its name, "" where it has none.
        used: Ids that its fields name, as far as they were read.
    """

    names: Mapping[str, str]
    used: set[str] = field(default_factory=set)

    def describe(self, identifier: str) -> str:
        """Return an acquisition by id and name."""
        name = self.names.get(identifier, "")
        return f"{identifier} ({name})" if name else identifier or "without a number"

    def is_asked(self, identifier: str, asked: str) -> bool:
        """Tell whether a field is of the requested acquisition, by id or by name."""
        name = self.names.get(identifier, "")
        return bool(identifier) and (is_same_value(identifier, asked) or name.casefold() == asked.casefold() != "")

    def contradiction(self, identifiers: Sequence[str]) -> str:
        """Return why the fields of a well cannot be sites of it; "" if they can.

        Args:
            identifiers: The acquisition of each field, "" where none is told.
        """
        counts = Counter(identifiers)
        if len(counts) > 1:
            listed = [f"{n} field{'s' if n > 1 else ''} of acquisition {self.describe(k)}" for k, n in counts.items()]
            return ", ".join(listed)
        if "" in counts and len(self.names) > 1 and len(identifiers) > 1:
            listed = [self.describe(key) for key in self.names]
            return f"{len(identifiers)} fields without an acquisition on a plate of {', '.join(listed)}"
        return ""


def read_acquisitions(plate: Mapping[str, Any]) -> Acquisitions:
    """Return the acquisitions that a plate's metadata list; those without id are not."""
    listed = plate.get("acquisitions")
    there = [item for item in listed if isinstance(item, dict) and "id" in item] if isinstance(listed, list) else []
    return Acquisitions(names={str(item["id"]): str(item.get("name") or "") for item in there})


def require_acquisition(asked: str, plates: Iterable[Acquisitions]) -> None:
    """Refuse an acquisition that neither a plate nor a field of it names.

    Args:
        asked: By id or by name.
        plates: After their fields were read.

    Raises:
        ScreenError: None is called so.
    """
    known = {name for plate in plates for name in (*plate.names, *plate.names.values(), *plate.used) if name}
    if not any(is_same_value(asked, name) for name in known):
        raise ScreenError(
            f"--acquisition {asked}: no plate has an acquisition of this number or name. {did_you_mean(asked, known)}"
        )
