"""What a run says, to its files, to trackers and to the terminal."""

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from ludora.errors import MissingExtra
from ludora.runs.log import RunLog, duration
from ludora.runs.store import Run


@pytest.fixture
def run(tmp_path: Path):
    with Run.create(tmp_path, "leduc", {"kind": "ppo"}) as made:
        yield made


def lines(run: Run, name: str) -> list[dict]:
    return [json.loads(line) for line in (run.path / name).read_text().splitlines()]


def test_plain_lines_when_not_a_terminal(run: Run) -> None:
    out = io.StringIO()
    with RunLog(run, updates=10, console=Console(file=out, width=60)) as log:
        log.say("threads: 2 [both]")
        for step in (1, 2):
            log.metrics(step, {"return": 0.5 * step, "kl": 0.00123, "entropy": 1.0})
    first, second, third = out.getvalue().splitlines()
    assert first == "threads: 2 [both]"
    assert second == "update 1/10  return +0.500  kl +0.0012"
    assert third.startswith("update 2/10  return +1.000  kl +0.0012  ") and third.endswith(" left")
    assert lines(run, "metrics.jsonl") == [
        {"step": 1, "return": 0.5, "kl": 0.00123, "entropy": 1.0},
        {"step": 2, "return": 1.0, "kl": 0.00123, "entropy": 1.0},
    ]


def test_time_left_comes_from_training_time(run: Run) -> None:
    out = io.StringIO()
    with RunLog(run, updates=1000, minutes=6.0, console=Console(file=out)) as log:
        log.metrics(40, {"return": 0.0, "time": 300.0})
    assert out.getvalue() == "update 40  return +0.0000  1 min 00 s left\n"


def test_a_bar_on_a_terminal(run: Run) -> None:
    out = io.StringIO()
    with RunLog(run, updates=4, console=Console(file=out, force_terminal=True, width=100)) as log:
        log.metrics(1, {"return": 0.5})
        log.say("a line above the bar")
        log.metrics(4, {"return": 0.75})
    assert "update 4" in out.getvalue() and "+0.750" in out.getvalue() and "a line above the bar" in out.getvalue()
    assert "\x1b[" in out.getvalue()


def test_no_color(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    with RunLog(run, updates=4, console=Console(file=out, force_terminal=True, width=100)) as log:
        log.metrics(1, {"return": 0.5})
    assert "\x1b[3" not in out.getvalue()  # no colour; moving the cursor is allowed


def test_what_is_not_finite_is_null(run: Run) -> None:
    with RunLog(run, console=Console(file=io.StringIO())) as log:
        log.metrics(1, {"loss": math.nan, "kl": math.inf, "return": 1.0})
    assert lines(run, "metrics.jsonl") == [{"step": 1, "loss": None, "kl": None, "return": 1.0}]


def test_events_and_warnings(run: Run) -> None:
    out = io.StringIO()
    with RunLog(run, console=Console(file=out)) as log:
        log.event("best", update=5, score=1.5)
        run.warn("the disk is nearly full")
    assert out.getvalue() == "warning: the disk is nearly full\n"
    best, warning = lines(run, "events.jsonl")
    assert best == {"event": "best", "at": best["at"], "update": 5, "score": 1.5}
    assert (warning["event"], warning["text"]) == ("warning", "the disk is nearly full")


def test_a_missing_tracker_names_the_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)  # as if it were not installed
    with pytest.raises(MissingExtra, match="tracker wandb is not installed") as error:
        RunLog(run, ["wandb"])
    assert error.value.hint == "pip install 'ludora[wandb]'"


def test_tensorboard_reads_what_we_write(run: Run) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with RunLog(run, ["tensorboard"], console=Console(file=io.StringIO())) as log:
        log.metrics(1, {"return": 0.5})
        log.metrics(2, {"return": 0.75})
    events = accumulator.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("return")] == [(1, 0.5), (2, 0.75)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.4, "0 s"), (41.2, "41 s"), (59.4, "59 s"), (59.6, "1 min 00 s")),
        *((185, "3 min 05 s"), (372, "6 min 12 s"), (4800, "1 h 20 min"), (7800, "2 h 10 min")),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
