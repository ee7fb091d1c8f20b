"""Streams: the same everywhere, different for different parts, and nothing of the process-wide generators."""

from __future__ import annotations

import random
import subprocess
import sys
from hashlib import blake2b
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ludora.rng import generator, stream, uniform

PART = st.integers() | st.text(alphabet="ab\x1f:int", max_size=6)


def test_a_stream_is_the_same_on_every_machine() -> None:
    by_hand = blake2b(b"str:turn\x1fint:7\x1fint:0", digest_size=8).digest()
    assert stream("turn", 7, 0) == int.from_bytes(by_hand, "little")
    # recorded once; a change here would change every run and every golden game
    assert stream("turn", 1, 2, 3) == 13811519906016976589
    assert uniform(stream("turn", 1, 2, 3)) == 0.42429933862361124
    assert generator("minibatches", 0, 0).random() == random.Random(stream("minibatches", 0, 0)).random()


def test_another_process_with_another_hash_seed_draws_the_same() -> None:
    code = "from ludora.rng import stream; print(stream('a', 1, 'b'))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert said == {f"{stream('a', 1, 'b')}\n"}


@given(st.lists(PART, max_size=4), st.lists(PART, max_size=4))
def test_different_parts_are_different_streams(a: list[int | str], b: list[int | str]) -> None:
    same = [type(x) for x in a] == [type(x) for x in b] and a == b
    assert (stream(*a) == stream(*b)) == same


def test_a_separator_within_a_part_is_no_other_list_of_parts() -> None:
    assert stream("a\x1fstr:b") != stream("a", "b")
    assert stream("a\x1f", "b") != stream("a", "\x1fb")
    assert stream("1") != stream(1)


@given(st.integers(0, 2**64 - 1), st.integers(0, 10_000))
def test_draws_lie_in_the_unit_interval(seed: int, position: int) -> None:
    assert 0.0 <= uniform(seed, position) < 1.0
    assert uniform(seed, position) == uniform(seed, position)


def test_draws_are_uniform_and_do_not_follow_one_another() -> None:
    n = 20_000
    draws = [uniform(5, i) for i in range(n)]
    counts = [0] * 10
    for x in draws:
        counts[int(10 * x)] += 1
    chi2 = sum((c - n / 10) ** 2 / (n / 10) for c in counts)
    assert chi2 < 27.9  # 99.9 % of uniform samples, nine degrees of freedom
    mean = sum(draws) / n
    lag = sum((a - mean) * (b - mean) for a, b in pairwise(draws)) / n * 12
    assert abs(lag) < 4 / n**0.5
    neighbours = [uniform(stream("turn", i, 0, 0)) for i in range(n)]  # first draws of consecutive seeds
    assert abs(sum(neighbours) / n - 0.5) < 4 * (1 / 12 / n) ** 0.5


def test_the_process_wide_generator_is_left_alone() -> None:
    before = random.getstate()
    stream("a"), uniform(1, 2), generator("b").random()
    assert random.getstate() == before
