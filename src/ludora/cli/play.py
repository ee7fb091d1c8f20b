"""`ludora play`: a person at the terminal, or any player to look at."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ludora.cli.common import model_options, say
from ludora.errors import InputError

if TYPE_CHECKING:
    from ludora.players.base import Player

DELAY = 0.15  # seconds of a frame on a terminal
LONGEST = 3600


@model_options
def play(
    task: Annotated[str, typer.Argument(metavar="TASK", help="TASK to play: leduc_poker, snake(size=8) ...")],
    against: Annotated[str | None, typer.Option(help="PLAYER of the other seats; else random.")] = None,
    watch: Annotated[str, typer.Option(help="PLAYER that plays in your place, while you look on.")] = "",
    delay: Annotated[
        float | None, typer.Option(help="Seconds between moves you watch; 0.15 on a terminal, else 0.")
    ] = None,
    seat: Annotated[int, typer.Option(help="Your seat, from 0.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Seed of the deal; the same seed deals the same game.")] = None,
    settings: Any = None,
) -> None:
    """Play a game yourself, or watch a player. `quit` leaves it."""
    from rich.console import Console

    from ludora.envs.build import make_env, num_players, task_spec
    from ludora.players.base import check_plays
    from ludora.players.build import build_player, check_models, check_player
    from ludora.players.human import HumanPlayer, Watched, keyboard
    from ludora.rollout import Game, collect
    from ludora.types import Task

    spec = task_spec(task)
    seats = num_players(spec)
    if not 0 <= seat < seats:
        raise InputError(f"there is no seat {seat} in {spec}", f"seats are 0 to {seats - 1}")
    if against is not None and seats == 1:
        raise InputError(f"{spec} is a game for one: --against has no effect", "leave out --against")
    if delay is not None and not watch:
        raise InputError("--delay has no effect without --watch", "add --watch PLAYER")
    if delay is not None and not 0 <= delay <= LONGEST:
        raise InputError(f"--delay {delay:g} is out of range", f"0 to {LONGEST} seconds")
    named = [watch] * bool(watch) + ["random" if against is None else against] * (seats > 1)
    check_models(map(check_player, named), [spec], settings)
    console = Console()
    live = console.is_terminal and not console.is_dumb_terminal
    pause = DELAY * live if delay is None else delay

    def seated(text: str) -> Player:
        player = build_player(text, settings, say)
        check_plays(player, spec)
        return Watched(player, console, pause) if watch else player

    mine = seated(watch) if watch else HumanPlayer(console, key=keyboard() if live else None)
    opponent = seated(named[-1]) if seats > 1 else mine
    deal = secrets.randbelow(2**31) if seed is None else seed
    say(f"seed {deal}")
    sitting = [mine if i == seat else opponent for i in range(seats)]
    [finished] = collect([Game(Task(spec, deal, seat, (opponent.name,) * (seats - 1)), sitting)], make_env)
    if finished.error:
        raise InputError(f"the game broke: {finished.error}", f"ludora check-env '{spec}'")
    for trajectory in finished.trajectories:
        who = "you" if trajectory.seat == seat and not watch else trajectory.player
        text = f"seat {trajectory.seat} ({who}): {trajectory.outcome}, return {trajectory.total:+g}"
        console.print(text + _told(trajectory.info), markup=False, highlight=False, soft_wrap=True)


def _told(info: Mapping[str, float | str]) -> str:
    """What the environment has to say about the game."""
    return "".join(f", {key.replace('_', ' ')} {value}" for key, value in info.items())
