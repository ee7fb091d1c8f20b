"""Success by skill, level and status, from games that know of them."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console
from tests.envs.shell.rig import ScriptedSandbox, use

from ludora.envs.build import task_spec
from ludora.envs.sandbox.base import Done
from ludora.evals.evaluate import evaluate_players
from ludora.evals.groups import group_metrics, groups, training_stats
from ludora.evals.record import Evaluation
from ludora.evals.tables import group_measures, show, verdicts
from ludora.players.bots import RandomPlayer
from ludora.players.shell import Reference
from ludora.types import End, Outcome, Spec, Task, Trajectory


def game(outcome: Outcome, skills: str, level: int = 1, status: str = "completed") -> Trajectory:
    verdict = {Outcome.WON: "correct", Outcome.DREW: "unknown"}.get(outcome, "incorrect")
    info = {"skills": skills, "level": level, "template": "", "status": status, "verdict": verdict}
    return Trajectory(Task(Spec("shell")), 0, "me", (), outcome, 0.0, End.TERMINATED, 1.0, info)


GAMES = (
    game(Outcome.WON, "awk cat"),
    game(Outcome.LOST, "awk", 2),
    game(Outcome.FORFEITED, "awk", 2, "agent_validation_failed"),
    game(Outcome.DREW, "cat", 0),
)


def test_a_game_counts_for_each_of_its_skills() -> None:
    found = {(g.kind, g.name): (g.wins, g.games) for g in groups(GAMES)}
    assert found == {
        ("skill", "awk"): (1, 3),
        ("skill", "cat"): (1, 2),
        ("level", "1"): (1, 1),
        ("level", "2"): (0, 2),
        ("status", "agent_validation_failed"): (0, 1),
        ("status", "completed"): (1, 3),
    }
    assert groups([Trajectory(Task(Spec("snake")), 0, "me", (), Outcome.WON, 1.0, End.TERMINATED)]) == ()


def test_metrics_and_the_stats_of_an_epoch() -> None:
    metrics = group_metrics(GAMES)
    assert metrics["win_rate/skill/awk"] == pytest.approx(1 / 3) and metrics["win_rate/level/2"] == 0
    assert metrics["share/completed"] == 0.75
    assert training_stats(4, GAMES) == {
        "epoch": 4,
        "total_attempts": 4,
        "num_successful_trajectories": 1,
        "total_correct": 1,
        "total_failed": 2,
        "total_unknown": 1,
        "success_rate": 25.0,
        "mean_reward": 1.0,
    }
    assert training_stats(4, []) == {} == group_metrics([])


@pytest.fixture
def evaluation(monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    done = [ScriptedSandbox() for _ in range(3)]
    undone = [ScriptedSandbox({"check": Done(1, "")}) for _ in range(3)]
    use(monkeypatch, *done, *undone)
    return evaluate_players([Reference(), Reference(idle=True)], task_spec("shell"), None, games=3)


def test_they_are_in_the_record_and_on_every_page(evaluation: Evaluation) -> None:
    assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json()))) == evaluation
    (line,) = group_measures(evaluation, "skill")
    assert (line.label, line.cells) == ("mkdir", ("0 of 3 (0 %)", "3 of 3 (100 %)"))
    out = StringIO()
    show(evaluation, Console(file=out, width=120))
    assert "By skill" in out.getvalue() and "3 of 3 (100 %)" in out.getvalue() and "reward per task" in out.getvalue()


def test_equal_answers_are_counted(evaluation: Evaluation) -> None:
    assert [c.same_moves for c in evaluation.comparisons] == [0]
    assert not any("same answers" in sentence for sentence in verdicts(evaluation))


def test_equal_players_make_equal_moves() -> None:
    one, other = RandomPlayer(), RandomPlayer()
    one.name, other.name = "adapter(a)", "merged(b)"
    found = evaluate_players([one, other], task_spec("kuhn_poker"), RandomPlayer(), games=20)
    (comparison,) = found.comparisons
    assert comparison.same_moves == comparison.games == 20
    assert "adapter(a) and merged(b) gave the same answers in 20 of 20 games." in verdicts(found)
