"""The report of real evaluations and replays: whole, offline, escaped, and calm about what is missing."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ludora.errors import InputError
from ludora.evals.evaluate import evaluate_players
from ludora.evals.page import page
from ludora.evals.record import Evaluation, Row
from ludora.evals.replay import Decision, ReplayedGame, replay
from ludora.evals.report import markdown, write_report
from ludora.evals.stages import StageRow, to_json
from ludora.evals.story import FILES, flat, read_story
from ludora.players.bots import FirstLegal, RandomPlayer, ScriptedPlayer
from ludora.types import Outcome, Spec

KUHN = Spec("kuhn_poker")
CONFIG = {
    "kind": "ppo",
    "model": "smollm2-135m",
    "task": "kuhn_poker",
    "opponent": "random",
    "rank": 8,
    "dtype": "auto",
}
VOID = {"meta"}


class Checker(HTMLParser):
    """Every element is closed in order; nothing outside the page is named; no script."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object", "embed", "link", "img", "base", "form")
        for name, value in attrs:
            assert name not in ("src", "href", "srcset", "action") and not name.startswith("on"), (name, value)
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def bold() -> ScriptedPlayer:
    return ScriptedPlayer(lambda t: (t.legal or ("",))[-1], "bold")


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def parts() -> dict[str, str]:
    """The five files of a finished run."""
    evaluation = evaluate_players([bold(), FirstLegal()], KUHN, RandomPlayer(), games=20, exact=True)
    games = replay(bold(), KUHN, RandomPlayer(), seeds=[1, 2, 3], seats=[0, 1, 0], baseline=RandomPlayer())
    metrics = [
        {"step": s, "time": 9.0 * s, "return": 0.1 * s, "win_rate": 0.5, "kl": 0.01, "odd/one": 2.0} for s in range(9)
    ]
    metrics[8] |= {"expected_value": 0.4, "seconds_rollout": 1.0, "seconds_update": 6.0, "loss_value": math.nan}
    return {
        "config.json": json.dumps(CONFIG),
        "metrics.jsonl": lines(metrics),
        "events.jsonl": lines([{"event": "start", "threads": 2, "dtype": "bf16"}, {"event": "best", "update": 8}]),
        "evaluation.json": json.dumps(evaluation.to_json()),
        "replays.json": json.dumps([g.to_json() for g in games]),
    }


def run(folder: Path, parts: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in parts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def adapter(folder: Path) -> None:
    """A PEFT folder of 2 x (3 x 4) weights; only its header is read."""
    header = json.dumps(
        {n: {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]} for n in "ab"} | {"__metadata__": {}}
    )
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({"r": 3, "base_model_name_or_path": "tiny"}))
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode())


def test_a_whole_run(tmp_path: Path, parts: dict[str, str]) -> None:
    folder = run(tmp_path / "leduc", parts)
    adapter(folder)
    path = write_report(folder)
    assert path == folder / "report.html"
    assert sorted(p.name for p in folder.iterdir()) == sorted([*parts, "adapter", "report.html", "report.md"])
    html = path.read_text(encoding="utf-8")
    page = Checker(html)
    assert {"svg", "polyline", "table", "figure"} <= page.seen
    assert not re.search(r"(https?:)?//|@import|url\(", html)
    for words in (
        "smollm2-135m learns kuhn_poker",
        "LoRA adapter of 24 numbers (rank 3)",
        "8 updates in 1 min 12 s, 2 threads and bf16.",
        "Best possible",
        "of the way from before",
        "No reliable difference between bold and first",
        "Game 3",
        "odd/one",
        "ludora train ppo",
        "ludora evaluate",
        "--compare first --games 20 --seed 0 --exact",
    ):
        assert words in page.text, words
    assert "missing" not in html.split("<body>")[1]
    assert "nan" not in html.split("<body>")[1].lower().replace("nance", "")
    markdown_text = (folder / "report.md").read_text(encoding="utf-8")
    for words in ("# smollm2-135m learns kuhn\\_poker", "best possible", "## Learning", "<- chosen", "## Do it again"):
        assert words in markdown_text, words


@pytest.mark.parametrize("gone", FILES)
def test_one_part_is_missing(tmp_path: Path, parts: dict[str, str], gone: str) -> None:
    folder = run(tmp_path, {name: text for name, text in parts.items() if name != gone})
    page = Checker(write_report(folder).read_text(encoding="utf-8"))
    assert f"{gone} is not there" in page.text
    assert gone in (folder / "report.md").read_text(encoding="utf-8").split("## Missing")[1]


@pytest.mark.parametrize("kept", FILES)
def test_one_part_is_all_there_is(tmp_path: Path, parts: dict[str, str], kept: str) -> None:
    folder = run(tmp_path, {kept: parts[kept]})
    Checker(write_report(folder).read_text(encoding="utf-8"))
    assert markdown(read_story(folder))


@pytest.mark.parametrize("damaged", FILES)
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"version": 1}', "[{}]", "\x00\ud7ff", '{"step": "x", "time": null}']
)
def test_one_part_is_damaged(tmp_path: Path, parts: dict[str, str], damaged: str, text: str) -> None:
    Checker(write_report(run(tmp_path, {**parts, damaged: text})).read_text(encoding="utf-8"))


def test_bytes_that_are_no_text(tmp_path: Path, parts: dict[str, str]) -> None:
    folder = run(tmp_path, parts)
    (folder / "config.json").write_bytes(b"\xff\xfe{}")
    assert "config.json cannot be read" in Checker(write_report(folder).read_text(encoding="utf-8")).text


def test_text_that_is_no_unicode(tmp_path: Path, parts: dict[str, str]) -> None:
    folder = run(tmp_path, {**parts, "config.json": '{"task": "\\ud800"}'})
    Checker(write_report(folder).read_text(encoding="utf-8"))


def test_a_torn_last_line_costs_only_itself(tmp_path: Path, parts: dict[str, str]) -> None:
    story = read_story(run(tmp_path, {**parts, "metrics.jsonl": parts["metrics.jsonl"] + '{"step": 9, "ti'}))
    assert len(story.metrics) == 9
    assert story.problems == {"metrics.jsonl": "has 1 unreadable line, left out"}


@pytest.mark.parametrize("name", ["nothing", "file.txt"])
def test_what_is_no_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(InputError, match="is not a run folder"):
        write_report(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file.txt"]


EVIL = "<script>alert(1)</script>"
names = st.one_of(st.just(EVIL), st.just('" onload="x'), st.just("</pre>|```"), st.text(max_size=12))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(names, names, names, names)
def test_every_value_is_escaped(tmp_path: Path, player: str, other: str, text: str, key: str) -> None:
    text, key, player, other = (s.encode("utf-8", "replace").decode() for s in (text, key, player, other))
    evaluation = Evaluation(
        text, other, 2, 0, text, (Row(player + "1", expected_value=1.0, win_rate=0.5, games=2), Row(other + "2"))
    )
    decision = Decision(0, player, text, (other, key), key, (0.5, 0.5), (0.1, 0.9))
    game = ReplayedGame(
        text, 1, 0, player, other, key, (decision, Decision(1, other, key, (), text)), Outcome.LOST, -1.0
    )
    folder = run(
        tmp_path,
        {
            "config.json": json.dumps({"model": text, "task": player, "opponent": other, key or "k": text}),
            "metrics.jsonl": lines([{"step": 1, "time": 3, key: 1.0, "return": 1.0}]),
            "events.jsonl": lines([{"event": text, key: player}]),
            "evaluation.json": json.dumps(evaluation.to_json()),
            "replays.json": json.dumps([game.to_json()]),
        },
    )
    html = write_report(folder).read_text(encoding="utf-8")
    Checker(html)
    assert EVIL not in html and 'onload="' not in html
    assert "<script" not in (folder / "report.md").read_text(encoding="utf-8").replace("\\<", "").split("```")[0]


def test_self_play_is_told_by_nash_conv(tmp_path: Path, parts: dict[str, str]) -> None:
    metrics = [{"step": s, "time": 1.0, "return": 0.0, "nash_conv": 1.0 / (s + 1)} for s in range(5)]
    config = json.dumps(CONFIG | {"opponent": "self"})
    folder = run(tmp_path, {**parts, "config.json": config, "metrics.jsonl": lines(metrics)})
    story = read_story(folder)
    assert story.headline is not None and story.evaluation is not None
    assert (story.headline.after, story.headline.best) == (story.evaluation.rows[0].nash_conv, 0.0)
    page = Checker(write_report(folder).read_text(encoding="utf-8"))
    assert "NashConv (0 = unbeatable)" in page.text and "against itself" in page.text


LEAGUE = {"self": 1.0, "snapshots(last=2)": 1.0}


@pytest.mark.parametrize(
    ("config", "left", "by_nash_conv"),
    [
        ({"opponent": LEAGUE}, 0, True),
        ({"opponent": {"snapshots": 1.0}}, 0, True),
        ({"opponent": LEAGUE | {"random": 1.0}}, 0, False),  # measured against that one
        ({"stages": [{"name": "a", "opponent": "random"}, {"name": "b"}], "opponent": LEAGUE}, 1, True),
        ({"stages": [{"name": "a", "opponent": "random"}, {"name": "b"}], "opponent": LEAGUE}, 0, False),
        ({"stages": "x", "opponent": 3}, 0, False),
    ],
)
def test_a_league_is_told_by_what_training_selects_by(
    tmp_path: Path, parts: dict[str, str], config: dict[str, Any], left: int, by_nash_conv: bool
) -> None:
    metrics = [{"step": s, "time": 1.0, "return": 0.0, "nash_conv": 1.0 / (s + 1)} for s in range(5)]
    events = lines([{"event": "start"}, *[{"event": "stage", "update": 1}] * left])
    files = {"config.json": json.dumps(CONFIG | config), "metrics.jsonl": lines(metrics), "events.jsonl": events}
    folder = run(tmp_path, {**parts, **files})
    shown = Checker(write_report(folder).read_text(encoding="utf-8")).text
    assert ("NashConv (0 = unbeatable)" in shown) is by_nash_conv
    assert ("Expected value, chips per hand" in shown) is not by_nash_conv


def test_what_a_nash_conv_of_0_means_hangs_on_the_game(tmp_path: Path, parts: dict[str, str]) -> None:
    """In a game that both win or lose together, nobody beats anybody."""
    evaluation = evaluate_players([FirstLegal()], Spec("tiny_hanabi"), RandomPlayer(), games=2, exact=True)
    config = json.dumps(CONFIG | {"task": "tiny_hanabi", "opponent": "self"})
    folder = run(tmp_path, {**parts, "config.json": config, "evaluation.json": json.dumps(evaluation.to_json())})
    shown = Checker(write_report(folder).read_text(encoding="utf-8")).text
    assert "NashConv (0 = an equilibrium)" in shown and "unbeatable" not in shown


def test_nobody_knows_what_share_of_a_stage_can_be_won(tmp_path: Path, parts: dict[str, str]) -> None:
    row = StageRow("a", "random", "kuhn_poker", 20, 0.7, 0.5, 0.8, 0.6, 0.4, 0.7, 0.5)
    folder = run(tmp_path, {**parts, "stages.json": json.dumps(to_json([row]))})
    head = read_story(folder).headline
    assert head is not None and (head.before, head.after, head.best, head.way) == (0.6, 0.7, None, None)
    assert "Best possible" not in Checker(write_report(folder).read_text(encoding="utf-8")).text


def test_a_legend_names_only_lines_that_are_drawn(tmp_path: Path, parts: dict[str, str]) -> None:
    metrics = [{"step": s, "return": 0.1 * s, "scored_accuracy": 0.5} for s in range(3)]  # never measured
    html = write_report(run(tmp_path, {**parts, "metrics.jsonl": lines(metrics)})).read_text(encoding="utf-8")
    shown = Checker(html).text
    assert "mean return of the training games" in shown and "evaluation games" not in shown
    assert "by score" in shown and "as it acts" not in shown


def test_what_training_games_are_counted_is_said(tmp_path: Path, parts: dict[str, str]) -> None:
    def shown(**counts: float) -> str:
        rows = [{"step": 1, **{f"{key}/{name}": n for name, n in counts.items() for key in ("count", "win_rate")}}]
        rows[0] |= {"replays": 3.0} if "kuhn/seat0" in counts else {}
        return markdown(read_story(run(tmp_path, {**parts, "metrics.jsonl": lines(rows)})))

    assert "counts for each of its seats" in shown(**{"self/seat0": 1.0, "self/seat1": 1.0})
    assert "Lost tasks that were dealt again count, too" in shown(**{"kuhn/seat0": 1.0})
    plain = shown(**{"random/seat0": 1.0})
    assert "## Training games by opponent and seat" in plain and "each of its seats" not in plain
    assert "dealt again" not in plain
    assert "## Training games\n" in shown(snake=2.0)


def test_a_game_for_one_is_against_nobody(tmp_path: Path, parts: dict[str, str]) -> None:
    """Whatever the config says by default."""
    snake = evaluate_players([FirstLegal()], Spec("snake", params=(("max_steps", 3), ("size", 4))), None, games=2)
    story = read_story(run(tmp_path, {**parts, "evaluation.json": json.dumps(snake.to_json())}))
    assert story.opponent == "" and "against" not in story.summary


def test_opponents_in_a_mixture_are_named(tmp_path: Path, parts: dict[str, str]) -> None:
    config = json.dumps(CONFIG | {"opponent": {"random": 3.0, "nash": 1.0}})
    story = read_story(run(tmp_path, {**parts, "config.json": config}))
    assert story.opponent == "random (weight 3.0), nash (weight 1.0)"


def test_small_words() -> None:
    assert flat({"a": 1, "b": {"c": "x", "d": [1]}, "e": {}}) == [("a", "1"), ("b.c", "x"), ("b.d", "[1]"), ("e", "{}")]


def test_a_report_of_learning_from_examples(tmp_path: Path) -> None:
    """Losses instead of returns; where no game was played, nothing is said to be missing."""
    run = tmp_path / "imitation"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"kind": "sft", "model": "tiny", "data": "d/games.jsonl", "task": ""}))
    rows = [{"step": 0, "eval_loss": 1.4, "eval_perplexity": 4.0, "move_accuracy": 0.25}]
    rows += [{"step": n, "loss": 1 / n, "eval_loss": 1.2 / n, "move_accuracy": 0.25 * n} for n in (1, 2, 3)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "events.jsonl").write_text(json.dumps({"event": "start", "examples": 1200, "game": ""}) + "\n")
    story = read_story(run)
    assert story.problems == {} and story.title == "tiny learns games.jsonl"
    assert "Trained by SFT on 1,200 examples of games.jsonl" in story.summary and "3 steps" in story.summary
    head = story.headline
    assert head is not None and (head.before, head.after, head.best) == (0.25, 0.75, None)
    shown = page(story)
    assert "Best possible" not in shown  # experts may draw lots
    assert "held-out examples" in shown and "Expert&#x27;s move found" in shown and "Games, move by move" not in shown
    assert "| step | loss | eval\\_loss | move\\_accuracy |" in markdown(story)
    assert "Missing" not in markdown(story)
    (run / "events.jsonl").write_text(json.dumps({"event": "start", "examples": 1200, "game": "kuhn_poker"}) + "\n")
    story = read_story(run)
    assert story.title == "tiny learns kuhn_poker" and "evaluation.json" in story.problems
