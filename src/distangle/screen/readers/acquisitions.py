"""Match acquisitions of OME-Zarr plates that were measured more than once."""

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
        names: Id and name of each acquisition that the plate lists; "" for a missing name.
        field_ids: Ids in the metadata of the fields read so far.
    """

    names: Mapping[str, str]
    field_ids: set[str] = field(default_factory=set)

    def describe(self, identifier: str) -> str:
        """Return an acquisition as text: id and name."""
        name = self.names.get(identifier, "")
        return f"{identifier} ({name})" if name else identifier or "without an id"

    def matches(self, identifier: str, requested: str) -> bool:
        """Test whether an acquisition is the requested one, by id or by name."""
        name = self.names.get(identifier, "")
        return bool(identifier) and (
            is_same_value(identifier, requested) or name.casefold() == requested.casefold() != ""
        )

    def find_contradiction(self, identifiers: Sequence[str]) -> str:
        """Return why fields cannot all be sites of one well; "" if they can.

        Args:
            identifiers: The acquisition of each field; "" if unknown.
        """
        counts = Counter(identifiers)
        if len(counts) > 1:
            descriptions = [
                f"{count} field{'s' if count > 1 else ''} of acquisition {self.describe(key)}"
                for key, count in counts.items()
            ]
            return ", ".join(descriptions)
        if "" in counts and len(self.names) > 1 and len(identifiers) > 1:
            descriptions = [self.describe(key) for key in self.names]
            return f"{len(identifiers)} fields without an acquisition on a plate of {', '.join(descriptions)}"
        return ""


def read_acquisitions(plate: Mapping[str, Any]) -> Acquisitions:
    """Read the acquisitions with an id from the metadata of a plate."""
    entries = plate.get("acquisitions")
    valid = [item for item in entries if isinstance(item, dict) and "id" in item] if isinstance(entries, list) else []
    return Acquisitions(names={str(item["id"]): str(item.get("name") or "") for item in valid})


def require_acquisition(acquisition: str, plates: Iterable[Acquisitions]) -> None:
    """Refuse an acquisition that no plate and no field names.

    Args:
        acquisition: Id or name.
        plates: The acquisitions of each plate, after its fields were read.

    Raises:
        ScreenError: No acquisition has this id or name.
    """
    names = {name for plate in plates for name in (*plate.names, *plate.names.values(), *plate.field_ids) if name}
    if not any(is_same_value(acquisition, name) for name in names):
        message = f"--acquisition {acquisition}: no plate has an acquisition with this id or name. "
        raise ScreenError(message + did_you_mean(acquisition, names))
