"""OpenSpiel games by spec: checked, loaded once, and with a memo of what each information state reads."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random
from typing import Any

import pyspiel

from ludora.envs.catalogue import BY_NAME
from ludora.envs.openspiel_texts import generic_rules, generic_state, own_text
from ludora.envs.texts.base import GameText
from ludora.errors import InputError, nearest
from ludora.types import Message, Outcome, Spec

# Strings kept in a game's memo before it is emptied: some tens of megabytes at worst, and far more than the
# small games need, whose every information state then stays.
_MEMO_LIMIT = 200_000


@dataclass(frozen=True, slots=True)
class View:
    """What a seat reads and may do in one information state; `index` gives the action id of a legal text.

    Of actions that lead to the same position only the first is there (see `GameText.names`).
    """

    messages: tuple[Message, ...]
    legal: tuple[str, ...]
    actions: tuple[int, ...]
    index: Mapping[str, int]


@dataclass(slots=True, eq=False)
class Loaded:
    """A loaded game and everything that its single games share.

    `utility_sum` is None unless the game is zero-sum or constant-sum. `success` is the catalogue's mark for
    games alone. `by_observation`: seats read the engine's observation, not its information state.
    """

    spec: Spec
    game: Any
    name: str
    seats: int
    low: float
    high: float
    zero_sum: bool
    utility_sum: float | None
    step_rewards: bool
    success: float
    rules: Message
    text: GameText | None
    params: Mapping[str, Any]
    by_observation: bool
    _memo: dict[tuple[int, str, tuple[int, ...]], View] = field(default_factory=dict)
    _memo_size: int = 0

    def view(self, state: Any, seat: int) -> View:
        """The view of a seat that has to move."""
        if self.text and self.text.reads:
            text = self.text.reads(state, seat)
        else:
            text = state.observation_string(seat) if self.by_observation else state.information_state_string(seat)
        actions = tuple(state.legal_actions(seat))
        key = (seat, text, actions)  # an observation may hide what decides legality (superko), so ids belong to it
        view = self._memo.get(key)
        if view is None:
            view = self._make_view(state, seat, text, actions)
            if self._memo_size > _MEMO_LIMIT:
                self._memo.clear()
                self._memo_size = 0
            self._memo[key] = view
            self._memo_size += 2 + len(actions)
        return view

    def _make_view(self, state: Any, seat: int, text: str, actions: tuple[int, ...]) -> View:
        names = tuple(state.action_to_string(seat, action) for action in actions)
        if self.text:
            told = self.text.state(text, seat, self.params)
            first: dict[str, int] = {}
            for name, action in zip(self.text.names(text, actions, names), actions, strict=True):
                first.setdefault(name, action)
            legal, actions = tuple(first), tuple(first.values())
        else:
            told, legal = generic_state(text, seat, self.seats), unique(names, actions)
        return View((self.rules, Message("user", told)), legal, actions, dict(zip(legal, actions, strict=True)))

    def scores(self, totals: Sequence[float]) -> tuple[float, ...]:
        """Returns as scores in 0..1, by the kind of game.

        Zero-sum games and games alone: the place between the least and the greatest return. Others: by
        comparison with two seats (a tie is 0.5), by rank with more, where seats that tie share the better
        rank - but if all tie it is a draw, 0.5 for everyone.
        """
        if self.zero_sum or self.seats == 1:
            span = self.high - self.low
            return tuple(min(max((t - self.low) / span, 0.0), 1.0) if span > 0 else 0.5 for t in totals)
        if len(set(totals)) == 1:
            return (0.5,) * self.seats
        return tuple(1 - sum(other > t for other in totals) / (self.seats - 1) for t in totals)

    def outcomes(self, totals: Sequence[float]) -> tuple[Outcome, ...]:
        """Won, drew or lost: by the sign of the return in zero-sum games, else by the score."""
        if self.zero_sum:
            return tuple(_by_mark(t, 0.0) for t in totals)
        mark = self.success if self.seats == 1 else 0.5
        return tuple(_by_mark(s, mark) for s in self.scores(totals))


def _by_mark(value: float, mark: float) -> Outcome:
    return Outcome.WON if value > mark else Outcome.LOST if value < mark else Outcome.DREW


def unique(names: Sequence[str], actions: Sequence[int]) -> tuple[str, ...]:
    """Names made unique: those that occur more than once get their action id behind them."""
    if len(set(names)) == len(names):
        return tuple(names)
    return tuple(f"{n} (id {a})" if names.count(n) > 1 else n for n, a in zip(names, actions, strict=True))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the engine's own words off stderr: it prints every error it raises, and ours says the same in one line.

    Process-wide for a moment, so only for loading and probing games.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # no stderr at all, nothing to keep quiet
        yield
        return
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


@lru_cache(maxsize=1)
def game_types() -> Mapping[str, Any]:
    """OpenSpiel's game types by short name."""
    return {kind.short_name: kind for kind in pyspiel.registered_games()}


def _parameters(spec: Spec) -> dict[str, Any]:
    """A spec's parameters in the engine's types, nested games as dicts.

    Raises:
        InputError: unknown game or parameter, or a value of the wrong type.
    """
    kind = game_types().get(spec.name)
    if kind is None:
        raise InputError(f"unknown game {spec.name!r}", nearest(spec.name, game_types()))
    if spec.variant or spec.args:
        raise InputError(f"{spec.name} takes key=value parameters only, not {spec}", "see ludora list games")
    known = kind.parameter_specification
    out: dict[str, Any] = {}
    for key, value in spec.params:
        if key not in known:
            hint = nearest(key, known) if known else f"{spec.name} has no parameters"
            raise InputError(f"{spec.name} has no parameter {key!r}", hint)
        out[key] = _typed(spec.name, key, value, known[key])
    players = out.get("players", kind.min_num_players)
    if not kind.min_num_players <= players <= kind.max_num_players:
        hint = f"it is played by {kind.min_num_players} to {kind.max_num_players}"
        raise InputError(f"{spec.name} is not for {players} players", hint)
    return out


def _typed(game: str, key: str, value: Any, default: Any) -> Any:
    """`value` in the type of the engine's default; only int -> float and anything -> text are taken as meant."""
    if isinstance(default, dict) and isinstance(value, str | Spec):
        nested = _game(value)
        return {"name": nested.name, **_parameters(nested)}
    if isinstance(default, str):
        return str(value)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        wanted = "a game" if isinstance(default, dict) else f"of type {type(default).__name__}"
        raise InputError(f"{game}: {key} must be {wanted}, not {value!r}", f"OpenSpiel's default is {default}")
    # Some games take any number and misbehave later; where the engine means "unlimited" its default is negative.
    if type(value) is int and (value < 0 <= default or abs(value) >= 2**31):
        raise InputError(f"{game}: {key}={value} is out of range", f"OpenSpiel's default is {default}")
    return value


def canonical(spec: Spec) -> Spec:
    """The spec without parameters that equal the engine's defaults and may be left out: equal games have equal specs.

    Raises:
        InputError: as `load`.
    """
    load(spec)
    typed, known = _parameters(spec), game_types()[spec.name].parameter_specification
    kept = {key: value for key, value in typed.items() if value != known[key] or _needs(spec, key)}
    games = {key: canonical(_game(value)) for key, value in spec.params if isinstance(typed[key], dict)}
    return Spec(spec.name, params=tuple(sorted((kept | games).items())))


def _needs(spec: Spec, key: str) -> bool:
    """Whether a game does not load without a parameter for which the engine lists a default; no flag of its says so."""
    if game_types()[spec.name].default_loadable:
        return False
    try:
        load(replace(spec, params=tuple(item for item in spec.params if item[0] != key)))
    except InputError:
        return True
    return False


def _game(value: str | Spec) -> Spec:
    """A nested game, which may be given by its bare name."""
    return Spec(value) if isinstance(value, str) else value


@lru_cache(maxsize=256)
def load(spec: Spec) -> Loaded:
    """Load a game once; later calls with an equal spec return the same object.

    Raises:
        InputError: unknown game, parameter or value, or a kind of game that cannot be refereed.
    """
    params = _parameters(spec)
    if game_types()[spec.name].action_structs_only:
        raise InputError(f"{spec.name} does not list its legal actions", "choose another game")
    try:
        with quiet():
            game = pyspiel.load_game(spec.name, params)
            playable = _has_first_move(game)
    except (pyspiel.SpielError, MemoryError, ValueError, OverflowError, LookupError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = re.sub(r"^/\S+ ", "", reason)  # the path of a source file on the machine that built the engine
        if isinstance(error, UnicodeError):  # hex counts its columns on, past z and past text
            reason = "its moves have no readable names"
        raise InputError(f"OpenSpiel refuses {spec}: {reason}", "try other parameters") from error
    kind = game.get_type()
    if kind.dynamics == pyspiel.GameType.Dynamics.MEAN_FIELD:
        raise InputError(f"{spec.name} is a mean-field game without seats", "choose a game with players")
    if kind.chance_mode == pyspiel.GameType.ChanceMode.SAMPLED_STOCHASTIC:
        hint = "its tasks could not be replayed; choose a game whose chance is explicit"
        raise InputError(f"{spec.name} draws its chance inside the engine", hint)
    # Sizes of zero load without complaint and leave nothing to play.
    if not playable:
        raise InputError(f"{spec} has no first move", "try larger parameters")
    return _describe(spec, game, kind)


def chance_outcomes(state: Any) -> list[tuple[int, float]]:
    """(action, probability) at a chance node.

    Where hearts is played without passing, the engine's first chance node forbids all directions of passing but still
    lists them as outcomes; only what it allows may happen.
    """
    outcomes: list[tuple[int, float]] = state.chance_outcomes()
    if state.move_number() == 0:
        legal = set(state.legal_actions())
        outcomes = [(action, p) for action, p in outcomes if action in legal]
        total = sum(p for _, p in outcomes)
        outcomes = [(action, p / total) for action, p in outcomes]
    return outcomes


def draw(outcomes: Sequence[tuple[int, float]], random: Random) -> int:
    """A chance outcome of (action, probability) pairs, by probability."""
    rest = random.random()
    for action, probability in outcomes:
        rest -= probability
        if rest < 0:
            return action
    return outcomes[-1][0]  # the probabilities summed to a hair less than 1


def _has_first_move(game: Any) -> bool:
    """Deal once and name the first legal actions: sizes that are out of range often load and fail only then."""
    state, random = game.new_initial_state(), Random(0)
    while state.is_chance_node():
        state.apply_action(draw(chance_outcomes(state), random))
    seats = range(game.num_players()) if state.is_simultaneous_node() else [max(state.current_player(), 0)]
    return any([state.action_to_string(seat, a) for a in state.legal_actions(seat)] for seat in seats)


def _describe(spec: Spec, game: Any, kind: Any) -> Loaded:
    params, seats = game.get_parameters(), game.num_players()
    perfect = kind.information == pyspiel.GameType.Information.PERFECT_INFORMATION
    # Where everyone sees everything, or a seat is alone, the observation is the board and the information state a
    # bare list of moves. Where something is hidden, only the information state holds what was seen before.
    observe = kind.provides_observation_string and (perfect or seats == 1 or not kind.provides_information_state_string)
    if not (observe or kind.provides_information_state_string):
        raise InputError(f"{spec.name} has no text for its states", "choose another game")
    text = own_text(kind.short_name, params)
    zero_sum = kind.utility == pyspiel.GameType.Utility.ZERO_SUM
    constant = kind.utility == pyspiel.GameType.Utility.CONSTANT_SUM
    entry = BY_NAME.get(kind.short_name)
    return Loaded(
        spec=spec,
        game=game,
        name=kind.short_name,
        seats=seats,
        low=game.min_utility(),
        high=game.max_utility(),
        zero_sum=zero_sum,
        utility_sum=0.0 if zero_sum else game.utility_sum() if constant else None,
        step_rewards=kind.reward_model == pyspiel.GameType.RewardModel.REWARDS,
        success=entry.success if entry and entry.success is not None else 0.5,
        rules=Message("system", text.rules if text else generic_rules(kind.long_name, str(spec))),
        text=text,
        params=params,
        by_observation=observe,
    )
