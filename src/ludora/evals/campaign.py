"""What the report says of stages, games and failures, as tables for the page and the Markdown alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ludora.evals.stages import ALL
from ludora.evals.story import Story, is_number
from ludora.evals.tables import NONE, percent, signed

PART = 0.2  # of the updates, at the beginning and at the end, that are set beside each other


@dataclass(frozen=True, slots=True)
class Part:
    """One table with its heading. A row whose first cell begins with a space is part of the one above it."""

    title: str
    hint: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def parts(story: Story) -> list[Part]:
    """The tables there is something to say in."""
    found = (_warnings(story), _timeline(story), _success(story), _played(story), _failures(story))
    return [part for part in found if part.rows]


def _warnings(story: Story) -> Part:
    rows = tuple((str(e.get("text", "")),) for e in story.events if e.get("event") == "warning")
    return Part("Warnings", "", ("said while training",), rows)


def _timeline(story: Story) -> Part:
    """Every stage: when it began and ended, and how often it was won by then."""
    left = [e for e in story.events if e.get("event") == "stage"]
    given = story.config.get("stages")
    names = [str(stage.get("name")) for stage in given if isinstance(stage, dict)] if isinstance(given, list) else []
    last = max((step for line in story.metrics if is_number(step := line.get("step"))), default=0)
    ends = [*(e.get("update") for e in left), last]
    shares = [*(e.get("success") for e in left), *(value for _, value in story.series("window_success")[-1:])]
    rows = []
    for number, name in enumerate(names[: len(ends)]):
        began = ends[number - 1] if number else 0
        share = shares[number] if number < len(shares) else None
        won = percent(share if is_number(share) else None)
        rows.append((name, f"{number + 1} of {len(names)}", str(began), str(ends[number]), won))
    hint = "A stage ends when its window of results is full and enough of them are wins."
    return Part("Stages", hint, ("stage", "", "from update", "to update", "won, in the last window"), tuple(rows))


def _success(story: Story) -> Part:
    """The evaluation by game and stage, the base beside the adapter."""
    rows = tuple(
        (
            f"{' ' if row.game != ALL else ''}{row.game}",
            row.stage,
            row.opponent or "alone",
            str(row.games),
            percent(row.base_success, row.base_low, row.base_high),
            percent(row.success, row.success_low, row.success_high),
            f"{row.p_value:.2g}",
        )
        for row in story.stages
    )
    head = ("game", "stage", "against", "games", "won before", "won after", "p")
    hint = "95 % intervals; before and after met the same deals in the same seats; p by McNemar's exact test."
    return Part("Success by game and stage", hint, head, rows)


def _played(story: Story) -> Part:
    """Training games by game, opponent and seat: at the beginning, and at the end."""
    keys = dict.fromkeys(k for line in story.metrics for k in line if k.startswith("count/"))
    names = [key.removeprefix("count/") for key in keys]
    seats = sorted(name for name in names if "/seat" in name)
    games = {name: [n for n in seats if n.startswith(f"{name}/")] for name in names if "/seat" not in name}
    steps = sorted({step for key in keys for step, _ in story.series(key)})
    part = math.ceil(PART * len(steps))
    rows = []
    for name in [x for game, own in games.items() for x in (game, *own)] or seats:
        label = " " + name.partition("/")[2] if games and name not in games else name
        count = math.fsum(n for _, n in story.series(f"count/{name}"))
        first, last = (_mean(story, name, "win_rate", part_of) for part_of in (steps[:part], steps[-part:]))
        returned = _mean(story, name, "return", steps[-part:])
        rows.append((label, f"{count:,.0f}", percent(first), percent(last), signed(returned)))
    invalid = [value for _, value in story.series("invalid_rate")]
    hint = f"First and last {PART:.0%} of the updates." + (
        f" Unreadable answers: {percent(math.fsum(invalid) / len(invalid))} of the turns." if invalid else ""
    )
    if any("self/seat" in name for name in names):
        hint += " A game against itself counts for each of its seats."
    if story.series("replays"):
        hint += " Lost tasks that were dealt again count, too; they are harder than fresh ones."
    head = ("games in all", "won at first", "won at last", "mean return at last")
    if not seats:  # games for one
        return Part("Training games", hint, ("game", *head), tuple(rows))
    return Part("Training games by opponent and seat", hint, ("game, opponent, seat", *head), tuple(rows))


def _mean(story: Story, name: str, metric: str, steps: Sequence[float]) -> float | None:
    """A metric over some updates, each weighing what it counts."""
    values, counts = dict(story.series(f"{metric}/{name}")), dict(story.series(f"count/{name}"))
    known = [(values[step], counts[step]) for step in steps if step in values and step in counts]
    total = math.fsum(n for _, n in known)
    return math.fsum(v * n for v, n in known) / total if total else None


def _failures(story: Story) -> Part:
    """The buffer of failed tasks."""
    sizes = story.series("replay_size")
    if not sizes:
        return Part("Failure replay", "", (), ())
    replays, mastered = (math.fsum(v for _, v in story.series(key)) for key in ("replays", "replay_mastered"))
    shares = dict(story.series("replay_success"))
    won = math.fsum(n * shares[step] for step, n in story.series("replays") if step in shares)
    ages = [value for _, value in story.series("replay_age")]
    rows = (
        ("games that were replays", f"{replays:,.0f}"),
        ("of them won", percent(won / replays if replays else None)),
        ("tasks that left, mastered", f"{mastered:,.0f}"),
        ("tasks kept at the end", f"{sizes[-1][1]:,.0f}"),
        ("their mean age, in updates", f"{ages[-1]:.1f}" if ages else NONE),
    )
    return Part("Failure replay", "Lost tasks, dealt again with the same cards and opponent.", ("", ""), rows)
