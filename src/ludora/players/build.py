"""PLAYER strings become players. Those without a model need no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from ludora.errors import InputError, nearest
from ludora.grammar import parse
from ludora.players import bots, human, search, snake
from ludora.players.base import Player
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
    "human": "you, at the terminal",
    "base": "the base model without an adapter",
    "adapter": "the base model with an adapter: adapter(runs/NAME/adapter)",
    "self": "the learner itself; only as a training opponent",
    "snapshots": "earlier selves of the learner, snapshots(last=5); only as a training opponent",
}


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
    elif spec.name == "adapter":
        if len(spec.args) != 1 or spec.params or spec.variant:
            raise InputError(f"{text!r} needs the adapter's folder and nothing else", "adapter(runs/NAME/adapter)")
    else:
        _scripted(spec)
    return spec


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


def _build(spec: Spec, fixed: Callable[[Spec], Player]) -> Player:
    """The player of a checked spec; `fixed` makes those with a model, alone or inside another's options."""
    if spec.name in ("base", "adapter"):
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
    return human.build(spec) if spec.name == "human" else search.build(spec)
