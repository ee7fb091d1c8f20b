"""Players without a search or a model: uniform random, the first legal action, scripts, and a random share of moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ludora.errors import InputError, nearest
from ludora.grammar import parse
from ludora.players.base import Explicit, Player, check_plays, forget
from ludora.rng import stream, uniform
from ludora.types import Move, Spec, Turn


def read_options(spec: Spec, known: Mapping[str, type], what: str = "player") -> dict[str, Any]:
    """The key=value options of a PLAYER (or `what` else), checked against their types; an int may stand for a float.

    Raises:
        InputError: a plain value, an unknown key, or a value of the wrong type.
    """
    if spec.args:
        hint = f"write {spec.name}({', '.join(f'{key}=...' for key in known)})" if known else f"write {spec.name} alone"
        raise InputError(f"{what} {spec.name} takes no plain value {spec.args[0]!r}", hint)
    out: dict[str, Any] = {}
    for key, value in spec.params:
        if key not in known:
            hint = nearest(key, known) if known else f"{spec.name} has no options"
            raise InputError(f"{what} {spec.name} has no option {key!r}", hint)
        wanted = known[key]
        out[key] = float(value) if wanted is float and type(value) is int else value
        if type(out[key]) is not wanted:
            raise InputError(f"{what} {spec.name}: {key} is of type {wanted.__name__}, not {value!r}", f"e.g. {key}=1")
    return out


def no_options(spec: Spec) -> None:
    """Refuse anything behind the player's name.

    Raises:
        InputError: there is a variant, a value or an option.
    """
    read_options(spec, {})
    if spec.variant:
        raise InputError(f"player {spec.name} has no variant {spec.variant!r}", f"write {spec.name} alone")


def build(spec: Spec) -> Player:
    """`random` or `first` from their PLAYER string.

    Raises:
        InputError: they have no options.
    """
    no_options(spec)
    return RandomPlayer() if spec.name == "random" else FirstLegal()


def legal_of(turn: Turn, player: str) -> tuple[str, ...]:
    """The legal actions of a turn.

    Raises:
        InputError: the turn takes free text, which `player` cannot write.
    """
    if not turn.legal:
        hint = "use a model or a human for environments that take free text"
        raise InputError(f"player {player} chooses among legal actions and there are none listed", hint)
    return turn.legal


def one_hot(turn: Turn, text: str, player: str) -> list[float]:
    """All probability on one legal action.

    Raises:
        InputError: `text` is not legal there.
    """
    legal = legal_of(turn, player)
    if text not in legal:
        raise InputError(f"player {player} answers {text!r}, which is not legal", f"legal: {', '.join(legal[:8])}")
    return [float(action == text) for action in legal]


class RandomPlayer:
    """Uniform over the legal actions."""

    name = "random"

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        moves = []
        for turn in turns:
            legal = turn.legal or legal_of(turn, self.name)
            index = int(uniform(turn.seed) * len(legal))
            moves.append(Move(legal[index], index=index))
        return moves

    def probabilities(self, turns: Sequence[Turn]) -> list[list[float]]:
        return [[1 / len(legal)] * len(legal) for legal in (legal_of(turn, self.name) for turn in turns)]


class FirstLegal:
    """Always the first legal action."""

    name = "first"

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        return [Move(legal_of(turn, self.name)[0], index=0) for turn in turns]

    def probabilities(self, turns: Sequence[Turn]) -> list[list[float]]:
        return [one_hot(turn, legal_of(turn, self.name)[0], self.name) for turn in turns]


class ScriptedPlayer:
    """Plays a rule (a function of the turn), or a list of texts by the number of the seat's turn.

    The text is answered as it is, legal or not, so that a script can also spoil a game. Only a rule has
    probabilities: what a list plays depends on how many turns came before.
    """

    def __init__(self, script: Callable[[Turn], str] | Sequence[str], name: str = "scripted") -> None:
        self.name = name
        self._script = script

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        moves = []
        for turn in turns:
            text = self._text(turn)
            index = turn.legal.index(text) if turn.legal and text in turn.legal else -1
            moves.append(Move(text, index=index))
        return moves

    def _text(self, turn: Turn) -> str:
        if callable(self._script):
            return self._script(turn)
        if turn.number >= len(self._script):
            raise InputError(f"player {self.name} has {len(self._script)} moves and needs another", "add moves to it")
        return self._script[turn.number]

    def probabilities(self, turns: Sequence[Turn]) -> list[list[float]]:
        if not callable(self._script):
            raise InputError(f"player {self.name} is a list of moves, not a policy", "give it a function of the turn")
        return [one_hot(turn, self._script(turn), self.name) for turn in turns]


class Epsilon:
    """Plays uniformly at random with probability `share`, and otherwise as another player does.

    Which of the two is decided anew at every turn, from the turn's own stream.
    """

    def __init__(self, share: float, player: Player) -> None:
        inner = parse(player.name)
        self.name = str(Spec("epsilon", args=(share, inner if inner.args or inner.params else str(inner))))
        self.sees_hidden = bool(getattr(player, "sees_hidden", False))
        self._share, self._player, self._random = share, player, RandomPlayer()

    def check(self, spec: Spec) -> None:
        """As the other player's."""
        check_plays(self._player, spec)

    def forget(self, shared: object = None) -> bool:
        """As the other player's."""
        return forget(self._player, shared)

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        at_random = [uniform(stream("epsilon", turn.seed)) < self._share for turn in turns]
        rest = iter(self._player.act([turn for turn, random in zip(turns, at_random, strict=True) if not random]))
        return [
            self._random.act([turn])[0] if random else next(rest) for turn, random in zip(turns, at_random, strict=True)
        ]


class ExplicitEpsilon(Epsilon):
    """The same where the other player's probabilities are known."""

    _player: Explicit

    def probabilities(self, turns: Sequence[Turn]) -> list[list[float]]:
        return [
            [self._share / len(row) + (1 - self._share) * p for p in row] for row in self._player.probabilities(turns)
        ]


def epsilon(share: float, player: Player) -> Player:
    """`player` with this share of random moves; its probabilities are known where those of `player` are."""
    return (ExplicitEpsilon if isinstance(player, Explicit) else Epsilon)(share, player)


def epsilon_options(spec: Spec) -> tuple[float, str]:
    """The share and the PLAYER string inside of `epsilon(0.2, mcts:weak)`.

    Raises:
        InputError: the share is not a number from 0 to 1, or there is not one player.
    """
    share = spec.args[0] if spec.args else None
    hint = "write epsilon(SHARE, PLAYER), for example epsilon(0.2, mcts:weak)"
    if len(spec.args) != 2 or spec.params or spec.variant:
        raise InputError(f"player {spec} needs a share of random moves and one player", hint)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise InputError(f"player {spec}: the share of random moves must be from 0 to 1, not {share}", hint)
    return float(share), str(spec.args[1])
