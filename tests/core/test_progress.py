"""Progress: the time left is right within a factor of two or not shown; every step is counted; no long silence."""

import io

import pytest
from rich.console import Console

from distangle.core import progress as module
from distangle.core.progress import (
    MIN_SECONDS,
    Clock,
    Progress,
    begin_step,
    by_percent,
    count_items,
    note_output,
    progress,
    show_action,
    show_waiting,
    time_left,
)


def plain() -> tuple[io.StringIO, Console]:
    file = io.StringIO()
    return file, Console(file=file, width=80, force_terminal=False)


@pytest.mark.parametrize("second", [0.3, 1.0, 7.0])
@pytest.mark.parametrize("start", [0.0, 60.0])
def test_every_time_left_is_right_within_a_factor_of_two(second: float, start: float) -> None:
    clock, total = Clock(100), 100
    n_shown = 0
    for n_done in range(1, total):
        time = start + n_done * second
        clock.mark(n_done, at=time)
        seconds_left = clock.left(at=time)
        if seconds_left is not None:
            n_shown += 1
            assert 0.5 < seconds_left / ((total - n_done) * second) < 2
    assert n_shown > 70


def test_a_slow_start_does_not_count_as_the_speed() -> None:
    clock = Clock(100)
    times = [14.0, 15.0, 15.3, 15.6, 16.0, 16.4, 16.8]  # workers start, then two or three percent a second
    for n_done, time in enumerate(times, start=1):
        clock.mark(n_done, at=time)
        assert clock.left(at=time) is None  # too few steps for an estimate
    for n_done in range(8, 60):
        clock.mark(n_done, at=16.8 + 0.4 * (n_done - 7))
    assert clock.left(at=16.8 + 0.4 * 52) == pytest.approx(41 * 0.4, rel=0.2)


def test_pieces_that_end_at_once_are_one_mark_and_promise_nothing() -> None:
    clock = Clock(100)
    for n_done in range(1, 51):  # half of the steps at once
        clock.mark(n_done, at=3.0 + n_done / 1000)
    assert clock.left(at=4.0) is None


def test_speeds_that_disagree_early_give_no_time_and_later_the_last_one_counts() -> None:
    clock = Clock(40)
    for n_done in range(1, 11):
        clock.mark(n_done, at=float(n_done))
    assert clock.left(at=10.0) == pytest.approx(30, rel=0.1)
    for n_done in range(11, 19):  # four times slower
        clock.mark(n_done, at=10.0 + 4 * (n_done - 10))
    assert clock.left(at=42.0) == pytest.approx(22 * 4, rel=0.1)
    early = Clock(1000)
    for n_done in range(1, 31):
        early.mark(n_done, at=n_done + 3.0 * max(n_done - 15, 0))
    assert early.left(at=75.0) is None


@pytest.mark.parametrize("slow_start", [2.0, 20.0])
def test_after_a_slow_start_every_time_from_five_percent_on_is_right_within_two(slow_start: float) -> None:
    """The first steps wait for workers that compile, and take twenty times as long."""
    clock, time, total = Clock(1000), 0.0, 1000
    for n_done in range(1, total):
        time += slow_start if n_done <= 10 else 1.0
        clock.mark(n_done, at=time)
        if n_done >= 0.05 * total:
            seconds_left = clock.left(at=time)
            assert seconds_left is not None
            assert 0.5 < seconds_left / (total - n_done) < 2


def test_a_long_run_keeps_few_marks_and_the_clock_runs_between_them() -> None:
    clock = Clock(100_000)
    for n_done in range(1, 50_001):
        clock.mark(n_done, at=float(n_done))
    assert clock.left(at=50_000.0) == pytest.approx(50_000, rel=0.01)
    assert clock.left(at=50_100.0) == pytest.approx(49_900, rel=0.01)
    assert clock.left(at=200_000.0) == 0.0
    assert len(clock._marks) <= 401


def test_more_pieces_than_foreseen_are_not_counted_beyond_the_total() -> None:
    file, console = plain()
    with progress("explain", 1, unit="piece", console=console) as advance:
        for message in ("one", "two"):
            advance(message)
    assert file.getvalue() == "explain: 1/1 piece one\n"
    assert advance.count == ""


def test_percents_read_as_percents() -> None:
    file, console = plain()
    with progress("check", 100, unit="%", console=console) as advance:
        report = by_percent(advance)
        for n_done in range(1, 19):
            report(n_done, 18)
    assert file.getvalue() == "check: 1 %\ncheck: 100 %\n"


def test_steps_are_named_and_counted() -> None:
    file, console = plain()
    with progress("explain", 0, n_steps=2, console=console) as advance:
        begin_step(advance, "sites", 2, unit="piece")
        advance("16 sites")
        advance("20 sites")
        begin_step(advance, "tests of the maps", 3, unit="test", alike=False)
        advance("curves")
    assert file.getvalue().splitlines() == [
        "explain, step 1 of 2, sites",
        "explain, step 1 of 2, sites: 1/2 piece 16 sites",
        "explain, step 1 of 2, sites: 2/2 piece 20 sites",
        "explain, step 2 of 2, tests of the maps",
        "explain, step 2 of 2, tests of the maps: 1/3 test curves",
    ]


def test_a_plain_function_receives_pieces_only() -> None:
    messages: list[str] = []
    begin_step(messages.append, "sites", 2)
    assert messages == []


def test_unlike_pieces_show_no_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock_time = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: clock_time)
    _, console = plain()
    seconds_left = {}
    for alike in (True, False):
        advance = Progress("explain", 0, unit="", n_steps=1, console=console)
        advance.step("layers", 50, alike=alike)
        for _ in range(20):
            clock_time += MIN_SECONDS / 4
            advance("layer")
        seconds_left[alike] = advance.left
    assert seconds_left == {True: "about 38 s left", False: ""}


def test_a_bar_of_80_columns_shows_count_time_and_words_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None)
    with progress("train", 60, unit="epoch", console=console) as advance:
        for _ in range(12):
            advance("loss 2.345, accuracy 0.250, held out 0.333")
    text = file.getvalue()
    assert "12/60 epoch" in text
    assert "loss 2.345, accuracy 0.250, held out 0.333" in text
    assert "…" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.4, "about 0 s left"),
        (90.0, "about 90 s left"),
        (600.0, "about 10 min left"),
        (9000.0, "about 2.5 h left"),
    ],
)
def test_a_time_left_has_a_fitting_unit(seconds: float | None, text: str) -> None:
    assert time_left(seconds) == text


def test_a_silence_of_two_seconds_is_broken_once_and_then_ever_more_rarely() -> None:
    state = module._Activity()
    state.title, state.action, state.last_output_at = "train", "reading images", 100.0
    state.since = 100.0
    assert state.due_message(101.9) == ""
    assert state.due_message(102.0) == "train: reading images"
    assert state.due_message(131.9) == ""
    assert state.due_message(132.0) == "train: still reading images, for 32 s"
    state.detail = "12 of 40 images"
    assert state.due_message(192.0) == "train: still reading images, 12 of 40 images"
    assert state.due_message(250.0) == ""
    state.action = "scoring"
    assert state.due_message(250.1) == "train: scoring, 12 of 40 images"
    state.bars, state.action = 1, "drawing"  # a bar shows its own progress
    assert state.due_message(9999.0) == ""


def test_printed_output_resets_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.0)
    file, console = plain()
    with show_waiting("check", console=console):
        show_action("reading planes")
        note_output()
        report = count_items("reading images", 40, "images", where="epoch 3 of 60")
        report(12)
        assert module._activity.line == "reading images, epoch 3 of 60, 12 of 40 images"
        for _ in range(100):
            if file.getvalue():
                break
            module.time.sleep(0.02)
    assert file.getvalue().splitlines()[0] == "check: reading images, epoch 3 of 60, 12 of 40 images"
    assert module._activity.line == ""
