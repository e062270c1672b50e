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
SILENCE_S = 2.0  # seconds after which what is done is said
LONGEST_PAUSE_S = 600.0  # seconds between two lines that say the same
BURST_S = 0.2  # seconds: pieces that end so close together are one mark of the clock
LEAST_MARKS, LEAST_S, LEAST_SHARE = 4, 5.0, 0.02  # before a time left is believed
MOST_APART = 1.5  # between the speeds of both halves


def shows_progress() -> bool:
    """Whether this process shows progress: among launched ranks only the first."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


class Clock:
    """Estimate the time left from finished pieces, once it is no guess.

    What comes before the first piece (reading, starting workers) is done once and says nothing of the pieces.

    Args:
        total: Number of pieces.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._marks: list[tuple[float, int]] = []  # seconds, pieces that had ended

    def mark(self, done: int, *, at: float) -> None:
        """Note that `done` pieces have ended at a time in seconds."""
        if self._marks and at - self._marks[-1][0] < BURST_S:
            self._marks[-1] = (self._marks[-1][0], done)
            return
        self._marks.append((at, done))
        if len(self._marks) > 400:
            self._marks = [*self._marks[:-1:2], self._marks[-1]]

    def left(self, *, at: float) -> float | None:
        """Return the seconds left; None while the speed is not steady."""
        if len(self._marks) < LEAST_MARKS:
            return None
        (began, first), (middle, half), (end, done) = (self._marks[k] for k in (0, len(self._marks) // 2, -1))
        if end - began < LEAST_S or done < LEAST_SHARE * self._total or done > self._total:
            return None
        slow, fast = sorted(((half - first) / (middle - began), (done - half) / (end - middle)))
        if slow <= 0 or fast / slow > MOST_APART:
            return None
        return max(0.0, (self._total - done) * (end - began) / (done - first) - (at - end))


def time_left(seconds: float | None) -> str:
    """Return such as `about 40 s left`; "" where it is not known."""
    if seconds is None:
        return ""
    if seconds < 120:
        return f"about {seconds:.0f} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 7200 else f"about {seconds / 3600:.1f} h left"


class Progress:
    """Show the progress of a whole; called once for each finished piece.

    Args:
        title: What is done, such as "train".
        total: Number of pieces, as far as foreseen.
        unit: Name of a piece, such as "epoch".
        n_steps: Steps that `step` will begin, when there are several of unlike pieces.
        console: Where to write.
    """

    def __init__(self, title: str, total: int, *, unit: str, n_steps: int, console: Console) -> None:
        self._title, self._unit, self._n_steps, self._console = title, unit, n_steps, console
        self._total, self._done, self._step, self._alike = total, 0, 0, True
        self._clock, self._last = Clock(total), time.monotonic()
        self.said = ""

    def step(self, title: str, total: int, *, unit: str = "", alike: bool = True) -> None:
        """Begin the next step.

        Args:
            title: Of the step.
            total: Its pieces.
            unit: Name of a piece.
            alike: Whether one piece takes about as long as another, so that a time left can be told.
        """
        self._step += 1
        self._unit, self._total, self._done, self._alike = unit, total, 0, alike
        self._clock, self._step_title = Clock(total), title
        self._show(title)

    def __call__(self, said: str) -> None:
        """Count a piece that has ended."""
        self._done += 1
        now = time.monotonic()
        self._clock.mark(self._done, at=now)
        self.said = said
        self._tell(said, now)

    @property
    def heading(self) -> str:
        """Such as `train`, or `explain, step 2 of 4, tests of the maps`."""
        return f"{self._title}, step {self._step} of {self._n_steps}, {self._step_title}" if self._step else self._title

    @property
    def count(self) -> str:
        """Such as `3/60 epoch` or `12 %`."""
        if self._unit == "%":
            return f"{self._done} %"
        # More pieces than were foreseen: no number is better than one that cannot be.
        return f"{self._done}/{self._total} {self._unit}".rstrip() if self._done <= self._total > 0 else ""

    @property
    def left(self) -> str:
        """Such as `about 40 s left`."""
        return time_left(self._clock.left(at=time.monotonic()) if self._alike and self._done < self._total else None)

    def _show(self, words: str) -> None:
        """Say what a step begins with: a line of its own where there is no bar."""
        self._console.print(f"{self.heading}", highlight=False, soft_wrap=True)
        forward_messages()

    def _tell(self, said: str, now: float) -> None:
        if self._done in (1, self._total) or now - self._last >= PLAIN_EVERY_S:
            self._last = now
            ahead = ", ".join(words for words in (self.count, self.left) if words)
            self._console.print(f"{self.heading}: {ahead} {said}".rstrip(), highlight=False, soft_wrap=True)
            forward_messages()


class _OnBar(Progress):
    """Shows the same on a bar of two lines: how far, and the last words."""

    def begin(self, bar: "_TwoLines") -> None:
        self._bar, self._task = bar, bar.add_task(self._title, total=self._total, shown=self)

    def _show(self, words: str) -> None:
        self.said = ""
        self._bar.reset(self._task, total=self._total, description=self.heading, shown=self)

    def _tell(self, said: str, now: float) -> None:
        self._bar.update(self._task, completed=min(self._done, self._total))


class _TwoLines(Bar):
    """A bar, and below it what was said last or is being done."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            words = " · ".join(text for text in (task.fields["shown"].said, _attended.line) if text)
            yield Text(f"  {words}", no_wrap=True, overflow="ellipsis", style="dim")


class _Shown(TextColumn):
    """One property of the progress that a task shows, as it is at the moment."""

    def __init__(self, name: str) -> None:
        super().__init__("")
        self._name = name

    def render(self, task: Task) -> Text:
        return Text(getattr(task.fields["shown"], self._name))


@contextlib.contextmanager
def progress(
    title: str, total: int, *, unit: str = "", n_steps: int = 1, console: Console | None = None
) -> Iterator[Progress]:
    """Give what is called once per finished piece, with a few words on its result.

    Args:
        title: What is done, such as "train".
        total: Number of pieces, as far as foreseen.
        unit: Name of a piece, such as "epoch".
        n_steps: Steps that will be begun by `begin_step`, when there are several of unlike pieces.
        console: Where to write; standard error when None, so that printed results stay clean.
    """
    console = console or Console(stderr=True, quiet=not shows_progress())
    given: dict[str, Any] = {"unit": unit, "n_steps": n_steps, "console": console}
    if not console.is_terminal:
        try:
            yield Progress(title, total, **given)
        finally:
            show_action("")
        return
    shown = _OnBar(title, total, **given)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), _Shown("count"), TimeElapsedColumn())
    with _TwoLines(*columns, _Shown("left"), console=console) as bar:
        shown.begin(bar)
        _attended.bars += 1
        try:
            yield shown
        finally:
            _attended.bars -= 1
            show_action("")
            forward_messages()


def begin_step(advance: Advance, title: str, total: int, *, unit: str = "", alike: bool = True) -> None:
    """Begin the next step of a progress that has several.

    Args:
        advance: From `progress`, or any function of a few words.
        title: Of the step.
        total: Its pieces.
        unit: Name of a piece.
        alike: Whether one piece takes about as long as another.
    """
    show_action("")
    if isinstance(advance, Progress):
        advance.step(title, total, unit=unit, alike=alike)


def by_percent(advance: Advance) -> Callable[[int, int], None]:
    """Return a function of (done, total) that calls `advance` for each percent."""
    shown = 0

    def on(done: int, total: int) -> None:
        nonlocal shown
        while shown < done * 100 // total:
            shown += 1
            advance("")

    return on


def no_progress(said: str) -> None:
    """Say nothing."""


class _Attended:
    """What this process is doing, and when a person last heard of it."""

    def __init__(self) -> None:
        self.title, self.words, self.detail, self.told, self.bars = "", "", "", "", 0
        self.since = self.heard = time.monotonic()
        self.pause = SILENCE_S

    def look(self, now: float) -> str:
        """Return the sentence that is due; "" while nothing is."""
        fresh = self.words != self.told
        if self.bars or not self.words or now - self.heard < (SILENCE_S if fresh else self.pause):
            return ""
        self.pause = 30.0 if fresh else min(2 * self.pause, LONGEST_PAUSE_S)
        self.told, self.heard = self.words, now
        so_far = self.detail or ("" if fresh else f"for {now - self.since:.0f} s")
        return f"{self.title}: {'' if fresh else 'still '}{self.words}{', ' if so_far else ''}{so_far}"

    @property
    def line(self) -> str:
        """What is done, and how far."""
        return f"{self.words}, {self.detail}" if self.detail else self.words


_attended = _Attended()


def show_action(words: str, detail: str = "") -> None:
    """Note what is done from now on.

    In a terminal it is shown after 2 s without other output.

    Args:
        words: Such as "reading images"; "" for what the progress says by itself.
        detail: How far that is, such as "12 of 1,234".
    """
    _attended.detail = detail
    if words != _attended.words:
        _attended.words, _attended.since = words, time.monotonic()


def count_items(words: str, total: int, unit: str, *, where: str = "") -> Callable[[int], None]:
    """Return a function of the number done, which notes it with the time left.

    It is shown as `doing` shows it.

    Args:
        words: Such as "reading images".
        total: Pieces in all.
        unit: Name of several of them.
        where: Put before the number, such as "epoch 3 of 60".
    """
    clock = Clock(total)
    before = f"{where}, " if where else ""

    def on(done: int) -> None:
        now = time.monotonic()
        clock.mark(done, at=now)
        left = time_left(clock.left(at=now))
        show_action(words, f"{before}{done:,} of {total:,} {unit}{', ' if left else ''}{left}")

    show_action(words, where)
    return on


def forward_messages() -> None:
    """Note that something was printed."""
    _attended.heard = time.monotonic()


@contextlib.contextmanager
def show_waiting(title: str, *, console: Console | None = None) -> Iterator[None]:
    """Break a silence of more than 2 s by what is being done, on standard error.

    Args:
        title: Of the whole, such as "train".
        console: Where to write; standard error when None.
    """
    ended = threading.Event()
    _attended.__init__()  # type: ignore[misc]
    _attended.title = title

    def watch() -> None:
        while not ended.wait(0.2):
            sentence = _attended.look(time.monotonic())
            if sentence:
                (console or Console(stderr=True)).print(sentence, highlight=False, markup=False, soft_wrap=True)

    thread = threading.Thread(target=watch, name="attended", daemon=True)
    if shows_progress():
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join(timeout=2)
        _attended.__init__()  # type: ignore[misc]
