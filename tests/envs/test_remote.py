"""OpenEnv servers as environments: Ludora's, others with texts for actions, and ones that fail in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app
from tests.serve.rig import running

from ludora.envs import remote
from ludora.envs.build import make_env, task_spec
from ludora.envs.check import check_env
from ludora.envs.remote import RemoteEnv, seen, text_field
from ludora.errors import EnvBroken, InputError
from ludora.players.bots import RandomPlayer, ScriptedPlayer
from ludora.rollout import Game, collect
from ludora.serve.guard import Rules
from ludora.serve.openenv import menu, openenv_app
from ludora.types import Message, Move, Outcome, Spec, Task


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(openenv_app(menu(["leduc_poker", "snake(size=5)"], ["random"]), 64, 600.0)) as [found]:
        yield found


def test_a_remote_environment_keeps_the_promises(url: str) -> None:
    for task in ("leduc_poker, seat=1", "snake(size=5)"):
        findings = check_env(task_spec(f"openenv({url}, task={task})"), games=2)
        assert [f for f in findings if not f.passed] == []


def test_games_by_address_are_the_games_themselves(url: str) -> None:
    def steps(spec: Spec, seats: int) -> list[Any]:
        played = collect([Game(Task(spec, seed), [RandomPlayer()] * seats) for seed in range(6)], make_env)
        mine = [f.trajectories[0] for f in played]
        return [
            (t.outcome, t.score, t.total, t.info, [(s.turn.messages, s.move, s.reward) for s in t.steps]) for t in mine
        ]

    there = steps(task_spec(f"openenv({url}, task=leduc_poker, opponent=random)"), 1)
    assert there == steps(task_spec("leduc_poker"), 2)
    assert steps(task_spec(f"openenv({url}, task=snake(size=5))"), 1) == steps(task_spec("snake(size=5)"), 1)


class Guess(Action):  # type: ignore[misc]
    guess: str


class Hint(Observation):  # type: ignore[misc]
    hint: str = ""
    tries: int = 0


class Guessing(Environment):  # type: ignore[misc]
    """Somebody else's environment: a word to guess in three tries, with hints."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self.tries = 0

    def reset(self, seed: int | None = None, episode_id: str | None = None, word: str = "stone") -> Hint:
        self.word, self.tries = word, 0
        return Hint(hint=f"A word of {len(word)} letters.")

    def step(self, action: Guess, timeout_s: float | None = None, **_: Any) -> Hint:
        self.tries += 1
        if action.guess == "crash":
            raise OSError("the dictionary is gone")
        right = action.guess == self.word
        return Hint(hint="No.", tries=self.tries, done=right or self.tries == 3, reward=1.0 if right else 0.0)

    @property
    def state(self) -> State:
        return State(step_count=self.tries)


@pytest.fixture(scope="module")
def guessing() -> Iterator[str]:
    with running(create_fastapi_app(Guessing, Guess, Hint, max_concurrent_envs=16)) as [found]:
        yield found


def test_anybodys_environment_with_texts_for_actions(guessing: str) -> None:
    spec = task_spec(f"openenv({guessing}, word=river)")
    players = [ScriptedPlayer(["stone", "river"]), ScriptedPlayer(["a", "b", "c"])]
    won, lost = (f.trajectories[0] for f in collect([Game(Task(spec, 1), [p]) for p in players], make_env))
    assert won.steps[0].turn.messages == (Message("user", '{"hint": "A word of 5 letters.", "tries": 0}'),)
    assert won.steps[1].turn.messages == (Message("user", '{"hint": "No.", "tries": 1}'),)
    assert won.steps[0].turn.legal is None
    assert (won.outcome, won.score, won.total) == (Outcome.WON, 1.0, 1.0)
    assert (lost.outcome, lost.score, lost.total, len(lost.steps)) == (Outcome.LOST, 0.0, 0.0, 3)


def test_what_fails_there_is_a_broken_environment_here(guessing: str) -> None:
    spec = task_spec(f"openenv({guessing})")
    crashing, sound = ScriptedPlayer(lambda turn: "crash"), ScriptedPlayer(lambda turn: "stone")
    broken, other = collect([Game(Task(spec), [crashing]), Game(Task(spec), [sound])], make_env)
    assert "the dictionary is gone" in broken.error and guessing in broken.error and broken.retried
    assert not other.error and other.trajectories[0].outcome is Outcome.WON


def test_a_refused_reset_names_the_reason(url: str) -> None:
    [finished] = collect([Game(Task(task_spec(f"openenv({url}, task=hex)")), [RandomPlayer()])], make_env)
    assert "this task is not served" in finished.error


def test_nobody_there() -> None:
    env = RemoteEnv(Task(task_spec("openenv(http://127.0.0.1:9)")))
    with pytest.raises(EnvBroken, match=r"^http://127.0.0.1:9: "):
        env.turns()
    env.close()


def test_a_lost_connection_is_not_made_anew_in_the_middle_of_an_episode(guessing: str) -> None:
    """A new connection would be a session in which this episode never began, and the server would take its moves."""
    env = RemoteEnv(Task(task_spec(f"openenv({guessing})")))
    assert env.turns()
    remote._loop().call_soon_threadsafe(env._session._ws.transport.abort)
    for _ in range(2):
        with pytest.raises(EnvBroken):
            env.apply({0: Move("stone")})
    env.close()


def test_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(remote.TOKEN_VARIABLE, raising=False)
    app = openenv_app(menu(["snake(size=5)"], ["random"]), 4, 600.0)
    with running(app, rules=Rules(token="a-token-of-enough-length")) as [found]:
        task = Task(task_spec(f"openenv({found})"))
        with pytest.raises(EnvBroken, match="401"):
            RemoteEnv(task).turns()
        monkeypatch.setenv(remote.TOKEN_VARIABLE, "a-token-of-enough-length")
        env = RemoteEnv(task)
        assert env.turns()[0].legal
        env.close()


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("openenv(http://127.0.0.1:8000/)", "openenv(http://127.0.0.1:8000)"),
        ("openenv(https://host/a/b, task=hex(board_size=5))", "openenv(https://host/a/b, task=hex(board_size=5))"),
    ],
)
def test_tasks(text: str, spec: str) -> None:
    assert str(task_spec(text)) == spec and task_spec(spec) == task_spec(text)


@pytest.mark.parametrize(
    "text",
    [
        "openenv",
        "openenv(8000)",
        "openenv(127.0.0.1:8000)",
        "openenv(ftp://host)",
        "openenv(file:///etc/passwd)",
        "openenv(http://)",
        "openenv(http://host:99999)",
        "openenv(http://user:secret@host)",
        "openenv(http://host?x=1)",
        "openenv(http://a, http://b)",
        "openenv:x(http://a)",
    ],
)
def test_tasks_that_are_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        task_spec(text)
    assert caught.value.hint and "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("observation", "messages"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "x": 1}, ["a", "b"]),
        ({"messages": [], "prompt": "Guess."}, ["Guess."]),
        ({"messages": [{"role": "tool", "content": "a"}]}, ['{"messages": [{"role": "tool", "content": "a"}]}']),
        ({"echoed": "hello", "metadata": {"a": 1}}, ["hello"]),
        ({"a": "x", "b": "y"}, ['{"a": "x", "b": "y"}']),
        ({"n": 0, "text": None}, ['{"n": 0}']),
        ({}, ["{}"]),
    ],
)
def test_what_an_observation_shows(observation: dict[str, Any], messages: list[str]) -> None:
    assert [m.content for m in seen(observation)] == messages


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("properties", "required", "field"),
    [
        ({"text": TEXT, "metadata": {"type": "object"}}, ["text"], "text"),
        ({"text": TEXT}, [], "text"),
        ({"message": TEXT, "note": TEXT}, ["message"], "message"),
        ({"message": TEXT, "note": TEXT}, [], ""),
        ({"message": TEXT, "times": NUMBER}, ["message", "times"], ""),
        ({"action_id": NUMBER}, ["action_id"], ""),
        ({}, [], ""),
    ],
)
def test_which_field_takes_the_text(properties: dict[str, Any], required: list[str], field: str) -> None:
    assert text_field({"action": {"properties": properties, "required": required}}) == field
    assert text_field({}) == text_field({"action": None}) == ""


def answers(*found: Any) -> Callable[..., Any]:
    """A session that answers with these, one after the other."""
    waiting = iter(found)

    class Session:
        def __init__(self, url: str, headers: dict[str, str]) -> None: ...

        async def schema(self) -> Any:
            return {"action": {"properties": {"text": TEXT}}}

        async def begin(self, **_: Any) -> Any:
            return next(waiting)

        async def act(self, action: Any) -> Any:
            return next(waiting)

        async def leave(self) -> None: ...

    return lambda: Session


class Answer:
    def __init__(self, observation: Any, reward: Any = None, done: bool = False) -> None:
        self.observation, self.reward, self.done = observation, reward, done


@pytest.mark.parametrize(
    ("end", "reward", "outcome", "score"),
    [
        ({}, 0.6, Outcome.WON, 0.6),
        ({}, 0.5, Outcome.LOST, 0.5),
        ({}, -3, Outcome.LOST, 0.0),
        ({}, 7, Outcome.WON, 1.0),
        ({"outcome": "drew", "score": 0.5}, 0, Outcome.DREW, 0.5),
        ({"outcome": "truncated", "score": 0.25}, 1, Outcome.TRUNCATED, 0.25),
        ({"outcome": "nonsense", "score": "high"}, 1, Outcome.WON, 1.0),
        ({"score": float("nan")}, 1, Outcome.WON, 1.0),
    ],
)
def test_scores(monkeypatch: pytest.MonkeyPatch, end: Any, reward: float, outcome: Outcome, score: float) -> None:
    monkeypatch.setattr(remote, "_session_class", answers(Answer({"t": "go"}), Answer(end, reward, True)))
    env = RemoteEnv(Task(task_spec("openenv(http://host)")))
    assert env.rewards() == (0.0,)
    env.apply({0: Move("x")})
    assert env.turns() == () and env.rewards() == (float(reward),)
    assert (env.result().outcomes, env.result().scores) == ((outcome,), (score,))


@pytest.mark.parametrize("answer", [Answer("text"), Answer(None), Answer({"t": 1}, "a lot"), Answer({}, float("inf"))])
def test_answers_that_mean_nothing(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    monkeypatch.setattr(remote, "_session_class", answers(answer))
    with pytest.raises(EnvBroken, match=r"http://host: the observation is no object, or the reward no number"):
        RemoteEnv(Task(task_spec("openenv(http://host)"))).turns()


def test_seeds_of_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (0, 2**64 - 1, -1):
        monkeypatch.setattr(remote, "_session_class", answers(Answer({"t": "go"})))
        assert RemoteEnv(Task(task_spec("openenv(http://host)"), seed)).turns()
