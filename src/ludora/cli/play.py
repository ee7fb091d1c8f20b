"""`ludora play`: a person at the terminal."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import typer

from ludora.cli.common import model_options, say
from ludora.errors import InputError


@model_options
def play(
    task: Annotated[str, typer.Argument(metavar="TASK", help="TASK to play: leduc_poker, hex(board_size=5) ...")],
    against: Annotated[str, typer.Option(help="PLAYER of the other seats.")] = "random",
    seat: Annotated[int, typer.Option(help="Your seat, from 0.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Seed of the deal; the same seed deals the same game.")] = None,
    settings: Any = None,
) -> None:
    """Play a game yourself. `quit` leaves it."""
    from rich.console import Console

    from ludora.envs.build import make_env, num_players, task_spec
    from ludora.players.build import build_player
    from ludora.players.human import HumanPlayer
    from ludora.rollout import Game, collect
    from ludora.types import Task

    spec = task_spec(task)
    seats = num_players(spec)
    if not 0 <= seat < seats:
        raise InputError(f"there is no seat {seat} in {spec}", f"seats are 0 to {seats - 1}")
    console = Console()
    human = HumanPlayer(console)
    opponent = build_player(against, settings, say) if seats > 1 else human
    deal = secrets.randbelow(2**31) if seed is None else seed
    say(f"seed {deal}")
    sitting = [human if i == seat else opponent for i in range(seats)]
    [finished] = collect([Game(Task(spec, deal, seat, (opponent.name,) * (seats - 1)), sitting)], make_env)
    if finished.error:
        raise InputError(f"the game broke: {finished.error}", f"ludora check-env '{spec}'")
    for trajectory in finished.trajectories:
        who = "you" if trajectory.seat == seat else trajectory.player
        text = f"seat {trajectory.seat} ({who}): {trajectory.outcome}, return {trajectory.total:+g}"
        console.print(text, markup=False, highlight=False)
