"""The mathematics of PPO three ways: literals derived by hand, properties, and slow obvious references."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.distributions import Categorical, kl_divergence

from ludora.learn import maths

NUMBER = st.floats(-10, 10, allow_subnormal=False)
SHARE = st.floats(0, 1)
LOGITS = st.lists(st.lists(st.floats(-5, 5), min_size=4, max_size=4), min_size=1, max_size=4)
# rewards and values of one game, as long as each other
TURNS = st.lists(st.tuples(NUMBER, NUMBER), max_size=6).map(
    lambda pairs: tuple(map(list, zip(*pairs, strict=True))) or ([], [])
)


def log_probs(rows: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).log_softmax(-1)


def gradient(of: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    x = at.clone().requires_grad_(True)
    of(x).sum().backward()
    assert x.grad is not None
    return x.grad


# ---- advantages ----------------------------------------------------------------------------------------------------


def test_gae_by_hand() -> None:
    # delta_1 = 4 + .5*0 - 2 = 2;  delta_0 = 1 + .5*2 - 3 = -1;  A_0 = -1 + .5*.5*2 = -.5
    assert maths.turn_gae([1, 4], [3, 2], 0.0, 0.5, 0.5) == [-0.5, 2.0]
    # truncated, the last state worth 8: delta_1 = 4 + .5*8 - 2 = 6;  A_0 = -1 + .25*6 = .5
    assert maths.turn_gae([1, 4], [3, 2], 8.0, 0.5, 0.5) == [0.5, 6.0]
    assert maths.turn_gae([5], [2], 0.0, 0.9, 0.3) == [3.0]
    assert maths.turn_gae([], [], 7.0, 0.9, 0.9) == []


@given(TURNS, NUMBER, SHARE)
def test_lambda_one_is_discounted_return_less_value(
    turns: tuple[list[float], list[float]], last: float, gamma: float
) -> None:
    rewards, values = turns
    n = len(rewards)
    for t, advantage in enumerate(maths.turn_gae(rewards, values, last, gamma, 1.0)):
        to_go = sum(gamma ** (k - t) * rewards[k] for k in range(t, n)) + gamma ** (n - t) * last
        assert advantage == pytest.approx(to_go - values[t], abs=1e-9)


@given(TURNS, NUMBER, SHARE)
def test_lambda_zero_is_the_td_error(turns: tuple[list[float], list[float]], last: float, gamma: float) -> None:
    rewards, values = turns
    following = [*values[1:], last]
    errors = [r + gamma * f - v for r, v, f in zip(rewards, values, following[: len(values)], strict=True)]
    assert maths.turn_gae(rewards, values, last, gamma, 0.0) == pytest.approx(errors, abs=1e-9)


@given(TURNS, NUMBER, SHARE, SHARE)
def test_gae_is_the_weighted_mean_of_n_step_advantages(
    turns: tuple[list[float], list[float]], last: float, gamma: float, lam: float
) -> None:
    """The definition in the paper (its equation 16), cut off at the end of the game."""
    rewards, values = turns
    n, states = len(rewards), [*values, last]
    for t, advantage in enumerate(maths.turn_gae(rewards, values, last, gamma, lam)):
        steps = [
            sum(gamma**i * rewards[t + i] for i in range(k)) + gamma**k * states[t + k] - states[t]
            for k in range(1, n - t + 1)
        ]
        # beyond the end all n-step estimates are the last one, so it carries the rest of the geometric weights
        mean = sum((1 - lam) * lam ** (k - 1) * a for k, a in enumerate(steps[:-1], 1)) + lam ** (n - t - 1) * steps[-1]
        assert advantage == pytest.approx(mean, abs=1e-9)


def test_normalise_by_hand() -> None:
    found = maths.normalise([1, 3, 10, 20, 30, 7], ["a", "a", "b", "b", "b", "c"])
    third = math.sqrt(200 / 3)  # (100 + 0 + 100) / 3
    assert found == pytest.approx([-1, 1, -10 / third, 0, 10 / third, 0])


@given(st.lists(st.tuples(NUMBER, st.sampled_from("ab")), max_size=12), st.floats(0.5, 3), NUMBER)
def test_normalised_groups_have_mean_zero_and_unit_spread(
    pairs: list[tuple[float, str]], scale: float, shift: float
) -> None:
    values, groups = [v for v, _ in pairs], [g for _, g in pairs]
    found = maths.normalise(values, groups)
    for group in set(groups):
        own = [x for x, g in zip(found, groups, strict=True) if g == group]
        raw = [v for v, g in pairs if g == group]
        if statistics.pstdev(raw) > 1e-6:
            assert statistics.fmean(own) == pytest.approx(0, abs=1e-6)
            assert statistics.pstdev(own) == pytest.approx(1, abs=1e-6)
            order = sorted(range(len(raw)), key=raw.__getitem__)
            assert [own[i] for i in order] == sorted(own)  # never inverted
            moved = maths.normalise([scale * v + shift for v in raw], [group] * len(raw))
            assert moved == pytest.approx(own, abs=1e-4)
    alone = {g: iter(maths.normalise([v for v, h in pairs if h == g], [g] * groups.count(g))) for g in set(groups)}
    assert found == [next(alone[g]) for g in groups]  # a group does not see the others


def test_equal_values_carry_no_preference() -> None:
    wins = [0.1 + 0.2, 0.3, 0.3, 0.1 + 0.2]  # differ in the last bit
    assert maths.normalise(wins, [0] * 4) == [0.0] * 4
    assert maths.normalise([1e9, 1e9 + 1e-7, 1e9], [0] * 3) == [0.0] * 3
    assert maths.normalise([], []) == []


# ---- losses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped", "slope"),
    [  # clip 0.2; slope is d loss / d log-probability = -ratio * A inside, 0 where clipping pays nothing
        (1.0, 2.0, -2.0, False, -2.0),
        (1.0, -2.0, 2.0, False, 2.0),
        (1.5, 2.0, -2.4, True, 0.0),  # already up enough
        (1.5, -2.0, 3.0, False, 3.0),  # went up though it is bad: pulled back at full strength
        (0.5, 2.0, -1.0, False, -1.0),  # went down though it is good: pulled back
        (0.5, -2.0, 1.6, True, 0.0),  # already down enough
        (1.1, 2.0, -2.2, False, -2.2),
        (0.9, -2.0, 1.8, False, 1.8),
        (1.5, 0.0, 0.0, False, 0.0),
    ],
)
def test_clipped_policy_loss_by_hand(ratio: float, advantage: float, loss: float, clipped: bool, slope: float) -> None:
    old = tensor([-1.3], dtype=torch.float64)
    new = old + math.log(ratio)
    a = tensor([advantage], dtype=torch.float64)
    found, flag = maths.clipped_policy_loss(new, old, a, 0.2)
    assert float(found) == pytest.approx(loss) and bool(flag) is clipped
    assert float(gradient(lambda x: maths.clipped_policy_loss(x, old, a, 0.2)[0], new)) == pytest.approx(slope)


@given(LOGITS, st.data())
def test_ratio_one_gives_the_policy_gradient(rows: list[list[float]], data: st.DataObject) -> None:
    """At the sampling policy, d loss / d logits = -A (onehot - p): REINFORCE, written down without autograd."""
    logits = torch.tensor(rows, dtype=torch.float64)
    n = len(rows)
    taken = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    advantage = torch.tensor(data.draw(st.lists(NUMBER, min_size=n, max_size=n)), dtype=torch.float64)
    old = logits.log_softmax(-1)[torch.arange(n), taken]

    def loss(x: Tensor) -> Tensor:
        return maths.clipped_policy_loss(x.log_softmax(-1)[torch.arange(n), taken], old, advantage, 0.2)[0]

    by_hand = -advantage[:, None] * (torch.nn.functional.one_hot(taken, 4) - logits.softmax(-1))
    assert torch.allclose(gradient(loss, logits), by_hand, atol=1e-9)


def test_value_loss_by_hand() -> None:
    value, target, before = tensor([3.0, 3.0, 0.5]), tensor([1.0, 4.0, 1.0]), tensor([0.0, 0.0, 0.0])
    assert maths.value_loss(value, target, before, 0.0).tolist() == [2.0, 0.5, 0.125]
    # clipped to within 1 of before: near = 1, 1, .5; squares (4, 0), (1, 9), (.25, .25), the larger counts
    assert maths.value_loss(value, target, before, 1.0).tolist() == [2.0, 4.5, 0.125]


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3), st.floats(0.1, 2))
def test_a_value_that_went_its_way_far_enough_earns_nothing(
    value: float, target: float, before: float, clip: float
) -> None:
    v, t, b = (tensor([x], dtype=torch.float64) for x in (value, target, before))
    slope = float(gradient(lambda x: maths.value_loss(x, t, b, clip), v))
    near = before + max(-clip, min(clip, value - before))
    if abs(value - before) < clip - 1e-9:
        assert slope == pytest.approx(value - target, abs=1e-12)
    elif abs(near - target) > abs(value - target) + 1e-9:
        assert slope == 0.0
    elif abs(near - target) < abs(value - target) - 1e-9:
        assert slope == pytest.approx(value - target)
    assert float(maths.value_loss(v, t, b, clip)) >= float(maths.value_loss(v, t, b, 0.0))


# ---- divergences ---------------------------------------------------------------------------------------------------


def test_entropy_and_kl_by_hand() -> None:
    p, q = tensor([0.5, 0.25, 0.25]).double().log(), tensor([0.25, 0.25, 0.5]).double().log()
    assert float(maths.entropy(p)) == pytest.approx(1.5 * math.log(2))
    assert float(maths.exact_kl(p, q)) == pytest.approx(0.25 * math.log(2))  # .5 log 2 + 0 - .25 log 2
    assert float(maths.exact_kl(p, p)) == 0.0
    sure = tensor([0.0, -math.inf])
    assert float(maths.entropy(sure)) == 0.0 and float(maths.exact_kl(sure, tensor([0.5, 0.5]).log())) == pytest.approx(
        math.log(2)
    )
    assert float(maths.exact_kl(tensor([0.5, 0.5]).log(), sure)) == math.inf


@given(LOGITS, LOGITS)
def test_entropy_and_kl_are_those_of_torch(a: list[list[float]], b: list[list[float]]) -> None:
    n = min(len(a), len(b))
    p, q = log_probs(a[:n]), log_probs(b[:n])
    assert torch.allclose(maths.entropy(p), Categorical(logits=p).entropy())
    kl = maths.exact_kl(p, q)
    assert torch.allclose(kl, kl_divergence(Categorical(logits=p), Categorical(logits=q)), atol=1e-12)
    assert (kl >= -1e-12).all()


@given(LOGITS, st.integers(1, 3))
def test_padding_changes_neither_values_nor_gradients(rows: list[list[float]], columns: int) -> None:
    logits = torch.tensor(rows, dtype=torch.float64)
    reference = log_probs([[0.3, -0.2, 1.0, 0.0]] * len(rows))

    def padded(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (0, columns), value=-math.inf)

    def parts(x: Tensor, pad: Callable[[Tensor], Tensor]) -> Tensor:
        found = pad(x.log_softmax(-1))
        return maths.entropy(found) + 3 * maths.exact_kl(found, pad(reference))

    assert torch.allclose(parts(logits, padded), parts(logits, lambda x: x))
    slope = gradient(lambda x: parts(x, padded), logits)
    assert torch.isfinite(slope).all()
    assert torch.allclose(slope, gradient(lambda x: parts(x, lambda y: y), logits))


def test_an_action_that_underflows_is_no_nan() -> None:
    logits = tensor([[0.0, -200.0, 1.0]])
    slope = gradient(
        lambda x: maths.entropy(x.log_softmax(-1)) + maths.exact_kl(x.log_softmax(-1), logits.log_softmax(-1)), logits
    )
    assert torch.isfinite(slope).all()


@given(LOGITS, LOGITS)
def test_k1_and_k3_are_unbiased(a: list[list[float]], b: list[list[float]]) -> None:
    """Over all actions weighted by the sampling policy, both estimators average to KL(old || new)."""
    n = min(len(a), len(b))
    old, new = log_probs(a[:n]), log_probs(b[:n])
    true = kl_divergence(Categorical(logits=old), Categorical(logits=new))
    for estimator in (maths.k1, maths.k3):
        assert torch.allclose((old.exp() * estimator(new, old)).sum(-1), true, atol=1e-9)
    assert (maths.k3(new, old) >= -1e-12).all()
    assert torch.equal(maths.k3(old, old), torch.zeros_like(old))


def test_k3_by_hand() -> None:
    # r = 2: 2 - 1 - log 2;  r = 1/2: 1/2 - 1 + log 2
    found = maths.k3(tensor([0.2, 0.1]).double().log(), tensor([0.1, 0.2]).double().log())
    assert found.tolist() == pytest.approx([1 - math.log(2), math.log(2) - 0.5])
    assert maths.k1(tensor([-2.0]), tensor([-1.0])).tolist() == [1.0]


# ---- controllers and summaries -------------------------------------------------------------------------------------


def test_explained_variance() -> None:
    assert maths.explained_variance([1, 2, 4], [1, 2, 4]) == 1.0
    assert maths.explained_variance([7, 7, 7], [1, 2, 4]) == pytest.approx(0.0)
    assert maths.explained_variance([2, 1], [1, 2]) == pytest.approx(-3.0)  # errors -1, +1: variance 1 over 1/4
    assert maths.explained_variance([11, 12, 14], [1, 2, 4]) == pytest.approx(1.0)  # a constant error explains all
    assert maths.explained_variance([1, 2], [3, 3]) == 0.0
    assert maths.explained_variance([], []) == 0.0


def test_the_kl_coefficient_moves_towards_its_target() -> None:
    assert maths.adapt_coefficient(1.0, 0.3, 0.3) == 1.0
    assert maths.adapt_coefficient(1.0, 0.33, 0.3) == pytest.approx(1.01)  # error 0.1
    assert maths.adapt_coefficient(2.0, 9.0, 0.3) == pytest.approx(2.04)  # error clipped to 0.2
    assert maths.adapt_coefficient(2.0, 0.0, 0.3) == pytest.approx(1.96)
    assert maths.adapt_coefficient(2.0, math.inf, 0.3) == pytest.approx(2.04)
    assert maths.adapt_coefficient(2.0, math.nan, 0.3) == 2.0
    # a plant whose divergence is inverse to the coefficient settles at the target
    coefficient = 0.01
    for _ in range(500):
        coefficient = maths.adapt_coefficient(coefficient, 0.06 / coefficient, 0.3)
    assert coefficient == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        ("constant", [(0.0, 2.0), (0.5, 2.0), (1.0, 2.0)]),
        ("linear", [(0.0, 2.0), (0.5, 1.1), (1.0, 0.2)]),
        ("cosine", [(0.0, 2.0), (0.5, 1.1), (1.0, 0.2), (0.25, 2 * (0.1 + 0.45 * (1 + math.sqrt(0.5))))]),
    ],
)
def test_schedules(schedule: str, points: list[tuple[float, float]]) -> None:
    for progress, rate in points:
        assert maths.scheduled(2.0, schedule, progress) == pytest.approx(rate)
        # the same shape over what is left after a warm-up of a fifth
        assert maths.scheduled(2.0, schedule, 0.2 + 0.8 * progress, 0.2) == pytest.approx(rate)
    assert maths.scheduled(2.0, schedule, 0.05, 0.2) == pytest.approx(0.5)
    assert maths.scheduled(2.0, schedule, 1.0, 1.0) > 0
