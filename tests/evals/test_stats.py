"""Three independent checks: hand-derived literals, properties, and scipy as the slow reference."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference  # type: ignore[import-untyped]

from ludora.evals.stats import mcnemar, mean_interval, sign_flip, t_quantile, t_within, wilson

values = st.lists(st.integers(-13, 13).map(float), min_size=2, max_size=40)


def test_t_by_hand() -> None:
    # One degree of freedom is the Cauchy distribution: P(|T| <= 1) = 2 atan(1) / pi.
    assert t_within(1.0, 1) == pytest.approx(0.5, abs=1e-15)
    # Two degrees: P(|T| <= t) = t / sqrt(t^2 + 2).
    assert t_within(1.0, 2) == pytest.approx(1 / math.sqrt(3), abs=1e-15)
    assert t_within(math.inf, 7) == 1.0


@given(st.floats(0, 50), st.integers(1, 300))
@settings(max_examples=60)
def test_t_equals_scipy(t: float, df: int) -> None:
    # scipy gives 0 for the 8.8e-11 of t = 1.4e-10 and df = 1, so it cannot be held to more than this.
    assert t_within(t, df) == pytest.approx(1 - 2 * reference.t.sf(t, df), abs=1e-9)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 10, 99, 5000])
def test_quantile_equals_scipy(df: int) -> None:
    assert t_quantile(0.95, df) == pytest.approx(reference.t.ppf(0.975, df), rel=1e-9)


def test_mean_interval_by_hand() -> None:
    interval = mean_interval([1.0, 2.0, 3.0])  # s = 1, standard error 1/sqrt(3), t(2) = 4.302653
    assert interval.mean == 2.0
    assert interval.low == pytest.approx(2 - 4.302652729911275 / math.sqrt(3))
    assert interval.high == pytest.approx(2 + 4.302652729911275 / math.sqrt(3))


def test_one_value_has_no_interval_and_equal_values_a_point() -> None:
    one, equal = mean_interval([4.0]), mean_interval([4.0, 4.0, 4.0])
    assert (one.mean, one.low, one.high) == (4.0, None, None)
    assert (equal.mean, equal.low, equal.high) == (4.0, 4.0, 4.0)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy_and_stays_inside(counts: tuple[int, int]) -> None:
    interval = wilson(*counts)
    theirs = reference.binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert interval.low is not None and interval.high is not None
    assert interval.low == pytest.approx(theirs.low, abs=1e-12)
    assert interval.high == pytest.approx(theirs.high, abs=1e-12)
    assert 0.0 <= interval.low <= interval.mean <= interval.high <= 1.0


def test_sign_flip_by_hand() -> None:
    assert sign_flip([1.0, 1.0, 1.0]) == 0.25  # +++ and --- of 8 patterns
    assert sign_flip([1.0, 2.0, -3.0]) == 1.0
    assert sign_flip([0.0, 0.0]) == 1.0
    # |sum| >= 9 where nothing flips or one of the two ones does, and the mirror images of these three.
    assert sign_flip([1.0, 2.0, 3.0, 4.0, -1.0]) == 6 / 32


@given(st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=8))
def test_sign_flip_equals_listing_all_patterns(differences: list[float]) -> None:
    patterns = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    assert sign_flip(differences) == sum(p >= abs(sum(differences)) for p in patterns) / len(patterns)


def test_sampled_sign_flip_is_seeded_and_near_scipy() -> None:
    draw = random.Random(3)
    differences = [draw.choice([-2.0, -1.0, 1.0, 2.0, 3.0]) for _ in range(60)]
    first = sign_flip(differences, seed=1)
    assert first == sign_flip(differences, seed=1)
    theirs = reference.permutation_test((differences,), sum, permutation_type="samples", n_resamples=20_000)
    assert first == pytest.approx(theirs.pvalue, abs=0.02)
    assert sign_flip([1.0] * 200) == pytest.approx(1 / 20_001)  # never 0


def test_false_alarms_are_as_rare_as_they_claim() -> None:
    draw = random.Random(0)
    alarms = sum(sign_flip([draw.gauss(0, 1) for _ in range(12)]) <= 0.05 for _ in range(400))
    assert alarms / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_the_binomial_test(first: int, second: int) -> None:
    theirs = reference.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(theirs, abs=1e-12)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(5, 0) == 2 / 32
    assert mcnemar(0, 0) == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: mean_interval([]),
        lambda: wilson(1, 0),
        lambda: wilson(3, 2),
        lambda: sign_flip([]),
        lambda: mcnemar(-1, 2),
        lambda: t_within(-1.0, 3),
        lambda: t_quantile(1.0, 3),
    ],
)
def test_refuses_what_has_no_answer(wrong: object) -> None:
    with pytest.raises(ValueError):
        wrong()  # type: ignore[operator]
