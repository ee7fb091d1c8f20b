"""What variants are worth, seen through questions of unequal difficulty and the noise of few of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np


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
    effects of the blocks add up to 0.

    Args:
        answered: (who, block, mean, its standard error above 0).
    """
    who = {name: i for i, name in enumerate(dict.fromkeys(name for name, *_ in answered))}
    blocks = {block: len(who) + i for i, block in enumerate(dict.fromkeys(block for _, block, *_ in answered))}
    design = np.zeros((len(answered) + 1, len(who) + len(blocks)))
    for row, (name, block, *_) in enumerate(answered):
        design[row, [who[name], blocks[block]]] = 1.0
    design[-1, len(who) :] = 1.0
    weights = np.array([1 / error**2 for *_, error in answered])
    weights = np.append(weights, 1e6 * weights.max())
    means = np.array([*(mean for _, _, mean, _ in answered), 0.0])
    covariance = np.linalg.pinv(design.T * weights @ design, hermitian=True)
    found = covariance @ (design.T * weights @ means)
    return {name: (float(found[i]), math.sqrt(covariance[i, i])) for name, i in who.items()}


def shrunk(means: Sequence[float], errors: Sequence[float]) -> list[tuple[float, float]]:
    """Posterior means and deviations of true values that were measured with noise.

    Normal prior over the variants, its mean and spread estimated from them (empirical Bayes; DerSimonian and Laird 1986
    for the spread). The best of many noisy measurements is too good; its posterior mean is not.
    """
    known = [(m, e) for m, e in zip(means, errors, strict=True)]
    noisy = [(m, e) for m, e in known if e > 0]
    if len(noisy) < 3:
        return known
    weights = [1 / e**2 for _, e in noisy]
    total = math.fsum(weights)
    centre = math.fsum(w * m for w, (m, _) in zip(weights, noisy, strict=True)) / total
    spread = math.fsum(w * (m - centre) ** 2 for w, (m, _) in zip(weights, noisy, strict=True))
    between = max(0.0, (spread - (len(noisy) - 1)) / (total - math.fsum(w * w for w in weights) / total))
    found = []
    for mean, error in known:
        share = between / (between + error**2) if between + error**2 > 0 else 1.0
        deviation = math.sqrt(share * error**2 + (1 - share) ** 2 / total)  # the centre is not known exactly, either
        found.append((centre + share * (mean - centre), deviation))
    return found
