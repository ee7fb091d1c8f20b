"""What variants are worth, seen through questions of unequal difficulty and the noise of few of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

FARTHEST = 3.0  # standard errors by which a measurement may be corrected upwards


def apart_from_difficulty(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Variance over the questions of what each answered, once the questions' difficulty is taken out.

    Those who answered the same questions are compared question by question, so what a question is worth to all of them
    alike - their mean - is no noise.

    Args:
        values: who -> what each question was worth.

    Returns:
        Nothing where there are not two to compare, or not two questions.
    """
    table = np.array(list(values.values()))
    if min(table.shape) < 2:
        return {}
    count = len(table)
    rest = table - table.mean(0)
    return dict(zip(values, (rest.var(1, ddof=1) * count / (count - 1)).tolist(), strict=True))


def levels(answered: Sequence[tuple[str, str, float, float]]) -> dict[str, tuple[float, float]]:
    """What each is worth, and the standard error of that, where not all answered the same blocks of questions.

    Least squares with an effect of who answered and one of the block, which those who answered several blocks tell; the
    effects of the blocks add up to 0. Solved for the blocks alone, each one's own effect eliminated, so that one whose
    error is a million times that of the others costs nobody a digit.

    Args:
        answered: (who, block, mean, its standard error above 0).
    """
    who = {name: i for i, name in enumerate(dict.fromkeys(name for name, *_ in answered))}
    blocks = {block: i for i, block in enumerate(dict.fromkeys(block for _, block, *_ in answered))}
    weights, means = np.zeros((len(who), len(blocks))), np.zeros((len(who), len(blocks)))
    for name, block, mean, error in answered:
        weights[who[name], blocks[block]], means[who[name], blocks[block]] = 1 / error**2, mean
    total = weights.sum(1)
    share = weights / total[:, None]
    own = (share * means).sum(1)
    several = (weights > 0).sum(1) > 1  # the others tell nothing of the blocks
    kept, parts = weights[several], share[several]
    normal = np.diag(kept.sum(0)) - parts.T @ kept
    told = (kept * (means[several] - own[several, None])).sum(0)
    apart = np.linalg.svd(np.ones((1, len(blocks))))[2][1:].T  # effects that add up to 0: columns of length 1
    spread = apart @ np.linalg.pinv(apart.T @ normal @ apart, hermitian=True) @ apart.T
    found = own - share @ (spread @ told)
    variance = 1 / total + np.einsum("ij,jk,ik->i", share, spread, share)
    return {name: (float(found[i]), math.sqrt(variance[i])) for name, i in who.items()}


def shrunk(means: Sequence[float], errors: Sequence[float]) -> list[tuple[float, float]]:
    """Posterior means and deviations of true values that were measured with noise.

    Normal prior over the variants, its mean and spread estimated from them (empirical Bayes; DerSimonian and Laird 1986
    for the spread). The best of many noisy measurements is too good; its posterior mean is not. Nobody is raised by
    more than `FARTHEST` of its errors (limited translation, Efron and Morris 1972): one that is far below all others,
    and unsure, is not one of them, and must not come to stand before those that are surely better.
    """
    known = [(m, e) for m, e in zip(means, errors, strict=True)]
    noisy = [(m, e) for m, e in known if e > 0]
    if len(noisy) < 3:
        return known
    weights = [1 / e**2 for _, e in noisy]
    total = math.fsum(weights)
    centre = math.fsum(w * m for w, (m, _) in zip(weights, noisy, strict=True)) / total
    spread = math.fsum(w * (m - centre) ** 2 for w, (m, _) in zip(weights, noisy, strict=True))
    others = [math.fsum(w for j, w in enumerate(weights) if j != i) for i in range(len(weights))]
    scale = math.fsum(w * rest / total for w, rest in zip(weights, others, strict=True))
    between = max(0.0, (spread - (len(noisy) - 1)) / scale)
    found = []
    for mean, error in known:
        share = between / (between + error**2) if between + error**2 > 0 else 1.0
        deviation = math.sqrt(share * error**2 + (1 - share) ** 2 / total)  # the centre is not known exactly, either
        if (1 - share) * (centre - mean) > FARTHEST * error:
            found.append((mean + FARTHEST * error, error))
        else:
            found.append((centre + share * (mean - centre), deviation))
    return found
