"""Charts: round ticks that cover the data, points where they belong, nothing that breaks the page."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ludora.evals.plots import Reference, Series, chart, number, ticks

finite = st.floats(-1e6, 1e6)


def test_ticks_by_hand() -> None:
    assert ticks(0, 10) == [0, 2.5, 5, 7.5, 10]
    assert ticks(-0.59, 2.37) == [-1, 0, 1, 2, 3]
    assert ticks(1, 42, 6) == [0, 10, 20, 30, 40, 50]


@given(finite, finite, st.integers(2, 10))
def test_ticks_cover_the_range_evenly_and_are_few(a: float, b: float, wanted: int) -> None:
    low, high = min(a, b), max(a, b)
    found = ticks(low, high, wanted)
    assert 2 <= len(found) <= 2 * wanted + 2
    step = found[1] - found[0]
    slack = 1e-6 * max(step, abs(low), abs(high), 1e-6)
    assert found[0] <= low + slack and found[-1] >= high - slack
    assert all(later - earlier == pytest.approx(step, rel=1e-3) for earlier, later in pairwise(found))


def test_numbers_are_short() -> None:
    values = (0, 0.25, -1.5, 2300, 75000, 150000, 1e6, 2.5e9, 1e-5, 2.5e-4, 0.00125)
    wanted = "0 0.25 -1.5 2300 75_k 150_k 1_M 2.5e9 1e-5 2.5e-4 0.00125"
    assert [number(v).replace(" ", "_") for v in values] == wanted.replace("-1.5", "\N{MINUS SIGN}1.5").split(" ")


@given(finite, finite, st.integers(2, 10))
def test_no_two_ticks_have_the_same_label(a: float, b: float, wanted: int) -> None:
    found = [number(t) for t in ticks(min(a, b), max(a, b), wanted)]
    assert len(set(found)) == len(found)


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=30), st.lists(finite, max_size=3))
def test_every_point_and_reference_lies_inside_the_picture(
    points: list[tuple[float, float]], marks: list[float]
) -> None:
    svg = chart("c", [Series("s", points, dots=True)], references=[Reference("r", y) for y in marks], size=(300, 200))
    root = ElementTree.fromstring(svg)
    dots = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in root.iter("circle")]
    assert len(dots) == len(points)
    assert all(-0.1 <= x <= 300.1 and -0.1 <= y <= 200.1 for x, y in dots)
    lines = [float(line.get("y1", "")) for line in root.iter("line")]
    assert all(-0.1 <= y <= 200.1 for y in lines)


def test_higher_values_are_drawn_higher_and_later_ones_further_right() -> None:
    svg = chart("c", [Series("s", [(0, 1.0), (1, 3.0), (2, 2.0)], dots=True)])
    xs, ys = ([float(v) for v in re.findall(rf'{axis}="([\d.]+)"', svg)] for axis in ("cx", "cy"))
    assert xs == sorted(xs)
    assert ys[1] < ys[2] < ys[0]


def test_what_is_not_finite_is_left_out() -> None:
    assert chart("c", [Series("s", [(0, math.nan), (1, math.inf)])]) == ""
    assert chart("c", []) == ""
    svg = chart("c", [Series("s", [(0, 1.0), (1, math.nan), (2, 2.0)])], references=[Reference("r", math.inf)])
    assert "nan" not in svg and "inf" not in svg and "reference" not in svg


def test_names_are_escaped() -> None:
    svg = chart('a"<b>', [Series("<s>", [(0, 1.0)])], references=[Reference("<r>", 0.5)], x_label="<x>")
    ElementTree.fromstring(svg)
    assert "<s>" not in svg and "<r>" not in svg and "<b>" not in svg


def test_there_is_no_tick_between_two_generations() -> None:
    labels = re.findall(
        r'text-anchor="middle"[^>]*>([^<]+)<', chart("c", [Series("s", [(0, 1.0), (1, 2.0), (2, 3.0)])])
    )
    assert labels == ["0", "1", "2", "update"]
    halves = re.findall(r'text-anchor="middle"[^>]*>([^<]+)<', chart("c", [Series("s", [(0, 1.0), (1.5, 2.0)])]))
    assert "0.5" in halves
