"""An evaluation as rows of words, once, for the terminal and the report alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ludora.evals.record import BEST, Evaluation, Row

if TYPE_CHECKING:
    from rich.console import Console

NONE = "\N{EN DASH}"  # shown where nothing was measured
CLOSE_TO_NASH = 0.05  # in the game's unit; below this no warning is due


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the side-by-side table: `cells` follow `Evaluation.side_by_side`; `main` lines are set bold."""

    label: str
    cells: tuple[str, ...]
    main: bool = False


def signed(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """`+1.87`, or `+1.87 (+1.60 to +2.14)` where an interval is known."""
    if value is None:
        return NONE
    ends = f" ({low:+.2f} to {high:+.2f})" if low is not None and high is not None else ""
    return f"{value:+.2f}{ends}"


def percent(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """`61.0 %`, or `61.0 % (54.1 to 67.5)` where an interval is known."""
    if value is None:
        return NONE
    ends = f" ({100 * low:.1f} to {100 * high:.1f})" if low is not None and high is not None else ""
    return f"{100 * value:.1f} %{ends}"


def heading(player: str) -> str:
    """How a column is called."""
    return "best possible" if player == BEST else player


def measures(evaluation: Evaluation) -> list[Measure]:
    """All lines of the table for which at least one player has a figure."""
    rows = evaluation.side_by_side
    seats = max(len(r.by_seat) for r in rows)
    found: list[Measure] = []

    def add(label: str, cell: Callable[[Row], str], main: bool = False) -> None:
        cells = tuple(cell(row) for row in rows)
        if any(c != NONE for c in cells):
            found.append(Measure(label, cells, main))

    add("expected value, exact", lambda r: signed(r.expected_value), main=True)
    for seat in range(seats):
        add(f"  in seat {seat}", partial(_at, seat, "expected_value"))
    add("games won, exact", lambda r: percent(r.win_probability))
    add("exploitability, exact (0 = Nash)", lambda r: NONE if r.exploitability is None else f"{r.exploitability:.3f}")
    add("NashConv, exact", lambda r: NONE if r.nash_conv is None else f"{r.nash_conv:.3f}")
    add("games won", lambda r: percent(r.win_rate, r.win_rate_low, r.win_rate_high), main=True)
    add("mean return", lambda r: signed(r.mean_return, r.mean_return_low, r.mean_return_high), not evaluation.fact)
    for seat in range(seats):
        add(f"  in seat {seat}", partial(_at, seat, "mean_return"))
    add("won / drawn / lost", lambda r: f"{r.wins} / {r.draws} / {r.losses}" if r.games else NONE)
    for name in _told(rows, "facts"):
        add(f"mean {name.replace('_', ' ')}", partial(_fact, name), main=name == evaluation.fact)
    for name in _told(rows, "words"):
        add(name.replace("_", " "), partial(_words, name))
    for word in ("forfeits", "truncated", "broken"):
        if any(getattr(row, word) for row in rows):
            add(f"{word}, games", partial(_count, word))
    if any(row.invalid_rate for row in rows):
        add("unreadable answers", lambda r: percent(r.invalid_rate))
    add("score, 0 to 1", lambda r: NONE if r.score is None else f"{r.score:.3f}")
    add("seconds per move", lambda r: _short(r.cost.seconds_per_move))
    add("tokens per move", lambda r: NONE if r.cost.tokens_per_move is None else f"{r.cost.tokens_per_move:.1f}")
    add("peak memory, GB", lambda r: NONE if r.cost.peak_bytes is None else f"{r.cost.peak_bytes / 1e9:.2f}")
    return found


def by_task(evaluation: Evaluation) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of a table of all players on all tasks, by the figure that a game is judged by; empty for one."""
    if not evaluation.further:
        return (), []
    all_of_them = (evaluation, *evaluation.further)
    rows = []
    for place, row in enumerate(evaluation.side_by_side):
        rows.append((heading(row.player), *(_main(e, e.side_by_side[place]) for e in all_of_them)))
    return ("", *(e.task for e in all_of_them)), rows


def judged_by(evaluation: Evaluation) -> str:
    """What `by_task` shows, in words."""
    return f"mean {evaluation.fact}" if evaluation.fact else f"mean return, {evaluation.unit}"


def _main(evaluation: Evaluation, row: Row) -> str:
    if evaluation.fact:
        return _fact(evaluation.fact, row)
    return signed(row.mean_return, row.mean_return_low, row.mean_return_high)


def _told(rows: Sequence[Row], kind: str) -> list[str]:
    """The names of all facts or words of any row, in their order."""
    return list(dict.fromkeys(name for row in rows for name in getattr(row, kind)))


def _fact(name: str, row: Row) -> str:
    """`17.85 (16.90 to 18.80)`."""
    if name not in row.facts:
        return NONE
    fact = row.facts[name]
    ends = f" ({fact.low:.2f} to {fact.high:.2f})" if fact.low is not None and fact.high is not None else ""
    return f"{fact.mean:.2f}{ends}"


def _words(name: str, row: Row) -> str:
    """`self 61, max steps 39`, the most frequent first."""
    counts = sorted(row.words.get(name, {}).items(), key=lambda item: -item[1])
    return ", ".join(f"{word.replace('_', ' ')} {count}" for word, count in counts) or NONE


def _short(seconds: float | None) -> str:
    return NONE if seconds is None else f"{seconds:.2g}" if seconds >= 1e-4 else "below 0.0001"


def _at(seat: int, name: str, row: Row) -> str:
    return next((signed(getattr(s, name)) for s in row.by_seat if s.seat == seat), NONE)


def _count(name: str, row: Row) -> str:
    return str(getattr(row, name)) if row.games else NONE


def verdicts(evaluation: Evaluation) -> list[str]:
    """What the figures mean, in sentences; said also where it is not flattering."""
    said = [comparison.sentence for comparison in evaluation.comparisons]
    first = evaluation.rows[0]
    if (
        (first.expected_value or 0) > 0
        and first.exploitability is not None
        and first.exploitability > CLOSE_TO_NASH
        and evaluation.against != "nash"
    ):
        said.append(
            f"Beating {evaluation.against} is not playing Nash: an opponent who knew how {first.player} plays would "
            f"win {first.exploitability:.2f} {evaluation.unit} from it; from a Nash player nobody wins anything."
        )
    said += [f"{player}: sees hidden cards, which nobody at the table does." for player in evaluation.sees_hidden]
    if any(row.broken for row in evaluation.rows):
        said.append("Games whose environment broke were left out; they count for nobody.")
    return said


def title(evaluation: Evaluation) -> str:
    """What was played, in a line."""
    against = f" against {evaluation.against}" if evaluation.against else ""
    games = f", {evaluation.games} games each, seed {evaluation.seed}" if evaluation.games else ""
    return f"{evaluation.task}{against}{games}; values in {evaluation.unit}"


def show(evaluation: Evaluation, console: Console) -> None:
    """Print the players side by side and what the figures mean, task by task, and last all tasks side by side."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title(evaluation)), title_justify="left")
    table.add_column("")
    for row in evaluation.side_by_side:
        table.add_column(escape(heading(row.player)), justify="right", overflow="fold")
    for line in measures(evaluation):
        table.add_row(line.label, *line.cells, style="bold" if line.main else None)
    console.print(table)
    if evaluation.games:
        console.print("In brackets: 95 % intervals. All players met the same deals in the same seats.", style="dim")
    for sentence in verdicts(evaluation):
        console.print(escape(sentence))
    for other in evaluation.further:
        show(other, console)
    head, rows = by_task(evaluation)
    if rows:
        table = Table(*map(escape, head), title=escape(judged_by(evaluation)), title_justify="left")
        for cells in rows:
            table.add_row(*map(escape, cells))
        console.print(table)
