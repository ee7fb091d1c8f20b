"""Exact distributions over actions against plain transformers and its whole vocabulary, and what is computed once."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models import rig as rigs
from tests.models import zoo
from tests.models.rig import END, Rig, close, rig
from torch import Tensor

from ludora.envs.openspiel import OpenSpielEnv
from ludora.grammar import parse
from ludora.learn import maths
from ludora.models import policy as policies
from ludora.models.adapters import Adapter
from ludora.models.chat import ChatFormat
from ludora.models.policy import Answer, Policy, Query
from ludora.models.rows import Row, Tokens
from ludora.types import Move, Task

# Some of the choices begin others, some share more than one token, one is alone under its first token.
CHOICES: tuple[Tokens, ...] = ((10,), (10, 11), (10, 11, 12), (10, 11, 13, 14), (20, 21), (20, 22), (30, 31, 32), (40,))


def _plainly(logits: Any, query: Query, end: int = END) -> Tensor:
    """Brute force: at every step of an action the whole vocabulary's softmax, restricted to what is allowed there."""
    out = []
    for choice in query.choices:
        scores = logits(query.prompt + choice)[len(query.prompt) - 1 :]
        total = torch.zeros((), dtype=torch.float64)
        for depth in range(len(choice) + 1):
            alive = [c for c in query.choices if c[:depth] == choice[:depth]]
            allowed = sorted({c[depth] if depth < len(c) else end for c in alive})
            token = choice[depth] if depth < len(choice) else end
            full = scores[depth].double().softmax(-1)
            total = total + (full[token] / full[allowed].sum()).log()
        out.append(total)
    return torch.stack(out)


def _by_engine(r: Rig, adapter: Adapter | None) -> Any:
    """Whole logits of plain rows: no tree, no prefix."""
    return lambda tokens: r.logits([tokens], [adapter])[0]


def _by_transformers(model_type: str, **overrides: Any) -> Any:
    model = rigs.plain(model_type, **overrides)
    return lambda tokens: rigs.plain_logits(model, [tokens])[0]


@pytest.mark.parametrize("prefix", [0, 12])
@pytest.mark.parametrize("model_type", zoo.FAMILIES)
def test_every_family_gives_transformers_own_probabilities(model_type: str, prefix: int) -> None:
    r = rig(model_type)
    queries = [Query(rigs.text(12)[:12] + rigs.text(4 + 9 * i, i), prefix, CHOICES[i:]) for i in range(3)]
    with torch.no_grad():
        table = r.policy.action_log_probs(queries, [None] * 3)
        for row, query in zip(table, queries, strict=True):
            want = _plainly(_by_transformers(model_type), query).float()
            torch.testing.assert_close(row[: len(query.choices)], want, rtol=1e-4, atol=1e-4)
            assert torch.isneginf(row[len(query.choices) :]).all()
    torch.testing.assert_close(table.exp().sum(-1), torch.ones(3), rtol=0, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_paths_any_prompts_any_mixture_of_adapters(data: st.DataObject) -> None:
    r = _shared()
    adapters = [None, *r.pack.adapters.values()]
    paths = st.lists(st.integers(10, 13), min_size=1, max_size=4).map(tuple)
    queries, owners = [], []
    for i in range(data.draw(st.integers(1, 4))):
        prompt = rigs.text(data.draw(st.integers(1, 40)), i % 2)
        prefix = data.draw(st.integers(0, len(prompt) - 1))
        queries.append(Query(prompt, prefix, tuple(data.draw(st.lists(paths, min_size=1, max_size=10, unique=True)))))
        owners.append(data.draw(st.sampled_from(adapters)))
    with torch.no_grad():
        table = r.policy.action_log_probs(queries, owners)
        for row, query, owner in zip(table, queries, owners, strict=True):
            want = _plainly(_by_engine(r, owner), query).float()
            torch.testing.assert_close(row[: len(want)], want, rtol=1e-4, atol=1e-4)
            assert float(row[: len(want)].exp().sum()) == pytest.approx(1.0, abs=1e-5)


_MADE: list[Rig] = []


def _shared() -> Rig:
    if not _MADE:
        _MADE.append(rig("qwen3"))
        _MADE[0].add("one", 1, rank=2)
        _MADE[0].add("two", 2, rank=3, layers="top:2")
    return _MADE[0]


@pytest.mark.parametrize(
    "game",
    [
        "goofspiel(num_cards=11)",
        "hex(board_size=11)",
        "quoridor(board_size=5)",
        "quoridor",
        "liars_dice",
        "connect_four",
    ],
)
def test_real_names_of_actions(game: str) -> None:
    """Names that begin one another (`1`, `10`; `a1`, `a10`; `e8`, `e8h`), up to hundreds of them."""
    r = _shared()
    adapter = r.pack.adapters["two"]
    env = OpenSpielEnv(Task(parse(game), seed=3))
    chat = ChatFormat(r.base.tokenizer)
    for _ in range(3):
        turns = env.turns()
        turn = turns[0]
        assert turn.legal is not None and len(turn.legal) > 1
        paths = chat.label_tokens(turn.legal, "Move:")
        query = Query(rigs.text(20, 4), 6, paths)
        policy = Policy(r.engine, chat.stop_ids[0])
        with torch.no_grad():
            table = policy.action_log_probs([query], [adapter])[0]
            few = [*range(0, len(paths), max(1, len(paths) // 8))]
            rows = [query.prompt + paths[i] for i in few]
            known = dict(zip(rows, r.logits(rows, [adapter] * len(rows)), strict=True))
        assert float(table.double().exp().sum()) == pytest.approx(1.0, abs=1e-5)
        for i in few:
            want = _one(known[query.prompt + paths[i]], query, paths[i], chat.stop_ids[0])
            assert float(table[i]) == pytest.approx(want, abs=2e-4)
        env.apply({t.seat: Move(t.legal[len(t.legal) // 2]) for t in turns if t.legal})


def _one(logits: Tensor, query: Query, choice: Tokens, end: int) -> float:
    total = 0.0
    for depth in range(len(choice) + 1):
        alive = [c for c in query.choices if c[:depth] == choice[:depth]]
        allowed = sorted({c[depth] if depth < len(c) else end for c in alive})
        scores = logits[len(query.prompt) - 1 + depth].double()
        total += float(scores[choice[depth] if depth < len(choice) else end] - scores[allowed].logsumexp(0))
    return total


def test_names_that_begin_others_do_occur() -> None:
    chat = ChatFormat(zoo.base("llama").tokenizer)
    for game in ("goofspiel(num_cards=11)", "hex(board_size=11)", "quoridor"):
        turn = OpenSpielEnv(Task(parse(game))).turns()[0]
        paths = chat.label_tokens(turn.legal or (), "Move:")
        assert any(a != b and b[: len(a)] == a for a in paths for b in paths), game


def test_gradients_are_those_of_the_whole_vocabulary() -> None:
    r = rig("llama")
    adapter = r.add(rank=3)
    query = Query(rigs.text(20), 7, CHOICES)
    weights = torch.linspace(-1, 2, len(CHOICES))
    (r.policy.action_log_probs([query], [adapter])[0] * weights).sum().backward()
    ours = adapter.grad.clone()
    adapter.grad.zero_()
    (_plainly(_by_engine(r, adapter), query).float() * weights).sum().backward()
    close(ours, adapter.grad, 1e-4)


def test_entropy_and_divergence_are_exact() -> None:
    r = rig("llama")
    adapter = r.add(rank=3)
    queries = [
        Query(rigs.text(9), 0, CHOICES),
        Query(rigs.text(9), 0, CHOICES[:1]),
        Query(rigs.text(5), 0, CHOICES[:3]),
    ]
    now = r.policy.action_log_probs(queries, [adapter] * 3)
    base = r.policy.reference_log_probs(queries, None)
    for i, query in enumerate(queries):
        with torch.no_grad():
            p = _plainly(_by_engine(r, adapter), query)
            q = _plainly(_by_engine(r, None), query)
        entropy, kl = float(-(p.exp() * p).sum()), float((p.exp() * (p - q)).sum())
        assert float(maths.entropy(now)[i]) == pytest.approx(entropy, abs=1e-4)
        assert float(maths.exact_kl(now, base)[i]) == pytest.approx(kl, abs=1e-4)
    (maths.entropy(now).sum() + maths.exact_kl(now, base).sum()).backward()
    assert torch.isfinite(adapter.grad).all() and float(adapter.grad.abs().max()) > 0


def test_a_single_action_is_certain_and_costs_nothing() -> None:
    r = rig("llama")
    query = Query(rigs.text(30), 0, ((10, 11, 12),))
    assert r.policy.action_log_probs([query], [None]).tolist() == [[0.0]]
    assert r.engine.counters.tokens == 0
    other = Query(rigs.text(30), 0, CHOICES)
    table = r.policy.action_log_probs([query, other, query], [None] * 3)
    assert table[0].tolist() == table[2].tolist() == [0.0] + [-math.inf] * 7
    assert float(table[1].exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_equal_queries_are_computed_once() -> None:
    r = rig("llama")
    adapter = r.add(rank=2)
    query, other = Query(rigs.text(30), 4, CHOICES), Query(rigs.text(31), 4, CHOICES)
    r.policy.action_log_probs([query, other], [adapter, adapter])
    once, r.engine.counters.tokens = r.engine.counters.tokens, 0
    table = r.policy.action_log_probs([query, other, query, query, other], [adapter] * 5)
    assert r.engine.counters.tokens == once
    for i, j in ((0, 2), (0, 3), (1, 4)):
        assert torch.equal(table[i], table[j])
    mixed = r.policy.action_log_probs([query, query], [adapter, None])
    assert not torch.equal(mixed[0], mixed[1])


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_divides_every_logit(temperature: float) -> None:
    r = rig("gemma2")
    hot = Policy(r.engine, END, temperature)
    query = Query(rigs.text(20), 0, CHOICES)

    def logits(tokens: Tokens) -> Tensor:
        return r.logits([tokens], [None])[0] / temperature

    with torch.no_grad():
        got = hot.action_log_probs([query], [None])[0]
        torch.testing.assert_close(got, _plainly(logits, query).float(), rtol=1e-4, atol=1e-4)


# ---- reference and critic features ---------------------------------------------------------------------------------


def test_what_the_reference_says_is_computed_once_per_run() -> None:
    r = rig("llama")
    frozen, learner = r.add("frozen", 1, rank=2), r.add("learner", 2, rank=2)
    queries = [Query(rigs.text(20, i), 5, CHOICES[i:]) for i in range(3)]
    prompts = [(q.prompt, q.prefix) for q in queries]
    for reference in (None, frozen):
        want = r.policy.action_log_probs(queries, [reference] * 3)
        with torch.no_grad():
            states = [s[-1] for s in r.states([q.prompt for q in queries], [reference] * 3)]
        for _ in range(2):
            got = r.policy.reference_log_probs(queries, reference)
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
            assert not got.requires_grad
            torch.testing.assert_close(r.policy.features(prompts, reference), torch.stack(states), rtol=1e-4, atol=1e-4)
            r.engine.counters.tokens = 0
        r.policy.reference_log_probs(queries[::-1] + queries, reference)
        r.policy.features(prompts * 3, reference)
        assert r.engine.counters.tokens == 0
    learner.restore(learner.flat + 1)
    r.policy.features(prompts, frozen)
    assert r.engine.counters.tokens == 0
    # a shorter table alone: no wider than its own actions
    assert r.policy.reference_log_probs(queries[2:], frozen).shape == (1, len(CHOICES) - 2)


def test_a_new_adapter_never_inherits_what_an_old_one_said() -> None:
    """Names and addresses of adapters come back; their cached answers must not."""
    r = rig("llama")
    query = Query(rigs.text(20), 0, CHOICES)
    seen = []
    for seed in range(4):
        r.add("reference", seed, rank=2)
        seen.append(tuple(r.policy.reference_log_probs([query], r.pack.adapters["reference"])[0].tolist()))
        r.pack.remove("reference")
    assert len(set(seen)) == 4


# ---- say -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "phi", "bloom"])
def test_log_probabilities_of_answers_are_those_of_transformers(model_type: str) -> None:
    r = rig(model_type)
    answers = [Answer(rigs.text(10 + 5 * i, i), 4 * i, rigs.text(3 + 2 * i, 9 + i)) for i in range(3)]
    with torch.no_grad():
        chosen, entropy = r.policy.token_log_probs(answers, [None] * 3)
        model = rigs.plain(model_type)
        for i, answer in enumerate(answers):
            n = len(answer.tokens)
            full = rigs.plain_logits(model, [answer.prompt + answer.tokens])[0][len(answer.prompt) - 1 : -1]
            log_probs = full.log_softmax(-1)
            want = log_probs[range(n), list(answer.tokens)]
            torch.testing.assert_close(chosen[i, :n], want, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(entropy[i, :n], -(log_probs.exp() * log_probs).sum(-1), rtol=1e-4, atol=1e-4)
            assert not chosen[i, n:].any() and not entropy[i, n:].any()


def test_logits_made_in_pieces_are_the_same_forwards_and_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    r = rig("llama")
    adapter = r.add(rank=2)
    answers = [Answer(rigs.text(10, i), 0, rigs.text(3 + i, 9 + i)) for i in range(4)]
    results = []
    for piece in (policies.PIECE, 321 * 5, 1):
        monkeypatch.setattr(policies, "PIECE", piece)
        chosen, entropy = r.policy.token_log_probs(answers, [adapter] * 4)
        (chosen.sum() + 0.3 * entropy.square().sum()).backward()
        results.append((chosen.detach(), entropy.detach(), adapter.grad.clone()))
        adapter.grad.zero_()
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            close(one, two)


def test_answers_of_different_adapters_share_a_batch() -> None:
    r = rig("llama")
    one, two = r.add("one", 1, rank=2), r.add("two", 2, rank=3)
    answers = [Answer(rigs.text(10, i), 5, rigs.text(4, 9 + i)) for i in range(3)]
    with torch.no_grad():
        together, _ = r.policy.token_log_probs(answers, [two, None, one])
        for i, owner in enumerate((two, None, one)):
            torch.testing.assert_close(together[i], r.policy.token_log_probs([answers[i]], [owner])[0][0])


def test_some_columns_of_the_head_are_those_of_all_of_it() -> None:
    for model_type in ("llama", "gemma2", "phi"):
        r = rig(model_type)
        hidden = torch.randn(5, r.base.hidden, generator=torch.Generator().manual_seed(0))
        some = torch.tensor([3, 320, 7])
        close(r.policy.logits(hidden, some), r.policy.logits(hidden)[:, some], 1e-6)


def test_rows_are_hashable_by_what_they_say() -> None:
    assert Row((1, 2)) == Row((1, 2)) and len({Row((1, 2)), Row((1, 2), 1), Row((1, 2), 0, (-1,))}) == 3
