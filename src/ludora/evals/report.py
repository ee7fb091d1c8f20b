"""A run folder becomes `report.html`, which opens anywhere and offline, and `report.md`, plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ludora.evals import campaign
from ludora.evals.again import commands
from ludora.evals.page import page
from ludora.evals.replay import as_text
from ludora.evals.story import Story, flat, read_story
from ludora.evals.tables import GROUPS, NONE, by_task, group_measures, heading, judged_by, measures, title, verdicts
from ludora.runs.files import replace_file

# metrics of the Markdown report, where a run has them, and how many lines of them
CURVE = (
    *("return", "win_rate", "expected_value", "nash_conv", "kl", "entropy"),
    *("loss", "eval_loss", "move_accuracy", "parse_rate"),
)
CURVE_LINES = 20


def write_report(run_path: Path) -> Path:
    """Write both reports into the run folder.

    Parts that are missing or damaged are named in the report.

    Returns:
        The path of `report.html`.

    Raises:
        InputError: the path is not a run folder.
    """
    story = read_story(run_path)
    if story.kind == "evolve":
        from ludora.evals import lineage_page  # which uses the tables of this file

        told = lineage_page.tell(story)
        _write(run_path / "report.md", lineage_page.markdown(told))
        return _write(run_path / "report.html", lineage_page.page(told))
    _write(run_path / "report.md", markdown(story))
    return _write(run_path / "report.html", page(story))


def _write(path: Path, text: str) -> Path:
    # A lone surrogate, which JSON can smuggle in, has no UTF-8: it becomes a question mark.
    replace_file(path, text.encode("utf-8", "replace"))
    return path


def markdown(story: Story) -> str:
    """The same story as plain Markdown."""
    parts = [f"# {inline(story.title)}", inline(story.summary)]
    parts += _evaluation(story) + _campaign(story) + _curve(story) + _games(story)
    parts += ["## Settings", table(("setting", "value"), flat(story.config))] if story.config else []
    parts += ["## Do it again", fenced("\n".join(lines))] if (lines := commands(story)) else []
    if story.problems:
        parts += ["## Missing", "\n".join(f"- `{name}` {inline(why)}" for name, why in story.problems.items())]
    return "\n\n".join(part for part in parts if part) + "\n"


def _evaluation(story: Story) -> list[str]:
    if story.evaluation is None:
        return []
    e = story.evaluation
    head = ("", *(heading(row.player) for row in e.side_by_side))
    rows = [(line.label.strip(), *line.cells) for line in measures(e)]
    parts = ["## Before and after", f"{inline(title(e))}.", table(head, rows), *map(inline, verdicts(e))]
    for kind, name in GROUPS.items():
        if lines := group_measures(e, kind):
            parts += [f"### {name}", table(head, [(line.label, *line.cells) for line in lines])]
    all_head, all_rows = by_task(e)
    if all_rows:
        parts += ["## Task by task", f"{judged_by(e).capitalize()}.", table(all_head, all_rows)]
    return parts


def _campaign(story: Story) -> list[str]:
    return [
        text for part in campaign.parts(story) for text in (f"## {part.title}", part.hint, table(part.head, part.rows))
    ]


def _curve(story: Story) -> list[str]:
    """A few lines of the metrics, evenly spread, the last one always among them."""
    keys = [k for k in CURVE if story.series(k)]
    if not keys:
        return []
    columns = {k: dict(story.series(k)) for k in keys}
    steps = sorted(set().union(*columns.values()))
    stride = -(-len(steps) // CURVE_LINES)
    shown = [s for i, s in enumerate(steps) if (len(steps) - 1 - i) % stride == 0]
    rows = [(f"{s:g}", *(f"{columns[k][s]:.3f}" if s in columns[k] else NONE for k in keys)) for s in shown]
    return ["## Learning", table((story.unit, *keys), rows)]


def _games(story: Story) -> list[str]:
    return ["## Games, move by move", *(fenced(as_text(game)) for game in story.replays)] if story.replays else []


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column on the left, the others on the right."""
    cells = [[inline(cell) for cell in line] for line in (head, *rows)]
    cells.insert(1, ["---"] + ["---:"] * (len(head) - 1))
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def inline(text: str) -> str:
    """Text on one line that Markdown takes for text: no cell ends early, no tag opens."""
    for sign in ("\\", "|", "<", "*", "_", "`", "["):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def fenced(text: str) -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text.rstrip()}\n{fence}"
