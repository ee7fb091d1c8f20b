"""Ludora's environments as OpenEnv servers: by OpenEnv's own client, and by its check of a running server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from openenv.cli._validation import validate_running_environment
from openenv.core import GenericEnvClient
from tests.serve.rig import running

from ludora.envs.build import make_env, task_spec
from ludora.errors import InputError
from ludora.players.bots import FirstLegal, RandomPlayer
from ludora.rollout import Game, collect
from ludora.serve.openenv import menu, openenv_app
from ludora.types import Task

SESSIONS = 4


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    offered = menu(["leduc_poker", "goofspiel(num_cards=4)", "snake(size=5)"], ["random", "first"])
    with running(openenv_app(offered, SESSIONS, 600.0)) as [found]:
        yield found


def played(url: str, **wanted: Any) -> tuple[list[Any], dict[str, Any]]:
    """A game in which the client always makes the first legal move: all answers, and the state at its end."""
    with GenericEnvClient(base_url=url).sync() as env:
        answers = [env.reset(**wanted)]
        while not answers[-1].done:
            answers.append(env.step({"text": answers[-1].observation["legal"][0]}))
        return answers, env.state()


@pytest.mark.parametrize("task", ["leduc_poker", "goofspiel(num_cards=4)", "snake(size=5)"])
def test_a_game_over_the_network_is_the_game_at_home(url: str, task: str) -> None:
    spec = task_spec(task)
    for seed in range(3):
        seats = 1 if task.startswith("snake") else 2
        for seat in range(seats):
            names = ["first" if i == seat else "random" for i in range(seats)]
            sitting = [FirstLegal() if name == "first" else RandomPlayer() for name in names]
            [home] = collect([Game(Task(spec, seed, seat, ("random",) * (seats - 1)), sitting)], make_env)
            mine = home.trajectories[seat]
            answers, state = played(url, task=task, seed=seed, seat=seat)
            assert [[m["content"] for m in a.observation["messages"]] for a in answers[:-1]] == [
                [m.content for m in step.turn.messages] for step in mine.steps
            ]
            assert [a.observation["legal"] for a in answers[:-1]] == [
                list(step.turn.legal or ()) for step in mine.steps
            ]
            assert sum(a.reward for a in answers) == pytest.approx(mine.total)
            end = answers[-1].observation
            assert (end["outcome"], end["score"], end["seat"]) == (mine.outcome, mine.score, seat)
            assert end["info"] == dict(mine.info)
            assert state["step_count"] == len(mine.steps) and state["task"] == str(spec) and state["seed"] == seed


def test_the_first_task_and_opponent_unasked_and_a_fresh_seed(url: str) -> None:
    states = [played(url)[1] for _ in range(2)]
    assert [(s["task"], s["opponent"], s["seat"]) for s in states] == [("leduc_poker", "random", 0)] * 2
    assert states[0]["seed"] != states[1]["seed"]
    assert played(url, opponent="first", episode_id="mine")[1]["opponent"] == "first"


def test_sessions_at_once(url: str) -> None:
    """Each has its own game; beyond the limit a client is refused, and a place that falls free is had again."""
    envs = [GenericEnvClient(base_url=url).sync() for _ in range(SESSIONS)]
    try:
        alone = [played(url, seed=seed)[0][0].observation for seed in range(SESSIONS)]
        assert [env.reset(seed=seed).observation for seed, env in enumerate(envs)] == alone
        with pytest.raises(RuntimeError, match="CAPACITY_REACHED"), GenericEnvClient(base_url=url).sync() as more:
            more.reset()
    finally:
        for env in envs:
            env.close()
    played(url)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"task": "kuhn_poker"}, "this task is not served"),
        ({"task": "shell(path=/etc/passwd)"}, "this task is not served"),
        ({"task": "((("}, "cannot read"),
        ({"opponent": "mcts"}, "this opponent is not served"),
        ({"opponent": "adapter(/etc)"}, "this opponent is not served"),
        ({"task": "snake(size=5)", "opponent": "first"}, "one seat and no opponent"),
        ({"seat": 2}, "there is no seat 2"),
        ({"seat": True}, "seat is a whole number"),
        ({"seed": -1}, "seed is a whole number"),
        ({"seed": "7"}, "seed is a whole number"),
        ({"sede": 7}, "reset takes no 'sede'"),
    ],
)
def test_resets_that_are_refused(url: str, wanted: dict[str, Any], why: str) -> None:
    with GenericEnvClient(base_url=url).sync() as env:
        with pytest.raises(RuntimeError) as caught:
            env.reset(**wanted)
        assert why in str(caught.value)
        with pytest.raises(RuntimeError, match="there is no game"):
            env.step({"text": "Pass"})
        env.reset()


def test_an_illegal_text_forfeits_and_an_ended_game_takes_no_move(url: str) -> None:
    with GenericEnvClient(base_url=url).sync() as env:
        env.reset(seed=1)
        end = env.step({"text": "no such move"})
        assert end.done and end.observation["outcome"] == "forfeited" and end.observation["score"] <= 0.5
        with pytest.raises(RuntimeError, match="the game is over"):
            env.step({"text": "Pass"})
        with pytest.raises(RuntimeError, match="VALIDATION_ERROR"):
            env.step({"move": "Pass"})


def test_openenvs_own_check_of_a_server(url: str) -> None:
    report = validate_running_environment(url)
    assert report["passed"] and not report["summary"]["failed_criteria"] and report["mode"] == "simulation"


def test_the_routes_without_a_session(url: str) -> None:
    """OpenEnv's HTTP routes make an environment for one call: a game begins with `reset`, so `step` has none."""
    assert requests.post(f"{url}/reset", json={"seed": 3}).json()["observation"]["legal"]
    answer = requests.post(f"{url}/step", json={"action": {"text": "Pass"}})
    assert answer.status_code == 409 and "there is no game" in answer.json()["detail"]
    assert requests.post(f"{url}/reset", json={"task": "nothing"}).status_code == 409
    assert "leduc_poker" in requests.get(f"{url}/metadata").json()["description"]


@pytest.mark.parametrize(
    "player", ["base", "adapter(runs/x)", "human", "epsilon(0.1, base)", "epsilon(0.1, human)", "x"]
)
def test_opponents_that_cannot_be_served(player: str) -> None:
    with pytest.raises(InputError):
        menu(["leduc_poker"], [player])
