"""Learning from examples end to end on a tiny model: it finds the rule, in every way of learning and configuring it."""

from __future__ import annotations

import hashlib
import io
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from rich.console import Console
from tests.learn import toy

from ludora.config import load_config, make
from ludora.errors import ConfigError, InputError, TrainingFailed
from ludora.learn import sft
from ludora.learn.pupil import Pupil
from ludora.learn.sums import Sums
from ludora.models.adapters import SlotOptimizer
from ludora.models.known import FAMILIES
from ludora.models.recipes import resolve, values
from ludora.players.studio import Studio
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.settings import PPOConfig, SFTConfig
from ludora.types import Message, Turn

torch.set_num_threads(1)

TINY: dict[str, Any] = {
    "model": "tiny:qwen2",
    "dtype": "fp32",
    "device": "cpu",
    "threads": 1,
    "learning_rate": 3e-3,
    "batch": 16,
    "eval_share": 0.2,
    "evaluate_every": 10,
    "task": "none",
}

Train = Callable[..., Any]


class Trained:
    """A finished run: what `train` returned, the rows of its metrics, its folder, what was said."""

    def __init__(self, summary: dict[str, Any], run: Run, said: str) -> None:
        self.summary, self.path, self.said = summary, run.path, said
        self.rows = list(run.rows("metrics.jsonl"))
        self.events = list(run.rows("events.jsonl"))

    def column(self, name: str) -> list[float]:
        """A metric at every step that has it."""
        return [row[name] for row in self.rows if name in row]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Trains into a new run folder."""
    data = toy.games(tmp_path / "games.jsonl")

    def run_it(**changes: Any) -> Trained:
        config = SFTConfig(**{**TINY, "data": str(data), **changes})
        said = io.StringIO()
        with Run.create(tmp_path, "tiny", config.to_json()) as run, RunLog(run, console=Console(file=said)) as log:
            summary = sft.train(config, run, log)
            return Trained(summary, run, said.getvalue())

    return run_it


def test_learns_a_rule_and_acts_by_it(train: Train) -> None:
    run = train()
    losses, accuracy = run.column("eval_loss"), run.column("move_accuracy")
    assert accuracy[0] < 0.7 and accuracy[-1] == 1.0 and losses[-1] < 0.2 < losses[0]
    assert run.column("eval_perplexity") == [pytest.approx(math.exp(loss)) for loss in losses]
    assert run.summary["ended"] == "epochs" and run.summary["epochs"] == 3.0
    assert run.summary["before"]["eval_loss"] == losses[0] and run.summary["after"]["eval_loss"] == min(losses)
    assert run.column("accuracy")[-1] > 0.95 and run.column("skipped_steps")[-1] == 0
    # the adapter that was written, loaded anew, chooses as the expert does
    studio = Studio(SFTConfig(**TINY), lambda text: None)
    player = studio.player("x", studio.load(run.summary["adapter"]))
    user = Message("user", "Day 3. The light is blue.")
    turn = Turn(0, (Message("system", "Mind the light."), user), ("stop", "go", "wait"))
    assert player.probabilities([turn])[0][1] > 0.8  # type: ignore[attr-defined]


def test_learns_to_say_its_move(train: Train) -> None:
    run = train(act="say", labels="names", max_new_tokens=6, retries=0, epochs=12, evaluate_every=40)
    assert run.column("parse_rate")[0] < 0.5 and run.column("parse_rate")[-1] > 0.9
    assert run.column("move_accuracy")[-1] > 0.8 and run.column("scored_accuracy")[-1] > 0.8
    assert run.column("eval_loss")[-1] < 0.3


def test_learns_answers_of_conversations(train: Train, tmp_path: Path) -> None:
    run = train(data=str(toy.chats(tmp_path / "chats.jsonl")), assistant="all", epochs=20, learning_rate=1e-2)
    assert run.column("eval_loss")[-1] < 0.5 < run.column("eval_loss")[0]
    assert "move_accuracy" not in run.rows[-1] and "evaluation" not in run.summary
    assert (run.path / "adapter" / "adapter_model.safetensors").is_file() and (run.path / "report.html").is_file()


def turning(path: Path) -> Path:
    """Snake as other programs tell it: the apple's side, and the move that goes there, as rows and as chats."""
    lines = []
    for number in range(40):
        side = ("left", "right")[number % 2]
        words = (side, f"Move: {side}")
        if number % 3:
            lines.append({"prompt": words[0], "completion": words[1]})
        else:
            chat = zip(("user", "assistant"), words, strict=True)
            lines.append({"messages": [{"role": role, "content": text} for role, text in chat]})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_moves_that_conversations_name_are_compared(train: Train, tmp_path: Path) -> None:
    data = str(turning(tmp_path / "rows.jsonl"))
    saying = {"act": "say", "max_new_tokens": 12, "evaluate_answers": 8, "evaluate_every": 60, "temperature": 0.3}
    run = train(data=data, **saying, epochs=30, learning_rate=1e-2)
    assert run.column("parse_rate")[0] == run.column("move_accuracy")[0] == 0
    assert run.column("parse_rate")[-1] > 0.8 and run.column("move_accuracy")[-1] > 0.6
    assert "scored_accuracy" not in run.rows[-1]
    run = train(data=data, steps=1)
    assert "conversations are measured with act = say only" in run.said and "move_accuracy" not in run.rows[-1]


def test_answers_that_name_no_move_are_not_asked_for_in_silence(train: Train, tmp_path: Path) -> None:
    data = str(toy.chats(tmp_path / "chats.jsonl"))
    with pytest.raises(InputError, match="evaluate_answers has no effect: no held-out example names a move"):
        train(data=data, act="say", evaluate_answers=4)
    run = train(data=data, act="say", max_new_tokens=3, steps=1)
    assert "answers are not measured: no held-out example names a move" in run.said
    assert "move_accuracy" not in run.rows[-1] and "not measured" not in train(data=data, steps=1).said


def test_the_best_is_kept_and_patience_ends_it(train: Train) -> None:
    run = train(evaluate_every=2, patience=2, epochs=50, learning_rate=0.5, warmup=0.0, schedule="constant", keep=1)
    losses = {row["step"]: row["eval_loss"] for row in run.rows if "eval_loss" in row}
    assert run.summary["ended"] == "patience" and run.summary["best_step"] == min(losses, key=losses.__getitem__)
    with Run.open(run.path) as folder:
        assert folder.best == run.summary["best_step"] in folder.steps
        best = folder.load_checkpoint(folder.best).files["adapter.safetensors"]
    from safetensors.torch import load, load_file

    kept, written = load(best), load_file(run.path / "adapter" / "adapter_model.safetensors")
    assert kept.keys() == written.keys() and all(torch.equal(kept[key], written[key]) for key in kept)


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": "reasoning", "labels": "names", "max_new_tokens": 24, "evaluate_answers": 3, "steps": 4},
        {"act": "say", "history": True, "batch": 4, "steps": 3, "evaluate_answers": 2, "max_new_tokens": 3},
        {"loss": "tokens", "steps": 4, "temperature": 1.5},
        {"dropout": 0.1, "rslora": True, "weight_decay": 0.01, "layers": "top:1", "targets": "attention", "steps": 3},
        {"dtype": "bf16", "labels": "ids", "accumulation": 3, "steps": 3, "schedule": "linear", "warmup": 0.5},
        {"model": "tiny:gpt_neo", "steps": 3, "part_tokens": 200},
        {"evaluate_every": 0, "eval_share": 0.0, "steps": 3, "log_every": 1, "save_every": 1},
        {"minutes": 1e-6, "epochs": 9},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_options_together(train: Train, changes: dict[str, Any]) -> None:
    run = train(**changes)
    for row in run.rows:
        assert all(value is None or math.isfinite(value) for value in row.values())
    assert run.summary["ended"] == ("minutes" if "minutes" in changes else "steps")
    assert run.summary["steps"] == changes.get("steps", 1)
    if "eval_share" in changes:
        assert "eval_loss" not in run.rows[-1] and run.summary["best_step"] is None
        assert [row["step"] for row in run.rows] == [1, 2, 3]
    if changes.get("answer") == "reasoning":
        assert "cuts off" not in run.said and {"parse_rate", "move_accuracy"} <= run.rows[-1].keys()
    if "history" in changes:
        assert run.column("examples")[-1] == 12 and "parse_rate" in run.rows[-1]


def test_the_schedule_follows_steps(train: Train) -> None:
    rates = train(log_every=1, steps=10, warmup=0.5, schedule="linear").column("learning_rate")
    assert rates[:5] == [pytest.approx(3e-3 * (n + 1) / 5) for n in range(5)]
    assert rates[-1] == pytest.approx(3e-4) and sorted(rates[4:], reverse=True) == rates[4:]


def test_answers_longer_than_may_be_said_are_warned_of(train: Train) -> None:
    run = train(answer="reasoning", labels="names", max_new_tokens=4, steps=1, evaluate_answers=1)
    assert "max_new_tokens = 4 cuts off what is learnt" in run.said


def test_games_are_played_at_the_end(train: Train, tmp_path: Path) -> None:
    """On the data's task where it is one; a task that is unknown here is said, and costs nothing else."""
    run = train(task="kuhn_poker", evaluate_games=4, steps=2)
    assert [row["player"] for row in run.summary["evaluation"]["rows"][:2]] == [f"adapter({run.path}/adapter)", "base"]
    known = toy.games(tmp_path / "kuhn.jsonl", task="kuhn_poker")
    run = train(data=str(known), task="", evaluate_games=4, steps=2, opponent="first")
    assert run.summary["evaluation"]["task"] == "kuhn_poker" and run.summary["evaluation"]["against"] == "first"
    run = train(task="", steps=2)
    assert "no games will be played: the data's task 'lights' cannot be" in run.said
    with pytest.raises(InputError, match="there is no player 'nobody'"):
        train(task="kuhn_poker", opponent="nobody", steps=2)
    with pytest.raises(InputError, match="plays snake only"):  # not when training is over
        train(task="kuhn_poker", opponent="bfs", steps=2)


def test_a_game_for_one_has_no_opponent(train: Train) -> None:
    run = train(task="catch", evaluate_games=4, steps=2)
    assert run.summary["evaluation"]["against"] == "" and run.summary["evaluation"]["rows"][1]["player"] == "base"
    with pytest.raises(InputError, match="catch is a game for one: nobody can be first"):
        train(task="catch", opponent="first", steps=2)
    with pytest.raises(ConfigError, match="opponent = first has no effect with task = none"):
        train(opponent="first")


def test_the_end_compares_with_other_players_on_further_tasks(train: Train, tmp_path: Path) -> None:
    snake = [f"snake(max_steps=6, size={n})" for n in (4, 5)]
    changes = {"task": snake[0], "evaluate_on": [snake[1]], "evaluate_games": 3, "steps": 1}
    run = train(compare=["greedy", "base", "random"], **changes)
    told = run.summary["evaluation"]
    assert [told["task"], *(e["task"] for e in told["further"])] == snake
    for evaluation in (told, *told["further"]):
        players = [row["player"] for row in evaluation["rows"]]
        assert players == [f"adapter({run.path}/adapter)", "base", "greedy", "random"]
        assert [c["baseline"] for c in evaluation["comparisons"]] == players[1:]
    assert json.loads(json.dumps(told)) == json.loads((run.path / "evaluation.json").read_text())
    for change, message in (
        ({"compare": ["nobody"]}, "there is no player 'nobody'"),
        ({"compare": ["adapter(nowhere)"]}, "no adapter in nowhere"),
        ({"compare": ["greedy"], "evaluate_on": ["kuhn_poker"]}, "greedy"),
        ({"compare": ["greedy", "greedy"]}, "compare names greedy twice"),
        ({"evaluate_on": ["snake(size=3)"]}, "size is a whole number"),
    ):
        with pytest.raises(InputError, match=message):
            train(**{**changes, "steps": 10**6, **change})
    for change in ({"compare": ["random"]}, {"evaluate_on": ["catch"]}, {"evaluate_temperature": 0.5}):
        with pytest.raises(ConfigError, match="has no effect with task = none"):
            train(task="none", **change)


def test_goes_on_from_an_adapter(train: Train) -> None:
    first = train(steps=10)
    weights = Path(first.summary["adapter"]) / "adapter_model.safetensors"
    assert first.summary["adapter_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    second = train(adapter=first.summary["adapter"], steps=1, task="kuhn_poker", evaluate_games=2)
    assert second.column("eval_loss")[0] == pytest.approx(first.column("eval_loss")[-1], rel=1e-4)
    assert second.summary["evaluation"]["rows"][1]["player"] == f"adapter({first.summary['adapter']})"
    [start] = [event for event in second.events if event["event"] == "start"]
    assert start["started_from_sha256"] == first.summary["adapter_sha256"] in second.said
    assert second.summary["started_from_sha256"] == start["started_from_sha256"]
    assert "started_from_sha256" not in first.summary
    assert "started_from_sha256" not in next(event for event in first.events if event["event"] == "start")


def test_an_interrupted_run_saves_and_goes_on_to_the_same_end(train: Train, tmp_path: Path) -> None:
    run = train(steps=8, save_every=100)
    stored = {k: v for k, v in json.loads((run.path / "config.json").read_text()).items() if k != "kind"}
    config = SFTConfig(**stored)
    asked = iter(range(99))
    with Run.create(tmp_path, "stopped", config.to_json()) as folder, RunLog(folder) as log:
        summary = sft.train(config, folder, log, stop=lambda: next(asked) >= 3)
        assert summary["ended"] == "interrupted" and summary["steps"] == 3 and "adapter" not in summary
    with Run.open(tmp_path / "stopped") as folder, RunLog(folder) as log:
        assert sft.train(config, folder, log)["ended"] == "steps"
        for file in folder.adapter.iterdir():
            assert file.read_bytes() == (run.path / "adapter" / file.name).read_bytes()


RISING = {"evaluate_every": 2, "patience": 2, "epochs": 50, "learning_rate": 0.5, "warmup": 0.0, "schedule": "constant"}


def test_the_best_is_written_though_the_disk_had_no_room_for_it(train: Train, full_at: Callable[[int], None]) -> None:
    run = train(**RISING)
    full_at(run.summary["best_step"])
    again = train(**RISING)
    assert again.summary["best_step"] == run.summary["best_step"] and "was not saved" in again.said
    written = [(path / "adapter" / "adapter_model.safetensors").read_bytes() for path in (run.path, again.path)]
    assert written[0] == written[1]


def test_a_best_that_is_gone_is_sought_anew(train: Train) -> None:
    run = train(**RISING)
    stored = {k: v for k, v in json.loads((run.path / "config.json").read_text()).items() if k != "kind"}
    shutil.rmtree(run.path / "checkpoints" / f"step-{run.summary['best_step']:06d}")
    said = io.StringIO()
    with Run.open(run.path) as folder, RunLog(folder, console=Console(file=said)) as log:
        summary = sft.train(SFTConfig(**stored), folder, log)
    assert f"of step {run.summary['best_step']}, is no longer there" in said.getvalue()
    assert summary["ended"] == "patience" and summary["best_step"] > run.summary["steps"]


# ---- one step ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pupil(tmp_path: Path) -> Callable[..., tuple[Pupil, list[Any]]]:
    data = toy.games(tmp_path / "data.jsonl", count=6)

    def build(**changes: Any) -> tuple[Pupil, list[Any]]:
        config = SFTConfig(**{**TINY, "data": str(data), "eval_share": 0.0, "evaluate_every": 0, **changes})
        studio = Studio(config, lambda text: None)
        player, reference = studio.learner(config)
        lessons = sft.prepare(config, player)
        return Pupil.create(config, player, reference), [lesson.item for lesson in lessons.learnt]

    return build


@pytest.mark.parametrize("changes", [{}, {"act": "say", "labels": "names"}], ids=["choices", "tokens"])
@pytest.mark.parametrize("cut", [{"accumulation": 4}, {"part_tokens": 100}], ids=str)
def test_parts_add_up_to_the_whole_batch(
    pupil: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], cut: dict[str, Any]
) -> None:
    grads, counts = [], []
    monkeypatch.setattr(SlotOptimizer, "step", lambda self, rate: grads.append(self.flat.grad.clone()) or 1.0)
    for more in ({}, cut):
        made, items = pupil(**changes, **more)
        sums = Sums()
        made.learn([*items, *items[:5]], 1e-3, sums)  # some of them twice
        counts.append(sums.values["loss"])
    assert torch.allclose(grads[0], grads[1], atol=1e-6) and float(grads[0].norm()) > 0
    assert counts[0] == pytest.approx(counts[1], rel=1e-4)


def test_equal_examples_count_and_are_computed_once(pupil: Callable[..., Any]) -> None:
    made, items = pupil(act="say", labels="names")
    once = made.losses(items[:1]).values
    engine = made.player.policy.engine
    engine.counters.tokens = 0
    thrice = made.losses(items[:1] * 3).values
    assert torch.equal(thrice, once.repeat(3)) and engine.counters.tokens <= 96


def test_gradients_that_are_not_finite_end_training(pupil: Callable[..., Any]) -> None:
    made, items = pupil()
    before = made.adapter.flat.detach().clone()
    with torch.no_grad():
        next(iter(made.adapter.pairs.values()))[0][0, 0] = math.nan
    with pytest.raises(TrainingFailed, match="steps in a row had gradients that are not finite"):
        for _ in range(99):
            made.learn(items[:4], 1e-3, Sums())
    assert made.optimizer.skipped == 20
    assert int((made.adapter.flat.detach() != before).sum()) == 1  # nothing but what was spoilt


# ---- configs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"answer": "reasoning", "act": "choose"}, "reasoning = true has no effect with act = choose"),
        ({"answer": "reasoning", "reasoning": False}, "reasoning = false does not go with answer = reasoning"),
        ({"act": "say", "reasoning": True}, "reasoning = true does not go with answer = move"),
        ({"act": "say", "loss": "choices"}, "loss = choices has no effect with act = say"),
        ({"evaluate_answers": 3}, "evaluate_answers = 3 has no effect with act = choose"),
        ({"evaluate_every": 0, "patience": 2}, "patience = 2 has no effect with evaluate_every = 0"),
        ({"eval_share": 0.0}, "evaluate_every needs examples to measure on"),
        ({"eval_data": "a.jsonl", "eval_share": 0.3}, "eval_share has no effect with eval_data"),
        ({"adapter": "x", "lora": "memory"}, "lora = memory has no effect with adapter = x"),
        ({"task": "a b"}, "task = 'a b': cannot read"),
        ({"opponent": "a("}, "opponent = 'a('"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(SFTConfig, given)
    assert message in error.value.message


def test_what_is_learnt_decides_how_the_model_acts() -> None:
    config = make(SFTConfig, {"answer": "reasoning"})
    assert (config.act, config.reasoning, config.loss) == ("say", True, "tokens")
    assert make(SFTConfig, {"act": "say"}).loss == "tokens" and make(SFTConfig, {}).loss == "choices"
    stored = {key: value for key, value in config.to_json().items() if key != "kind"}
    assert make(SFTConfig, stored) == config


@pytest.mark.parametrize(
    ("name", "parameters", "row"),
    [
        ("seed-speed", 7e9, (8, 16.0, 0.1, ("self_attn.q_proj", "self_attn.v_proj"), 16, 2)),
        ("seed-speed", 13e9, (8, 16.0, 0.1, ("self_attn.q_proj", "self_attn.v_proj"), 16, 4)),
        ("seed-quality", 1.7e9, (16, 32.0, 0.05, "attention", 16, 4)),  # whatever its name says
        ("seed-quality", 13e9, (8, 16.0, 0.1, ("self_attn.q_proj", "self_attn.v_proj"), 16, 4)),
        ("seed-quality", 30e9, (4, 8.0, 0.1, ("self_attn.q_proj",), 16, 8)),
        ("seed-memory", 7e9, (4, 8.0, 0.1, ("self_attn.q_proj",), 16, 8)),
    ],
)
def test_the_seeds_rows_by_parameter_count(name: str, parameters: float, row: tuple[Any, ...]) -> None:
    found = values(name, int(parameters), FAMILIES["llama"])
    keys = ("rank", "alpha", "dropout", "targets", "batch", "accumulation")
    assert tuple(found[key] for key in keys) == row
    assert (found.get("quantize"), found.get("gradient_checkpointing")) == (
        ("8bit", True) if row[0] == 4 else (None,) * 2
    )


@pytest.mark.parametrize("parameters", [5e7, 5e8, 5e9, 1.5e10, 5e10])
def test_what_recipes_give_is_known_without_the_model(parameters: float) -> None:
    names = get_args(SFTConfig.model_fields["lora"].annotation)
    assert {"none", *SFTConfig.RECIPES} == set(names)
    for name, keys in SFTConfig.RECIPES.items():
        assert keys <= values(name, int(parameters), FAMILIES["llama"]).keys()


def test_a_recipe_of_the_users_own_wins_over_a_preset(tmp_path: Path) -> None:
    def made(*overrides: str, source: str = "imitation", cls: type[Any] = SFTConfig) -> tuple[Any, ...]:
        config = resolve(load_config(cls, source, ["model=tiny", *overrides]), lambda text: None)
        return config.rank, config.alpha, config.targets, config.layers, getattr(config, "batch", None)

    assert made() == (16, 32.0, "all-linear", "top:8", 32)
    assert made("lora=seed-memory") == (4, 8.0, ("self_attn.q_proj",), "all", 16)
    assert made("lora=seed-memory", "rank=8", "batch=2") == (8, 8.0, ("self_attn.q_proj",), "all", 2)
    assert made("lora=seed-quality", "layers=top:4") == (16, 32.0, "attention", "top:4", 16)
    assert made("lora=efficient") == (8, 16.0, "all-linear", "top:2", 32)
    assert made("lora=none") == made()
    assert made("lora=memory", source="seed", cls=PPOConfig) == (4, 8.0, "attention", "top:2", None)
    file = tmp_path / "mine.toml"
    file.write_text('kind = "sft"\npreset = "imitation"\nlora = "memory"\nalpha = 3.0\n')
    assert made(source=str(file)) == (4, 3.0, "attention", "top:2", 32)


def test_a_recipe_is_written_out_and_what_is_given_wins() -> None:
    said: list[str] = []
    config = resolve(make(SFTConfig, {**TINY, "lora": "seed-quality", "rank": 3}), said.append)
    assert (config.rank, config.alpha, config.targets, config.batch, config.accumulation) == (
        3,
        32.0,
        "attention",
        16,
        4,
    )
    assert "lora seed-quality for 1" in said[-1] and "rank" not in said[-1]
    fused = resolve(make(SFTConfig, {"model": "tiny:gpt2", "lora": "seed-speed"}), said.append)
    assert fused.targets == ("attn.c_attn",) and fused.dropout == 0.1
    small = resolve(make(SFTConfig, {"model": "tiny", "lora": "efficient"}), said.append)
    assert (small.rank, small.layers, small.alpha) == (8, "top:2", 16.0)
    assert resolve(small.model_copy(update={"lora": "none"}), said.append).rank == 8
