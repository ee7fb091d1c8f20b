"""Sampling: what is recorded is what training will see, and a token depends on its own seed and nothing else."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models import rig as rigs
from tests.models.rig import Rig, rig, wake

from ludora.errors import TrainingFailed
from ludora.models.adapters import Adapter
from ludora.models.draw import draw
from ludora.models.generate import Sampler, Talk
from ludora.models.policy import Answer, Policy
from ludora.rng import uniform
from ludora.types import Move, Stop

NEVER = (320,)  # a token that these answers do not stop at by chance often
TOLERANCE = 1e-4  # nats: fp32 products over one token and over whole rows add up in another order


def _talks(count: int, first: int = 0) -> list[Talk]:
    return [Talk(rigs.text(5 + 3 * i, first + i)) for i in range(count)]


def _check_against_training(r: Rig, moves: list[Move], adapter: Adapter | None, policy: Policy | None = None) -> None:
    answers = [Answer(move.prompt, 0, move.tokens) for move in moves]
    with torch.no_grad():
        chosen, _ = (policy or r.policy).token_log_probs(answers, [adapter] * len(moves))
    for move, row in zip(moves, chosen.tolist(), strict=True):
        assert list(move.logprobs) == pytest.approx(row[: len(move.tokens)], abs=TOLERANCE)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma2", "mistral", "phi3", "bloom", "gpt_neo"])
@pytest.mark.parametrize("adapted", [False, True])
def test_recorded_log_probabilities_are_those_of_training(model_type: str, adapted: bool) -> None:
    r = rig(model_type)
    adapter = r.add(rank=3) if adapted else None
    talks = _talks(5)
    before = [talk.tokens for talk in talks]
    moves = Sampler(r.policy, NEVER).sample(talks, adapter, [11, 12, 13, 14, 15], 9)
    assert [move.prompt for move in moves] == before
    assert all(len(move.tokens) == len(move.logprobs) >= 1 for move in moves)
    _check_against_training(r, moves, adapter)


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "bloom"])
def test_later_turns_with_kept_caches_are_those_of_a_fresh_start(model_type: str) -> None:
    r = rig(model_type)
    adapter = r.add(rank=3)
    sampler = Sampler(r.policy, NEVER)
    warm, cold = _talks(3), _talks(3)
    for turn in range(4):
        seeds = [100 * turn + i for i in range(3)]
        ours = sampler.sample(warm, adapter, seeds, 5)
        for talk in cold:
            talk.forget()
        theirs = sampler.sample(cold, adapter, seeds, 5)
        for one, other in zip(ours, theirs, strict=True):
            assert (one.tokens, one.prompt, one.stop) == (other.tokens, other.prompt, other.stop)
            assert one.logprobs == pytest.approx(other.logprobs, abs=TOLERANCE)
        _check_against_training(r, ours, adapter)
        for i, (a, b) in enumerate(zip(warm, cold, strict=True)):
            assert a.tokens == b.tokens
            for talk in (a, b):
                talk.hear(rigs.text(4 + 6 * i, 50 + turn))
    if model_type != "bloom":
        assert all(talk.history.length > 20 for talk in warm)


def test_a_turn_costs_its_own_tokens() -> None:
    r = rig("llama")
    sampler = Sampler(r.policy, ())
    talk = Talk(rigs.text(300))
    sampler.sample([talk], None, [1], 2)
    start = r.engine.counters.tokens
    talk.hear(rigs.text(10))
    sampler.sample([talk], None, [2], 3)
    # ten new tokens and the one that was sampled last, filled up; then two steps of one row, filled up
    assert r.engine.counters.tokens - start == 16 + 2 * 16


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "bloom"])
def test_rules_in_common_are_read_once(model_type: str) -> None:
    r = rig(model_type)
    adapter = r.add(rank=3)
    rules = rigs.text(70, 9)

    def talks(prefix: int) -> list[Talk]:
        return [Talk(rules + rigs.text(6 + i, i), prefix) for i in range(3)]

    sampler = Sampler(r.policy, NEVER)
    seeds = [1, 2, 3]
    plain = sampler.sample(talks(0), adapter, seeds, 6)
    for again in (False, True):
        start = r.engine.counters.tokens
        shared = sampler.sample(talks(len(rules)), adapter, seeds, 6)
        if model_type != "bloom":
            read = r.engine.counters.tokens - start
            assert (
                read == (0 if again else 80) + 3 * 16 + 5 * 16
            )  # rules, states, five steps; filled up to sixteen each
        for one, other in zip(plain, shared, strict=True):
            assert (one.tokens, one.prompt, one.stop) == (other.tokens, other.prompt, other.stop)
            assert one.logprobs == pytest.approx(other.logprobs, abs=TOLERANCE)
    wake(adapter, seed=5)  # new weights: what the old ones computed must not be used
    _check_against_training(r, sampler.sample(talks(len(rules)), adapter, seeds, 6), adapter)
    _check_against_training(r, sampler.sample(talks(len(rules)), None, seeds, 6), None)
    whole = [Talk(rules, len(rules)) for _ in range(2)]  # nothing but rules: one token must be left to read
    _check_against_training(r, sampler.sample(whole, adapter, [1, 2], 3), adapter)


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(5)), st.integers(1, 5))
def test_an_answer_does_not_depend_on_its_neighbours(order: list[int], count: int) -> None:
    r = _shared()
    adapter = r.pack.adapters["one"]
    sampler = Sampler(r.policy, NEVER, top_p=0.95)
    chosen = order[:count]
    talks = _talks(5)
    moves = sampler.sample([talks[i] for i in chosen], adapter, [70 + i for i in chosen], 6)
    for i, move in zip(chosen, moves, strict=True):
        alone = sampler.sample([_talks(5)[i]], adapter, [70 + i], 6)[0]
        assert (move.tokens, move.stop, move.logprobs) == (alone.tokens, alone.stop, alone.logprobs)


_MADE: list[Rig] = []


def _shared() -> Rig:
    if not _MADE:
        _MADE.append(rig("qwen3"))
        _MADE[0].add(rank=2)
    return _MADE[0]


def test_a_token_is_the_quantile_of_its_own_uniform_number() -> None:
    r = rig("llama")
    talk = Talk(rigs.text(8))
    move = Sampler(r.policy, ()).sample([talk], None, [5], 4)[0]
    assert talk.tokens == move.prompt + move.tokens and move.stop == Stop.LENGTH
    logits = r.logits([talk.tokens], [None])[0][7:-1].double()
    for step, token in enumerate(move.tokens):
        edges = logits[step].softmax(-1).cumsum(0)
        u = uniform(5, step)
        assert float(edges[token - 1] if token else 0.0) <= u + 1e-6
        assert u <= float(edges[token]) + 1e-6


def test_samples_have_the_models_frequencies() -> None:
    r = rig("llama")
    prompt = rigs.text(8)
    p = r.logits([prompt], [None])[0][-1].double().softmax(-1)
    n = 4000
    seen = Counter(draw(p.log().float().expand(n, -1), [uniform(seed, 0) for seed in range(n)])[0])
    for token in p.argsort(descending=True)[:5].tolist():
        share = float(p[token])
        assert abs(seen[token] / n - share) < 4.5 * math.sqrt(share * (1 - share) / n)


def test_any_stop_token_ends_an_answer_and_is_left_to_the_chat_layout() -> None:
    r = rig("llama")
    free = Sampler(r.policy, ()).sample(_talks(6), None, list(range(6)), 12)
    stops = {free[0].tokens[3], free[1].tokens[0]}
    talks = _talks(6)
    moves = Sampler(r.policy, stops).sample(talks, None, list(range(6)), 12)
    assert len(moves[1].tokens) == 1 and len(moves[0].tokens) <= 4
    for move, talk, whole in zip(moves, talks, free, strict=True):
        assert move.tokens == whole.tokens[: len(move.tokens)]
        ended = move.tokens[-1] in stops
        assert move.stop == (Stop.END if ended else Stop.LENGTH)
        assert not stops & set(move.tokens[:-1]) and len(move.tokens) == (len(move.tokens) if ended else 12)
        # the token is recorded, for it was sampled; in the conversation the layout writes the end of an answer
        assert talk.tokens == move.prompt + (move.tokens[:-1] if ended else move.tokens)
        assert talk.history.length <= len(talk.tokens)
    _check_against_training(r, moves, None)


@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.9])
def test_the_nucleus_is_the_likeliest_tokens_that_hold_top_p(top_p: float) -> None:
    r = rig("llama")
    talks = _talks(8)
    moves = Sampler(r.policy, (), top_p=top_p).sample(talks, None, list(range(8)), 4)
    for move in moves:
        logits = r.logits([move.prompt + move.tokens], [None])[0][len(move.prompt) - 1 : -1].double()
        for token, row in zip(move.tokens, logits.softmax(-1), strict=True):
            likelier = float(row[row > row[token]].sum())  # what was taken before this token
            assert likelier < top_p + 1e-6
            if top_p == 0.01:
                assert token == int(row.argmax())
    _check_against_training(r, moves, None)  # log-probabilities are those of the full distribution


def test_temperature_is_part_of_the_policy() -> None:
    r = rig("llama")
    hot = Policy(r.engine, rigs.END, 2.5)
    moves = Sampler(hot, ()).sample(_talks(4), None, [1, 2, 3, 4], 6)
    _check_against_training(r, moves, None, hot)
    cold = Policy(r.engine, rigs.END, 1e-4)
    move = Sampler(cold, ()).sample(_talks(1), None, [1], 6)[0]
    logits = r.logits([move.prompt + move.tokens], [None])[0][len(move.prompt) - 1 : -1]
    assert list(move.tokens) == logits.argmax(-1).tolist()


def test_numbers_that_are_not_finite_are_an_error_and_no_token() -> None:
    r = rig("llama")
    adapter = r.add(rank=2)
    adapter.restore(torch.full_like(adapter.flat, float("nan")))
    for top_p in (1.0, 0.5):
        with pytest.raises(TrainingFailed, match="not finite"):
            Sampler(r.policy, (), top_p).sample(_talks(2), adapter, [1, 2], 3)
