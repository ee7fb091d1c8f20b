"""An evaluation on a data set for people: a table on the terminal, a page, and plain Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ludora import __version__
from ludora.data.trajectories import no_place
from ludora.errors import InputError
from ludora.evals.page import assemble, section, with_ends
from ludora.evals.quiz import METRICS, Item, Quiz, QuizRow
from ludora.evals.report import fenced, inline, table
from ludora.evals.tables import NONE, Measure, percent
from ludora.runs.files import replace_file

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 10  # questions of each kind that a report tells in full
# (player right, baseline right) -> heading
CHANGES: tuple[tuple[tuple[bool, bool], str], ...] = (
    ((True, False), "Improvements"),
    ((False, True), "Regressions"),
    ((False, False), "Both wrong"),
)


def measures(quiz: Quiz) -> list[Measure]:
    """All lines of the table for which at least one player has a figure; cells follow `side_by_side`."""
    found: list[Measure] = []

    def add(label: str, cell: Callable[[QuizRow], str], main: bool = False) -> None:
        cells = tuple(cell(row) for row in side_by_side(quiz))
        if any(c != NONE for c in cells):
            found.append(Measure(label, cells, main))

    add(METRICS[quiz.metric], lambda r: percent(r.rate, r.low, r.high), main=True)
    for name, label in METRICS.items():
        if name != quiz.metric:
            key = "options" if name == "choice" else name
            add(label, lambda r, key=key: percent(getattr(r.totals, key)))  # type: ignore[misc]
    add("words shared with the answer (F1)", lambda r: percent(r.totals.f1))
    add("perplexity of the answers", lambda r: f"{r.totals.perplexity:.3f}")
    add("bits per answer token", lambda r: f"{r.totals.bits_per_token:.3f}")
    add("loss of the right option, nats", lambda r: _number(r.totals.option_nll))
    add("answers not in the form asked for", lambda r: percent(r.totals.unparsed))
    add("answers cut off", lambda r: percent(r.totals.truncated))
    return found


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def side_by_side(quiz: Quiz) -> tuple[QuizRow, ...]:
    """Rows in reading order: what it is compared with, then the player."""
    return (*quiz.rows[1:], quiz.rows[0])


def title(quiz: Quiz) -> str:
    """What was asked, in a line."""
    return f"{quiz.task}, {len(quiz.items)} questions of its test split, seed {quiz.seed}"


def verdicts(quiz: Quiz) -> list[str]:
    """What the figures mean, in sentences."""
    if quiz.comparison is None:
        return []
    pair = quiz.comparison
    said = [pair.sentence]
    if pair.nll_difference is not None and pair.nll_difference_low is not None and pair.nll_difference_high is not None:
        said.append(
            f"Reference answers: {pair.nll_difference:+.3f} nats per token "
            f"({pair.nll_difference_low:+.3f} to {pair.nll_difference_high:+.3f}) against {pair.baseline}; "
            "below 0 they have become likelier."
        )
    return said


def show(quiz: Quiz, console: Console) -> None:
    """Print the players side by side and what the figures mean."""
    from rich.markup import escape as plain
    from rich.table import Table

    made = Table(title=plain(title(quiz)), title_justify="left")
    made.add_column("")
    for row in side_by_side(quiz):
        made.add_column(plain(row.player), justify="right", overflow="fold")
    for line in measures(quiz):
        made.add_row(line.label, *line.cells, style="bold" if line.main else None)
    console.print(made)
    console.print("In brackets: 95 % intervals. All players were asked the same questions.", style="dim")
    for sentence in verdicts(quiz):
        console.print(plain(sentence))


def check_place(folder: Path) -> None:
    """Refuse a folder that `write` could not make; nothing is left behind.

    Raises:
        InputError: it is there already, or cannot be made.
    """
    try:
        if folder.exists():
            raise InputError(f"{folder} exists already", "choose another folder, or delete it first")
        new = [path for path in (folder, *folder.parents) if not path.exists()]
    except OSError as error:
        raise no_place(folder, error) from None
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise no_place(folder, error) from None
    finally:
        for path in new:
            with suppress(OSError):  # it was not made, or somebody else uses it by now
                path.rmdir()


def write(folder: Path, quiz: Quiz) -> Path:
    """Write `evaluation.json`, `report.md` and `report.html` into a folder; returns the last.

    Raises:
        OSError: nothing can be written there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = json.dumps(quiz.to_json(), indent=1, allow_nan=False) + "\n"
    for name, text in (("evaluation.json", data), ("report.md", markdown(quiz)), ("report.html", page(quiz))):
        replace_file(folder / name, text.encode("utf-8", "replace"))  # a lone surrogate has no UTF-8
    return folder / "report.html"


# ---- Markdown ------------------------------------------------------------------------------------------------------


def markdown(quiz: Quiz) -> str:
    """The whole report."""
    return "\n\n".join([f"# {inline(_headline(quiz))}", *markdown_parts(quiz)]) + "\n"


def markdown_parts(quiz: Quiz) -> list[str]:
    """Table, verdict, and the questions that changed."""
    head = ("", *(row.player for row in side_by_side(quiz)))
    parts = [f"{inline(title(quiz))}.", table(head, [(line.label, *line.cells) for line in measures(quiz)])]
    parts += map(inline, verdicts(quiz))
    for name, items in _kinds(quiz):
        parts.append(f"## {name}: {len(items)}")
        for item in items[:SHOWN]:
            parts.append(fenced(_as_text(quiz, item)))
    return parts


def _headline(quiz: Quiz) -> str:
    names = " against ".join(row.player for row in quiz.rows)
    return f"{names} on {quiz.task}"


def _kinds(quiz: Quiz) -> list[tuple[str, list[Item]]]:
    """The questions of each heading; without a comparison those that were got wrong."""
    if quiz.comparison is None:
        return [("Wrong", [item for item in quiz.items if not quiz.right(item, 0)])]
    return [(name, quiz.changed(*right)) for right, name in CHANGES]


def _as_text(quiz: Quiz, item: Item) -> str:
    lines = [f"[{item.id}] {item.question}", "", f"reference: {item.reference}"]
    return "\n".join([*lines, *(f"{name}: {said}" for name, said in _said(quiz, item))])


def _said(quiz: Quiz, item: Item) -> list[tuple[str, str]]:
    """Who said what, with what was read from it."""
    found = []
    for place in reversed(range(len(quiz.rows))):
        answer = item.answers[place]
        read = ""
        if answer.written and answer.answer != answer.said:
            read = f"  [read: {answer.answer}]" if answer.answer else "  [nothing read]"
        chosen = f"  [likeliest option: {answer.option}]" if answer.option else ""
        found.append((quiz.rows[place].player, f"{answer.said}{read}{chosen}".strip()))
    return found


# ---- page ----------------------------------------------------------------------------------------------------------


def page(quiz: Quiz) -> str:
    """The whole page."""
    name = _headline(quiz)
    header = (
        f'<header><p class="kicker">Evaluation</p><h1>{escape(name)}</h1>'
        f'<p class="lead">{escape(title(quiz))}.</p></header>'
    )
    footer = f"<footer>Written by ludora {escape(__version__)}.</footer>"
    return assemble(name, [header, *page_sections(quiz), footer])


def page_sections(quiz: Quiz) -> list[str]:
    """The rates in large, the table with the verdict, and the questions that changed."""
    return [_cards(quiz), _results(quiz), *(_questions(quiz, name, items) for name, items in _kinds(quiz))]


def _cards(quiz: Quiz) -> str:
    labels = ("Before", "After") if len(quiz.rows) > 1 else ("",)
    cards = [
        f'<div class="{"after" if row is quiz.rows[0] else ""}"><div class="label">{label}</div>'
        f'<div class="figure">{percent(row.rate)}</div><div class="who">{escape(row.player)}</div></div>'
        for label, row in zip(labels, side_by_side(quiz), strict=True)
    ]
    return (
        f'<section class="card"><div class="headline">{"".join(cards)}</div>'
        f'<p class="hint">{escape(METRICS[quiz.metric])}, share of {len(quiz.items)} questions</p></section>'
    )


def _results(quiz: Quiz) -> str:
    rows = side_by_side(quiz)
    kinds = [' class="player"' if row is quiz.rows[0] else "" for row in rows]
    head = "".join(f"<th{kind}>{escape(row.player)}</th>" for kind, row in zip(kinds, rows, strict=True))
    body = "".join(
        f'<tr class="{"main" if line.main else ""}"><th scope="row">{escape(line.label)}</th>'
        + "".join(f"<td{kind}>{with_ends(cell)}</td>" for kind, cell in zip(kinds, line.cells, strict=True))
        + "</tr>"
        for line in measures(quiz)
    )
    return section(
        "Results",
        '<p class="hint">Small figures: 95 % intervals. Everyone was asked the same questions.</p>',
        f'<div class="scroll card"><table class="results"><thead><tr><th></th>{head}</tr></thead>',
        f"<tbody>{body}</tbody></table></div>",
        '<div style="margin-top:1rem">',
        *(f"<p>{escape(sentence)}</p>" for sentence in verdicts(quiz)),
        "</div>",
    )


def _questions(quiz: Quiz, name: str, items: Sequence[Item]) -> str:
    shown = "".join(_question(quiz, item) for item in items[:SHOWN])
    rest = len(items) - SHOWN
    more = f'<p class="hint">and {rest} more in evaluation.json</p>' if rest > 0 else ""
    none = '<p class="hint">None.</p>' if not items else ""
    return section(f"{name}: {len(items)}", none, shown, more)


def _question(quiz: Quiz, item: Item) -> str:
    rows = [("reference", item.reference), *_said(quiz, item)]
    cells = "".join(
        f"<tr><th scope='row'>{escape(who)}</th><td><pre>{escape(text)}</pre></td></tr>" for who, text in rows
    )
    group = f'<span class="hint">{escape(item.group)}</span>' if item.group else ""
    return (
        f'<article class="card game"><header><h3>{escape(item.id)}</h3>{group}</header>'
        f'<pre>{escape(item.question)}</pre><table class="plain">{cells}</table></article>'
    )
