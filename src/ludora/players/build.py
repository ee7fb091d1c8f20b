"""PLAYER strings become players. Those without a model need no torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ludora.envs.build import num_players
from ludora.errors import InputError, nearest
from ludora.grammar import parse
from ludora.learn.curriculum import Stage
from ludora.models.known import check_adapter, model_folder
from ludora.players import bots, human, search, shell, snake
from ludora.players.base import Player, check_plays
from ludora.settings import ModelSettings
from ludora.types import Spec

if TYPE_CHECKING:
    from ludora.players.studio import Studio

PLAYERS: Mapping[str, str] = {
    "random": "uniform over the legal actions",
    "first": "always the first legal action",
    "mcts": "Monte Carlo tree search; sees hidden cards; mcts:weak|medium|strong|origin or (simulations=, rollouts=)",
    "ismcts": "information-set MCTS: sees what its seat sees; (simulations=, rollouts=)",
    "nash": "near-Nash strategy by CFR+; small games only; (iterations=)",
    "epsilon": "a share of random moves, else another player: epsilon(0.2, mcts:weak)",
    **snake.PLAYERS,
    **shell.PLAYERS,
    "human": "you, at the terminal",
    "base": "the base model without an adapter",
    "adapter": "the base model with an adapter: adapter(runs/NAME/adapter)",
    "merged": "a model that an adapter was merged into, in place of the base: merged(FOLDER)",
    "self": "the learner itself; only as a training opponent",
    "snapshots": "earlier selves of the learner, snapshots(last=5); only as a training opponent",
}

MODELS = ("base", "adapter", "merged")


def player_spec(text: str, *, training: bool = False) -> Spec:
    """The checked spec of a PLAYER string: nothing is opened, so a slip is told before a model is loaded.

    Args:
        training: `self` and `snapshots` are players too.

    Raises:
        InputError: no such player, options it does not have, or one that only makes sense in training.
    """
    spec = parse(text)
    if spec.name not in PLAYERS:
        raise InputError(f"there is no player {spec.name!r}", nearest(spec.name, PLAYERS))
    if spec.name in ("self", "snapshots") and not training:
        raise InputError(f"{spec.name} is an opponent for training only", "use adapter(runs/NAME/adapter)")
    if spec.name == "self":
        bots.no_options(spec)
    elif spec.name == "snapshots":
        snapshots_of(spec)
    elif spec.name == "epsilon":
        player_spec(bots.epsilon_options(spec)[1])
    elif spec.name == "base":
        if spec != Spec("base"):
            raise InputError(f"{text!r}: base takes no options", "write base; --model chooses another model")
    elif spec.name in ("adapter", "merged"):
        if len(spec.args) != 1 or spec.params or spec.variant:
            whose = "adapter's" if spec.name == "adapter" else "merged model's"
            raise InputError(
                f"{text!r} needs the {whose} folder and nothing else", f"{spec.name}(runs/NAME/{spec.name})"
            )
    else:
        _scripted(spec)
    return spec


def check_player(text: str, *, training: bool = False) -> Spec:
    """`player_spec`, once the files are there that it names; still nothing is opened.

    Raises:
        InputError: as `player_spec`; or there is no such adapter or model.
    """
    spec = player_spec(text, training=training)
    inner = innermost(spec)
    if inner.name == "adapter":
        check_adapter(Path(str(inner.args[0])))
    elif inner.name == "merged":
        model_folder(str(inner.args[0]))
    return spec


def innermost(spec: Spec) -> Spec:
    """Who really plays: of a checked `epsilon` the player inside."""
    while spec.name == "epsilon":
        spec = player_spec(bots.epsilon_options(spec)[1])
    return spec


def check_models(players: Iterable[Spec], tasks: Iterable[Spec], settings: ModelSettings) -> None:
    """Refuse what is said about models where none plays, or where a model could not act as it is told to.

    Raises:
        InputError: no player is a model, and `settings` are not the default ones; or all tasks are of a shell, and
            `act` is choose, which leaves no way to ask for answers longer than 32 tokens.
    """
    if not any(innermost(player).name in MODELS for player in players):
        for key, value in settings.model_dump().items():
            if value != type(settings).model_fields[key].default:
                option = key.replace("_", "-")
                raise InputError(f"no player is a model: --{option} has no effect", f"leave out --{option}")
    elif settings.act == "choose" and all(task.name == "shell" for task in tasks):
        raise InputError("a shell lists no actions to choose from", "add --act say, and --max-new-tokens 120 or so")


def check_opponent(text: str, spec: Spec) -> None:
    """Refuse an opponent that cannot play a game, as far as that can be told without opening a model.

    Raises:
        InputError: as `check_player`; or it cannot play this game, or is a person and nobody can type.
    """
    named = innermost(check_player(text, training=True))
    if named.name == "human" and not sys.stdin.isatty():
        raise InputError("opponent human needs a person at a terminal", "random, mcts and nash need none")
    if named.name not in ("self", "snapshots", *MODELS):
        check_plays(_scripted(named), spec)


def check_opponents(stages: Iterable[Stage]) -> None:
    """Refuse stages with an opponent that cannot play one of their games.

    Raises:
        InputError: as `check_opponent`; or all games are for one, and opponents other than the default were given.
    """
    stages = tuple(stages)
    if all(num_players(source.example) == 1 for stage in stages for source in stage.games):
        for stage in stages:
            if tuple(stage.opponents) != ("random",):
                game = next(iter(stage.games)).example
                raise InputError(
                    f"{game} is a game for one: nobody can be {next(iter(stage.opponents))}",
                    "set opponent=random, the default",
                )
    for stage in stages:
        for source in stage.games:
            for player in stage.opponents if num_players(source.example) > 1 else ():
                check_opponent(player, source.example)


def snapshots_of(spec: Spec) -> int:
    """How many of the newest snapshots `snapshots(last=5)` means.

    Raises:
        InputError: an option that snapshots do not have, or a number below 1.
    """
    bots.no_options(Spec(spec.name, spec.variant))
    last = int(bots.read_options(spec, {"last": int}).get("last", 5))
    if last < 1:
        raise InputError(f"{spec} names no snapshot", "snapshots(last=5) plays the last five")
    return last


def build_player(text: str, settings: ModelSettings, say: Callable[[str], None]) -> Player:
    """The player a PLAYER string names. One with a model shares the base opened for these settings.

    Raises:
        InputError: see `player_spec`; or the model or adapter cannot be loaded.
    """
    spec = player_spec(text)

    def fixed(named: Spec) -> Player:
        from ludora.players.studio import studio  # torch and transformers: seconds, for those who need a model

        chosen = ModelSettings(**{name: getattr(settings, name) for name in ModelSettings.model_fields})
        return studio(chosen, say).fixed(named)

    return _build(spec, fixed)


def fixed_player(text: str, studio: Studio, temperature: float = 0.0) -> Player:
    """The player a PLAYER string names, for a run: one with a model plays on the run's own base, so in memory once.

    A `temperature` above 0 is that of its model, in place of the run's.

    Raises:
        InputError: as `build_player`.
    """
    return _build(player_spec(text), partial(studio.fixed, temperature=temperature))


def scripted_player(text: str) -> Player:
    """The player a PLAYER string names, of those that need neither a model nor a person.

    Raises:
        InputError: as `player_spec`; or it needs one.
    """

    def refused(named: Spec) -> Player:
        raise InputError(f"player {named} needs a model", "random, mcts and nash are players that need none")

    spec = player_spec(text)
    if innermost(spec).name == "human":
        raise InputError("player human needs a person at a terminal", "random, mcts and nash need none")
    return _build(spec, refused)


def _build(spec: Spec, fixed: Callable[[Spec], Player]) -> Player:
    """The player of a checked spec; `fixed` makes those with a model, alone or inside another's options."""
    if spec.name in ("base", "adapter", "merged"):
        return fixed(spec)
    if spec.name == "epsilon":
        share, inner = bots.epsilon_options(spec)
        return bots.epsilon(share, _build(player_spec(inner), fixed))
    return _scripted(spec)


def _scripted(spec: Spec) -> Player:
    """Players without a model; each room checks its own options."""
    if spec.name in ("random", "first"):
        return bots.build(spec)
    if spec.name in snake.PLAYERS:
        return snake.build(spec)
    if spec.name in shell.PLAYERS:
        return shell.build(spec)
    return human.build(spec) if spec.name == "human" else search.build(spec)
