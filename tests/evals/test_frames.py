"""Games drawn: every sign in its place, every move a frame that can be reached, the best and the worst game."""

from __future__ import annotations

import re

from ludora.envs.build import task_spec
from ludora.evals.evaluate import deals
from ludora.evals.frames import STRIP, drawing, stepper, strip
from ludora.evals.replay import Decision, ReplayedGame, as_text, replay, telling_games
from ludora.grammar import parse
from ludora.players.bots import RandomPlayer
from ludora.players.snake import build

TASK = task_spec("snake(size=5, max_steps=40)")
PICTURE = "+-------+\n| @ o . |\n|     * |\n|       |\n+-------+"


def test_a_board_is_drawn_cell_by_cell() -> None:
    drawn = drawing(PICTURE)
    assert 'viewBox="0 0 3 3"' in drawn
    paths = dict(re.findall(r'<path class="(\w+)" d="([^"]+)"/>', drawn))
    square = "h1v1h-1z"
    assert paths == {
        "head": f"M0 0{square}",
        "body": f"M1 0{square}",
        "tail": f"M2 0{square}",
        "apple": f"M2 1{square}",
    }
    for other in ("no board", "<b>", "+---+\n| <b> |\n+---+", "+-"):
        assert drawing(other).startswith("<pre>") and "<b>" not in drawing(other)


def test_every_move_is_a_frame_with_its_neighbours_in_reach() -> None:
    decisions = [Decision(0, "a", str(i), (), "up", picture=PICTURE) for i in range(4)]
    made = stepper("g", decisions, lambda decision: f"<p>{decision.text}</p>")
    assert re.findall(r'id="(g-\d)"[^>]*?( checked)?>', made) == [(f"g-{i}", "" if i else " checked") for i in range(4)]
    assert re.findall(r'for="g-(\d)"', made) == [
        "0",
        "0",
        "1",
        "3",
        "0",
        "0",
        "2",
        "3",
        "0",
        "1",
        "3",
        "3",
        "0",
        "2",
        "3",
        "3",
    ]
    assert made.count('class="board"') == 4 and "<script" not in made
    assert strip(decisions).count("<figure>") == 4 and strip(decisions * 9).count("<figure>") == STRIP
    assert "move 36" in strip(decisions * 9)


def test_the_best_and_the_worst_game_are_told_with_pictures() -> None:
    player = build(parse("greedy"))
    shown = telling_games(player, TASK, None, baseline=RandomPlayer(), among=6)
    played = replay(player, TASK, None, seeds=[t.seed for t in deals(TASK, 6, 0)], seats=[0] * 6)
    apples = sorted(float(game.info["apples"]) for game in played)
    assert [game.info["apples"] for game in shown] == [apples[-1], apples[0]]
    for game in shown:
        assert len(game.pictured) == len(game.decisions) == game.info["steps"]
        assert all(d.baseline == (0.25,) * 4 and d.picture.count("@") == 1 for d in game.decisions)
        assert ReplayedGame.from_json(game.to_json()) == game
        text = as_text(game)
        assert f"apples {game.info['apples']:g}" in text and text.count("@") == 1 and "up" in text
