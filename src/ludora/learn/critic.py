"""The critic: a small MLP on features of the frozen reference, read before the action. No gradient into the base."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Critic:
    """V(s) in return units from fp32 features [N, inputs]: layer norm, one hidden layer of `width` GELUs, linear out.

    All weights lie in one flat leaf parameter, so optimiser, clipping and saving treat it like an adapter. The output
    starts at zero. Outputs are in units of the returns' spread around their mean, so the same learning rate
    suits chips, points and wins.
    """

    def __init__(self, inputs: int, width: int, seed: int, device: torch.device) -> None:
        self.inputs, self.width = inputs, width
        draw = torch.Generator().manual_seed(seed % 2**63)
        first = torch.randn(width, inputs, generator=draw) / math.sqrt(inputs)
        rest = torch.zeros(2 * width + 1)
        self.flat = nn.Parameter(torch.cat([first.reshape(-1), rest]).to(device))
        self.flat.grad = torch.zeros_like(self.flat)
        self.mean, self.spread, self.seen = 0.0, 1.0, 0

    def __call__(self, features: Tensor) -> Tensor:
        """[N, inputs] -> [N] expected returns."""
        cut = self.width * self.inputs
        first = self.flat[:cut].view(self.width, self.inputs)
        bias, out, shift = self.flat[cut : cut + self.width], self.flat[cut + self.width : -1], self.flat[-1]
        x = nn.functional.layer_norm(features, (self.inputs,))
        return (nn.functional.gelu(x @ first.t() + bias) @ out + shift) * self.spread + self.mean

    def observe(self, returns: list[float]) -> None:
        """Take the scale from the first batch whose returns vary; then it stays, so old outputs keep their meaning.

        A batch of equal returns tells the mean only: a spread of nothing would put all later returns out of reach.
        """
        if self.seen == 0 and returns:
            self.mean = math.fsum(returns) / len(returns)
            spread = math.sqrt(math.fsum((r - self.mean) ** 2 for r in returns) / len(returns))
            if spread <= 1e-6 * max(1.0, abs(self.mean)):
                return
            self.spread = spread
        self.seen += len(returns)
