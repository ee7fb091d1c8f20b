"""The trie of legal actions against a slow recursion over the very token paths."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ludora.errors import InputError
from ludora.models.trie import ChoicePlan, Tokens, plan_choices

END = 99
PATHS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), min_size=1, max_size=14, unique=True)


def energy(before: Tokens, token: int) -> float:
    """A stand-in for a language model: any number for a token after others."""
    return 3 * math.sin(1.0 + 7.3 * token + sum((i + 2.1) * (t + 1) for i, t in enumerate(before)))


def probabilities(plan: ChoicePlan, score: Callable[[Tokens, int], float]) -> list[float]:
    """As a model would compute it: a state per inner token, a softmax per branching node."""
    before: list[Tokens] = []
    for token, parent in zip(plan.tokens, plan.parents, strict=True):
        before.append((before[parent] if parent >= 0 else ()) + (token,))
    nodes = []
    for at, children in zip(plan.reads, plan.children, strict=True):
        weights = [math.exp(score(before[at] if at >= 0 else (), child)) for child in children]
        nodes.append([w / sum(weights) for w in weights])
    return [math.prod(nodes[node][child] for node, child in path) for path in plan.paths]


def brute(choices: tuple[Tokens, ...], score: Callable[[Tokens, int], float]) -> list[float]:
    """Softmax over all allowed next tokens at every step of every action, single ones included."""
    out = []
    for choice in choices:
        p = 1.0
        for depth in range(len(choice) + 1):
            before = choice[:depth]
            alive = [c for c in choices if c[:depth] == before]
            allowed = {c[depth] if depth < len(c) else END for c in alive}
            token = choice[depth] if depth < len(choice) else END
            total = sum(math.exp(score(before, t)) for t in allowed)
            p *= math.exp(score(before, token)) / total
        out.append(p)
    return out


@given(PATHS)
def test_the_plan_is_the_brute_force_distribution(paths: list[Tokens]) -> None:
    choices = tuple(paths)
    found = probabilities(plan_choices(choices, END), energy)
    assert math.fsum(found) == pytest.approx(1.0, abs=1e-12)
    assert found == pytest.approx(brute(choices, energy), rel=1e-9)


@given(PATHS)
def test_the_plan_feeds_nothing_in_vain(paths: list[Tokens]) -> None:
    plan = plan_choices(tuple(paths), END)
    assert all(parent < i for i, parent in enumerate(plan.parents))  # parents come first
    assert len(plan.reads) == len(plan.children) == len(set(plan.reads))
    assert all(len(set(children)) == len(children) >= 2 for children in plan.children)
    # a token is fed only if a decision is taken after it: every leaf of the fed tree is read
    leaves = set(range(len(plan.tokens))) - set(plan.parents)
    assert leaves <= set(plan.reads)
    shared = {path[:n] for path in paths for n in range(1, len(path) + 1) if sum(p[:n] == path[:n] for p in paths) > 1}
    assert len(plan.tokens) == len(shared)


@given(PATHS, st.randoms(use_true_random=False))
def test_the_order_of_the_actions_does_not_matter(paths: list[Tokens], random: Random) -> None:
    turned = paths[:]
    random.shuffle(turned)
    one = dict(zip(paths, probabilities(plan_choices(tuple(paths), END), energy), strict=True))
    other = dict(zip(turned, probabilities(plan_choices(tuple(turned), END), energy), strict=True))
    assert other == pytest.approx(one, rel=1e-12)


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.integers(200, 600))
def test_hundreds_of_actions(seed: int, count: int) -> None:
    random = Random(seed)
    paths = {tuple(random.randrange(6) for _ in range(random.randint(1, 6))) for _ in range(count)}
    found = probabilities(plan_choices(tuple(paths), END), energy)
    assert math.fsum(found) == pytest.approx(1.0, abs=1e-9) and min(found) > 0


def test_one_token_labels_cost_no_token_and_a_single_action_costs_nothing() -> None:
    plan = plan_choices(((5,), (6,), (7,)), END)
    assert (plan.tokens, plan.reads, plan.children) == ((), (-1,), ((5, 6, 7),))
    assert plan.paths == (((0, 0),), ((0, 1),), ((0, 2),))
    alone = plan_choices(((5, 6, 7),), END)
    assert (alone.tokens, alone.reads, alone.paths) == ((), (), ((),))


def test_an_action_that_begins_another_has_an_end_child() -> None:
    plan = plan_choices(((1,), (1, 0), (2,)), END)  # "Bid: 1", "Bid: 10", "Bid: 2"
    assert plan.tokens == (1,) and plan.parents == (-1,)
    assert plan.children == ((1, 2), (END, 0))
    assert plan.paths == (((0, 0), (1, 0)), ((0, 0), (1, 1)), ((0, 1),))


def test_what_cannot_be_told_apart_is_refused() -> None:
    for choices in ((), ((1,), ()), ((1, 2), (1, 2)), ((1,), (1, END)), ((END,), (2,))):
        with pytest.raises(InputError) as caught:
            plan_choices(choices, END)
        assert "labels=letters" in caught.value.hint
