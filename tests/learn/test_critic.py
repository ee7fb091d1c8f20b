"""The critic: equal to a plain torch network, its scale, and whether it learns what it is shown."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ludora.learn.critic import Critic, Scale, Scales
from ludora.models.adapters import SlotOptimizer

CPU = torch.device("cpu")


def fit(critic: Critic, features: torch.Tensor, target: torch.Tensor, steps: int, rate: float = 1e-3) -> float:
    """As the learner fits it. Returns the mean squared error in the end."""
    optimizer = SlotOptimizer(critic.flat, lr=rate, betas=(0.9, 0.999), weight_decay=0.0, max_grad_norm=1.0)
    games = ["g"] * len(target)
    critic.scales.observe(games, target.tolist())
    units = torch.tensor(critic.scales.down(games, target.tolist()))
    for _ in range(steps):
        optimizer.zero_grad()
        ((critic(features) - units).square().mean() / 2).backward()
        optimizer.step(rate)
    return float((torch.tensor(critic.scales.up(games, critic(features).tolist())) - target).square().mean())


def test_equal_to_plain_torch_modules() -> None:
    critic = Critic(6, 5, 3, CPU)
    critic.flat.data.normal_(generator=torch.Generator().manual_seed(0))
    first, last = nn.Linear(6, 5), nn.Linear(5, 1)
    with torch.no_grad():
        first.weight.copy_(critic.flat[:30].view(5, 6))
        first.bias.copy_(critic.flat[30:35])
        last.weight.copy_(critic.flat[35:40].view(1, 5))
        last.bias.copy_(critic.flat[40:])
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(1)) * 4
    plain = last(nn.functional.gelu(first(nn.LayerNorm(6, elementwise_affine=False)(x))))[:, 0]
    assert torch.allclose(critic(x), plain, atol=1e-6)


def test_starts_at_zero_and_from_its_seed_alone() -> None:
    x = torch.randn(4, 6)
    before = torch.get_rng_state()
    one, two, other = Critic(6, 8, 1, CPU), Critic(6, 8, 1, CPU), Critic(6, 8, 2, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one(x), torch.zeros(4))
    assert torch.equal(one.flat, two.flat) and not torch.equal(one.flat, other.flat)
    Critic(6, 8, 2**64 - 1, CPU)  # streams are 64 bits wide


def test_scale_comes_from_the_first_batch_that_varies() -> None:
    scale = Scale(0.0)
    scale.observe([5.0, 5.0, 5.0])  # the mean only: a spread of nothing would put every later return out of reach
    assert scale == Scale(5.0, 1.0, 0)
    assert (scale.up(0.0), scale.down(6.0)) == (5.0, 1.0)
    scale.observe([0.0, 4.0])
    assert scale == Scale(2.0, 2.0, 2)
    scale.observe([100.0, 300.0])
    assert scale == Scale(2.0, 2.0, 4)
    assert (scale.up(0.5), scale.down(3.0)) == (3.0, 0.5)


def test_every_game_has_its_own_scale() -> None:
    scales = Scales()
    assert scales.up(["a", "b"], [1.0, 1.0]) == [0.0, 0.0]  # of a game never met nothing is known
    scales.observe(["a", "b", "a", "b"], [-1.0, 1000.0, 1.0, 3000.0])
    assert scales.of == {"a": Scale(0.0, 1.0, 2), "b": Scale(2000.0, 1000.0, 2)}
    assert scales.up(["b", "a"], [0.5, 0.5]) == [2500.0, 0.5]
    assert scales.down(["b", "a"], [2500.0, 0.5]) == [0.5, 0.5]


@pytest.mark.parametrize("unit", [0.01, 1.0, 500.0])
def test_learns_as_fast_in_any_unit(unit: float) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(64, 16, generator=draw)
    y = unit * (x[:, 0] * x[:, 1] + torch.sin(x[:, 2]))
    assert fit(Critic(16, 64, 0, CPU), x, y, 400) < 0.1 * float(y.var())


def test_still_learns_after_a_first_batch_of_equal_returns() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(64, 16, generator=draw)
    critic = Critic(16, 64, 0, CPU)
    fit(critic, x, torch.full((64,), -1.0), 20)
    assert fit(critic, x, x[:, 0].sign(), 400) < 0.1


def test_gradients_go_straight_into_the_flat_buffer() -> None:
    critic = Critic(4, 4, 0, CPU)
    buffer = critic.flat.grad
    critic(torch.randn(3, 4)).sum().backward()
    assert critic.flat.grad is buffer and buffer is not None
    assert float(buffer[-1]) == pytest.approx(3.0)  # d/d shift
    assert math.isfinite(float(buffer.norm()))
