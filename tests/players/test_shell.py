"""The scripted players of the shell."""

from __future__ import annotations

import pytest

from ludora.envs.build import make_env, task_spec
from ludora.errors import InputError
from ludora.players.bots import RandomPlayer
from ludora.players.build import player_spec
from ludora.players.shell import Reference, build
from ludora.types import Spec, Task


@pytest.mark.parametrize(
    ("act", "answer"),
    [
        ("act", "Act: bash\n```bash\nmkdir /srv/{}\n```"),
        ("bash", "```bash\nmkdir /srv/{}\n```"),
        ("line", "mkdir /srv/{}"),
    ],
)
def test_the_reference_in_every_form(act: str, answer: str) -> None:
    env = make_env(Task(task_spec(f"shell(template=mkdir-one, act={act}, index=0)")))
    folder = env.turns()[0].state.entry.key.partition("/")[2]
    (move,) = Reference().act(env.turns())
    assert move.text == answer.format(folder)
    (idle,) = Reference(idle=True).act(env.turns())
    assert idle.text == ("Act: finish" if act == "act" else "finish")


def test_they_play_nothing_else() -> None:
    turns = make_env(Task(task_spec("kuhn_poker"))).turns()
    for name in ("reference", "idle"):
        player = build(Spec(name))
        assert player.name == name
        with pytest.raises(InputError, match=f"{name} plays shell"):
            player.act(turns)
        with pytest.raises(InputError, match=f"{name} plays shell, not snake"):
            player.check(Spec("snake"))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="no option 'fast'"):
        player_spec("reference(fast=1)")


def test_a_random_player_says_that_it_cannot() -> None:
    with pytest.raises(InputError, match="random chooses among legal actions"):
        RandomPlayer().act(make_env(Task(task_spec("shell"))).turns())


def test_merged_needs_a_folder() -> None:
    assert str(player_spec("merged(out)")) == "merged(out)"
    with pytest.raises(InputError, match="needs the merged model's folder and nothing else"):
        player_spec("merged")
