"""Whole games to look at: what each seat saw and did, and how likely the model found every legal action.

With a `baseline` the same positions are also put to the untrained model: before and after, move by move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from ludora.envs.base import Pictured
from ludora.envs.build import make_env
from ludora.errors import EnvBroken, InputError
from ludora.evals.evaluate import JUDGED_BY, deals, seated
from ludora.players.base import Player
from ludora.rollout import collect
from ludora.types import Move, Outcome, Spec, Task, Turn


@dataclass(frozen=True, slots=True)
class Decision:
    """One move: what the seat saw, what was legal, what it did; and a picture for people, where the game has one.

    `probabilities` and `baseline` follow `legal`; empty for the other seats and where a player has none.
    """

    seat: int
    player: str
    text: str
    legal: tuple[str, ...]
    chosen: str
    probabilities: tuple[float, ...] = ()
    baseline: tuple[float, ...] = ()
    picture: str = ""


@dataclass(frozen=True, slots=True)
class ReplayedGame:
    """One game as it was played; `total` and `outcome` are those of `player`, who held `seat`; `info` is the game's."""

    task: str
    seed: int
    seat: int
    player: str
    against: str
    baseline: str
    decisions: tuple[Decision, ...]
    outcome: Outcome
    total: float
    info: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def pictured(self) -> tuple[Decision, ...]:
        """The decisions that have a picture."""
        return tuple(d for d in self.decisions if d.picture)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; `replays.json` is a list of these."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ReplayedGame:
        """The inverse of `to_json`.

        Raises:
            InputError: it is not a replayed game.
        """
        try:
            words = {k: str(data[k]) for k in ("task", "player", "against", "baseline")}
            return cls(
                **words,
                seed=int(data["seed"]),
                seat=int(data["seat"]),
                decisions=tuple(_decision(item) for item in data["decisions"]),
                outcome=Outcome(data["outcome"]),
                total=float(data["total"]),
                info={str(k): v if isinstance(v, str) else float(v) for k, v in data.get("info", {}).items()},
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"this is no replayed game: {error}", "replay it again") from error


def _decision(item: Mapping[str, Any]) -> Decision:
    legal = tuple(map(str, item["legal"]))
    now, before = (tuple(map(float, item[k])) for k in ("probabilities", "baseline"))
    if {len(now), len(before)} - {0, len(legal)}:
        raise ValueError("probabilities do not fit the legal actions")
    player, text, chosen = (str(item[k]) for k in ("player", "text", "chosen"))
    return Decision(int(item["seat"]), player, text, legal, chosen, now, before, str(item.get("picture", "")))


@dataclass(slots=True)
class _Recorder:
    """Sits in front of a player and notes every decision, at the moment it is made.

    Probabilities are asked for then and not after the game, because `Turn.state` may be a live engine handle.
    """

    player: Player
    log: dict[int, list[Decision]]
    watched: bool
    baseline: Player | None = None
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.player.name

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        now = _probabilities(self.player, turns) if self.watched else [()] * len(turns)
        before = _probabilities(self.baseline, turns) if self.baseline else [()] * len(turns)
        moves = self.player.act(turns)
        for turn, move, p, q in zip(turns, moves, now, before, strict=True):
            picture = turn.state.picture() if isinstance(turn.state, Pictured) else ""
            decision = Decision(turn.seat, self.name, _seen(turn), turn.legal or (), move.text, p, q, picture)
            known = self.log.setdefault(turn.game, [])
            if any(d.seat == turn.seat for d in known[turn.number :]) and not turn.number:
                known.clear()  # its environment broke, and the game is played anew
            known.append(decision)
        return moves


def _probabilities(player: Player, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
    """What the player says of the turns with legal actions; empty for free text and for players that cannot say."""
    ask = getattr(player, "probabilities", None)
    asked = [i for i, turn in enumerate(turns) if turn.legal] if ask else []
    told: list[tuple[float, ...]] = [()] * len(turns)
    if ask and asked:
        with suppress(InputError):  # a script of moves has the method and no distribution; it still plays
            for i, row in zip(asked, ask([turns[i] for i in asked]), strict=True):
                told[i] = tuple(float(p) for p in row)
    return told


def _seen(turn: Turn) -> str:
    """The last thing the seat was told: the position, without the rules."""
    told = [m.content for m in turn.messages if m.role == "user"]
    return told[-1] if told else ""


def replay(
    player: Player,
    spec: Spec,
    against: Player | None,
    *,
    seeds: Sequence[int],
    seats: Sequence[int],
    baseline: Player | None = None,
) -> list[ReplayedGame]:
    """Play game i with `seeds[i]` and `player` in `seats[i]`, and record it; in that order.

    Raises:
        InputError: there is no opponent in a game that needs one.
        EnvBroken: the environment failed.
    """
    log: dict[int, list[Decision]] = {}
    watched = _Recorder(player, log, True, baseline)
    other = _Recorder(against, log, False) if against else None
    games = [seated(Task(spec, seed, seat), watched, other) for seed, seat in zip(seeds, seats, strict=True)]
    told = []
    for number, finished in enumerate(collect(games, make_env)):
        if finished.error:
            raise EnvBroken(f"the game with seed {finished.game.task.seed} broke: {finished.error}")
        own = finished.trajectories[finished.game.task.seat]
        told.append(
            ReplayedGame(
                task=str(spec),
                seed=own.task.seed,
                seat=own.seat,
                player=player.name,
                against=against.name if against else "",
                baseline=baseline.name if baseline else "",
                decisions=tuple(log.get(number, ())),
                outcome=own.outcome,
                total=own.total,
                info=dict(own.info),
            )
        )
    return told


def telling_games(
    player: Player,
    spec: Spec,
    against: Player | None,
    *,
    baseline: Player | None = None,
    count: int = 3,
    seed: int = 0,
    among: int = 12,
) -> list[ReplayedGame]:
    """`count` games for a report: the longest of `among`, but one that was not won where there is any.

    Showing only victories would mislead, and most poker hands against a random opponent end at its first fold. Of a
    game that is judged by a fact (the apples of Snake), the best and the worst are shown.
    """
    tasks = deals(spec, among, seed)
    games = replay(player, spec, against, seeds=[t.seed for t in tasks], seats=[t.seat for t in tasks])
    if fact := JUDGED_BY.get(spec.name, ""):
        by_fact = sorted(games, key=lambda g: -float(g.info.get(fact, 0)))
        shown = [by_fact[0], by_fact[-1]]
    else:
        by_length = sorted(games, key=lambda g: -sum(d.seat == g.seat for d in g.decisions))
        shown = by_length[:count]
        missed = [g for g in by_length if g.outcome is not Outcome.WON]
        if missed and not any(g in missed for g in shown):
            shown[-1] = missed[0]
    # Only these are put to the baseline: most of a long game's positions would be computed for nothing.
    seeds, seats = [g.seed for g in shown], [g.seat for g in shown]
    return replay(player, spec, against, seeds=seeds, seats=seats, baseline=baseline)


def as_text(game: ReplayedGame) -> str:
    """The game as plain text: positions, bars of probability (with the baseline's in brackets), moves.

    Of a game with pictures, the moves in a line and the last picture: there are hundreds.
    """
    lines = [summary(game)]
    if pictured := game.pictured:
        return "\n".join([*lines, "", " ".join(d.chosen for d in pictured), "", pictured[-1].picture]) + "\n"
    for number, d in enumerate(game.decisions, 1):
        lines += ["", f"{number}. seat {d.seat}, {d.player}"]
        if not d.probabilities:
            lines.append(f"   {d.chosen}")
            continue
        lines += [f"   | {line}".rstrip() for line in d.text.splitlines()]
        width = max(len(action) for action in d.legal)
        for i, (action, p) in enumerate(zip(d.legal, d.probabilities, strict=True)):
            before = f"  ({game.baseline}: {d.baseline[i]:.0%})" if d.baseline else ""
            mark = "  <- chosen" if action == d.chosen else ""
            lines.append(f"   {action:<{width}} {'#' * round(20 * p):<20} {p:>4.0%}{before}{mark}")
    return "\n".join(lines) + "\n"


def summary(game: ReplayedGame) -> str:
    """Who played what, and how it went, in a line."""
    against = f" against {game.against}" if game.against else ""
    told = "".join(f", {words}" for words in facts(game))
    return f"seed {game.seed}: {game.player} in seat {game.seat}{against} {game.outcome}, return {game.total:+g}{told}"


def facts(game: ReplayedGame) -> list[str]:
    """What the game tells of itself, in words: `apples 25`, `end reason self`."""
    return [
        f"{key} {value}".replace("_", " ") if isinstance(value, str) else f"{key.replace('_', ' ')} {value:g}"
        for key, value in game.info.items()
    ]
