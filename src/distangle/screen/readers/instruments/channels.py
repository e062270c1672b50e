"""Match channel numbers of file names to channel names of instruments."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from distangle.errors import ScreenError
from distangle.screen.problems import Problem
from distangle.screen.readers.instruments.plate_record import InstrumentRecord

_NUCLEUS = re.compile(r"dna|dapi|nucle(us|i|ar)|hoechst[0-9]*")


@dataclass(frozen=True, kw_only=True)
class ChannelPlan:
    """How the channels of every plate are read.

    Attributes:
        selection: `NAME=NUMBER`, as of the first record; () where nothing was learned.
        numbers: File of a record to the number that each of its channels has in the first record, or to its name where
            that has no such channel.
        doubts: File of a record, "" for images without one, to why its images cannot be taken.
        problems: Remarks.
    """

    selection: tuple[str, ...] = ()
    numbers: dict[str, dict[int, int | str]] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def is_same_name(name: str, other: str) -> bool:
    """Tell whether two names mean one channel, as `Alexa 488` and `alexa-488` do.

    Names of the nucleus are one.
    """
    first, second = _normalize_name(name), _normalize_name(other)
    return first == second != "" or bool(_NUCLEUS.fullmatch(first) and _NUCLEUS.fullmatch(second))


def plan_channels(
    records: Sequence[InstrumentRecord], selection: Sequence[str], *, used: set[int], without_record: bool
) -> ChannelPlan:
    """Plan how channels of plates are matched that may number them differently.

    Args:
        records: What the instruments say, each with names of channels.
        selection: `NAME` or `NAME=WRITTEN`; none for all.
        used: The numbers of channels in the names of the files.
        without_record: Some images have no record.

    Raises:
        ScreenError: `selection` contradicts every record, or plates name their channels so that they cannot be matched.
    """
    if not records:
        return ChannelPlan()
    reference = _reference_record(records, selection)
    names = {number: reference.channels[number] for number in sorted(used & set(reference.channels))}
    resolved = _resolve_selection(reference, names, selection, used, complete=not without_record)
    plan = ChannelPlan(selection=tuple(resolved))
    differing = [record for record in records if _differs(record, reference, used)]
    if not differing:
        return plan
    if not resolved:
        plan = replace(plan, selection=tuple(f"{name.replace('=', '-')}={number}" for number, name in names.items()))
    used_numbers = {int(number) for item in resolved if (number := item.rpartition("=")[2]).isdigit()} or set(names)
    _require_known_names(reference, differing, selection, used_numbers)
    for record in differing:
        reference_numbers: dict[int, int | str] = {
            number: next((k for k, label in names.items() if _normalize_name(label) == _normalize_name(name)), name)
            for number, name in record.channels.items()
        }
        missing = [names[k] for k in sorted(used_numbers & set(names)) if k not in reference_numbers.values()]
        description = _describe_channels(record, used)
        if not (_are_distinct(record, used) and _are_distinct(reference, used)):
            plan.doubts[record.file] = (
                f"channels {description}: two of one name, in another order than {reference.file}"
            )
            continue
        if missing:
            plan.doubts[record.file] = f"channels {description}, without {', '.join(missing)} of {reference.file}"
            continue
        plan.numbers[record.file] = reference_numbers
        plan.problems.append(
            Problem(
                severity="warning",
                kind="channel order of the instrument",
                file=record.file,
                found=f"channels {description}",
                expected=f"{_describe_channels(reference, used)}, as in {reference.file}",
                fix="Nothing: the channels of this plate were taken by their names, not by their numbers.",
            )
        )
    if without_record:
        plan.doubts[""] = (
            f"no file of the instrument, and {reference.file} and {differing[0].file} number channels differently"
        )
    return plan


def _reference_record(records: Sequence[InstrumentRecord], selection: Sequence[str]) -> InstrumentRecord:
    """Return the record that `selection` agrees with.

    Raises:
        ScreenError: There is none.
    """
    contradictions = [(record, _find_contradiction(record, selection)) for record in records]
    agreeing = next((record for record, contradiction in contradictions if not contradiction), None)
    if agreeing is not None:
        return agreeing
    record, contradiction = contradictions[0]
    order = ",".join(f"{name}={number}" for number, name in sorted(record.channels.items()))
    message = f"--channels {','.join(selection)}: {contradiction}, says the instrument in {record.file}. "
    message += f"Correct --channels: {order} is its order; or take another name for a channel that is meant so."
    raise ScreenError(message)


def _find_contradiction(record: InstrumentRecord, selection: Sequence[str]) -> str:
    for item in selection:
        name, separator, spelling = item.partition("=")
        number = int(spelling) if separator and spelling.strip().isdigit() else None
        if number is None or number not in record.channels or is_same_name(name, record.channels[number]):
            continue
        others = [k for k, label in record.channels.items() if is_same_name(name, label)]
        if len(others) == 1:
            return f"channel {number} is {record.channels[number]!r} and {name.strip()!r} is channel {others[0]}"
    return ""


def _resolve_selection(
    reference: InstrumentRecord, names: dict[int, str], selection: Sequence[str], used: set[int], *, complete: bool
) -> list[str]:
    """Return `selection` with numbers for names; without `selection`, all names."""
    if not selection:
        is_complete = complete and _are_distinct(reference, used) and set(names) == used
        return [f"{name.replace('=', '-')}={number}" for number, name in names.items()] if is_complete else []
    resolved: list[str] = []
    for item in selection:
        name, _, spelling = item.partition("=")
        key = (spelling or name).strip()
        matches = [number for number, label in names.items() if not key.isdigit() and is_same_name(key, label)]
        resolved.append(f"{name.strip()}={matches[0]}" if len(matches) == 1 else item)
    return resolved


def _are_distinct(record: InstrumentRecord, used: set[int]) -> bool:
    names = [_normalize_name(name) for number, name in record.channels.items() if number in used]
    return len(set(names)) == len(names)


def _differs(record: InstrumentRecord, reference: InstrumentRecord, used: set[int]) -> bool:
    return any(
        _normalize_name(record.channels.get(k, "")) != _normalize_name(reference.channels.get(k, "")) for k in used
    )


def _require_known_names(
    reference: InstrumentRecord, differing: Sequence[InstrumentRecord], selection: Sequence[str], used_numbers: set[int]
) -> None:
    """Refuse names unknown to an instrument that numbers channels in several orders.

    Raises:
        ScreenError: A channel is asked for by a number that means other stains on other plates.
    """
    for item in selection:
        name, _, spelling = item.partition("=")
        number = int(spelling) if spelling.strip().isdigit() else int(name) if name.strip().isdigit() else None
        if number is None or number not in used_numbers:
            continue
        other = next(
            (
                r
                for r in differing
                if _normalize_name(r.channels.get(number, "")) != _normalize_name(reference.channels.get(number, ""))
            ),
            None,
        )
        if other is None or any(is_same_name(name, label) for label in reference.channels.values()):
            continue
        label, other_label = reference.channels.get(number, "no channel"), other.channels.get(number, "no channel")
        raise ScreenError(
            f"--channels {item}: channel {number} is {label!r} in {reference.file} and {other_label!r} in {other.file}. "
            f"Which is meant? Name channels as the instrument does: --channels '{name.strip()}={label}'."
        )


def _describe_channels(record: InstrumentRecord, used: set[int]) -> str:
    return ", ".join(f"{number} = {name}" for number, name in sorted(record.channels.items()) if number in used)


def _normalize_name(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
