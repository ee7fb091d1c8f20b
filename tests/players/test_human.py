"""A person at the terminal, with a scripted keyboard."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import pytest
from rich.console import Console

from ludora.envs.build import make_env, task_spec
from ludora.errors import InputError
from ludora.grammar import parse
from ludora.players.bots import FirstLegal
from ludora.players.human import HumanPlayer, PlayerQuit, build, read_choice
from ludora.rollout import Game, collect
from ludora.types import Message, Stop, Task, Turn

TURN = Turn(0, (Message("system", "The rules."), Message("user", "[bold]A state.")), ("Check", "Raise"))


def person(*lines: str) -> tuple[HumanPlayer, io.StringIO]:
    """A human who types these lines and then closes the terminal."""
    typed: Iterator[str] = iter(lines)

    def ask(prompt: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    out = io.StringIO()
    return HumanPlayer(Console(file=out, width=100), ask), out


def test_it_shows_rules_state_and_options() -> None:
    human, out = person("2")
    (move,) = human.act([TURN])
    assert (move.text, move.index, human.name) == ("Raise", 1, "human")
    text = out.getvalue()
    assert text.index("The rules.") < text.index("[bold]A state.") < text.index("1. Check   2. Raise")


def test_rules_are_shown_once_a_game() -> None:
    human, out = person("1", "1")
    human.act([TURN])
    human.act([replace(TURN, number=1)])
    assert out.getvalue().count("The rules.") == 1
    assert out.getvalue().count("A state.") == 2


def test_it_asks_again_until_the_answer_is_a_move() -> None:
    human, out = person("", "3", "0", "fold", "-1", "raise")
    assert human.act([TURN])[0].text == "Raise"
    assert out.getvalue().count("is not one of the moves") == 5


@pytest.mark.parametrize("line", ["quit", "EXIT", " quit "])
def test_quit_leaves_cleanly(line: str) -> None:
    human, _ = person(line)
    with pytest.raises(PlayerQuit) as caught:
        human.act([TURN])
    assert caught.value.exit_code == 130


def test_the_end_of_input_leaves_cleanly() -> None:
    human, _ = person("nonsense")
    with pytest.raises(PlayerQuit):
        human.act([TURN])


def test_free_text_is_taken_as_it_is() -> None:
    human, _ = person("ls -l")
    (move,) = human.act([replace(TURN, legal=None)])
    assert (move.text, move.stop) == ("ls -l", Stop.END)


@pytest.mark.parametrize(
    ("answer", "legal", "index"),
    [
        ("1", ("Check", "Raise"), 0),
        ("raise", ("Check", "Raise"), 1),
        ("R", ("Check", "Raise"), 1),
        ("c", ("Check", "Call"), None),
        ("ca", ("Check", "Call"), 1),
        ("b4", ("B4", "b4"), 1),
        ("B4", ("B4", "b4"), 0),
        ("a1", ("a10", "a1"), 1),
        ("1", ("3", "1"), 1),
        ("9", ("Check", "Raise"), None),
        ("", ("Check",), None),
    ],
)
def test_what_a_person_means(answer: str, legal: tuple[str, ...], index: int | None) -> None:
    assert read_choice(answer, legal) == index


def test_a_whole_game() -> None:
    human, out = person(*["1"] * 10)
    (finished,) = collect([Game(Task(task_spec("leduc_poker"), 3), (human, FirstLegal()))], make_env)
    assert finished.trajectories[0].player == "human"
    assert out.getvalue().count("Leduc poker, two players") == 1


def test_player_string() -> None:
    assert build(parse("human")).name == "human"
    with pytest.raises(InputError):
        build(parse("human(name=me)"))


# ---- pictures and keys ---------------------------------------------------------------------------------------------


def steering(*keys: str) -> tuple[HumanPlayer, io.StringIO]:
    pressed, out = iter(keys), io.StringIO()
    return HumanPlayer(Console(file=out, width=100), key=lambda: next(pressed, "")), out


def test_keys_are_moves() -> None:
    turns = make_env(Task(task_spec("snake"))).turns()
    for keys, text in ((("\x1b[A",), "up"), (("\x1bOB",), "down"), (("x", "a"), "left"), (("\x1b", "l"), "right")):
        human, out = steering(*keys)
        (move,) = human.act(turns)
        assert (move.text, turns[0].legal[move.index]) == (text, text)
        assert out.getvalue().count("No such move") == len(keys) - 1 and "@" in out.getvalue()


@pytest.mark.parametrize("key", ["q", "", "\x04"])
def test_a_key_leaves_the_game(key: str) -> None:
    with pytest.raises(PlayerQuit):
        steering("x", key)[0].act(make_env(Task(task_spec("snake"))).turns())


def test_a_key_that_is_not_offered_is_no_move() -> None:
    env = make_env(Task(task_spec("snake(offer=safe)")))
    env.apply({0: FirstLegal().act(env.turns())[0]})  # up, so that down is straight back
    human, out = steering("s", "w")
    assert human.act(env.turns())[0].text == "up" and "Possible: up, left, right." in out.getvalue()


def test_other_games_are_typed_even_where_there_are_keys() -> None:
    out = io.StringIO()
    human = HumanPlayer(Console(file=out, width=100), lambda prompt: "check", lambda: pytest.fail("no key is read"))
    assert human.act([TURN])[0].text == "Check"


def test_watching_changes_nothing_and_shows_all() -> None:
    from ludora.players.human import Watched
    from ludora.players.snake import build as snake_player

    out, task = io.StringIO(), Task(task_spec("snake(size=4)"), 3)
    watched = Watched(snake_player(parse("bfs")), Console(file=out, width=200), 0.0)
    (ours,), (plain,) = (collect([Game(task, (p,))], make_env) for p in (watched, snake_player(parse("bfs"))))
    assert ours.trajectories == plain.trajectories
    for step in ours.trajectories[0].steps:
        assert step.turn.state.picture() in out.getvalue()
        assert f"{step.turn.number + 1}. seat 0, bfs: {step.move.text}  ({step.move.reasoning})" in out.getvalue()
