"""The critic: a small MLP on features of the frozen reference, read before the action. No gradient into the base."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class Scale:
    """The units of one game's values: the spread of its returns, around their mean."""

    mean: float
    spread: float = 1.0
    seen: int = 0

    def observe(self, returns: list[float]) -> None:
        """Take the scale from the first batch whose returns vary; then it stays, so old outputs keep their meaning.

        A batch of equal returns tells the mean only: a spread of nothing would put all later returns out of reach.
        """
        if self.seen == 0:
            self.mean = math.fsum(returns) / len(returns)
            spread = math.sqrt(math.fsum((r - self.mean) ** 2 for r in returns) / len(returns))
            if spread <= 1e-6 * max(1.0, abs(self.mean)):
                return
            self.spread = spread
        self.seen += len(returns)

    def up(self, value: float) -> float:
        """From units of the spread to a return."""
        return value * self.spread + self.mean

    def down(self, value: float) -> float:
        """From a return to units of the spread."""
        return (value - self.mean) / self.spread


@dataclass(slots=True)
class Scales:
    """Each game has its own, so that one that pays thousands does not drown another that pays a point."""

    of: dict[str, Scale] = field(default_factory=dict)

    def observe(self, games: Iterable[str], returns: Iterable[float]) -> None:
        """Returns, and the game of each."""
        batches: dict[str, list[float]] = {}
        for game, value in zip(games, returns, strict=True):
            batches.setdefault(game, []).append(value)
        for game, batch in batches.items():
            self.of.setdefault(game, Scale(0.0)).observe(batch)

    def up(self, games: Iterable[str], values: Iterable[float]) -> list[float]:
        """Outputs of the critic as returns; 0 of a game that was never met."""
        return [self.of[g].up(v) if g in self.of else 0.0 for g, v in zip(games, values, strict=True)]

    def down(self, games: Iterable[str], values: Iterable[float]) -> list[float]:
        """Returns in the units of the critic."""
        return [self.of[g].down(v) for g, v in zip(games, values, strict=True)]


class Critic:
    """V(s) from fp32 features [N, inputs]: layer norm, one hidden layer of `width` GELUs, linear out.

    All weights lie in one flat leaf parameter, so optimiser, clipping and saving treat it like an adapter. The output
    starts at zero. Outputs are in units of the spread of a game's returns around their mean (`scales`), so the same
    learning rate suits chips, points and wins.
    """

    def __init__(self, inputs: int, width: int, seed: int, device: torch.device) -> None:
        self.inputs, self.width = inputs, width
        draw = torch.Generator().manual_seed(seed % 2**63)
        first = torch.randn(width, inputs, generator=draw) / math.sqrt(inputs)
        rest = torch.zeros(2 * width + 1)
        self.flat = nn.Parameter(torch.cat([first.reshape(-1), rest]).to(device))
        self.flat.grad = torch.zeros_like(self.flat)
        self.scales = Scales()

    def __call__(self, features: Tensor) -> Tensor:
        """[N, inputs] -> [N] expected returns, in units of their games' scales."""
        cut = self.width * self.inputs
        first = self.flat[:cut].view(self.width, self.inputs)
        bias, out, shift = self.flat[cut : cut + self.width], self.flat[cut + self.width : -1], self.flat[-1]
        x = nn.functional.layer_norm(features, (self.inputs,))
        return nn.functional.gelu(x @ first.t() + bias) @ out + shift
