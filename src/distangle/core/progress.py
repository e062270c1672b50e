"""Show progress: a bar in a terminal, plain lines elsewhere, at least every 2 s."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

Advance = Callable[[str], None]
PLAIN_EVERY_S = 10.0  # seconds between two lines where there is no terminal
SILENCE_S = 2.0  # seconds without output after which the current action is printed
MAX_PAUSE_S = 600.0  # seconds between two equal lines
BURST_S = 0.2  # seconds: pieces that end within this time are one mark of the clock
MIN_MARKS, MIN_SECONDS, MIN_SHARE = 4, 5.0, 0.02  # needed before a time left is shown
MAX_SPEED_RATIO = 1.5  # of the speeds of both halves, below `LATE_SHARE`
LATE_SHARE = 0.05  # of the pieces, from which on a time left is shown at any change of speed


def shows_progress() -> bool:
    """Whether this process shows progress: among launched ranks only the first."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


class Clock:
    """Estimate the time left from the speed of the later half of the pieces.

    The time before the first piece (reading, starting workers) does not count, and a slow start is forgotten. Of few
    pieces there is no estimate unless both halves have about one speed.

    Args:
        total: Number of pieces.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._marks: list[tuple[float, int]] = []  # seconds, pieces that had ended

    def mark(self, done: int, *, at: float) -> None:
        """Record that `done` pieces have ended at a time in seconds."""
        if self._marks and at - self._marks[-1][0] < BURST_S:
            self._marks[-1] = (self._marks[-1][0], done)
            return
        self._marks.append((at, done))
        if len(self._marks) > 400:
            self._marks = [*self._marks[:-1:2], self._marks[-1]]

    def left(self, *, at: float) -> float | None:
        """Return the seconds left; None while too little was seen."""
        if len(self._marks) < MIN_MARKS:
            return None
        (start, first), (middle, half), (end, done) = (self._marks[k] for k in (0, len(self._marks) // 2, -1))
        if end - start < MIN_SECONDS or done < MIN_SHARE * self._total or done > self._total:
            return None
        speeds = (half - first) / (middle - start), (done - half) / (end - middle)
        if min(speeds) <= 0 or (done < LATE_SHARE * self._total and max(speeds) / min(speeds) > MAX_SPEED_RATIO):
            return None
        return max(0.0, (self._total - done) / speeds[1] - (at - end))


def time_left(seconds: float | None) -> str:
    """Return text such as `about 40 s left`; "" if unknown."""
    if seconds is None:
        return ""
    if seconds < 120:
        return f"about {seconds:.0f} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 7200 else f"about {seconds / 3600:.1f} h left"


class Progress:
    """Show the progress of a task; called once for each finished piece.

    Args:
        title: Name of the task, such as "train".
        total: Expected number of pieces.
        unit: Name of a piece, such as "epoch".
        n_steps: Number of steps of a task with several kinds of pieces; `step` begins each.
        console: Output console.
    """

    def __init__(self, title: str, total: int, *, unit: str, n_steps: int, console: Console) -> None:
        self._title, self._unit, self._n_steps, self._console = title, unit, n_steps, console
        self._total, self._done, self._step, self._alike = total, 0, 0, True
        self._clock, self._last = Clock(total), time.monotonic()
        self.message = ""

    def step(self, title: str, total: int, *, unit: str = "", alike: bool = True) -> None:
        """Begin the next step.

        Args:
            title: Name of the step.
            total: Its number of pieces.
            unit: Name of a piece.
            alike: Whether all pieces take about as long, so that a time left can be estimated.
        """
        self._step += 1
        self._unit, self._total, self._done, self._alike = unit, total, 0, alike
        self._clock, self._step_title = Clock(total), title
        self._show_step(title)

    def __call__(self, message: str) -> None:
        """Count a finished piece and show a message on its result."""
        self._done += 1
        now = time.monotonic()
        self._clock.mark(self._done, at=now)
        self.message = message
        self._show_piece(message, now)

    @property
    def heading(self) -> str:
        """Heading such as `train`, or `explain, step 2 of 4, tests of the maps`."""
        return f"{self._title}, step {self._step} of {self._n_steps}, {self._step_title}" if self._step else self._title

    @property
    def count(self) -> str:
        """Count such as `3/60 epoch` or `12 %`."""
        if self._unit == "%":
            return f"{self._done} %"
        # With more pieces than expected, no number is shown.
        return f"{self._done}/{self._total} {self._unit}".rstrip() if self._done <= self._total > 0 else ""

    @property
    def left(self) -> str:
        """Time left, such as `about 40 s left`."""
        return time_left(self._clock.left(at=time.monotonic()) if self._alike and self._done < self._total else None)

    def _show_step(self, action: str) -> None:
        """Print the heading of a new step."""
        self._console.print(f"{self.heading}", highlight=False, soft_wrap=True)
        note_output()

    def _show_piece(self, message: str, now: float) -> None:
        if self._done in (1, self._total) or now - self._last >= PLAIN_EVERY_S:
            self._last = now
            state = ", ".join(text for text in (self.count, self.left) if text)
            self._console.print(f"{self.heading}: {state} {message}".rstrip(), highlight=False, soft_wrap=True)
            note_output()


class _BarProgress(Progress):
    """Show the progress on a bar of two lines: the count, and the last message."""

    def begin(self, bar: "_TwoLineBar") -> None:
        self._bar, self._task = bar, bar.add_task(self._title, total=self._total, progress=self)

    def _show_step(self, action: str) -> None:
        self.message = ""
        self._bar.reset(self._task, total=self._total, description=self.heading, progress=self)

    def _show_piece(self, message: str, now: float) -> None:
        self._bar.update(self._task, completed=min(self._done, self._total))


class _TwoLineBar(Bar):
    """Draw a bar, and below it the last message and the current action."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            line = " · ".join(text for text in (task.fields["progress"].message, _activity.line) if text)
            yield Text(f"  {line}", no_wrap=True, overflow="ellipsis", style="dim")


class _PropertyColumn(TextColumn):
    """Show one property of the progress of a task."""

    def __init__(self, name: str) -> None:
        super().__init__("")
        self._name = name

    def render(self, task: Task) -> Text:
        return Text(getattr(task.fields["progress"], self._name))


@contextlib.contextmanager
def progress(
    title: str, total: int, *, unit: str = "", n_steps: int = 1, console: Console | None = None
) -> Iterator[Progress]:
    """Yield a function to call once per finished piece, with a short message.

    Args:
        title: Name of the task, such as "train".
        total: Expected number of pieces.
        unit: Name of a piece, such as "epoch".
        n_steps: Number of steps of a task with several kinds of pieces; `begin_step` begins each.
        console: Output console; None for standard error, which keeps printed results clean.
    """
    console = console or Console(stderr=True, quiet=not shows_progress())
    options: dict[str, Any] = {"unit": unit, "n_steps": n_steps, "console": console}
    if not console.is_terminal:
        try:
            yield Progress(title, total, **options)
        finally:
            show_action("")
        return
    bar_progress = _BarProgress(title, total, **options)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), _PropertyColumn("count"), TimeElapsedColumn())
    with _TwoLineBar(*columns, _PropertyColumn("left"), console=console) as bar:
        bar_progress.begin(bar)
        _activity.bars += 1
        try:
            yield bar_progress
        finally:
            _activity.bars -= 1
            show_action("")
            note_output()


def begin_step(advance: Advance, title: str, total: int, *, unit: str = "", alike: bool = True) -> None:
    """Begin the next step of a progress with several steps.

    Args:
        advance: From `progress`, or any function of a message.
        title: Name of the step.
        total: Its number of pieces.
        unit: Name of a piece.
        alike: Whether all pieces take about as long.
    """
    show_action("")
    if isinstance(advance, Progress):
        advance.step(title, total, unit=unit, alike=alike)


def by_percent(advance: Advance) -> Callable[[int, int], None]:
    """Return a function of (done, total) that calls `advance` for each percent."""
    n_reported = 0

    def on(done: int, total: int) -> None:
        nonlocal n_reported
        while n_reported < done * 100 // total:
            n_reported += 1
            advance("")

    return on


def no_progress(message: str) -> None:
    """Show nothing."""


class _Activity:
    """Hold the current action of this process and the time of its last output."""

    def __init__(self) -> None:
        self.title, self.action, self.detail, self.last_action, self.bars = "", "", "", "", 0
        self.since = self.last_output_at = time.monotonic()
        self.interval = SILENCE_S

    def due_message(self, now: float) -> str:
        """Return the message to print now; "" if none is due."""
        is_new = self.action != self.last_action
        if self.bars or not self.action or now - self.last_output_at < (SILENCE_S if is_new else self.interval):
            return ""
        self.interval = 30.0 if is_new else min(2 * self.interval, MAX_PAUSE_S)
        self.last_action, self.last_output_at = self.action, now
        so_far = self.detail or ("" if is_new else f"for {now - self.since:.0f} s")
        return f"{self.title}: {'' if is_new else 'still '}{self.action}{', ' if so_far else ''}{so_far}"

    @property
    def line(self) -> str:
        """The current action, and how far it is."""
        return f"{self.action}, {self.detail}" if self.detail else self.action


_activity = _Activity()


def show_action(action: str, detail: str = "") -> None:
    """Set the current action.

    A terminal shows it after 2 s without other output.

    Args:
        action: Such as "reading images"; "" where the progress itself suffices.
        detail: Its state, such as "12 of 1,234".
    """
    _activity.detail = detail
    if action != _activity.action:
        _activity.action, _activity.since = action, time.monotonic()


def count_items(action: str, total: int, unit: str, *, where: str = "") -> Callable[[int], None]:
    """Return a function of the number done, which shows it with the time left.

    It appears like the action of `show_action`.

    Args:
        action: Such as "reading images".
        total: Number of items.
        unit: Name of the items, in the plural.
        where: Text before the number, such as "epoch 3 of 60".
    """
    clock = Clock(total)
    before = f"{where}, " if where else ""

    def on(done: int) -> None:
        now = time.monotonic()
        clock.mark(done, at=now)
        left = time_left(clock.left(at=now))
        show_action(action, f"{before}{done:,} of {total:,} {unit}{', ' if left else ''}{left}")

    show_action(action, where)
    return on


def note_output() -> None:
    """Record that something was printed."""
    _activity.last_output_at = time.monotonic()


@contextlib.contextmanager
def show_waiting(title: str, *, console: Console | None = None) -> Iterator[None]:
    """Print the current action to standard error after 2 s without output.

    Args:
        title: Name of the task, such as "train".
        console: Output console; None for standard error.
    """
    done = threading.Event()
    _activity.__init__()  # type: ignore[misc]
    _activity.title = title

    def watch() -> None:
        while not done.wait(0.2):
            sentence = _activity.due_message(time.monotonic())
            if sentence:
                (console or Console(stderr=True)).print(sentence, highlight=False, markup=False, soft_wrap=True)

    thread = threading.Thread(target=watch, name="activity", daemon=True)
    if shows_progress():
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.is_alive():
            thread.join(timeout=2)
        _activity.__init__()  # type: ignore[misc]
