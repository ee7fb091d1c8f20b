"""From trajectories to decisions: advantages, targets and baselines, by hand and against a slow reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ludora.learn.credit import Baselines, Decision, assign
from ludora.learn.credit import normalise as to_unit_spread
from ludora.models.policy import Answer, Query
from ludora.types import End, Message, Move, Outcome, Spec, Step, Stop, Task, Trajectory, Turn

KUHN, HEX = Spec("kuhn_poker"), Spec("hex", params=(("board_size", 3),))


def query(number: int) -> Query:
    return Query((number,), 0, ((1,), (2,)))


def trajectory(
    rewards: Sequence[float], prompts: Sequence[int], *, seat: int = 0, env: Spec = KUHN, end: End = End.TERMINATED,
    unclaimed: float = 0.0,
) -> Trajectory:  # fmt: skip
    """A seat's game; its n-th turn reads prompt `prompts[n]` and takes action n % 2."""
    steps = tuple(
        Step(Turn(seat, (Message("user", str(p)),)), Move("x", logprobs=(-0.5 - n,), index=n % 2), r)
        for n, (r, p) in enumerate(zip(rewards, prompts, strict=True))
    )
    return Trajectory(Task(env, 1, seat), seat, "self", steps, Outcome.DREW, 0.5, end, unclaimed)


class Values:
    """A critic that says a tenth of the prompt's number, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, keys: Sequence[Query | Answer], games: Sequence[str]) -> list[float]:
        assert len(games) == len(keys)
        self.asked.append([key.prompt[0] for key in keys])
        return [key.prompt[0] / 10 for key in keys]


def credit(
    trajectories: Sequence[Trajectory], *, gamma: float = 1.0, lam: float = 1.0, baselines: Baselines | None = None,
    normalise: bool = False, penalty: float = 0.0,
) -> list[Decision]:  # fmt: skip
    found = assign(
        trajectories,
        lambda turn, move: query(int(turn.messages[0].content)),
        Values(),
        gamma=gamma,
        lam=lam,
        baselines=baselines,
        penalty=penalty,
    )
    if normalise:
        to_unit_spread(found)
    return found


def test_one_decision_per_turn_by_hand() -> None:
    # V = .4, .2; delta_1 = 1 - .2 = .8, delta_0 = 0 + .5*.2 - .4 = -.3; A_0 = -.3 + .5*.5*.8 = -.1; target = A + V
    first, second = credit([trajectory([0, 1], [4, 2], seat=1)], gamma=0.5, lam=0.5)
    assert (first.key, second.key) == (query(4), query(2))
    assert (first.index, second.index) == (0, 1) and (first.old, second.old) == ((-0.5,), (-1.5,))
    assert (first.value, second.value) == (0.4, 0.2)
    assert (first.advantage, second.advantage) == pytest.approx((-0.1, 0.8))
    assert (first.target, second.target) == pytest.approx((0.3, 1.0))
    assert first.group == second.group == ("kuhn_poker", 1)


def test_a_truncated_game_is_bootstrapped_with_its_last_value() -> None:
    [ended] = credit([trajectory([1], [4])], gamma=0.5)
    [cut] = credit([trajectory([1], [4], end=End.TRUNCATED)], gamma=0.5)
    assert ended.advantage == pytest.approx(1 - 0.4)
    assert cut.advantage == pytest.approx(1 + 0.5 * 0.4 - 0.4) and cut.target == pytest.approx(1.2)


def test_a_seat_that_never_moved_decides_nothing() -> None:
    idle = trajectory([], [], unclaimed=5.0)
    assert credit([idle]) == [] and credit([]) == []
    assert len(credit([idle, trajectory([1], [2]), idle], normalise=True)) == 1
    baselines = Baselines(0.5)
    credit([idle], baselines=baselines)
    assert baselines.means == {}  # what it was paid says nothing about what moves are worth


def test_values_are_asked_for_once_in_order() -> None:
    values = Values()
    assign(
        [trajectory([0, 0], [4, 2]), trajectory([1], [4])],
        lambda turn, move: query(int(turn.messages[0].content)),
        values,
        gamma=1.0,
        lam=1.0,
        baselines=None,
    )
    assert values.asked == [[4, 2, 4]]


def test_baseline_is_read_before_it_is_updated() -> None:
    baselines = Baselines(0.75)
    assert [baselines.observe(("g", 0), x) for x in (4.0, 8.0, 0.0)] == [0.0, 4.0, 5.0]  # 4; 3/4*4 + 2 = 5; 3.75
    assert baselines.means == {("g", 0): 3.75}
    assert baselines.observe(("g", 1), 1.0) == 0.0  # another seat is another game


def test_baseline_advantages_by_hand() -> None:
    baselines = Baselines(0.5, {("kuhn_poker", 0): 2.0})
    games = [trajectory([0, 4], [1, 2]), trajectory([1, 0], [1, 2], unclaimed=100.0), trajectory([-1], [1], seat=1)]
    found = credit(games, gamma=0.5, lam=0.1, baselines=baselines)
    # returns to go 2, 4 less 2; then the mean is 2; 1, 0 less 2; seat 1 starts from nothing
    assert [d.advantage for d in found] == pytest.approx([0, 2, -1, -2, -1])
    assert baselines.means == {("kuhn_poker", 0): 1.5, ("kuhn_poker", 1): -1.0}


def test_the_baseline_of_a_game_does_not_know_its_outcome() -> None:
    """Otherwise it would cancel a part of the very advantage it is for."""
    first = credit([trajectory([9], [1])], baselines=Baselines(0.5, {("kuhn_poker", 0): 1.0}))
    second = credit([trajectory([-9], [1])], baselines=Baselines(0.5, {("kuhn_poker", 0): 1.0}))
    assert (first[0].advantage, second[0].advantage) == (8, -10)


def test_normalised_per_game_and_seat() -> None:
    games = [trajectory([r], [0], seat=seat, env=env) for env, seat, r in (
        (KUHN, 0, 1), (KUHN, 0, 3), (KUHN, 1, 100), (KUHN, 1, 300), (HEX, 0, -1), (HEX, 0, -1), (KUHN, 1, 200),
    )]  # fmt: skip
    spread = (20000 / 3) ** 0.5
    assert [d.advantage for d in credit(games, normalise=True)] == pytest.approx(
        [-1, 1, -100 / spread, 100 / spread, 0, 0, 0]
    )
    assert [d.target for d in credit(games, normalise=True)] == [1, 3, 100, 300, -1, -1, 200]  # the critic's are raw


TURN = st.tuples(st.floats(-5, 5), st.integers(0, 9))
GAMES = st.lists(
    st.builds(
        lambda turns, seat, env, end: trajectory(
            [r for r, _ in turns], [p for _, p in turns], seat=seat, env=env, end=end
        ),
        st.lists(TURN, max_size=4),
        st.integers(0, 1),
        st.sampled_from([KUHN, HEX]),
        st.sampled_from(End),
    ),
    max_size=6,
)


@given(GAMES, st.floats(0, 1), st.floats(0, 1))
def test_against_a_slow_reference(games: list[Trajectory], gamma: float, lam: float) -> None:
    """Sums of discounted TD errors, turn by turn, straight from the definition."""
    found = iter(credit(games, gamma=gamma, lam=lam))
    for t in games:
        values = [int(step.turn.messages[0].content) / 10 for step in t.steps]
        after = [*values[1:], values[-1] if t.end is End.TRUNCATED else 0.0] if values else []
        errors = [s.reward + gamma * f - v for s, v, f in zip(t.steps, values, after, strict=True)]
        for i, value in enumerate(values):
            decision = next(found)
            expected = sum((gamma * lam) ** (k - i) * errors[k] for k in range(i, len(errors)))
            assert decision.advantage == pytest.approx(expected, abs=1e-9)
            assert decision.target == pytest.approx(expected + value, abs=1e-9)
            assert decision.group == (str(t.task.env), t.seat)
    assert next(found, None) is None


@given(GAMES)
def test_a_right_critic_and_centred_games_leave_no_advantage(games: list[Trajectory]) -> None:
    """All wins, all predicted: nothing to learn, whatever the size of the win."""
    certain = [trajectory([0.0] * (len(t.steps) - 1) + [0.5], [5] * len(t.steps)) for t in games if t.steps]
    assert all(abs(d.advantage) < 1e-12 for d in credit(certain, normalise=True))


def test_an_answer_that_could_not_be_read_is_a_decision_and_pays_the_penalty_itself() -> None:
    wrong = Move("?", logprobs=(-9.0,), attempts=1, stop=Stop.INVALID)
    right = Move("x", logprobs=(-1.0,), attempts=2, stop=Stop.END, rejected=(wrong,))
    given = trajectory([1.0, -1.0], [1, 2])
    t = replace(given, steps=tuple(replace(s, move=m) for s, m in zip(given.steps, (right, wrong), strict=True)))
    found = credit([t], penalty=0.25, baselines=Baselines(0.5, {("kuhn_poker", 0): 0.0}))
    assert [d.old for d in found] == [(-9.0,), (-1.0,), (-9.0,)]
    # returns to go: -1.25 for the last, which the forfeit costs 1; 1 more before it; and the first answer's own fine
    assert [d.advantage for d in found] == [-0.5, -0.25, -1.25]
    values = credit([t], penalty=0.25, lam=0.0)
    assert [d.target for d in values] == pytest.approx([-0.25 + 0.1, 1.0 + 0.2, -1.25])
