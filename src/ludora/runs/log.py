"""What a run says: metrics to `metrics.jsonl` and the trackers, events to `events.jsonl`, progress to the terminal.

Everything for people goes to stderr, so that stdout stays free for results.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ludora.runs import trackers as tracking
from ludora.runs.store import Run

# metric -> what it is called on the terminal
SHOWN = {
    "return": "Reward",
    "score": "Score",
    "win_rate": "Success",
    "stage": "Stage",
    "expected_value": "Value",
    "evaluation_win_rate": "Evaluation",
    "evaluation_apples": "Apples",
    "nash_conv": "NashConv",
    "kl": "KL",
    "kl_old": "KL of the step",
}
RATES = ("win_rate", "evaluation_win_rate", "accuracy", "move_accuracy", "parse_rate")  # shown in percent
GAINS = ("return", "expected_value")  # shown with a sign


class RunLog:
    """The log of one run; a context manager.

    On a terminal it shows a progress bar with the time left, elsewhere one plain line per step.

    Args:
        run: where `metrics.jsonl` and `events.jsonl` are.
        trackers: names from `ludora.runs.trackers.TRACKERS`.
        updates: steps at most, for the bar.
        minutes: of training at most, for the bar; 0 for no bound.
        shown: the metrics on the terminal with their names there, each as it was last seen.
        unit: what a step is called there.
        console: where to write; stderr by default. Rich leaves colours out where `NO_COLOR` is set.

    Raises:
        MissingExtra: the package of a tracker is not installed.
    """

    def __init__(
        self,
        run: Run,
        trackers: Sequence[str] = (),
        *,
        updates: int = 0,
        minutes: float = 0.0,
        shown: Mapping[str, str] = SHOWN,
        unit: str = "Step",
        console: Console | None = None,
    ) -> None:
        self.run, self.updates, self.minutes, self.shown, self.unit = run, updates, minutes, shown, unit
        self.console = console or Console(stderr=True, highlight=False)
        self._trackers = _start(trackers, run)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._started = time.monotonic()
        self._first: tuple[int, float] | None = None  # step and clock at the first call: a resumed run starts late
        self._latest: dict[str, float] = {}
        run.warn = self.warn

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away and let the trackers finish. Idempotent."""
        if self._bar:
            self._bar.stop()
            self._bar = None
        with contextlib.redirect_stdout(sys.stderr):
            for tracker in self._trackers:
                tracker.close()
        self._trackers = []

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record the metrics of a step. A value that is not finite is written as null: seen, and still JSON."""
        row = {key: value if math.isfinite(value) else None for key, value in values.items()}
        self.run.append("metrics.jsonl", {"step": step, **row})
        with contextlib.redirect_stdout(sys.stderr):  # trackers print as they please
            for tracker in self._trackers:
                tracker.log(step, values)
        self._show(step, values)

    def event(self, kind: str, **data: Any) -> None:
        """Record that something happened: a start, a new best, an end."""
        self.run.append("events.jsonl", {"event": kind, "at": round(time.time(), 3), **data})

    def say(self, text: str) -> None:
        """Tell the user one line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Tell the user one line that matters, and record it."""
        self.say(f"warning: {text}")
        self.event("warning", text=text)

    def _show(self, step: int, values: Mapping[str, float]) -> None:
        self._first = self._first or (step, time.monotonic())
        done, left = self._progress(step, values)
        self._latest |= {key: values[key] for key in self.shown if key in values}
        told = [f"{self.shown[key]} {_figure(key, self._latest[key])}" for key in self.shown if key in self._latest]
        if not self.console.is_terminal:
            total = f"/{self.updates}" if self.updates and not self.minutes else ""
            self.say(" | ".join(filter(None, (f"{self.unit} {step}{total}", *told, left))))
            return
        figures = " | ".join(told)
        if self._bar is None:
            self._bar = Progress(
                TextColumn(f"{self.unit} {{task.fields[step]}}"),
                BarColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=1.0, step=step, figures=figures, left=left)
            self._bar.start()
        assert self._task is not None
        self._bar.update(self._task, completed=done, step=step, figures=figures, left=left)

    def _progress(self, step: int, values: Mapping[str, float]) -> tuple[float, str]:
        """Share that is done, by updates or by time, whichever ends first; and the time left, in words.

        Seconds of training are the metric `time` where a step has it, since a resumed run has some behind it.
        """
        assert self._first is not None
        now = time.monotonic()
        ends = []
        if self.updates:
            pace = (now - self._first[1]) / max(1, step - self._first[0])
            ends.append((step / self.updates, pace * (self.updates - step) if step > self._first[0] else math.inf))
        if self.minutes:
            spent = values.get("time", now - self._started)
            ends.append((spent / (60 * self.minutes), 60 * self.minutes - spent))
        if not ends:
            return 0.0, ""
        done, left = min(1.0, max(share for share, _ in ends)), min(seconds for _, seconds in ends)
        return done, f"{duration(max(0.0, left))} left" if math.isfinite(left) else ""


def duration(seconds: float) -> str:
    """Seconds as people say them: `42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _figure(name: str, value: float) -> str:
    if name in RATES:
        return f"{100 * value:.1f} %"
    if name == "stage":
        return str(int(value))
    if name in GAINS:
        return f"{value:+.3f}"
    return f"{value:.3f}" if abs(value) >= 0.0995 else f"{value:.4f}"


def _start(names: Sequence[str], run: Run) -> list[tracking.Tracker]:
    """All trackers, or none: one that cannot start closes those before it."""
    started: list[tracking.Tracker] = []
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as stack:
        for name in names:
            started.append(tracking.start(name, run.path, run.config))
            stack.callback(started[-1].close)
        stack.pop_all()  # all have started, so none is closed here
    return started
