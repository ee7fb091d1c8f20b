"""The mathematics of PPO as pure functions. Shapes are in the docstrings; nothing here has state.

Schulman et al., Proximal Policy Optimization Algorithms (arXiv 1707.06347); Schulman et al., High-Dimensional
Continuous Control Using Generalized Advantage Estimation (arXiv 1506.02438); Schulman, Approximating KL Divergence
(joschu.net/blog/kl-approx.html); Ziegler et al. (arXiv 1909.08593) for the adaptive coefficient.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor


def turn_gae(
    rewards: Sequence[float], values: Sequence[float], last_value: float, gamma: float, lam: float
) -> list[float]:
    """Generalised advantage estimates over the turns of one seat.

        delta_t = r_t + gamma V_{t+1} - V_t         A_t = delta_t + gamma lam A_{t+1}

    `last_value` stands for V after the last turn: 0 if the game terminated, an estimate if it was truncated.
    """
    advantages = [0.0] * len(rewards)
    following, carried = last_value, 0.0
    for t in range(len(rewards) - 1, -1, -1):
        delta = rewards[t] + gamma * following - values[t]
        carried = delta + gamma * lam * carried
        advantages[t] = carried
        following = values[t]
    return advantages


def normalise(values: Sequence[float], groups: Sequence[Hashable]) -> list[float]:
    """Subtract the mean and divide by the standard deviation of each value's own group.

    A group whose values do not vary, beyond rounding, carries no preference: it becomes zeros.
    """
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    out = [0.0] * len(values)
    for indices in members.values():
        mean = math.fsum(values[i] for i in indices) / len(indices)
        spread = math.sqrt(math.fsum((values[i] - mean) ** 2 for i in indices) / len(indices))
        if spread > 1e-8 * max(1.0, abs(mean)):
            for i in indices:
                out[i] = (values[i] - mean) / spread
    return out


def clipped_policy_loss(new: Tensor, old: Tensor, advantage: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """-min(ratio A, clamp(ratio, 1-clip, 1+clip) A), elementwise, and where the clipped side was taken (bool)."""
    ratio = (new - old).exp()
    plain, clipped = ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage
    return -torch.minimum(plain, clipped), clipped < plain


def value_loss(value: Tensor, target: Tensor, before: Tensor, clip: float) -> Tensor:
    """Squared error / 2, elementwise; with clip > 0 a step away from `before` beyond clip earns nothing (PPO2)."""
    loss = (value - target).square()
    if clip > 0:
        near = before + (value - before).clamp(-clip, clip)
        loss = torch.maximum(loss, (near - target).square())
    return loss / 2


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy in nats of each row of [..., A]; rows may be padded with -inf."""
    p = log_probs.exp()
    return -(p * log_probs.masked_fill(p == 0, 0.0)).sum(-1)


def exact_kl(log_probs: Tensor, reference: Tensor) -> Tensor:
    """KL(p || reference) in nats of each row of [..., A]; rows may be padded with -inf in both."""
    p = log_probs.exp()
    return (p * (log_probs - reference).masked_fill(p == 0, 0.0)).sum(-1)


def k1(new: Tensor, old: Tensor) -> Tensor:
    """Unbiased estimate of KL(old || new) from samples of old: log old - log new."""
    return old - new


def k3(new: Tensor, old: Tensor) -> Tensor:
    """Non-negative, low-variance estimate of KL(old || new) from samples of old: (r - 1) - log r, r = new / old."""
    log_ratio = new - old
    return log_ratio.exp() - 1 - log_ratio


def explained_variance(predicted: Sequence[float], target: Sequence[float]) -> float:
    """1 - Var(target - predicted) / Var(target); 0 where the target does not vary."""
    n = len(target)
    if n == 0:
        return 0.0

    def variance(xs: list[float]) -> float:
        mean = math.fsum(xs) / n
        return math.fsum((x - mean) ** 2 for x in xs) / n

    total = variance(list(target))
    return 1 - variance([t - p for t, p in zip(target, predicted, strict=True)]) / total if total > 0 else 0.0


def adapt_coefficient(coefficient: float, measured: float, target: float, rate: float = 0.1) -> float:
    """Move a KL coefficient towards the one that keeps `measured` at `target` (proportional, error clipped to +-0.2).

    A measurement that is no number moves nothing: the coefficient would never be one again.
    """
    if math.isnan(measured):
        return coefficient
    error = min(max(measured / target - 1, -0.2), 0.2)
    return coefficient * (1 + rate * error)


def scheduled(rate: float, schedule: str, progress: float, warmup: float = 0.0) -> float:
    """Learning rate at `progress` in [0, 1]: linear warm-up, then constant, or to a tenth (linear, cosine)."""
    if warmup > 0 and progress < warmup:
        return rate * progress / warmup
    after = min(1.0, (progress - warmup) / max(1e-9, 1 - warmup))
    if schedule == "linear":
        return rate * (1 - 0.9 * after)
    if schedule == "cosine":
        return rate * (0.1 + 0.45 * (1 + math.cos(math.pi * after)))
    return rate
