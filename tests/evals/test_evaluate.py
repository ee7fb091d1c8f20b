"""Evaluation with real players on Kuhn and Leduc poker, and its record."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from ludora.envs.build import make_env, task_spec
from ludora.envs.openspiel import OpenSpielEnv
from ludora.errors import EnvBroken, InputError
from ludora.evals import evaluate as module
from ludora.evals import meter
from ludora.evals.evaluate import deals, evaluate, evaluate_players, evaluate_tasks, exact_rows
from ludora.evals.record import BEST, Cost, Evaluation, Row
from ludora.evals.tables import NONE, by_task, judged_by, measures, percent, show, signed, verdicts
from ludora.grammar import parse
from ludora.players.base import Player
from ludora.players.bots import FirstLegal, RandomPlayer, ScriptedPlayer
from ludora.players.snake import build as build_snake
from ludora.rollout import Game, collect
from ludora.types import Move, Spec, Stop, Turn

KUHN, LEDUC = Spec("kuhn_poker"), Spec("leduc_poker")


def always(word: str, name: str) -> ScriptedPlayer:
    """Takes `word` where it is legal, else the last action."""
    return ScriptedPlayer(lambda t: word if t.legal and word in t.legal else (t.legal or ("",))[-1], name)


def test_every_seat_gets_the_same_deals_and_equally_many() -> None:
    tasks = deals(KUHN, 5, seed=7)
    assert [t.seat for t in tasks] == [0, 1, 0, 1, 0, 1]  # rounded up to whole deals
    assert [t.seed for t in tasks[::2]] == [t.seed for t in tasks[1::2]]
    assert len({t.seed for t in tasks}) == 3
    assert tasks == deals(KUHN, 6, seed=7) and tasks != deals(KUHN, 6, seed=8)


def test_counts_add_up_and_seats_are_told_apart() -> None:
    row = evaluate_players([FirstLegal()], LEDUC, RandomPlayer(), games=40).rows[0]
    assert row.games == row.wins + row.draws + row.losses + row.forfeits + row.truncated == 40
    assert row.win_rate == row.wins / 40
    assert [s.games for s in row.by_seat] == [20, 20]
    assert row.mean_return == pytest.approx(sum(s.mean_return or 0.0 for s in row.by_seat) / 2)
    assert row.win_rate_low is not None and row.win_rate_low < row.win_rate
    assert row.mean_return_low is not None and row.mean_return_low < (row.mean_return or 0.0)
    assert (row.invalid_rate, row.answers) == (0.0, row.moves)


def test_sampled_returns_agree_with_a_value_worked_out_by_hand() -> None:
    # Kuhn, always betting and calling against always checking and folding: the bet takes the ante every time.
    evaluation = evaluate_players([always("Bet", "bold")], KUHN, always("Check", "shy"), games=20)
    row = evaluation.rows[0]
    # "shy" takes the last action where it cannot check: it calls. Then the higher card takes 2 or loses 2.
    assert row.mean_return == 0.0  # both seats of each deal swap the cards, so the deals cancel out exactly
    assert (row.mean_return_low, row.mean_return_high) == (0.0, 0.0)
    assert (row.wins, row.losses) == (10, 10)


def test_a_contender_meets_itself_as_an_even_match() -> None:
    same = RandomPlayer()
    evaluation = evaluate_players([same], KUHN, same, games=200)
    assert abs(evaluation.rows[0].mean_return or 0.0) < 0.5


def test_same_seed_same_record_and_paired_verdict() -> None:
    players: list[Player] = [always("Raise", "bold"), FirstLegal()]
    one = evaluate_players(players, LEDUC, RandomPlayer(), games=60, seed=3)
    assert one == evaluate_players(players, LEDUC, RandomPlayer(), games=60, seed=3)
    assert one != evaluate_players(players, LEDUC, RandomPlayer(), games=60, seed=4)
    [verdict] = one.comparisons
    assert (verdict.player, verdict.baseline, verdict.of) == ("bold", "first", "return")
    means = [row.mean_return or 0.0 for row in one.rows]
    assert verdict.difference == pytest.approx(means[0] - means[1])
    assert "bold is better than first" in verdict.sentence


def test_forfeits_are_counted_apart_from_losses() -> None:
    class Babbler:
        name = "babbler"

        def act(self, turns: Sequence[Turn]) -> list[Move]:
            return [Move("blah", stop=Stop.INVALID, attempts=3) for _ in turns]

    row = evaluate_players([Babbler()], KUHN, RandomPlayer(), games=10).rows[0]
    assert (row.forfeits, row.losses, row.wins) == (10, 0, 0)
    assert (row.invalid_rate, row.answers) == (1.0, 3 * row.moves)
    lines = {line.label: line.cells for line in measures(replace_rows(row))}
    assert lines["forfeits, games"] == ("10",)
    assert lines["unreadable answers"] == ("100.0 %",)


def replace_rows(*rows: Row) -> Evaluation:
    return Evaluation("kuhn_poker", "random", 10, 0, "chips per hand", rows)


class Fragile(OpenSpielEnv):
    """Breaks in every second deal, or in all of them."""

    all_of_them = False

    def apply(self, moves: Mapping[int, Move]) -> None:
        if self.all_of_them or self.task.seed % 2:
            raise EnvBroken("the table collapsed")
        super().apply(moves)


def test_broken_games_count_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "make_env", Fragile)
    evaluation = evaluate_players([FirstLegal(), always("Raise", "bold")], KUHN, RandomPlayer(), games=40)
    broken = sum(t.seed % 2 for t in deals(KUHN, 40, 0))
    assert [row.broken for row in evaluation.rows] == [broken, broken]
    assert [row.games for row in evaluation.rows] == [40 - broken, 40 - broken]
    assert [verdict.games for verdict in evaluation.comparisons] == [40 - broken]
    assert any("broke" in sentence for sentence in verdicts(evaluation))
    monkeypatch.setattr(Fragile, "all_of_them", True)
    with pytest.raises(EnvBroken, match="the table collapsed"):
        evaluate_players([FirstLegal()], KUHN, RandomPlayer(), games=4)


def test_exact_values_of_random_play() -> None:
    rows = exact_rows([RandomPlayer()], KUHN, RandomPlayer())
    assert [row.player for row in rows] == ["random", BEST]
    # Uniform Kuhn: 1/8 chip for the seat that acts first; NashConv 11/12; the best response wins half of that.
    assert [s.expected_value for s in rows[0].by_seat] == pytest.approx([0.125, -0.125])
    assert rows[0].expected_value == pytest.approx(0.0)
    assert rows[0].nash_conv == pytest.approx(11 / 12)
    assert rows[0].exploitability == pytest.approx(11 / 24)
    assert rows[1].expected_value == pytest.approx(11 / 24)
    assert rows[0].win_probability == pytest.approx(0.5)  # no draws, and both play alike


def test_exact_and_games_share_one_row() -> None:
    evaluation = evaluate_players([FirstLegal(), always("Raise", "bold")], LEDUC, RandomPlayer(), games=20, exact=True)
    first, bold, best = evaluation.rows
    assert (first.player, bold.player, best.player) == ("first", "bold", BEST)
    assert first.games == 20 and first.expected_value is not None and first.nash_conv is not None
    assert [s.expected_value for s in best.by_seat] == pytest.approx([2.0875, 2.6597], abs=1e-4)
    assert best.expected_value == pytest.approx(2.3736, abs=1e-4)
    assert all(s.expected_value is not None and s.games == 10 for s in first.by_seat)
    assert [r.player for r in evaluation.side_by_side] == ["bold", "first", BEST]


def test_sampled_mean_lies_near_the_exact_value() -> None:
    row = evaluate_players([always("Raise", "bold")], LEDUC, RandomPlayer(), games=2000, exact=True).rows[0]
    assert row.mean_return_low is not None and row.mean_return_high is not None and row.expected_value is not None
    half = (row.mean_return_high - row.mean_return_low) / 2
    assert abs((row.mean_return or 0.0) - row.expected_value) < 2 * half


def test_exact_alone_needs_no_games() -> None:
    evaluation = evaluate_players([RandomPlayer()], KUHN, RandomPlayer(), games=0, exact=True)
    assert (evaluation.games, evaluation.rows[0].games, evaluation.rows[0].win_rate) == (0, 0, None)
    assert evaluation.rows[0].expected_value == pytest.approx(0.0)


class Mute:
    """A player that moves and has no probabilities."""

    name = "mute"

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        return FirstLegal().act(turns)


def always_a_list() -> ScriptedPlayer:
    """Has the method `probabilities` and no distribution."""
    return ScriptedPlayer(["Check", "Fold"])


@pytest.mark.parametrize(
    ("spec", "games", "exact", "player"),
    [
        (KUHN, 0, False, RandomPlayer()),
        (KUHN, -2, True, RandomPlayer()),
        (KUHN, 2, True, Mute()),
        (KUHN, 2, True, always_a_list()),
        (Spec("chess"), 2, True, RandomPlayer()),
        (Spec("goofspiel"), 2, True, RandomPlayer()),
    ],
)
def test_what_cannot_be_honoured_is_refused(spec: Spec, games: int, exact: bool, player: RandomPlayer) -> None:
    with pytest.raises(InputError) as error:
        evaluate_players([player], spec, RandomPlayer(), games=games, exact=exact)
    assert "\n" not in error.value.message and error.value.hint


def build(name: str) -> Player:
    """A builder of PLAYER strings that notes what it built."""
    BUILT.append(name)
    known: dict[str, Player] = {"random": RandomPlayer(), "first": FirstLegal(), "bold": always("Bet", "bold")}
    return known[name]


BUILT: list[str] = []


def test_from_strings_each_player_is_built_once() -> None:
    BUILT.clear()
    evaluation = evaluate(
        ["bold", "first"], ["kuhn_poker(players=2)"], build=build, against="first", games=6, exact=True
    )
    assert (evaluation.task, evaluation.against, evaluation.games) == ("kuhn_poker", "first", 6)
    assert [row.player for row in evaluation.rows] == ["bold", "first", BEST]
    assert BUILT == ["bold", "first"]
    assert evaluate(["first"], ["blackjack"], build=build, games=3).against == ""


def test_strings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="differ"):
        evaluate(["bold", "bold"], ["kuhn_poker"], build=build)
    with pytest.raises(InputError, match="game for one"):
        evaluate(["bold"], ["blackjack"], build=build, against="first")
    with pytest.raises(InputError, match="game for one"):
        evaluate(["bold"], ["blackjack"], build=build, exact=True)
    with pytest.raises(InputError, match="kuhn_pokr"):
        evaluate(["bold"], ["kuhn_pokr"], build=build)
    with pytest.raises(InputError, match="tasks must differ, got kuhn_poker, kuhn_poker"):
        evaluate(["bold"], ["kuhn_poker", "kuhn_poker(players=2)"], build=build)


def test_contenders_must_differ_and_an_opponent_must_sit_somewhere() -> None:
    with pytest.raises(InputError, match="differ"):
        evaluate_players([RandomPlayer(), RandomPlayer()], KUHN, RandomPlayer(), games=2)
    with pytest.raises(InputError, match="more players"):
        evaluate_players([RandomPlayer()], KUHN, None, games=2)


def test_a_game_for_one_needs_no_opponent() -> None:
    evaluation = evaluate_players([RandomPlayer()], Spec("blackjack"), None, games=6)
    assert (evaluation.against, evaluation.games, len(evaluation.rows[0].by_seat)) == ("", 6, 1)


def test_four_seats() -> None:
    evaluation = evaluate_players([RandomPlayer()], Spec("euchre"), FirstLegal(), games=4)
    assert [s.games for s in evaluation.rows[0].by_seat] == [1, 1, 1, 1]


def test_json_round_trip() -> None:
    evaluation = evaluate_players([FirstLegal(), Mute()], KUHN, RandomPlayer(), games=8)
    evaluation = replace(evaluation, rows=(*evaluation.rows, *exact_rows([], KUHN, RandomPlayer())))
    data = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert Evaluation.from_json(data) == evaluation
    assert data["comparisons"][0]["sentence"]
    for key in ("player", "expected_value", "win_rate", "win_rate_low", "exploitability", "nash_conv"):
        assert all(key in row for row in data["rows"])


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 99},
        {"rows": []},
        {"rows": 3},
        {"rows": [{"player": "a", "by_seat": [], "win_rate": "high"}]},
        {"rows": [{"player": "a", "by_seat": [], "colour": 1}]},
        {"comparisons": [{"player": "a"}]},
        {"comparisons": [3]},
        {"further": [{"version": 1}]},
        {"rows": [{"player": "a", "by_seat": [], "facts": {"apples": {"mean": "x"}}, "words": {}, "cost": {}}]},
        {"rows": [{"player": "a", "by_seat": [], "facts": {}, "words": {"end": {"wall": "x"}}, "cost": {}}]},
        {"setting": 3},
        {"surprise": 1},
    ],
)
def test_a_damaged_record_is_refused(damage: dict[str, object]) -> None:
    data = evaluate_players([FirstLegal()], KUHN, RandomPlayer(), games=2).to_json() | damage
    with pytest.raises(InputError):
        Evaluation.from_json(data)


def test_the_table_shows_players_side_by_side_and_is_honest() -> None:
    evaluation = evaluate_players([always("Raise", "bold"), FirstLegal()], LEDUC, RandomPlayer(), games=60, exact=True)
    out = io.StringIO()
    show(evaluation, Console(file=out, width=140, color_system=None))
    text = out.getvalue()
    assert text.index("first") < text.index("bold") < text.index("best possible")
    for words in ("expected value, exact", "exploitability, exact", "games won", "mean return", "+2.37", "seat 1"):
        assert words in text
    assert "Beating random is not playing Nash" in text
    nash = replace_rows(Row("a", expected_value=0.5, exploitability=0.001, nash_conv=0.002))
    assert verdicts(nash) == []


def test_player_names_are_not_markup() -> None:
    out = io.StringIO()
    show(replace_rows(Row("adapter([bold]x[/])", games=1, win_rate=1.0)), Console(file=out, color_system=None))
    assert "[bold]" in out.getvalue()


def test_numbers_in_words() -> None:
    assert (signed(None), signed(-0.594), signed(1.0, 0.5, 1.5)) == (NONE, "-0.59", "+1.00 (+0.50 to +1.50)")
    assert (percent(None), percent(0.5), percent(0.5, 0.25, 0.75)) == (NONE, "50.0 %", "50.0 % (25.0 to 75.0)")


# ---- facts, words, costs, several tasks ----------------------------------------------------------------------------


def snake_player(text: str) -> Player:
    return build_snake(parse(text))


def test_what_the_environment_tells_is_measured_and_tested_in_pairs() -> None:
    contenders = [snake_player("bfs-safe"), snake_player("greedy"), RandomPlayer()]
    evaluation = evaluate_players(contenders, task_spec("snake(size=6, max_steps=60, step_cost=0.5)"), None, games=12)
    tasks = deals(task_spec("snake(size=6, max_steps=60, step_cost=0.5)"), 12, 0)
    for row, player in zip(evaluation.rows, contenders, strict=True):
        played = [f.trajectories[0] for f in collect([Game(task, (player,)) for task in tasks], make_env)]
        for fact in ("apples", "length", "steps", "reversals"):
            assert row.facts[fact].mean == pytest.approx(sum(float(t.info[fact]) for t in played) / 12)
        assert row.words["end_reason"] == dict(Counter(t.info["end_reason"] for t in played))
        assert row.facts["length"].mean == pytest.approx(row.facts["apples"].mean + 1)
        low, high = row.facts["steps"].low, row.facts["steps"].high
        assert low is not None and high is not None and low <= row.facts["steps"].mean <= high
    assert evaluation.fact == "apples"  # the return is shaped, and 60 steps cost more than the apples bring
    assert [(v.player, v.baseline, v.of) for v in evaluation.comparisons] == [
        ("bfs-safe", "greedy", "apples"),
        ("bfs-safe", "random", "apples"),
    ]
    apples = [row.facts["apples"].mean for row in evaluation.rows]
    assert [v.difference for v in evaluation.comparisons] == pytest.approx(
        [apples[0] - apples[1], apples[0] - apples[2]]
    )
    assert evaluation.comparisons[1].p_value < 0.05 and "apples per game" in evaluation.comparisons[1].sentence
    lines = {line.label: line for line in measures(evaluation)}
    assert lines["mean apples"].main and not lines["mean return"].main
    assert lines["mean apples"].cells[-1].startswith(f"{apples[0]:.2f} (")
    assert "max steps" in lines["end reason"].cells[-1]
    assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json()))) == evaluation


def test_costs_are_measured_and_make_no_record_another(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(meter.time, "monotonic", lambda: 2.0 * next(clock))

    class Talker:
        name = "talker"

        def act(self, turns: Sequence[Turn]) -> list[Move]:
            return [Move(t.legal[0], tokens=(1,), prompt=(2, 3), index=0) for t in turns if t.legal]

    asked: list[int] = []
    talker = Talker()
    monkeypatch.setattr(talker, "act", lambda turns: asked.append(len(turns)) or Talker.act(talker, turns))
    row = evaluate_players([talker], KUHN, RandomPlayer(), games=4).rows[0]
    assert row.cost.seconds_per_move == pytest.approx(2.0 * len(asked) / sum(asked))
    assert row.cost.tokens_per_move == 3.0
    peak = row.cost.peak_bytes
    assert peak is None or 10e6 < peak < 100e9
    assert replace(row, cost=Cost()) == row
    assert evaluate_players([FirstLegal()], KUHN, RandomPlayer(), games=2).rows[0].cost.tokens_per_move is None
    monkeypatch.setattr(meter, "_PROCESS", Path("/nowhere"))
    assert evaluate_players([FirstLegal()], KUHN, RandomPlayer(), games=2).rows[0].cost.peak_bytes is None


def test_memory_is_that_of_the_gpu_where_the_model_is(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {0: 0, 1: 3 << 30}  # a model on cuda:1, while cuda:0 is the current device

    def reset(device: int = 0) -> None:
        held[device] //= 3

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device=0: held[device])
    assert meter.Meter(RandomPlayer()).cost([]).peak_bytes == 1 << 30


def test_several_tasks_share_a_table() -> None:
    specs = [task_spec(f"snake(size={n}, max_steps=40)") for n in (4, 5)]
    evaluation = evaluate_tasks([snake_player("greedy"), RandomPlayer()], specs, None, games=6)
    alone = [evaluate_players([snake_player("greedy"), RandomPlayer()], spec, None, games=6) for spec in specs]
    assert replace(evaluation, further=()) == alone[0] and evaluation.further == (alone[1],)
    head, rows = by_task(evaluation)
    assert head == ("", *map(str, specs)) and [row[0] for row in rows] == ["random", "greedy"]
    assert rows[1][2].startswith(f"{alone[1].rows[0].facts['apples'].mean:.2f} (")
    assert by_task(alone[0]) == ((), []) and judged_by(evaluation) == "mean apples"
    out = io.StringIO()
    show(evaluation, Console(file=out, width=140, color_system=None))
    assert out.getvalue().count("mean apples") == 3 and out.getvalue().count(str(specs[1])) == 2
    assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json()))) == evaluation
    with pytest.raises(InputError, match="greedy"):
        evaluate_tasks([snake_player("greedy")], [specs[0], KUHN], RandomPlayer(), games=2)
    mixed = evaluate_tasks([FirstLegal()], [specs[0], KUHN], RandomPlayer(), games=2)
    assert [e.against for e in (mixed, *mixed.further)] == ["", "random"]


def test_every_game_is_told_on_every_task() -> None:
    told: list[int] = []

    @contextmanager
    def progress(total: int) -> Iterator[Callable[[], None]]:
        yield lambda: told.append(total)

    evaluate_tasks([RandomPlayer(), FirstLegal()], [KUHN, Spec("blackjack")], FirstLegal(), games=3, progress=progress)
    assert told == [14] * 14  # two players, 4 games (3 are no whole deals for two seats) and 3
