"""PPO end to end on a tiny model: it learns, in every way of playing and configuring it, and says what it did."""

from __future__ import annotations

import io
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from safetensors.torch import load, save
from tests.data.rig import read_trajectories
from tests.learn.resuming import bf16_model

from ludora.envs.build import task_spec
from ludora.envs.openspiel import OpenSpielEnv
from ludora.errors import EnvBroken, InputError, TrainingFailed
from ludora.evals import exact
from ludora.learn import ppo
from ludora.learn.curriculum import Curriculum
from ludora.learn.monitors import Monitors
from ludora.learn.opponents import Opponents
from ludora.learn.replay import Replay
from ludora.players.bots import RandomPlayer
from ludora.runs import episodes
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.settings import PPOConfig
from ludora.types import Move

Train = Callable[..., Any]
KUHN = task_spec("kuhn_poker")


def test_learns_to_beat_a_random_player(train: Train) -> None:
    """Exact expected values: no luck of the deal in them."""
    run = train(games_per_update=64, minibatch=64, updates=10, evaluate_every=5, value_hidden=256, value_steps=32)
    values = run.column("expected_value")
    best = sum(exact.best_response(KUHN, exact.tabulate(KUHN, RandomPlayer()))) / 2
    assert values[0] < 0.0 < 0.2 < run.summary["best_score"] <= best
    assert run.summary["best_score"] == max(values) and run.summary["ended"] == "updates"
    evaluation = json.loads((run.path / "evaluation.json").read_text())
    after, before = (row["expected_value"] for row in evaluation["rows"][:2])
    assert after == pytest.approx(max(values), abs=1e-5)  # the best of the measured adapters is the run's adapter
    assert before == pytest.approx(values[0], abs=1e-5)
    assert "adapter: " in run.said and " of the model's " in run.said
    assert (run.path / "adapter" / "adapter_model.safetensors").is_file() and (run.path / "report.html").is_file()


def test_self_play_with_a_magnet_comes_nearer_to_nash(train: Train) -> None:
    run = train(
        opponent="self", magnet_weight=0.4, magnet_every=4, baseline="ema", games_per_update=64, minibatch=64,
        updates=8, evaluate_every=8,
    )  # fmt: skip
    first, last = run.column("nash_conv")
    assert first > 0.9 and last < 0.75 * first
    assert all(kl >= 0 for kl in run.column("kl_magnet")) and run.column("kl_magnet")[1] > 0
    assert run.column("return") == [0.0] * 8  # both seats are the learner's
    assert run.column("games") == [64.0 * n for n in range(1, 9)]


def test_free_text_trains_too_and_nonsense_is_data(train: Train) -> None:
    """A random model says nothing legal: it forfeits, which is counted, and learnt from."""
    run = train(task="tic_tac_toe", act="say", max_new_tokens=3, retries=1, games_per_update=6, minibatch=8)
    assert all(rate > 0.5 for rate in run.column("invalid_rate"))
    assert all(1.5 < attempts <= 2 for attempts in run.column("attempts"))
    assert run.column("loss_rate")[0] > 0.5 and run.column("truncated_rate") == [0.0, 0.0]
    assert all(change > 0 for change in run.column("adapter_change"))
    assert all(gap < 1e-3 for gap in run.column("sampling_gap"))


def test_games_are_kept_to_look_at(train: Train) -> None:
    run = train(updates=3, evaluate_every=2, evaluate_games=4, episodes=3, games_per_update=4)
    kept = episodes.found(run.path / "episodes")
    assert list(kept) == [2, 3]  # at each evaluation, the last one included
    for path in kept.values():
        games = read_trajectories(path).all_good()
        assert [(game.player, game.seat, game.task.opponent) for game in games] == [
            ("self", seat, ("random",)) for seat in (0, 1, 0)
        ]
        assert all(game.steps and game.steps[0].turn.messages for game in games)
    both = train(updates=1, evaluate_every=1, evaluate_games=4, episodes=2, opponent="self")
    (path,) = episodes.found(both.path / "episodes").values()
    assert [game.seat for game in read_trajectories(path).all_good()] == [0, 1, 0, 1]
    none = train(updates=1, evaluate_every=1, evaluate_games=4, episodes=0)
    assert not (none.path / "episodes").exists()


def test_mixtures_and_snapshots(train: Train) -> None:
    run = train(
        opponent={"snapshots(last=2)": 2.0, "random": 1.0, "self": 1.0}, snapshot_every=1, updates=4, save_every=1,
        keep=2,
    )  # fmt: skip
    names = {key.split("/")[1] for row in run.rows for key in row if key.startswith("return/")}
    assert names == {"random", "self", "snapshots"}
    with Run.open(run.path) as folder:
        assert folder.steps == [3, 4]
        files = folder.load_checkpoint(4).files
    assert {name for name in files if name.startswith("snap")} == {"snapshot-2.safetensors", "snapshot-3.safetensors"}
    state = json.loads(files["state.json"])
    assert state["opponents"]["snapshots"] == [2, 3]


def test_games_for_one_are_counted_without_an_opponent(train: Train) -> None:
    small = {"games_per_update": 4, "updates": 1}
    alone = train(task="snake(max_steps=3, size=4)", **small).rows[-1]
    assert {key for key in alone if "/" in key and key.startswith(("count", "return", "win_rate"))} == {
        f"{name}/snake(max_steps=3, size=4)" for name in ("count", "return", "win_rate")
    }
    both = train(task=["snake(max_steps=3, size=4)", "kuhn_poker"], **small).rows[-1]
    counted = [key.removeprefix("count/") for key in both if key.startswith("count/")]
    assert {name for name in counted if "snake" in name} == {"snake(max_steps=3, size=4)"}
    assert "kuhn_poker/random/seat0" in counted


@pytest.mark.parametrize(
    "changes",
    [
        {"baseline": "ema", "opponent": "self", "normalize_advantages": False},
        {"kl": "fixed", "kl_coef": 0.1, "schedule": "cosine", "warmup_updates": 1},
        {"kl": "adaptive", "kl_coef": 0.1, "kl_target": 0.01, "target_kl": 0.01},
        {"value_clip": 0.2, "value_warmup": 1, "layers": "top:1", "targets": "attention"},
        {"entropy_coef": 0.02, "entropy_target": 0.5, "dropout": 0.1, "rslora": True, "weight_decay": 0.01},
        {"dtype": "bf16", "labels": "names", "temperature": 1.5},
        {"task": "matching_pennies_3p", "opponent": "first", "accumulation": 3},
        {"task": "tic_tac_toe", "games_per_update": 4, "max_turns": 2, "labels": "ids"},
        {"max_turns": 1, "evaluate_every": 1, "evaluate_games": 4, "patience": 1, "updates": 9, "learning_rate": 1e-9},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_options_together(train: Train, changes: dict[str, Any]) -> None:
    run = train(**changes)
    for row in run.rows:
        assert all(value is None or math.isfinite(value) for value in row.values())
    assert run.column("skipped_steps")[-1] == 0
    if "value_warmup" in changes:
        assert "adapter_change" not in run.rows[0] and run.rows[-1]["adapter_change"] > 0
    if "max_turns" in changes and "patience" not in changes:
        assert run.column("truncated_rate")[0] > 0
    if "patience" in changes:
        assert run.summary["ended"] == "patience" and run.summary["updates"] < 9


def work(made: Any) -> ppo.Work:
    """What a run works with at its start."""
    opponents = Opponents(made.config, [made.config.opponents], made.studio, made.learner.player)
    return ppo.Work(made.studio, made.learner, opponents, Curriculum(made.config), Replay(0.0, 10, 1.0), Monitors(), {})


@pytest.mark.parametrize("budget", [300, 700])
def test_a_budget_of_tokens_keeps_nobody_to_one_seat(budget: int, bench: Callable[..., Any]) -> None:
    """A game the budget has no room for is not played, so its seat is still to come."""
    made = bench(task="leduc_poker", tokens_per_update=budget, games_per_update=8)
    it = work(made)
    seats = [game.task.seat for update in range(9) for game in ppo._games(made.config, it, update)]
    assert len(seats) < 8 * 9 and seats == [i % 2 for i in range(len(seats))]


def test_seats_are_shared_evenly_and_games_are_never_the_same(bench: Callable[..., Any]) -> None:
    made = bench(games_per_update=30, opponent={"random": 1.0, "first": 1.0})
    it = work(made)
    updates = [ppo._games(made.config, it, update) for update in range(2)]
    seeds = {game.task.seed for games in updates for game in games}
    assert len(seeds) == 60
    for games in updates:
        assert [game.task.seat for game in games] == [0, 1] * 15
        for game in games:
            assert game.seats[game.task.seat] is made.learner.player
            assert game.seats[1 - game.task.seat].name == game.task.opponent[0]
    again = ppo._games(made.config, work(made), 1)
    assert [game.task for game in again] == [game.task for game in updates[1]]


class Shaky(OpenSpielEnv):
    """Kuhn poker that breaks at the second move for a share of the seeds."""

    share = 0.0

    def apply(self, moves: Mapping[int, Move]) -> None:
        if len(self._state.history()) > 2 and self.task.seed % 1000 < 1000 * self.share:
            raise EnvBroken("the table fell over")
        super().apply(moves)


@pytest.fixture
def shaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Shaky]]:
    """Training plays on shaky tables."""
    monkeypatch.setattr(ppo, "make_env", lambda task: Shaky(task))
    yield Shaky
    Shaky.share = 0.0


def test_a_broken_game_is_counted_and_never_a_reward(train: Train, shaky: type[Shaky]) -> None:
    shaky.share = 0.3
    run = train(games_per_update=32)
    assert all(0 < broken < 16 for broken in run.column("broken_games"))
    assert run.column("loss_rate")[0] + run.column("win_rate")[0] == pytest.approx(1.0)  # of the games that ended


def test_an_environment_that_keeps_breaking_ends_training(train: Train, shaky: type[Shaky]) -> None:
    shaky.share = 1.0
    with pytest.raises(TrainingFailed, match="the table fell over"):
        train()


def test_the_seed_decides_everything_and_another_seed_another_run(train: Train) -> None:
    runs = [train(seed=seed) for seed in (3, 3, 4)]
    adapters = [(run.path / "adapter" / "adapter_model.safetensors").read_bytes() for run in runs]
    assert adapters[0] == adapters[1] != adapters[2]
    timing = {"seconds_rollout", "seconds_update", "tokens_per_second", "decisions_per_second", "time"}
    rows = [[{k: v for k, v in row.items() if k not in timing} for row in run.rows] for run in runs]
    assert rows[0] == rows[1] != rows[2]


def test_an_interrupted_run_saves_and_goes_on_to_the_same_end(train: Train, tmp_path: Path) -> None:
    run = train(updates=3, save_every=100)
    config = tiny_like(run)
    with Run.create(tmp_path, "stopped", config.to_json()) as folder, RunLog(folder) as log:
        summary = ppo.train(config, folder, log, stop=lambda: any(folder.rows("metrics.jsonl")))
        assert summary["ended"] == "interrupted" and "adapter" not in summary and not folder.adapter.exists()
        assert summary["updates"] == 1 and folder.steps == [0, 1]
    with Run.open(tmp_path / "stopped") as folder, RunLog(folder) as log:
        assert ppo.train(config, folder, log)["ended"] == "updates"
        for file in folder.adapter.iterdir():
            assert file.read_bytes() == (run.path / "adapter" / file.name).read_bytes()


def test_goes_back_to_the_step_that_was_asked_for(train: Train) -> None:
    run = train(updates=3, save_every=1)
    config, rows = tiny_like(run), run.rows
    with Run.open(run.path) as folder, RunLog(folder) as log:
        summary = ppo.train(config.model_copy(update={"updates": 2}), folder, log, step=1)
        assert summary["updates"] == 2 and folder.steps == [1, 2]
        again = list(folder.rows("metrics.jsonl"))
    assert [row["step"] for row in again] == [1, 2] and again[1]["return"] == rows[1]["return"]


def go_on(path: Path, config: PPOConfig) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """Resume a run with a config: its summary, metrics, and what was said."""
    said = io.StringIO()
    with Run.open(path) as folder, RunLog(folder, console=Console(file=said)) as log:
        return ppo.train(config, folder, log), list(folder.rows("metrics.jsonl")), said.getvalue()


MEASURED: dict[str, Any] = {
    "updates": 5,
    "save_every": 1,
    "evaluate_every": 1,
    "learning_rate": 0.05,
    "games_per_update": 16,
    "keep": 9,
}


def test_the_best_is_written_though_the_disk_had_no_room_for_it(train: Train, full_at: Callable[[int], None]) -> None:
    run = train(**MEASURED)
    best = run.summary["best_update"]
    assert 0 < best < 5  # or this proves nothing
    full_at(best)
    again = train(**MEASURED)
    assert again.summary["best_update"] == best and f"step {best} was not saved" in again.said
    written = [(path / "adapter" / "adapter_model.safetensors").read_bytes() for path in (run.path, again.path)]
    assert written[0] == written[1]


def test_a_best_that_is_gone_is_sought_anew(train: Train) -> None:
    run = train(**MEASURED)
    best = run.summary["best_update"]
    shutil.rmtree(run.path / "checkpoints" / f"step-{best:06d}")
    summary, _, said = go_on(run.path, tiny_like(run).model_copy(update={"updates": 7}))
    assert f"the best so far, of update {best}, is no longer there" in said
    assert summary["ended"] == "updates" and summary["best_update"] in (6, 7) and (run.path / "adapter").is_dir()


def test_coefficients_that_are_changed_count_from_then_on(train: Train) -> None:
    run = train(updates=1, kl="none", save_every=1)
    config = tiny_like(run)
    assert run.column("kl_coef") == [0.0]
    _, rows, _ = go_on(run.path, config.model_copy(update={"updates": 2, "kl": "fixed", "kl_coef": 5.0}))
    assert [row["kl_coef"] for row in rows] == [0.0, 5.0]
    aims = {"entropy_target": 0.5, "entropy_coef": 0.25}
    _, rows, _ = go_on(run.path, config.model_copy(update={"updates": 3, "kl": "fixed", "kl_coef": 4.0, **aims}))
    assert rows[-1]["kl_coef"] == 4.0 and rows[-1]["entropy_coef"] == pytest.approx(0.25, rel=0.11)


@pytest.mark.parametrize("changes", [{"opponent": "first"}, {"evaluate_every": 0, "compare": ()}, {"labels": "names"}])
def test_the_best_by_another_measure_is_no_longer_the_best(train: Train, changes: dict[str, Any]) -> None:
    """Otherwise a score against an easy opponent would stand for good, and what is learnt later be thrown away."""
    run = train(updates=2, evaluate_every=1, save_every=1)
    config = tiny_like(run).model_copy(update={"updates": 4, **changes})
    summary, _, said = go_on(run.path, config)
    assert "the best is sought anew" in said
    assert summary["best_update"] in ((None,) if "evaluate_every" in changes else (3, 4))
    again, _, said = go_on(run.path, config.model_copy(update={"updates": 5}))
    assert "sought anew" not in said and again["updates"] == 5


def test_learning_rate_rises_by_updates_whatever_ends_training(train: Train) -> None:
    run = train(updates=6, warmup_updates=4, minutes=1e-4, schedule="constant", learning_rate=0.004)
    assert run.summary["ended"] == "minutes" and run.column("learning_rate") == [pytest.approx(0.001)]
    run = train(updates=6, warmup_updates=4, schedule="constant", learning_rate=0.004)
    assert run.column("learning_rate") == pytest.approx([0.001, 0.002, 0.003, 0.004, 0.004, 0.004])


def test_updates_without_a_decision_or_a_choice_are_passed_over(train: Train) -> None:
    run = train(task="nim(pile_sizes=1)", games_per_update=1, updates=4)  # the first mover takes all: one action
    assert {row["distinct_prompts"] for row in run.rows} == {0.0, 1.0}
    run = train(task="nim(pile_sizes=1)", games_per_update=1, updates=4, entropy_coef=0.01, entropy_target=0.3)
    assert run.summary["updates"] == 4


def test_what_an_evaluation_computes_is_not_counted_as_training(train: Train) -> None:
    plain = train(updates=3, evaluate_every=0)
    measured = train(updates=3, evaluate_every=1)
    for one, other in zip(plain.rows, measured.rows[1:], strict=True):
        assert one["tokens_per_distinct_token"] >= other["tokens_per_distinct_token"]  # caches may be warmer, no more


def test_another_model_or_beginning_is_not_gone_on_with(train: Train, tmp_path: Path) -> None:
    model = bf16_model(tmp_path / "model")
    first = train(updates=1, model=model)
    second = train(updates=1, model=model, adapter=first.summary["adapter"])
    for run, weights, message in (
        (
            second,
            Path(first.summary["adapter"]) / "adapter_model.safetensors",
            "is not the adapter that this run began",
        ),
        (first, tmp_path / "model" / "model.safetensors", "is not what it was when this run began"),
    ):
        config, whole = tiny_like(run).model_copy(update={"updates": 2}), weights.read_bytes()
        weights.write_bytes(save({key: tensor + 1 for key, tensor in load(whole).items()}, {"format": "pt"}))
        before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
        with pytest.raises(InputError, match=message):
            go_on(run.path, config)
        assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
        weights.write_bytes(whole)
    assert go_on(first.path, config)[0]["updates"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"opponent": "nash", "evaluate_on": ["hex(board_size=4)"]}, "too large"),
        ({"opponent": "ismcts:weak", "evaluate_on": ["tic_tac_toe"]}, "tic_tac_toe"),
        ({"compare": ["random", "random"]}, "compare names random twice"),
        ({"compare": ["human"]}, "needs a person at a terminal"),
    ],
    ids=str,
)
def test_what_the_end_needs_is_checked_at_the_beginning(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(InputError, match=message):
        train(updates=1, **changes)
    assert not (tmp_path / "tiny" / "metrics.jsonl").exists()


def tiny_like(run: Any) -> PPOConfig:
    """The config of a run."""
    values = json.loads((run.path / "config.json").read_text())
    return PPOConfig(**{key: value for key, value in values.items() if key != "kind"})
