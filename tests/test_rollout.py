"""The rollout: who is asked what and when, whose reward is whose, and what one broken game does to the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, islice

import pytest

from ludora.envs.build import make_env, num_players, task_spec
from ludora.errors import EnvBroken, InputError
from ludora.players.base import Player
from ludora.players.bots import FirstLegal, RandomPlayer, ScriptedPlayer
from ludora.rng import stream
from ludora.rollout import Finished, Game, collect, play
from ludora.types import End, Message, Move, Outcome, Result, Spec, Stop, Task, Trajectory, Turn


class Counter:
    """Two seats in turns, `length` moves in all. Each move pays its number to the other seat; -1 each at the end."""

    blocking = False
    open = 0  # how many are, over all tests

    def __init__(self, task: Task) -> None:
        self.task = task
        self.length = int(task.env.get("length", 4))
        self.num_seats = int(task.env.get("players", 2))
        self.made = 0
        self.paid = [0.0] * self.num_seats
        self.closed = False
        Counter.open += 1

    def turns(self) -> tuple[Turn, ...]:
        assert not self.closed
        if self.made >= self.length:
            return ()
        return (Turn(self.made % self.num_seats, (Message("user", str(self.made)),), ("a", "b")),)

    def apply(self, moves: Mapping[int, Move]) -> None:
        assert not self.closed and list(moves) == [turn.seat for turn in self.turns()]
        self.made += 1
        self.paid[(self.made) % self.num_seats] += self.made
        if self.made == self.length:
            self.paid = [paid - 1 for paid in self.paid]

    def rewards(self) -> tuple[float, ...]:
        paid, self.paid = tuple(self.paid), [0.0] * self.num_seats
        return paid

    def result(self) -> Result:
        assert not self.turns() and not self.closed
        return Result(End.TERMINATED, (Outcome.DREW,) * self.num_seats, (0.5,) * self.num_seats)

    def close(self) -> None:
        Counter.open -= not self.closed
        self.closed = True


class Together(Counter):
    """Both seats move at once; a pays both 1, b pays the other seat 1."""

    def turns(self) -> tuple[Turn, ...]:
        if self.made >= self.length:
            return ()
        seats = range(self.num_seats) if self.made != 1 else range(1)  # in its second round only seat 0 moves
        return tuple(Turn(seat, (Message("user", str(self.made)),), ("a", "b")) for seat in seats)

    def apply(self, moves: Mapping[int, Move]) -> None:
        assert list(moves) == [turn.seat for turn in self.turns()]
        self.made += 1
        for seat, move in moves.items():
            for other in range(self.num_seats):
                self.paid[other] += move.text == "a" or other != seat


class Fragile(Counter):
    """Breaks in the part of it that its task names, at its `at`-th call."""

    def __init__(self, task: Task) -> None:
        self.left = int(task.env.get("at", 1))
        self.part = str(task.env.get("part"))
        if self.part == "init":
            raise EnvBroken("init broke", "a hint")
        super().__init__(task)

    def _called(self, part: str) -> None:
        if part == self.part:
            self.left -= 1
            if self.left == 0:
                raise EnvBroken("" if part == "turns" else f"{part} broke", "a hint")

    def turns(self) -> tuple[Turn, ...]:
        self._called("turns")
        return super().turns()

    def apply(self, moves: Mapping[int, Move]) -> None:
        self._called("apply")
        self.part, part = "", self.part
        super().apply(moves)
        self.part = part

    def rewards(self) -> tuple[float, ...]:
        self._called("rewards")
        return super().rewards()

    def result(self) -> Result:
        self._called("result")
        self.part = ""
        return super().result()


class Slow(Counter):
    """Its moves block until `gate` opens; where there is none, for a moment."""

    blocking = True
    gate: threading.Event | None = None
    threads: set[int]

    def apply(self, moves: Mapping[int, Move]) -> None:
        Slow.threads.add(threading.get_ident())
        time.sleep(0.001 * (self.task.seed % 3))
        if self.gate and not self.gate.wait(20):
            raise AssertionError("nobody opened the gate")
        super().apply(moves)


class Chat(Counter):
    """Any text is an answer; nobody but the rollout ends it."""

    def turns(self) -> tuple[Turn, ...]:
        return tuple(replace(turn, legal=None) for turn in super().turns())


ENVS = {"chat": Chat, "counter": Counter, "together": Together, "fragile": Fragile, "slow": Slow}


def make(task: Task) -> Counter:
    return ENVS[task.env.name](task)


class Recorder(RandomPlayer):
    """A random player that remembers every batch it was asked."""

    def __init__(self) -> None:
        self.batches: list[list[Turn]] = []

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        self.batches.append(list(turns))
        return super().act(turns)


def game(seats: Sequence[Player], name: str = "counter", seed: int = 0, **params: object) -> Game:
    return Game(Task(Spec(name, params=tuple(sorted(params.items()))), seed), seats)


@pytest.fixture(autouse=True)
def everything_is_closed() -> Iterator[None]:
    Counter.open, Slow.gate, Slow.threads = 0, None, set()
    yield
    assert Counter.open == 0


def test_one_batch_per_player_and_tick() -> None:
    a, b = Recorder(), Recorder()
    played = collect([game((a, b), seed=i) for i in range(5)], make)
    assert [len(batch) for batch in a.batches] == [5, 5] and [len(batch) for batch in b.batches] == [5, 5]
    assert [{turn.messages[0].content for turn in batch} for batch in a.batches] == [{"0"}, {"2"}]
    assert [turn.game for turn in a.batches[0]] == [0, 1, 2, 3, 4]
    assert [f.number for f in played] == [0, 1, 2, 3, 4]


def test_self_play_is_one_batch_for_all_seats() -> None:
    me = Recorder()
    collect([game((me, me), "together", length=3), game((me, me))], make)
    assert [[(turn.game, turn.seat) for turn in batch] for batch in me.batches] == [
        [(0, 0), (0, 1), (1, 0)],
        [(0, 0), (1, 1)],
        [(0, 0), (0, 1), (1, 0)],
        [(1, 1)],
    ]


def test_turns_get_their_identity() -> None:
    me = Recorder()
    [played] = collect([game((me, me), "together", seed=7, length=3)], make)
    assert [step.turn.number for step in played.trajectories[0].steps] == [0, 1, 2]
    assert [step.turn.number for step in played.trajectories[1].steps] == [0, 1]  # it had no turn in round two
    for trajectory in played.trajectories:
        for step in trajectory.steps:
            assert step.turn.seed == stream("turn", 7, trajectory.seat, step.turn.number)


def test_reward_belongs_to_the_move_before_it() -> None:
    [played] = collect([game((FirstLegal(), FirstLegal()), length=5)], make)
    first, second = played.trajectories
    # moves 1, 3, 5 are seat 0's and pay seat 1 their number; 2, 4 are seat 1's; at the end both pay 1
    assert [step.reward for step in first.steps] == [2, 4, -1]
    assert second.unclaimed == 1 and [step.reward for step in second.steps] == [3, 5 - 1]
    assert (first.total, second.total) == (5, 8)


def test_a_seat_that_never_moved_keeps_its_reward() -> None:
    [played] = collect([game((FirstLegal(),) * 3, length=2, players=3)], make)
    assert [len(t.steps) for t in played.trajectories] == [1, 1, 0]
    assert [t.unclaimed for t in played.trajectories] == [0, 1, 2 - 1]
    assert [t.total for t in played.trajectories] == [-1, 0, 1]


def test_simultaneous_rewards() -> None:
    a, b = ScriptedPlayer(["a", "a", "b"]), ScriptedPlayer(["b", "a"])
    [played] = collect([game((a, b), "together", length=3)], make)
    assert [step.reward for step in played.trajectories[0].steps] == [2, 1, 1]
    # round one pays seat 1 once, for a; the round it sat out pays it one more, which goes to its first move
    assert [step.reward for step in played.trajectories[1].steps] == [1 + 1, 2]


@pytest.mark.parametrize(("limit", "moves"), [(0, (0, 0)), (1, (1, 1)), (2, (2, 2)), (3, (3, 2))])
def test_truncation(limit: int, moves: tuple[int, int]) -> None:
    [played] = collect([game((FirstLegal(), FirstLegal()), length=5)], make, max_turns=limit)
    ended = limit == 3  # seat 0 has made its three moves when the game ends of itself
    assert tuple(len(t.steps) for t in played.trajectories) == moves
    for t in played.trajectories:
        assert t.end is (End.TERMINATED if ended else End.TRUNCATED)
        assert t.outcome is (Outcome.DREW if ended else Outcome.TRUNCATED) and t.score == 0.5


@pytest.mark.parametrize(
    ("text", "score", "facts"),
    [
        ("snake(size=4)", 0.0, {"apples", "length", "steps", "reversals", "end_reason"}),
        ("2048", 0.0, set()),
        ("leduc_poker", 0.5, set()),
    ],
)
def test_a_game_that_is_cut_off_says_how_it_stands(text: str, score: float, facts: set[str]) -> None:
    spec = task_spec(text)
    players = [FirstLegal() for _ in range(num_players(spec))]
    [played] = collect([Game(Task(spec, 1), players)], make_env, max_turns=1)
    for t in played.trajectories:
        assert (t.end, t.outcome) == (End.TRUNCATED, Outcome.TRUNCATED)
        assert t.score == pytest.approx(score, abs=0.01) and set(t.info) == facts


class Talker(RandomPlayer):
    """Says the same whatever it is asked; has outgrown its context at some turn."""

    def __init__(self, outgrown: int = -1) -> None:
        self.outgrown = outgrown

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        return [Move("", stop=Stop.CONTEXT) if turn.number == self.outgrown else Move("a") for turn in turns]


def test_a_conversation_that_outgrows_the_context_ends_its_own_game_only() -> None:
    games = [game((FirstLegal(), FirstLegal()), length=6), game((Talker(1), FirstLegal()), length=6)]
    whole, cut = collect(games, make)
    assert all(t.end is End.TERMINATED for t in whole.trajectories)
    assert [len(t.steps) for t in cut.trajectories] == [1, 1] and not cut.error
    assert all(t.end is End.TRUNCATED and t.score == 0.5 for t in cut.trajectories)


def test_where_any_text_is_an_answer_the_environment_hears_of_it() -> None:
    """It may judge, as a shell does; what goes on regardless is cut off. What was not said is no step to learn from."""
    [cut] = collect([game((Talker(1), Talker(1)), "chat", length=6)], make)
    assert [len(t.steps) for t in cut.trajectories] == [1, 1]
    assert [t.steps[0].reward for t in cut.trajectories] == [2.0, 3.0] and cut.trajectories[0].end is End.TRUNCATED
    [judged] = collect([game((Talker(1), Talker()), "chat", length=3)], make)
    assert judged.trajectories[0].end is End.TERMINATED and len(judged.trajectories[0].steps) == 1


@pytest.mark.parametrize(
    ("part", "at"),
    [("init", 1), ("turns", 1), ("turns", 2), ("apply", 2), ("rewards", 1), ("rewards", 3), ("result", 1)],
)
def test_a_broken_environment_ends_its_own_game_only(part: str, at: int) -> None:
    seats = (RandomPlayer(), RandomPlayer())
    games = [game(seats, seed=1), game(seats, "fragile", part=part, at=at), game(seats, seed=2)]
    sound, broken, other = collect(games, make)
    assert broken.trajectories == () and broken.game is games[1]
    assert broken.error == ("the environment broke" if part == "turns" else f"{part} broke")
    assert not sound.error and not other.error
    alone = collect([games[0], games[2]], make)
    assert [plain(f) for f in (sound, other)] == [plain(f) for f in alone]


def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(InputError, match="needs another"):
        collect([game((ScriptedPlayer(["a"]), FirstLegal())), game((FirstLegal(), FirstLegal()))], make)
    with pytest.raises(ValueError, match="2 seats, not 1"):
        collect([game((FirstLegal(),))], make)


def test_a_player_that_skips_a_turn_is_found_out() -> None:
    class Lazy(RandomPlayer):
        def act(self, turns: Sequence[Turn]) -> list[Move]:
            return super().act(turns)[1:]

    with pytest.raises(ValueError, match="zip"):
        collect([game((Lazy(), Lazy()))], make)


def test_other_games_go_on_while_some_block() -> None:
    Slow.gate = threading.Event()
    seats = (RandomPlayer(), RandomPlayer())
    games = [
        game(seats, "slow", seed=0),
        *(game(seats, seed=i, length=6) for i in range(1, 4)),
        game(seats, "slow", seed=2),
    ]
    ended = []
    for finished in play(games, make):
        ended.append(finished.number)
        if len(ended) == 3:
            Slow.gate.set()
    assert ended[:3] == [1, 2, 3] and sorted(ended[3:]) == [0, 4]
    assert threading.get_ident() not in Slow.threads


def test_blocking_games_come_out_the_same() -> None:
    seats = (RandomPlayer(), RandomPlayer())
    slow = collect([game(seats, "slow", seed=i) for i in range(30)], make)
    fast = collect([game(seats, "counter", seed=i) for i in range(30)], make)
    assert [[s.move.text for t in f.trajectories for s in t.steps] for f in slow] == [
        [s.move.text for t in f.trajectories for s in t.steps] for f in fast
    ]
    assert 1 < len(Slow.threads) <= 8


def test_an_error_waits_for_no_queued_work() -> None:
    Slow.gate = threading.Event()

    class Impatient(RandomPlayer):
        def act(self, turns: Sequence[Turn]) -> list[Move]:
            if turns[0].messages[0].content == "1":
                threading.Timer(0.05, Slow.gate.set).start()
                raise InputError("enough", "stop")
            return super().act(turns)

    seats, last = (RandomPlayer(), RandomPlayer()), (RandomPlayer(), Impatient())
    games = [*(game(seats, "slow", seed=i) for i in range(40)), game(last)]
    with pytest.raises(InputError, match="enough"):
        collect(games, make)
    assert len(Slow.threads) <= 8  # and every environment was closed, none of them under a thread at work


def test_an_abandoned_rollout_closes_its_games() -> None:
    endless = (game((RandomPlayer(), RandomPlayer()), seed=i, length=2 + i % 5) for i in count())
    ended = list(islice(play(endless, make, slots=8), 20))
    assert len(ended) == 20 and len({f.number for f in ended}) == 20


def test_places_that_fall_free_are_filled_at_once() -> None:
    me = Recorder()
    collect([game((me, me), seed=i, length=1 + i % 4) for i in range(40)], make, slots=8)
    assert {len(batch) for batch in me.batches[:-4]} == {8}


def plain(finished: Finished) -> list[tuple[object, ...]]:
    """What happened, without engine handles and the game's number."""

    def steps(t: Trajectory) -> list[tuple[object, ...]]:
        return [(replace(s.turn, state=None, game=0), s.move, s.reward) for s in t.steps]

    return [(t.task, t.seat, t.outcome, t.score, t.end, t.unclaimed, *steps(t)) for t in finished.trajectories]


@pytest.mark.parametrize("text", ["leduc_poker", "goofspiel(num_cards=4)", "tic_tac_toe", "liars_dice"])
def test_the_composition_of_a_batch_changes_no_game(text: str) -> None:
    spec = task_spec(text)
    games = [Game(Task(spec, seed), (RandomPlayer(), RandomPlayer())) for seed in range(24)]
    together = collect(games, make_env, slots=64)
    assert len({str(plain(f)) for f in together}) > 20
    for other in (collect(games, make_env, slots=1), collect(games, make_env, slots=5)):
        assert [plain(f) for f in other] == [plain(f) for f in together]
    reverse = collect(games[::-1], make_env)
    assert [plain(f) for f in reverse[::-1]] == [plain(f) for f in together]


def test_collect_keeps_the_order_given() -> None:
    seats = (RandomPlayer(), RandomPlayer())
    short, long = game(seats, length=2), game(seats, length=9)
    given = [long, short, long, game(seats, "fragile", part="init"), short]
    assert [f.game for f in collect(given, make, slots=2)] == given
    assert [f.game for f in collect((g for g in given), make)] == given


def test_trajectories_name_their_task_seat_and_player() -> None:
    [played] = collect([Game(Task(task_spec("kuhn_poker"), 3), (RandomPlayer(), FirstLegal()))], make_env)
    assert [(t.seat, t.player, t.task) for t in played.trajectories] == [
        (0, "random", played.game.task),
        (1, "first", played.game.task),
    ]
    assert sum(t.total for t in played.trajectories) == 0


def test_no_games() -> None:
    assert collect([], make) == []


def test_few_blocking_games_are_in_flight_at_once() -> None:
    """Each may hold a machine of its own, so not all of a thousand are started."""
    most = 0

    def watched(task: Task) -> Counter:
        nonlocal most
        env = make(task)
        most = max(most, Counter.open)
        return env

    player = RandomPlayer()
    slow = [game([player, player], "slow", seed) for seed in range(20)]
    assert len(list(play(slow, watched, machines=5))) == 20
    assert most == 5


def test_what_breaks_once_is_played_anew_in_its_place() -> None:
    """The same task, seats and streams: only the environment is another."""
    tries: dict[int, int] = {}

    def flaky(task: Task) -> Counter:
        tries[task.seed] = tries.get(task.seed, 0) + 1
        if task.seed == 1 and tries[1] == 1:
            return Fragile(Task(Spec("fragile", params=(("at", 2), ("part", "apply"))), 1))
        return Counter(task)

    player = RandomPlayer()
    whole = collect([game([player, player], seed=seed) for seed in range(3)], Counter)
    found = collect([game([player, player], seed=seed) for seed in range(3)], flaky)
    assert [f.retried for f in found] == [False, True, False] and tries == {0: 1, 1: 2, 2: 1}
    assert [[s.move for t in f.trajectories for s in t.steps] for f in found] == [
        [s.move for t in f.trajectories for s in t.steps] for f in whole
    ]
