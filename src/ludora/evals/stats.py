"""Intervals and paired tests, as pure functions of numbers. Each names the source of its formula.

Written out here because Student's t for whole degrees of freedom, Wilson's interval and the exact tests are a
few lines each, while importing scipy.stats takes longer than evaluating a small game.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

EXACT_FLIPS = 16  # up to 2^16 sign patterns are listed; beyond that they are sampled


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the ends of its confidence interval; the ends are None where one number cannot give them."""

    mean: float
    low: float | None
    high: float | None


def t_within(t: float, df: int) -> float:
    """P(|T| <= t) for Student's t with `df` degrees of freedom, t >= 0.

    Finite series for whole df: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    if df < 1 or t < 0:
        raise ValueError(f"t_within needs df >= 1 and t >= 0, got {df} and {t}")
    if math.isinf(t):
        return 1.0
    theta = math.atan(t / math.sqrt(df))
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = df % 2 == 1
    term = cosine if odd else 1.0
    total = 0.0 if df == 1 else term
    for k in range(3 if odd else 2, df, 2):  # the term that ends in cos^k
        term *= cosine * cosine * (k - 1) / k
        total += term
    return min(1.0, 2.0 / math.pi * (theta + sine * total) if odd else sine * total)


def t_quantile(within: float, df: int) -> float:
    """The t with P(|T| <= t) = `within`, by bisection; 0 < within < 1."""
    if not 0.0 < within < 1.0:
        raise ValueError(f"a probability between 0 and 1 is needed, got {within}")
    low, high = 0.0, 1.0
    while t_within(high, df) < within:
        high *= 2.0
    while high - low > 1e-12 * high:
        middle = (low + high) / 2.0
        if t_within(middle, df) < within:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean and its t interval: mean +- t * s / sqrt(n) (Student 1908). One value has a mean and no interval.

    Raises:
        ValueError: there is no value at all.
    """
    n = len(values)
    if n == 0:
        raise ValueError("the mean of nothing is undefined")
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, None, None)
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    half = t_quantile(confidence, n - 1) * error
    return Interval(mean, mean - half, mean + half)


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a rate (Wilson 1927): stays inside 0..1 and holds at 0 and n successes.

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials make no rate")
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    rate = successes / trials
    scale = 1.0 + z * z / trials
    centre = (rate + z * z / (2.0 * trials)) / scale
    half = z / scale * math.sqrt(rate * (1.0 - rate) / trials + z * z / (4.0 * trials * trials))
    # At 0 and n successes an end is exactly 0 or 1; rounding must not move it past the rate itself.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(rate, low, high)


def sign_flip(differences: Sequence[float], *, seed: int = 0, samples: int = 20_000) -> float:
    """Two-sided p-value of the sign-flip permutation test (Fisher 1935) of "differences are symmetric about 0".

    The test of every paired mean here, of returns as of apples: it assumes nothing about their shape, which in poker
    is far from normal. All patterns of signs are listed for up to 16 differences that are not 0; beyond that `samples`
    patterns are drawn from `seed`, and p = (1 + hits) / (1 + samples), which is never 0 (Phipson and Smyth 2010).

    Raises:
        ValueError: there are no pairs.
    """
    if not len(differences):
        raise ValueError("a paired test needs pairs")
    moved = np.array([d for d in differences if d != 0.0], dtype=np.float64)
    observed = abs(float(moved.sum()))
    # Equal sums added in another order differ in the last bits; they must count as ties.
    reach = observed - 1e-9 * max(1.0, float(np.abs(moved).sum()))
    if len(moved) <= EXACT_FLIPS:
        sums = np.zeros(1)
        for d in moved:
            sums = np.concatenate([sums + d, sums - d])
        return float(np.mean(np.abs(sums) >= reach))
    draw = np.random.default_rng(seed)  # a generator of its own: the process-wide one is not touched
    hits, left = 0, samples
    while left:
        rows = min(left, max(1, 4_000_000 // len(moved)))  # bounds memory at 32 MB
        signs = draw.integers(0, 2, size=(rows, len(moved)), dtype=np.int8) * 2.0 - 1.0
        hits += int(np.sum(np.abs(signs @ moved) >= reach))
        left -= rows
    return (1 + hits) / (1 + samples)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar test (McNemar 1947): were the pairs that only one of the two won a fair coin?

    `only_first` pairs were won by the first and not by the second, `only_second` the other way round.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError("counts cannot be negative")
    n = only_first + only_second
    tail = sum(math.comb(n, i) for i in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * tail / 2**n))


def bootstrap(values: Sequence[float], *, seed: int = 0, samples: int = 10_000, confidence: float = 0.95) -> Interval:
    """Mean and its percentile bootstrap interval (Efron 1979): values are drawn anew, with replacement, from `seed`.

    For pairs, give the differences. One value has a mean and no interval.

    Raises:
        ValueError: there is no value at all.
    """
    n = len(values)
    if n == 0:
        raise ValueError("the mean of nothing is undefined")
    data = np.asarray(values, dtype=np.float64)
    if n == 1:
        return Interval(float(data[0]), None, None)
    draw = np.random.default_rng(seed)
    rows = max(1, 4_000_000 // n)  # bounds memory at 32 MB
    means = np.concatenate(
        [data[draw.integers(0, n, (min(rows, samples - done), n))].mean(1) for done in range(0, samples, rows)]
    )
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(math.fsum(values) / n, float(low), float(high))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation (1904): Pearson's of the ranks, ties sharing their mean rank.

    None for fewer than three pairs, or where one side is all the same.
    """
    if len(first) != len(second):
        raise ValueError("ranks are compared in pairs")
    if len(first) < 3 or min(len(set(first)), len(set(second))) < 2:
        return None
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: Sequence[float]) -> list[float]:
    return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]
