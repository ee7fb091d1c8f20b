"""One PPO update: its mini-batches, its loss against a slow reference, its guards and controllers, its state."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ludora.errors import TrainingFailed
from ludora.learn import maths
from ludora.learn.credit import Decision
from ludora.learn.learner import MAX_SKIPPED, Learner, _minibatches
from ludora.learn.metrics import explained_variance
from ludora.learn.sums import Sums
from ludora.models.adapters import Adapter
from ludora.models.policy import Answer, Query
from ludora.rng import generator

Build = Callable[..., Any]


def decision(prompt: int, number: int) -> Decision:
    return Decision(Query((prompt,), 0, ((1,), (2,))), number, (-0.7,), ("g", 0), 0.0, 0.0, 0.0)


# ---- mini-batches --------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 99))
def test_every_decision_once_and_those_of_a_key_together(prompts: list[int], size: int, seed: int) -> None:
    decisions = [decision(prompt, i) for i, prompt in enumerate(prompts)]
    batches = list(_minibatches(decisions, size, generator(seed)))
    assert sorted(d.index for batch in batches for d in batch) == list(range(len(prompts)))
    assert all(batch for batch in batches)
    homes = [Counter({d.key: 1 for d in batch}) for batch in batches]
    assert max(sum(homes, Counter()).values()) == 1  # no key in two batches
    assert len(batches) <= max(1, round(len(prompts) / size))
    again = list(_minibatches(decisions, size, generator(seed)))
    assert [[d.index for d in batch] for batch in again] == [[d.index for d in batch] for batch in batches]


def test_distinct_decisions_come_in_even_batches_in_random_order() -> None:
    decisions = [decision(i, i) for i in range(100)]
    orders = []
    for epoch in range(3):
        batches = list(_minibatches(decisions, 32, generator("epoch", epoch)))
        assert [len(batch) for batch in batches] == [34, 33, 33]
        orders.append([d.index for batch in batches for d in batch])
    assert orders[0] != sorted(orders[0]) and orders[0] != orders[1] != orders[2]


def test_no_decisions_no_batches() -> None:
    assert list(_minibatches([], 8, generator(0))) == []


# ---- the loss, against one decision at a time ----------------------------------------------------------------------


def slow_gradient(learner: Learner, batch: Sequence[Decision], magnet: Adapter | None) -> Tensor:
    """The gradient of the mean loss, every decision computed alone and every formula written out."""
    config, adapter, policy = learner.config, learner.adapter, learner.policy
    adapter.grad.zero_()
    for d in batch:
        if isinstance(d.key, Query):
            p = policy.action_log_probs([d.key], [adapter])[0]
            news, olds, weights = p[d.index][None], torch.tensor([sum(d.old)]), [p]
            parts = float(len(batch))
            with torch.no_grad():
                q = policy.action_log_probs([d.key], [learner.reference])[0]
                m = policy.action_log_probs([d.key], [magnet])[0] if magnet else q
            entropy = -sum(x.exp() * x for x in p)
            kl = sum(x.exp() * (x - y) for x, y in zip(p, q, strict=True))
            pull = sum(x.exp() * (x - y) for x, y in zip(p, m, strict=True))
        else:
            chosen, entropies = policy.token_log_probs([d.key], [adapter])
            news, olds, weights = chosen[0], torch.tensor(d.old), [chosen]
            parts = float(sum(len(other.old) for other in batch))
            with torch.no_grad():
                q = policy.token_log_probs([d.key], [learner.reference])[0][0]
            entropy, pull = entropies.sum(), 0.0
            kl = sum((y - x).exp() - 1 - (y - x) for x, y in zip(news, q, strict=True))
        loss = torch.zeros(())
        for new, old in zip(news, olds, strict=True):
            ratio = (new - old).exp()
            bounded = min(max(ratio, torch.tensor(1 - config.clip)), torch.tensor(1 + config.clip))
            loss = loss - min(ratio * d.advantage, bounded * d.advantage)
        loss = loss - learner.entropy_coef * entropy
        if config.kl != "none":
            loss = loss + learner.kl_coef * kl
        if magnet is not None:
            loss = loss + config.magnet_weight * pull
        assert weights
        (loss / parts).backward()
    return adapter.grad.clone()


LOSSES = [
    {},
    {"entropy_coef": 0.1},
    {"kl": "fixed", "kl_coef": 0.3, "entropy_coef": 0.05},
    {"magnet_weight": 0.4, "clip": 0.05},
    {"act": "say", "max_new_tokens": 3, "retries": 0, "kl": "fixed", "kl_coef": 0.2, "entropy_coef": 0.05},
]


@pytest.mark.parametrize("changes", LOSSES, ids=lambda changes: "-".join(changes) or "plain")
@pytest.mark.parametrize("accumulation", [1, 3])
def test_gradients_equal_a_slow_reference(bench: Build, changes: dict[str, Any], accumulation: int) -> None:
    made = bench(**changes, accumulation=accumulation, max_grad_norm=1e9)
    learner = made.learner
    batch = [replace(d, advantage=d.advantage + 0.1) for d in made.decisions(12)]
    # away from the sampling policy, so that ratios are not 1 and some are clipped
    draw = torch.Generator().manual_seed(1)
    learner.adapter.restore(learner.adapter.flat + 0.02 * torch.randn(learner.adapter.flat.shape, generator=draw))
    magnet = None
    if learner.config.magnet_weight:
        magnet = made.studio.pack.copy(learner.adapter, "magnet")
        magnet.restore(magnet.flat + 0.02 * torch.randn(magnet.flat.shape, generator=draw))
        learner.magnet = made.studio.player("magnet", magnet)
    wanted = slow_gradient(learner, batch, magnet)
    before = learner.adapter.flat.detach().clone()
    sums = Sums()
    learner._step(batch, 0.0, sums, check_gap=False)
    assert torch.equal(learner.adapter.flat, before)  # a rate of nothing
    assert float(wanted.norm()) > 1e-3
    assert float((learner.adapter.grad - wanted).norm()) < 1e-4 * float(wanted.norm())
    assert sums.means()["grad_norm"] == pytest.approx(float(wanted.norm()), rel=1e-4)
    assert 0 < sums.means()["clip_fraction"] < 1


def test_accumulation_changes_no_metric(bench: Build) -> None:
    found = []
    for accumulation in (1, 4):
        made = bench(accumulation=accumulation, entropy_coef=0.01, kl="fixed", kl_coef=0.1)
        found.append(made.learner.improve(made.decisions(), 0, 1e-3))
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=2e-3, abs=1e-6), name


# ---- guards --------------------------------------------------------------------------------------------------------


def test_sampling_and_training_must_agree(bench: Build) -> None:
    made = bench()
    batch = made.decisions()
    metrics = made.learner.improve(batch, 0, 1e-3)
    assert metrics["sampling_gap"] < 1e-5
    wrong = [replace(d, old=(d.old[0] - 0.01,)) for d in bench().decisions()]
    with pytest.raises(TrainingFailed, match="sampling and training disagree"):
        bench().learner.improve(wrong, 0, 1e-3)
    dropped = bench(dropout=0.3)  # the policy in training is another one then, by intent
    assert "sampling_gap" not in dropped.learner.improve(dropped.decisions(), 0, 1e-3)


def test_a_step_without_a_finite_gradient_is_skipped_and_counted(bench: Build) -> None:
    made, twin = bench(), bench()
    batch = made.decisions()
    bad = [replace(batch[0], advantage=math.nan), *batch[1:]]
    for learner in (made.learner, twin.learner):
        learner._step(batch, 1e-3, Sums(), check_gap=False)
    before = made.learner.adapter.flat.detach().clone()
    sums = Sums()
    made.learner._step(bad, 1e-3, sums, check_gap=False)
    assert torch.equal(made.learner.adapter.flat, before)
    assert made.learner.actor_optimizer.skipped == 1 and made.learner.skipped_in_a_row == 1
    assert math.isnan(sums.means()["loss_policy"])  # seen in the log
    for learner in (made.learner, twin.learner):
        learner._step(batch, 1e-3, Sums(), check_gap=False)
    assert torch.equal(made.learner.adapter.flat, twin.learner.adapter.flat)  # as if it had never been: moments too
    assert made.learner.skipped_in_a_row == 0 and made.learner.actor_optimizer.skipped == 1


def test_many_skipped_steps_in_a_row_end_training(bench: Build) -> None:
    made = bench(epochs=1)
    bad = [replace(d, advantage=math.inf) for d in made.decisions(4)]
    with pytest.raises(TrainingFailed, match="not finite") as caught:
        for update in range(MAX_SKIPPED):
            made.learner.improve(bad, update, 1e-3)
            assert made.learner.skipped_in_a_row == update + 1 < MAX_SKIPPED
    assert caught.value.hint
    assert torch.isfinite(made.learner.adapter.flat).all()


def test_early_stop_on_divergence(bench: Build) -> None:
    free, bound = bench(epochs=6), bench(epochs=6, target_kl=1e-3)
    counts = []
    for made in (free, bound):
        version = made.learner.adapter.version
        metrics = made.learner.improve(made.decisions(), 0, 5e-3)
        counts.append(made.learner.adapter.version - version)
        assert metrics["early_stop"] == float(made is bound)
    assert 1 < counts[1] < counts[0]  # the first step starts at the sampling policy, so it never stops there


def test_nothing_moves_where_nothing_is_better(bench: Build) -> None:
    made = bench()
    before = made.learner.adapter.flat.detach().clone()
    metrics = made.learner.improve([replace(d, advantage=0.0) for d in made.decisions()], 0, 1e-3)
    assert torch.equal(made.learner.adapter.flat, before)
    assert metrics["adapter_change"] == metrics["grad_norm"] == 0.0


# ---- controllers ---------------------------------------------------------------------------------------------------


def test_choices_and_free_texts_in_one_batch_count_as_they_do_alone(bench: Build) -> None:
    made = bench(act="say", max_new_tokens=3)
    texts = made.decisions(4)
    made.learner.player.acting = replace(made.learner.player.acting, act="choose")
    choices = made.decisions(8)
    learner = made.learner

    def gradient(batch: list[Decision], parts: int) -> Tensor:
        learner.actor_optimizer.zero_grad()
        keys = list(dict.fromkeys(d.key for d in batch))
        learner._piece(batch, keys, parts, Sums(), False)
        return learner.adapter.flat.grad.clone()

    parts = sum(len(d.old) for d in (*texts, *choices))
    expected = gradient(texts, parts) + gradient(choices, parts)
    found = []
    step = learner.actor_optimizer.step
    learner.actor_optimizer.step = lambda rate: found.append(learner.adapter.flat.grad.clone()) or step(rate)  # type: ignore
    learner._step([*choices[:3], *texts, *choices[3:]], 0.0, Sums(), False)
    assert torch.allclose(found[0], expected, atol=1e-6) and float(expected.norm()) > 0


def test_entropy_coefficient_follows_its_target(bench: Build) -> None:
    for target, factor in ((1.0, 1.1), (0.01, 1 / 1.1)):
        made = bench(entropy_coef=0.02, entropy_target=target)
        metrics = made.learner.improve(made.decisions(), 0, 1e-4)
        assert made.learner.entropy_coef == metrics["entropy_coef"] == pytest.approx(0.02 * factor)
        assert 0 < metrics["entropy_share"] < 1
        assert metrics["entropy_share"] == pytest.approx(metrics["entropy"] / math.log(2), rel=1e-4)  # two actions each
    made = bench(entropy_coef=0.02, entropy_target=1.0)
    made.learner.entropy_coef = 0.99
    made.learner.improve(made.decisions(), 0, 1e-4)
    assert made.learner.entropy_coef == 1.0


def test_adaptive_kl_coefficient_follows_its_target(bench: Build) -> None:
    for target, factor in ((1e-6, 1.02), (100.0, 0.98)):
        made = bench(kl="adaptive", kl_coef=0.1, kl_target=target)
        metrics = made.learner.improve(made.decisions(), 0, 1e-4)
        assert metrics["kl"] > 1e-6
        assert made.learner.kl_coef == metrics["kl_coef"] == pytest.approx(0.1 * factor)


# ---- the critic's part ---------------------------------------------------------------------------------------------


def test_equal_prompts_have_equal_values_and_the_critic_learns_them(bench: Build) -> None:
    made = bench(value_steps=200, value_learning_rate=3e-3, value_hidden=64)
    learner, batch = made.learner, made.decisions(64)
    keys, games = [d.key for d in batch], [d.group[0] for d in batch]
    assert learner.values(keys, games) == [0.0] * len(keys)
    learner.fit_critic(batch)
    values = dict(zip(keys, learner.values(keys, games), strict=True))
    assert learner.values(keys[::-1], games) == [values[key] for key in keys[::-1]]
    by_key: dict[Query | Answer, list[float]] = {}
    for d in batch:
        by_key.setdefault(d.key, []).append(d.target)
    best = sum((t - sum(ts) / len(ts)) ** 2 for ts in by_key.values() for t in ts)  # the mean target of each prompt
    untrained = sum(d.target**2 for d in batch)
    reached = sum((values[d.key] - d.target) ** 2 for d in batch)
    assert best <= reached < best + 0.05 * (untrained - best)


def test_games_of_thousands_do_not_drown_those_of_points(bench: Build) -> None:
    made = bench(value_steps=200, value_learning_rate=3e-3, value_hidden=64)
    learner, batch = made.learner, made.decisions(64)
    for d in batch:
        if d.group[1]:
            d.group, d.target = ("another", 1), 5000 + 1000 * d.target
    keys, games = [d.key for d in batch], [d.group[0] for d in batch]
    learner.fit_critic(batch)
    for d, value in zip(batch, learner.values(keys, games), strict=True):
        d.value = value
    small = [d for d in batch if d.group[0] == "kuhn_poker"]
    assert maths.explained_variance([d.value for d in small], [d.target for d in small]) > 0.2
    assert explained_variance(batch) < maths.explained_variance([d.value for d in batch], [d.target for d in batch])


def test_the_critic_reads_the_reference_not_the_learner(bench: Build) -> None:
    made = bench()
    keys = [d.key for d in made.decisions()]
    before = made.learner.features(keys)
    made.learner.adapter.restore(made.learner.adapter.flat * 3)
    made.learner.policy._reference.clear()
    assert torch.equal(made.learner.features(keys), before)


# ---- state ---------------------------------------------------------------------------------------------------------


def test_state_and_tensors_give_every_later_bit(bench: Build) -> None:
    changes = {"dropout": 0.2, "entropy_coef": 0.02, "entropy_target": 0.5, "kl": "adaptive", "kl_coef": 0.1,
               "kl_target": 0.01, "baseline": "ema"}  # fmt: skip
    made = bench(**changes)
    learner = made.learner
    learner.fit_critic(made.decisions(8))
    learner.improve(made.decisions(8), 0, 1e-3)
    tensors, state = learner.tensors(), json.loads(json.dumps(learner.state()))
    batch = made.decisions(8, first=100)

    def go_on(**parts: Any) -> Tensor:
        made.learner = Learner.create(made.config, learner.player, None)
        made.learner.adapter.restore(torch.zeros_like(learner.adapter.flat))
        made.learner.load_tensors({**tensors, **parts.get("tensors", {})})
        made.learner.load_state({**state, **parts.get("state", {})})
        assert made.learner.state() == {**state, **parts.get("state", {})}
        made.learner.fit_critic(batch)
        made.learner.improve(batch, 1, 1e-3)
        return torch.cat([made.learner.adapter.flat.detach(), made.learner.critic.flat.detach()])

    first = go_on()
    assert torch.equal(go_on(), first)
    for control in (
        {"tensors": {"actor_optimizer": {}}},
        {"tensors": {"critic_optimizer": {}}},
        {"state": {"dropout_draws": 0}},
        {"state": {"kl_coef": 0.5}},
        {"state": {"entropy_coef": 0.5}},
    ):
        assert not torch.equal(go_on(**control), first), control
