"""Controls that are named by hand."""

from collections.abc import Mapping, Sequence

from distangle.errors import ScreenError, nearest
from distangle.screen.entry import Entry
from distangle.screen.perturbation import Role, role_of


def apply_controls(entries: Sequence[Entry], controls: Mapping[str, Sequence[str]]) -> None:
    """Give the entries of named perturbations their role.

    Args:
        entries: Their roles are rewritten.
        controls: Role to names of perturbations.

    Raises:
        ScreenError: No such role or perturbation, or one perturbation in two roles.
    """
    known = {entry.perturbation for entry in entries if entry.perturbation}
    role_by_name: dict[str, Role] = {}
    for word, names in controls.items():
        role = role_of(word)
        if role is None or not word:
            raise ScreenError(f"Controls {word!r}: no such role. {nearest(word, [item.value for item in Role])}")
        for name in names:
            if name not in known and entries:  # where nothing is left, the refusals say more
                flag = f"--{role.value.replace('_', '-')}"
                raise ScreenError(f"{flag} {name}: no row has the perturbation {name!r}. {nearest(name, known)}")
            if role_by_name.setdefault(name, role) != role:
                raise ScreenError(f"{name!r} is named as {role_by_name[name]} and as {role}. Keep one.")
    for entry in entries:
        entry.role = role_by_name.get(entry.perturbation, entry.role)
