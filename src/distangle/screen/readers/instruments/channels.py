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
        selection: `NAME=NUMBER` of the reference record; empty if the records add nothing.
        numbers: For each record that differs, the number of each of its channels in the reference record, or the name
            of a channel that the reference lacks.
        doubts: For each record, "" for images without one, why its images are refused.
        problems: Warnings.
    """

    selection: tuple[str, ...] = ()
    numbers: dict[str, dict[int, int | str]] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def is_same_name(name: str, other: str) -> bool:
    """Test whether two names mean one channel, such as `Alexa 488` and `alexa-488`.

    All names of the nucleus are equal.
    """
    first, second = _normalize_name(name), _normalize_name(other)
    return first == second != "" or bool(_NUCLEUS.fullmatch(first) and _NUCLEUS.fullmatch(second))


def plan_channels(
    records: Sequence[InstrumentRecord], selection: Sequence[str], *, used: set[int], without_record: bool
) -> ChannelPlan:
    """Match the channels of plates that may number them differently.

    Args:
        records: Instrument records with channel names.
        selection: `NAME` or `NAME=WRITTEN`; empty for all.
        used: Channel numbers in the file names.
        without_record: Some images have no record.

    Raises:
        ScreenError: `selection` contradicts every record, or the channel names of plates cannot be matched.
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
                kind="channel order differs",
                file=record.file,
                found=f"channels {description}",
                expected=f"{_describe_channels(reference, used)}, as in {reference.file}",
                fix="No action needed: the channels of this plate are matched by name, not by number.",
            )
        )
    if without_record:
        plan.doubts[""] = (
            f"no instrument file, and {reference.file} and {differing[0].file} number channels differently"
        )
    return plan


def _reference_record(records: Sequence[InstrumentRecord], selection: Sequence[str]) -> InstrumentRecord:
    """Return the first record that agrees with `selection`.

    Raises:
        ScreenError: No record agrees.
    """
    contradictions = [(record, _find_contradiction(record, selection)) for record in records]
    agreeing = next((record for record, contradiction in contradictions if not contradiction), None)
    if agreeing is not None:
        return agreeing
    record, contradiction = contradictions[0]
    order = ",".join(f"{name}={number}" for number, name in sorted(record.channels.items()))
    message = f"--channels {','.join(selection)}: {contradiction}, by {record.file} of the instrument. "
    message += f"Correct --channels: its order is {order}; or use another name for this channel."
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
    """Return `selection` with channel numbers; all named channels without one."""
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
    """Refuse channel numbers whose meaning differs between plates.

    Raises:
        ScreenError: A selected number means different channels on different plates.
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
            f"--channels {item}: channel {number} is {label!r} in {reference.file} and {other_label!r} in "
            f"{other.file}. Name channels as the instrument does: --channels '{name.strip()}={label}'."
        )


def _describe_channels(record: InstrumentRecord, used: set[int]) -> str:
    return ", ".join(f"{number} = {name}" for number, name in sorted(record.channels.items()) if number in used)


def _normalize_name(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
