"""Pictures of an evolution as inline SVG, in the style of `plots`: the family tree, heat maps, and points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ludora.evals.lineage import HeatMap, Lineage, Member
from ludora.evals.plots import Point, minus, number, ticks

COLUMN, ROW, TOP, LABEL = 196, 26, 34, 132  # pixels of the family tree; a label's width
CELL, LEFT = 64, 92  # of a heat map, at least
CHARACTER = 7  # width of one in a label
_POINTS = (420, 260)


def family_tree(lineage: Lineage) -> str:
    """Generations from left to right; a line from each parent to its child, and a thick one for who lives on.

    Empty text where no generation has come to its end.
    """
    generations = lineage.history.generations
    if not generations:
        return ""
    places: dict[tuple[int, str], Point] = {}
    for generation in generations:
        names = sorted(generation.population, key=lambda name: _rank(lineage, generation.fitness, name))
        for row, name in enumerate(names):
            places[generation.number, name] = (12.0 + generation.number * COLUMN, TOP + 14.0 + row * ROW)
    width = 12 + len(generations) * COLUMN
    height = TOP + 20 + ROW * max(len(g.population) for g in generations)
    parts = [
        f'<svg class="chart tree" style="min-width:{width}px" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="family tree of {len(lineage.members)} variants in {len(generations)} generations">'
    ]
    parts += [
        f'<text class="tick" x="{12 + g.number * COLUMN}" y="14">generation {g.number}</text>' for g in generations
    ]
    for (number_, name), place in places.items():
        parts += _edges(lineage, places, number_, name, place)
    for (number_, name), place in places.items():
        parts.append(_node(lineage, generations[number_].fitness, name, place, name == lineage.history.best))
    return "".join([*parts, "</svg>"])


def _rank(lineage: Lineage, fitness: dict[str, float], name: str) -> tuple[float, str]:
    """The best on top, those without a fitness at the bottom."""
    return (-fitness[name] if name in fitness else math.inf, name)


def _edges(lineage: Lineage, places: dict[tuple[int, str], Point], generation: int, name: str, to: Point) -> list[str]:
    """Lines that end at a member of a generation."""
    variant = lineage.members[name].variant
    if generation > variant.generation:
        start = places.get((generation - 1, name))
        return [_curve(start, to, "lives")] if start else []
    return [_curve(start, to, "child") for parent in variant.parents if (start := places.get((generation - 1, parent)))]


def _curve(start: Point, end: Point, kind: str) -> str:
    (x1, y1), (x2, y2) = (start[0] + LABEL, start[1]), (end[0] - 5, end[1])
    bend = (x1 + x2) / 2
    return f'<path class="{kind}" d="M{x1:.0f},{y1:.0f} C{bend:.0f},{y1:.0f} {bend:.0f},{y2:.0f} {x2:.0f},{y2:.0f}"/>'


def _node(lineage: Lineage, fitness: dict[str, float], name: str, place: Point, best: bool) -> str:
    member = lineage.members[name]
    x, y = place
    value = f"{minus(f'{fitness[name]:.3f}')}" if name in fitness else member.fate
    told = f"{name}: {member.variant.operator}, {member.fate}"
    kind = "best" if best else "clone" if member.variant.clone_of else member.fate
    words = f"{_short(member)} {value}"
    return (
        f'<g class="node {kind}"><title>{escape(told)}</title><circle cx="{x:.0f}" cy="{y:.0f}" r="4.5"/>'
        f'<text class="tick{" name" if best else ""}" x="{x + 9:.0f}" y="{y + 4:.0f}">{escape(words)}</text></g>'
    )


def _short(member: Member) -> str:
    """Rank and learning rate: the whole name does not fit."""
    genome = member.variant.genome
    return f"r{genome.rank} {genome.learning_rate:.0e}".replace("e-0", "e-")


# ---- heat maps -----------------------------------------------------------------------------------------------------


def heat_map(picture: HeatMap) -> str:
    """Cells as dark as their mean fitness is high; below the mean how many variants it is of. Empty without cells."""
    known = [cell[0] for row in picture.cells for cell in row if cell]
    if not known:
        return ""
    low, span = min(known), (max(known) - min(known)) or 1.0
    below = [_lines(label) for label in picture.columns]
    most = max(map(len, below))
    wide = max(CELL, 12 + max(CHARACTER * len(line) for lines in below for line in lines))
    start = max(LEFT, 16 + max(CHARACTER * len(label) for label in picture.rows))
    width, height = start + wide * len(picture.columns), 42 + 36 * len(picture.rows) + 14 * most
    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="mean fitness by {escape(picture.x)} and {escape(picture.y)}">'
    ]
    for j, (label, row) in enumerate(zip(picture.rows, picture.cells, strict=True)):
        top = 8 + 36 * j
        parts.append(f'<text class="tick" text-anchor="end" x="{start - 8}" y="{top + 22}">{escape(label)}</text>')
        for i, cell in enumerate(row):
            parts.append(_cell(start + wide * i, top, wide, cell, (cell[0] - low) / span if cell else 0.0))
    bottom = 8 + 36 * len(picture.rows)
    named = [(start + wide * (i + 0.5), j, line) for i, lines in enumerate(below) for j, line in enumerate(lines)]
    for middle, line_number, text in [*named, (start + wide * len(picture.columns) / 2, most, picture.x)]:
        base = bottom + 15 + 14 * line_number + 5 * (line_number == most)
        parts.append(f'<text class="tick" text-anchor="middle" x="{middle}" y="{base}">{escape(text)}</text>')
    return "".join([*parts, "</svg>"])


def _lines(label: str) -> list[str]:
    """The label of a column; a range stands on two lines, so that neighbours do not overlap."""
    first, dash, last = label.partition("\N{EN DASH}")
    return [first + dash, last] if dash else [label]


def _cell(left: int, top: int, wide: int, cell: tuple[float, int] | None, share: float) -> str:
    box = f'x="{left + 1}" y="{top}" width="{wide - 2}" height="34"'
    if cell is None:
        return f'<rect class="nobody" {box} rx="3"/>'
    kind = "dark" if share > 0.55 else "light"
    text = f'<text class="{kind}" text-anchor="middle" x="{left + wide / 2}"'
    return (
        f'<rect class="heat" {box} rx="3" fill-opacity="{0.08 + 0.87 * share:.2f}"/>'
        f'{text} y="{top + 16}">{minus(f"{cell[0]:.3f}")}</text>{text} y="{top + 29}">n = {cell[1]}</text>'
    )


# ---- points --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dot:
    """A point of a scatter plot; `style` is that of `plots.Series`."""

    x: float
    y: float
    label: str
    style: str = "plain"


def scatter(name: str, dots: Sequence[Dot], x_label: str, *, log_x: bool = False, path: Sequence[Point] = ()) -> str:
    """Points, and a line through some of them; empty text without finite points.

    Args:
        name: read out by screen readers.
        dots: what is drawn; the last on top.
        x_label: stands below the axis.
        log_x: a logarithmic x axis; every x must be above 0.
        path: corners of a line through the data.
    """
    shown = [d for d in dots if math.isfinite(d.x) and math.isfinite(d.y)]
    if not shown:
        return ""
    scale = math.log10 if log_x else float
    width, height = _POINTS
    xs, ys = [scale(d.x) for d in shown], [d.y for d in shown]
    y_ticks = ticks(min(ys), max(ys))
    x_ticks = _powers(min(d.x for d in shown), max(d.x for d in shown)) if log_x else ticks(min(xs), max(xs))
    x_low, x_high = min(*xs, *map(scale, x_ticks)), max(*xs, *map(scale, x_ticks))
    left = 14 + 7.0 * max(len(number(t)) for t in y_ticks)

    def at(x: float, y: float) -> Point:
        across = (scale(x) - x_low) / ((x_high - x_low) or 1.0)
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return left + across * (width - left - 14), height - 36 - up * (height - 50)

    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(name)}">']
    for y in y_ticks:
        line = at(shown[0].x, y)[1]
        kind = "axis" if y == y_ticks[0] else "grid"
        parts.append(f'<line class="{kind}" x1="{left:.0f}" x2="{width - 14}" y1="{line:.1f}" y2="{line:.1f}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{left - 6:.0f}" y="{line + 4:.1f}">{number(y)}</text>')
    for x in x_ticks:
        across = at(x, y_ticks[0])[0]
        parts.append(f'<text class="tick" text-anchor="middle" x="{across:.1f}" y="{height - 20}">{number(x)}</text>')
    middle = (left + width) / 2
    parts.append(f'<text class="tick" text-anchor="middle" x="{middle:.0f}" y="{height - 4}">{escape(x_label)}</text>')
    if path:
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*p) for p in path))
        parts.append(f'<polyline class="line accent" points="{corners}"/>')
    for dot in shown:
        x, y = at(dot.x, dot.y)
        told = f"<title>{escape(dot.label)}</title>"
        parts.append(f'<circle class="dot {dot.style}" cx="{x:.1f}" cy="{y:.1f}" r="3.6">{told}</circle>')
    return "".join([*parts, "</svg>"])


def _powers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten around a range; at most about six of them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    fine = [m * 10.0**p for p in range(first, last + 1) for m in (1, 2, 5)]
    within = [v for v in fine if low / 2.5 < v < high * 2.5]
    return within[:: -(-len(within) // 6)]
