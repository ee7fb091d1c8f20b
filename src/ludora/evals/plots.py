"""Line charts as inline SVG text: no file beside the page, no script, and colours that follow the page's theme.

Drawn by hand instead of by matplotlib because a picture of fixed pixels is neither sharp on a phone nor dark at
night. Colours and fonts are classes of the page's style sheet (`report_page.html`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """A line through the finite ones of `points` (x, y); `style` is `accent`, `plain` or `faint`."""

    label: str
    points: Sequence[Point]
    style: str = "accent"
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A dashed horizontal line with its name."""

    label: str
    y: float


@dataclass(frozen=True, slots=True)
class _Frame:
    """The plotting area in pixels and the data range that it shows."""

    left: float
    right: float
    top: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> Point:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) that cover low..high, about `wanted` steps."""
    size = max(abs(low), abs(high))
    if high - low <= max(1e-9 * size, 1e-12):  # flat but for rounding: a range of its own size shows it as flat
        low, high = low - 0.5 * max(size, 1.0), low + 0.5 * max(size, 1.0)
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = 2 - math.floor(math.log10(step))  # 3 * 0.1 is 0.3, not 0.30000000000000004
    return [round(i * step, digits) for i in range(first, last + 1)]


def number(value: float) -> str:
    """A tick's label, with the digits that tell it from the next one: 150 k, 0.025, and 2.5e-4 where it must be."""
    size = abs(value)
    if 1e4 <= size < 1e9:
        return minus(f"{value / 1e6:.10g} M" if size >= 1e6 else f"{value / 1e3:.10g} k")
    if value == 0 or 1e-3 <= size < 1e4:
        return minus(f"{value:.10g}")
    mantissa, _, exponent = f"{value:.9e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def minus(text: str) -> str:
    """A number's text with a true minus sign."""
    return text.replace("-", "\N{MINUS SIGN}")


def chart(
    name: str,
    series: Sequence[Series],
    *,
    references: Sequence[Reference] = (),
    x_label: str = "update",
    bounds: tuple[float, float] | None = None,
    size: tuple[int, int] = (360, 210),
) -> str:
    """One chart as an `<svg>` element; empty text where there is no finite point to draw.

    Args:
        name: read out by screen readers.
        series: drawn in order, so the most important comes last.
        references: lines to compare with; the range of y covers them.
        x_label: stands below the axis.
        bounds: the range of y, where it is known beforehand (a rate: 0 to 1).
        size: width and height in pixels at full scale; text is 12 pixels high there.
    """
    lines = [(s, [p for p in s.points if all(map(math.isfinite, p))]) for s in series]
    points = [p for _, line in lines for p in line]
    if not points:
        return ""
    marks = [r for r in references if math.isfinite(r.y)]
    heights = [y for _, y in points] + [r.y for r in marks] + list(bounds or ())
    y_ticks = ticks(min(heights), max(heights))
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    whole = all(x == int(x) for x, _ in points)  # generations and updates: there is none between two of them
    inside = [t for t in ticks(x_low, x_high, size[0] // 60) if x_low <= t <= x_high and (not whole or t == int(t))]
    x_ticks = inside or [x_low]
    spread = (x_low, x_high) if x_low < x_high else (x_low - 1, x_high + 1)
    left = 12 + 7.0 * max(len(number(t)) for t in y_ticks)
    frame = _Frame(left, size[0] - 10.0, 20.0, size[1] - 34.0, spread, (y_ticks[0], y_ticks[-1]))
    parts = [
        f'<svg class="chart" viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{escape(name)}">',
        *(_grid(frame, y) for y in y_ticks),
        *(_x_tick(frame, x) for x in x_ticks),
        f'<text class="tick" text-anchor="middle" x="{(frame.left + frame.right) / 2:.1f}" '
        f'y="{size[1] - 4}">{escape(x_label)}</text>',
        *(_line(frame, s, line) for s, line in lines if line),
        *_references(frame, marks, points),
        "</svg>",
    ]
    return "".join(parts)


def _grid(frame: _Frame, y: float) -> str:
    height = frame.at(frame.x[0], y)[1]
    return (
        f'<line class="{"axis" if y == frame.y[0] else "grid"}" x1="{frame.left:.1f}" x2="{frame.right:.1f}" '
        f'y1="{height:.1f}" y2="{height:.1f}"/>'
        f'<text class="tick" text-anchor="end" x="{frame.left - 6:.1f}" y="{height + 4:.1f}">{number(y)}</text>'
    )


def _x_tick(frame: _Frame, x: float) -> str:
    across = frame.at(x, frame.y[0])[0]
    return f'<text class="tick" text-anchor="middle" x="{across:.1f}" y="{frame.bottom + 16:.1f}">{number(x)}</text>'


def _line(frame: _Frame, series: Series, points: Sequence[Point]) -> str:
    places = [frame.at(*p) for p in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    drawn = f'<polyline class="line {series.style}" points="{path}"/>'
    # A single point has no line, so it must be a dot to be seen at all.
    if series.dots or len(points) == 1:
        drawn += "".join(
            f'<circle class="dot {series.style}" cx="{x:.1f}" cy="{y:.1f}" r="3.2">'
            f"<title>{escape(series.label)} {p[1]:.4g} at {p[0]:g}</title></circle>"
            for (x, y), p in zip(places, points, strict=True)
        )
    return drawn


def _references(frame: _Frame, marks: Sequence[Reference], points: Sequence[Point]) -> list[str]:
    """Dashed lines; labels sit above their line, where the data leaves room, and are pushed apart."""
    drawn: list[str] = []
    taken = {"start": math.inf, "end": math.inf}  # height of the last label at either side
    for mark in sorted(marks, key=lambda m: m.y):  # from the bottom of the picture upwards
        height = frame.at(frame.x[0], mark.y)[1]
        side = _free_side(frame, mark, points)
        taken[side] = min(height - 5.0, taken[side] - 13.0)
        drawn.append(
            f'<line class="reference" x1="{frame.left:.1f}" x2="{frame.right:.1f}" '
            f'y1="{height:.1f}" y2="{height:.1f}"/>'
            f'<text class="name" text-anchor="{side}" x="{frame.left + 4 if side == "start" else frame.right:.1f}" '
            f'y="{taken[side]:.1f}">{escape(mark.label)} {minus(f"{mark.y:.2f}")}</text>'
        )
    return drawn


def _free_side(frame: _Frame, mark: Reference, points: Sequence[Point]) -> str:
    """Whether the data keeps further away from the line at its start or at its end."""
    middle = sum(frame.x) / 2
    left, right = (
        min((abs(y - mark.y) for x, y in points if (x <= middle) == first), default=math.inf) for first in (True, False)
    )
    return "start" if left > right else "end"
