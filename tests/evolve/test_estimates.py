"""What variants are worth: the questions' difficulty is no noise, a hard block is nobody's fault, and luck is shrunk."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from tests.evolve.test_genome import GENOME, born

from ludora.evolve.estimates import apart_from_difficulty, levels, shrunk
from ludora.evolve.history import History
from ludora.evolve.selection import conclude_generation, is_converged
from ludora.evolve.settings import EvolveConfig


def test_what_is_hard_for_all_is_no_noise() -> None:
    draw = np.random.default_rng(0)
    hard, noise = draw.normal(0, 1.0, 400), draw.normal(0, 0.2, (6, 400))
    values = {str(i): (i + hard + noise[i]).tolist() for i in range(6)}
    found = apart_from_difficulty(values)
    assert all(np.var(list(values[name])) > 0.8 for name in values)
    assert [found[name] for name in values] == pytest.approx([0.04] * 6, rel=0.25)
    assert apart_from_difficulty({"alone": [1.0, 2.0]}) == apart_from_difficulty({"a": [1.0], "b": [2.0]}) == {}
    assert apart_from_difficulty({}) == {}
    two = apart_from_difficulty({"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 6.0]})  # halves of the difference: 0, 0, 1.5
    assert two["a"] == two["b"] == pytest.approx(2 * np.var([0, 0, 1.5], ddof=1))


def test_a_hard_block_is_nobodys_fault() -> None:
    """The second block costs everybody 3; what lives on answered both and tells so."""
    found = levels([("old", "0", 5.0, 0.1), ("new", "1", 4.0, 0.1), ("old", "1", 2.0, 0.1), ("left", "0", 4.5, 0.1)])
    mean = {name: value for name, (value, _) in found.items()}
    assert mean["new"] - mean["old"] == pytest.approx(2.0) and mean["old"] - mean["left"] == pytest.approx(0.5)
    assert mean["old"] == pytest.approx(3.5)  # over both blocks, whose effects add up to 0
    assert levels([("a", "0", 1.0, 0.5), ("b", "0", 2.0, 0.25)]) == {
        "a": pytest.approx((1.0, 0.5)),
        "b": pytest.approx((2.0, 0.25)),
    }


def test_errors_of_levels_are_what_repeated_measurements_show() -> None:
    """Three generations, each with two that lived on: 2,000 simulated evolutions."""
    draw = np.random.default_rng(1)
    asked = {"0": "abcd", "1": "abef", "2": "aegh"}
    design = [(who, block, 0.1 + 0.05 * (ord(who) % 3)) for block, members in asked.items() for who in members]
    truth = {who: 0.3 * i for i, who in enumerate("abcdefgh")}
    block_effect = {"0": 0.0, "1": -2.0, "2": 2.0}
    off = []
    for _ in range(2000):
        rows = [(w, b, truth[w] + block_effect[b] + draw.normal(0, e), e) for w, b, e in design]
        off.append([(mean - truth[w]) / error for w, (mean, error) in levels(rows).items()])
    assert np.mean(off, 0) == pytest.approx(np.zeros(8), abs=0.1)
    assert np.std(off, 0) == pytest.approx(np.ones(8), abs=0.06)


def slow_levels(rows: list[tuple[str, str, float, float]]) -> dict[str, tuple[Fraction, Fraction]]:
    """The normal equations of means and blocks, the last block's effect minus the sum of the others; exact."""
    who, blocks = (list(dict.fromkeys(row[i] for row in rows)) for i in (0, 1))
    size = len(who) + len(blocks) - 1
    table = [[Fraction(0)] * (size + 1 + size) for _ in range(size)]
    for i in range(size):
        table[i][size + 1 + i] = Fraction(1)
    for name, block, mean, error in rows:
        line = [Fraction(0)] * size
        line[who.index(name)] = Fraction(1)
        for i in range(len(blocks) - 1):
            line[len(who) + i] = Fraction(-1 if block == blocks[-1] else block == blocks[i])
        weight = 1 / Fraction(error) ** 2
        for i in range(size):
            for j in range(size):
                table[i][j] += weight * line[i] * line[j]
            table[i][size] += weight * line[i] * Fraction(mean)
    for i in range(size):  # Gauss and Jordan
        pivot = next(j for j in range(i, size) if table[j][i])
        table[i], table[pivot] = table[pivot], table[i]
        table[i] = [value / table[i][i] for value in table[i]]
        for j in range(size):
            if j != i:
                table[j] = [a - table[j][i] * b for a, b in zip(table[j], table[i], strict=True)]
    return {name: (table[i][size], table[i][size + 1 + i]) for i, name in enumerate(who)}


@pytest.mark.parametrize("error", [0.1, 150.0, 1e6])
def test_one_that_is_unsure_spoils_nobodys_digits(error: float) -> None:
    """Held against exact fractions, also where errors differ by eight orders of magnitude."""
    rows = [("base", str(b), -2.0 + b, 0.2) for b in range(3)] + [("wild", "1", -3000.0, error)]
    rows += [("a", "0", -0.5, 0.005), ("a", "1", 0.4, 0.004), ("a", "2", 1.6, 0.005), ("b", "0", -0.6, 0.004)]
    rows += [("c", "1", 0.3, 0.006), ("c", "2", 1.52, 0.05), ("d", "2", 1.4, 1e-3)]
    exact, found = slow_levels(rows), levels(rows)
    for name, (mean, variance) in exact.items():
        assert found[name] == pytest.approx((float(mean), math.sqrt(variance)), rel=1e-8)


def test_an_unsure_outlier_does_not_overtake() -> None:
    sound = [(-0.50, 0.005), (-0.52, 0.005), (-0.55, 0.006), (-0.60, 0.004)]
    for mean, error in ((-10.0, 1.0), (-3000.0, 150.0), (-1e6, 1e4)):
        found = shrunk(*zip(*sound, (mean, error), strict=True))
        assert found[4] == (mean + 3 * error, error)
        assert [m for m, _ in found[:4]] == pytest.approx([m for m, _ in sound], abs=1e-3)
    assert shrunk([0.0, 0.0, 1.0], [1e-9, 1.0, 1.0])[0][0] == pytest.approx(0.0, abs=1e-6)  # no division by zero


def _history(*scored: tuple[str, str, float, float]) -> History:
    history = History(lambda kind, **row: None)
    for name in dict.fromkeys(name for name, *_ in scored if name != "base"):
        history.record("born", **born(name, GENOME, 0))
    for name, block, mean, variance in scored:
        history.record(
            "scored", id=name, block=block, n=100, mean=mean, variance=variance, measures={}, steps=1, tokens=1
        )
    return history


def test_who_answered_a_hard_block_is_judged_beside_those_who_did_too() -> None:
    """`b` looks worse than `c` only because it answered harder questions."""
    rows = [("base", "0", -3.0, 0.1), ("base", "1", -4.0, 0.1), ("a", "0", -1.0, 1e-4), ("a", "1", -2.0, 1e-4)]
    rows += [("b", "1", -1.8, 1e-4), ("c", "0", -1.1, 1e-4)]
    common = {"selection": "quality", "null_mutations": True, "survivors": 3}
    row = conclude_generation(EvolveConfig(**common), _history(*rows))
    assert row["survivors"] == ["b", "a", "c"] and row["best"] == "b"
    assert row["fitness"]["b"] - row["fitness"]["a"] == pytest.approx(0.2, rel=0.05)
    raw = conclude_generation(EvolveConfig(**common, posterior=False), _history(*rows))
    assert raw["survivors"] == ["a", "c", "b"] or raw["survivors"] == ["c", "a", "b"]


def test_numbers_that_are_not_finite_draw_nobody_down() -> None:
    rows = [("base", "0", -3.0, 0.1), ("a", "0", -1.0, 0.01), ("b", "0", -1.2, 0.01), ("c", "0", -1.4, 0.01)]
    row = conclude_generation(EvolveConfig(selection="quality"), _history(*rows, ("bad", "0", -1e9, 0.0)))
    assert row["best"] == "a" and row["fitness"]["bad"] == -1e9
    assert all(-1.5 < row["fitness"][name] < -0.9 for name in "abc")


@pytest.mark.parametrize("gain", [0.0, 0.2])
@pytest.mark.parametrize("drift", [-5.0, 5.0])
def test_convergence_is_told_on_one_scale(gain: float, drift: float) -> None:
    """Each generation has harder or easier questions, and wrote its best down on a scale of its own."""
    history = _history()
    for number in range(5):
        new, here = f"v{number}", [f"v{i}" for i in range(max(0, number - 1), number + 1)]
        history.record("born", **born(new, GENOME, number))
        for name in (*here, "base"):
            mean = -3.0 + drift * number + (gain * int(name[1:]) if name != "base" else -1.0)
            row = {"block": str(number), "n": 100, "mean": mean, "variance": 1e-4, "measures": {}}
            history.record("scored", id=name, **row, steps=1, tokens=1)
        row = {"population": here, "survivors": [new], "front": [new], "best": new}
        history.record(
            "generation", number=number, **row, best_fitness=drift * number, fitness=dict.fromkeys(here, 0.0)
        )
    assert is_converged(EvolveConfig(), history) is (gain == 0.0)
    history.generations.pop()
    assert not is_converged(EvolveConfig(), history)  # four generations are too few


def test_noise_is_shrunk_and_exact_values_are_not() -> None:
    """Three means 0, 1, 2 with error 1: spread 2, minus 2 expected of noise alone, leaves nothing: all are equal."""
    assert [round(mean, 9) for mean, _ in shrunk([0.0, 1.0, 2.0], [1.0, 1.0, 1.0])] == [1.0, 1.0, 1.0]
    sure = shrunk([0.0, 1.0, 2.0], [0.1, 0.1, 0.1])  # tau^2 = (200 - 2) / (300 - 100) = 0.99
    assert sure[2][0] == pytest.approx(1 + 0.99 / (0.99 + 0.01))
    assert sure[2][1] == pytest.approx(math.sqrt(0.99 * 0.1**2 + 0.01**2 / 300))
    assert shrunk([0.0, 1.0, 2.0], [1.0, 1.0, 1.0])[0][1] == pytest.approx(math.sqrt(1 / 3))  # that of the mean of all
    assert shrunk([0.0, 5.0], [0.0, 0.0]) == [(0.0, 0.0), (5.0, 0.0)]
    mixed = shrunk([0.0, 1.0, 2.0, 9.0], [1.0, 1.0, 1.0, 0.0])
    assert mixed[3] == (9.0, 0.0)


def test_who_answered_more_is_trusted_more() -> None:
    """Of two with the same lucky mean, the one with the smaller error keeps more of it."""
    found = shrunk([0.5, 0.52, 0.6, 0.6], [0.03, 0.03, 0.02, 0.06])
    assert found[2][0] > found[3][0] > 0.5
