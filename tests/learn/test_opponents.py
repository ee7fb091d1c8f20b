"""Opponents: mixtures by weight, snapshots kept and dropped, the magnet, refusals, and the round trip of the state."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models import zoo

from ludora.envs.build import task_spec
from ludora.errors import InputError
from ludora.learn.curriculum import stages
from ludora.learn.opponents import Opponents
from ludora.models.checkpoint import pack_tensors, unpack_tensors
from ludora.models.storage import adapter_files
from ludora.players.bots import RandomPlayer
from ludora.players.build import check_opponents
from ludora.players.model import ModelPlayer
from ludora.rng import stream
from ludora.settings import PPOConfig
from ludora.types import Task

Build = Callable[..., Any]


def opponents(made: Any) -> Opponents:
    return Opponents(made.config, [made.config.opponents], made.studio, made.learner.player)


def draws(found: Opponents, n: int = 4000) -> Counter[str]:
    return Counter(found.draw(stream("game", 0, 0, i), found.config.opponents).name for i in range(n))


def fixed(found: Opponents) -> list[tuple[str, float]]:
    return [(player.name, weight) for player, weight in found.fixed(found.config.opponents)]


def move(made: Any, amount: float) -> None:
    """As an update would: other weights, in place."""
    made.learner.adapter.restore(made.learner.adapter.flat + amount)


def weights(player: ModelPlayer) -> torch.Tensor:
    assert player.adapter is not None
    return player.adapter.flat.detach().clone()


def test_a_mixture_is_drawn_by_its_weights(bench: Build) -> None:
    found = opponents(bench(opponent={"random": 3.0, "self": 1.0, "first": 2.0}))
    counts = draws(found)
    for name, share in (("random", 3 / 6), ("self", 1 / 6), ("first", 2 / 6)):
        assert abs(counts[name] - 4000 * share) < 4 * math.sqrt(4000 * share * (1 - share))
    assert counts == draws(found)  # by the game's own seed, nothing else
    assert fixed(found) == [("random", 3.0), ("first", 2.0)]


def test_self_is_the_learner_itself(bench: Build) -> None:
    made = bench(opponent="self")
    found = opponents(made)
    assert found.draw(1, {"self": 1.0}) is made.learner.player and fixed(found) == []


def test_models_play_on_the_base_of_the_run(bench: Build, tmp_path: Path) -> None:
    made = bench()
    for name, data in adapter_files(made.learner.adapter, made.studio.base).items():
        (tmp_path / name).write_bytes(data)
    text = f"adapter({tmp_path})"
    other = bench(opponent={text: 1.0, "base": 1.0})
    found = opponents(other)
    players = found.players
    assert players.keys() == {text, "base"}
    for player in players.values():
        assert isinstance(player, ModelPlayer) and player.policy is other.learner.policy
    assert players["base"].adapter is None
    assert torch.equal(weights(players[text]), made.learner.adapter.flat)


def test_a_model_inside_another_player_is_on_the_base_of_the_run_too(
    bench: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, inner = bench(opponent="epsilon(0.5, base)"), []
    plain = made.studio.fixed
    monkeypatch.setattr(made.studio, "fixed", lambda *a, **k: inner.append(plain(*a, **k)) or inner[-1])
    assert fixed(opponents(made)) == [("epsilon(0.5, base)", 1.0)]
    assert [player.policy for player in inner] == [made.learner.policy]


def test_a_merged_model_sits_at_the_other_seat_of_a_run(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUDORA_CACHE", str(tmp_path / "cache"))
    for part in zoo.build("llama"):
        part.save_pretrained(tmp_path / "out")
    run = train(opponent=f"merged({tmp_path / 'out'})", updates=1, evaluate_every=1, evaluate_games=4)
    assert run.column("games") == [16.0]


def test_a_person_is_an_opponent_at_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for opponent in ("human", "epsilon(0.5, human)"):
        found = stages(PPOConfig(opponent=opponent))
        monkeypatch.setattr("sys.stdin", io.StringIO())
        with pytest.raises(InputError, match="needs a person at a terminal"):
            check_opponents(found)
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        check_opponents(found)


def test_opponents_are_asked_before_a_game() -> None:
    def asked(task: str, opponent: str) -> None:
        check_opponents(stages(PPOConfig(task=task, opponent=opponent)))

    for opponent in ("mcts:weak", "epsilon(0.5, epsilon(0.1, mcts:weak))"):
        with pytest.raises(InputError, match="simultaneous"):
            asked("goofspiel", opponent)
        with pytest.raises(InputError, match="simultaneous"):
            asked("ids(0, 199999999)", opponent)
        asked("ids(100000000, 299999999)", opponent)
        with pytest.raises(InputError, match="a game for one"):
            asked("2048", opponent)
    asked("2048", "random")  # the default


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("snapshots(lst=3)", "no option 'lst'"),
        ("snapshots(3)", "no plain value"),
        ("snapshots(last=0)", "names no snapshot"),
        ("snapshots(last=2.5)", "last is of type int"),
        ("snapshots(last=true)", "last is of type int"),
        ("snapshots:old", "no variant"),
        ("self(x=1)", "no option 'x'"),
        ("base(x=1)", "base takes no options"),
        ("adapter", "needs the adapter's folder"),
        ("adapter(a, b)", "needs the adapter's folder"),
        ("adapter(/nowhere)", "no adapter in"),
        ("randm", "no player 'randm'"),
    ],
)
def test_what_cannot_be_honoured_is_refused(bench: Build, text: str, message: str) -> None:
    made = bench(opponent=text, snapshot_every=int(text.startswith("snapshots")))
    with pytest.raises(InputError, match=message) as caught:
        opponents(made)
    assert caught.value.hint


def test_snapshots_are_kept_and_dropped(bench: Build) -> None:
    made = bench(opponent="snapshots(last=2)", snapshot_every=3)
    found, learner = opponents(made), made.learner
    assert found.draw(0, made.config.opponents) is learner.player  # until there is one
    taken = {}
    for update in range(10):
        found.begin(update, learner)
        if update % 3 == 0:
            taken[update] = learner.adapter.flat.detach().clone()
        kept = [u for u in taken if u > update - 6]
        assert sorted(found.snapshots) == kept
        for u in kept:
            assert torch.equal(weights(found.snapshots[u]), taken[u])  # copies: later updates do not reach them
        move(made, 0.01)
    assert set(made.studio.pack.adapters) == {"learner", "snapshot(step=6)", "snapshot(step=9)"}
    counts = draws(found, 400)
    assert set(counts) == {"snapshot(step=6)", "snapshot(step=9)"} and min(counts.values()) > 150


def test_each_kind_of_snapshots_has_its_own_reach(bench: Build) -> None:
    made = bench(opponent={"snapshots(last=1)": 1.0, "snapshots(last=4)": 1.0}, snapshot_every=1)
    found = opponents(made)
    for update in range(6):
        found.begin(update, made.learner)
    assert sorted(found.snapshots) == [2, 3, 4, 5]
    counts = draws(found, 2000)
    assert abs(counts["snapshot(step=5)"] - 2000 * 5 / 8) < 100 and abs(counts["snapshot(step=2)"] - 2000 / 8) < 90


def test_a_snapshot_plays_as_the_learner_did(bench: Build) -> None:
    from ludora.evals.exact import information_states

    made = bench(opponent="snapshots", snapshot_every=5)
    found, turns = opponents(made), information_states(task_spec("kuhn_poker"))
    found.begin(0, made.learner)
    before = made.learner.player.probabilities(turns)
    move(made, 0.05)
    [snapshot] = found.snapshots.values()
    assert snapshot.probabilities(turns) == before != made.learner.player.probabilities(turns)


def test_the_magnet_is_refreshed_now_and_then(bench: Build) -> None:
    made = bench(opponent="self", magnet_weight=0.4, magnet_every=3)
    found, learner = opponents(made), made.learner
    for update in range(8):
        if update % 3 == 0:
            wanted = learner.adapter.flat.detach().clone()
        found.begin(update, learner)
        assert learner.magnet is not None and torch.equal(weights(learner.magnet), wanted)
        move(made, 0.01)
    assert bench(opponent="self").learner.magnet is None


def test_the_magnet_forgets_what_it_knew_when_it_moves(bench: Build) -> None:
    from ludora.evals.exact import information_states

    made = bench(opponent="self", magnet_weight=0.4, magnet_every=1)
    found, learner, turns = opponents(made), made.learner, information_states(task_spec("kuhn_poker"))
    for update in range(2):
        found.begin(update, learner)
        assert learner.magnet is not None
        assert learner.magnet.probabilities(turns) == learner.player.probabilities(turns)
        move(made, 0.05)


def test_state_round_trip(bench: Build) -> None:
    changes = {"opponent": {"snapshots(last=2)": 1.0, "random": 1.0}, "snapshot_every": 2, "magnet_weight": 0.3,
               "magnet_every": 3}  # fmt: skip
    made = bench(**changes)
    found = opponents(made)
    for update in range(5):
        found.begin(update, made.learner)
        move(made, 0.01)
    state = json.loads(json.dumps(found.state()))
    files = {name: pack_tensors(tensors) for name, tensors in found.tensors(made.learner).items()}
    assert files.keys() == {"snapshot-2", "snapshot-4", "magnet"}

    again = bench(**changes)
    again.learner.adapter.restore(made.learner.adapter.flat)
    loaded = opponents(again)
    loaded.load(state, {name: unpack_tensors(data) for name, data in files.items()}, again.learner)
    assert torch.equal(again.learner.adapter.flat, made.learner.adapter.flat)  # it was only borrowed
    assert loaded.state() == found.state()
    for update in range(5, 9):  # and both go on alike
        for one, other in ((found, made), (loaded, again)):
            one.begin(update, other.learner)
            move(other, 0.01)
        assert sorted(loaded.snapshots) == sorted(found.snapshots)
        for u, player in found.snapshots.items():
            assert torch.equal(weights(loaded.snapshots[u]), weights(player))
        assert torch.equal(weights(again.learner.magnet), weights(made.learner.magnet))
        assert draws(loaded, 50) == draws(found, 50)


def test_a_magnet_that_was_turned_off_stays_off(bench: Build) -> None:
    made = bench(opponent="self", magnet_weight=0.3)
    found = opponents(made)
    found.begin(0, made.learner)
    off = bench(opponent="self")
    opponents(off).load(found.state(), found.tensors(made.learner), off.learner)
    assert off.learner.magnet is None


def test_fixed_opponents_are_real_players(bench: Build) -> None:
    [(player, weight)] = opponents(bench(opponent="random")).fixed({"random": 1.0})
    assert isinstance(player, RandomPlayer) and weight == 1.0


def test_a_task_seats_the_opponents_it_names(bench: Build) -> None:
    made = bench(opponent={"random": 1.0, "snapshots(last=1)": 1.0}, snapshot_every=1)
    found, learner = opponents(made), made.learner.player
    found.begin(0, made.learner)
    for seat in (0, 1):
        game = found.seat(Task(task_spec("kuhn_poker"), 5, seat), {"random": 1.0})
        assert game.seats[seat] is learner and game.task.opponent == ("random",)
    task = Task(task_spec("kuhn_poker"), 5, 1, ("snapshot(step=0)",))
    game = found.seat(task, {"random": 1.0}, attempt=7)
    assert game.task == task and game.attempt == 7
    assert list(game.seats) == [found.snapshots[0], learner]
    alone = found.seat(Task(task_spec("blackjack"), 5), {"random": 1.0})
    assert list(alone.seats) == [learner] and alone.task.opponent == ()
    three = found.seat(Task(task_spec("matching_pennies_3p"), 5, 1), {"self": 1.0})
    assert list(three.seats) == [learner] * 3 and three.task.opponent == ("self", "self")


def test_a_snapshot_stays_while_it_is_named(bench: Build) -> None:
    made = bench(opponent="snapshots(last=1)", snapshot_every=1)
    found = opponents(made)
    for update in range(4):
        found.begin(update, made.learner, {"snapshot(step=1)", "random"} if update < 3 else ())
        move(made, 0.01)
        assert sorted(found.snapshots) == [[0], [1], [1, 2], [3]][update]
        assert set(draws(found, 40)) == {f"snapshot(step={update})"}  # an old one is kept, not met
    assert set(made.studio.pack.adapters) == {"learner", "snapshot(step=3)"}
