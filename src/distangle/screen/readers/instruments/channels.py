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
        asked: `NAME=NUMBER`, as of the first record; () where nothing was learned.
        numbers: File of a record to the number that each of its channels has in the first record, or to its name where
            that has no such channel.
        doubts: File of a record, "" for images without one, to why its images cannot be taken.
        problems: Remarks.
    """

    asked: tuple[str, ...] = ()
    numbers: dict[str, dict[int, int | str]] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def is_same_name(asked: str, told: str) -> bool:
    """Tell whether two names mean one channel, as `Alexa 488` and `alexa-488` do.

    Names of the nucleus are one.
    """
    first, second = _plain(asked), _plain(told)
    return first == second != "" or bool(_NUCLEUS.fullmatch(first) and _NUCLEUS.fullmatch(second))


def plan_channels(
    records: Sequence[InstrumentRecord], asked: Sequence[str], *, used: set[int], without_record: bool
) -> ChannelPlan:
    """Plan how channels of plates are matched that may number them differently.

    Args:
        records: What the instruments say, each with names of channels.
        asked: `NAME` or `NAME=WRITTEN`; none for all.
        used: The numbers of channels in the names of the files.
        without_record: Some images have no record.

    Raises:
        ScreenError: `asked` contradicts every record, or plates name their channels so that they cannot be matched.
    """
    if not records:
        return ChannelPlan()
    first = _reference(records, asked)
    names = {number: first.channels[number] for number in sorted(used & set(first.channels))}
    wanted = _wanted(first, names, asked, used, complete=not without_record)
    plan = ChannelPlan(asked=tuple(wanted))
    differ = [record for record in records if _differs(record, first, used)]
    if not differ:
        return plan
    if not wanted:
        plan = replace(plan, asked=tuple(f"{name.replace('=', '-')}={number}" for number, name in names.items()))
    kept = {int(number) for item in wanted if (number := item.rpartition("=")[2]).isdigit()} or set(names)
    _require_known_names(first, differ, asked, kept)
    for record in differ:
        to_first: dict[int, int | str] = {
            number: next((k for k, known in names.items() if _plain(known) == _plain(name)), name)
            for number, name in record.channels.items()
        }
        lost = [names[k] for k in sorted(kept & set(names)) if k not in to_first.values()]
        listed = _listed(record, used)
        if not (_are_distinct(record, used) and _are_distinct(first, used)):
            plan.doubts[record.file] = f"channels {listed}: two of one name, in another order than {first.file}"
            continue
        if lost:
            plan.doubts[record.file] = f"channels {listed}, without {', '.join(lost)} of {first.file}"
            continue
        plan.numbers[record.file] = to_first
        plan.problems.append(
            Problem(
                severity="warning",
                kind="channel order of the instrument",
                file=record.file,
                found=f"channels {listed}",
                expected=f"{_listed(first, used)}, as in {first.file}",
                fix="Nothing: the channels of this plate were taken by their names, not by their numbers.",
            )
        )
    if without_record:
        plan.doubts[""] = (
            f"no file of the instrument, and {first.file} and {differ[0].file} number channels differently"
        )
    return plan


def _reference(records: Sequence[InstrumentRecord], asked: Sequence[str]) -> InstrumentRecord:
    """Return the record that `asked` agrees with.

    Raises:
        ScreenError: There is none.
    """
    wrong = [(record, _contradiction(record, asked)) for record in records]
    good = next((record for record, said in wrong if not said), None)
    if good is not None:
        return good
    record, said = wrong[0]
    listed = ",".join(f"{name}={number}" for number, name in sorted(record.channels.items()))
    message = f"--channels {','.join(asked)}: {said}, says the instrument in {record.file}. "
    message += f"Correct --channels: {listed} is its order; or take another name for a channel that is meant so."
    raise ScreenError(message)


def _contradiction(record: InstrumentRecord, asked: Sequence[str]) -> str:
    for item in asked:
        name, separator, written = item.partition("=")
        number = int(written) if separator and written.strip().isdigit() else None
        if number is None or number not in record.channels or is_same_name(name, record.channels[number]):
            continue
        others = [k for k, told in record.channels.items() if is_same_name(name, told)]
        if len(others) == 1:
            return f"channel {number} is {record.channels[number]!r} and {name.strip()!r} is channel {others[0]}"
    return ""


def _wanted(
    first: InstrumentRecord, names: dict[int, str], asked: Sequence[str], used: set[int], *, complete: bool
) -> list[str]:
    """Return `asked` with numbers for names; without `asked`, all names."""
    if not asked:
        whole = complete and _are_distinct(first, used) and set(names) == used
        return [f"{name.replace('=', '-')}={number}" for number, name in names.items()] if whole else []
    wanted: list[str] = []
    for item in asked:
        name, _, written = item.partition("=")
        key = (written or name).strip()
        same = [number for number, told in names.items() if not key.isdigit() and is_same_name(key, told)]
        wanted.append(f"{name.strip()}={same[0]}" if len(same) == 1 else item)
    return wanted


def _are_distinct(record: InstrumentRecord, used: set[int]) -> bool:
    names = [_plain(name) for number, name in record.channels.items() if number in used]
    return len(set(names)) == len(names)


def _differs(record: InstrumentRecord, first: InstrumentRecord, used: set[int]) -> bool:
    return any(_plain(record.channels.get(k, "")) != _plain(first.channels.get(k, "")) for k in used)


def _require_known_names(
    first: InstrumentRecord, differ: Sequence[InstrumentRecord], asked: Sequence[str], kept: set[int]
) -> None:
    """Refuse names unknown to an instrument that numbers channels in several orders.

    Raises:
        ScreenError: A channel is asked for by a number that means other stains on other plates.
    """
    for item in asked:
        name, _, written = item.partition("=")
        number = int(written) if written.strip().isdigit() else int(name) if name.strip().isdigit() else None
        if number is None or number not in kept:
            continue
        other = next(
            (r for r in differ if _plain(r.channels.get(number, "")) != _plain(first.channels.get(number, ""))), None
        )
        if other is None or any(is_same_name(name, told) for told in first.channels.values()):
            continue
        told, elsewhere = first.channels.get(number, "no channel"), other.channels.get(number, "no channel")
        raise ScreenError(
            f"--channels {item}: channel {number} is {told!r} in {first.file} and {elsewhere!r} in {other.file}. "
            f"Which is meant? Name channels as the instrument does: --channels '{name.strip()}={told}'."
        )


def _listed(record: InstrumentRecord, used: set[int]) -> str:
    return ", ".join(f"{number} = {name}" for number, name in sorted(record.channels.items()) if number in used)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
