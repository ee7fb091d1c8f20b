"""The record of an evaluation: what every table, file and report reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ludora.errors import InputError
from ludora.evals.compare import Comparison
from ludora.evals.groups import Group
from ludora.evals.stats import Interval

VERSION = 2
BEST = "best response"  # the name of the row that says what is possible against this opponent


@dataclass(frozen=True, slots=True)
class SeatResult:
    """One seat's share of a row; None where it was not measured."""

    seat: int
    games: int = 0
    win_rate: float | None = None
    mean_return: float | None = None
    expected_value: float | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What playing cost; None where it was not measured. `tokens_per_move` are those read and sampled by a model;
    `peak_bytes` is the most memory the process held while this player played, with a GPU that of all its GPUs.
    """

    seconds_per_move: float | None = None
    tokens_per_move: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What one player reached. Counts are games; None where something was not measured.

    `losses` leaves out `forfeits` (nothing legal was answered) and `truncated` games; `broken` games (the
    environment failed) count in nothing else. `win_rate` has Wilson's interval, `mean_return` a t interval in
    which one deal, played from every seat, is one observation. `score` is 0..1. `invalid_rate` is the share of
    unreadable ones among all `answers` sampled. `expected_value` and `win_probability` (means over seats), `nash_conv`
    and `exploitability` (nash_conv / 2, in zero-sum games) are exact; values are in the game's own unit.
    `facts` are means over games of what the environment measures (apples, steps) with t intervals, `words` count
    what it says (end reasons). `by_group` is there where the games are of kinds: in a shell, the skills that a task
    takes, its level and template, how it ended. Two rows are equal whatever they cost.
    """

    player: str
    games: int = 0
    wins: int = 0
    draws: int = 0
    losses: int = 0
    forfeits: int = 0
    truncated: int = 0
    broken: int = 0
    win_rate: float | None = None
    win_rate_low: float | None = None
    win_rate_high: float | None = None
    mean_return: float | None = None
    mean_return_low: float | None = None
    mean_return_high: float | None = None
    score: float | None = None
    moves: int = 0
    answers: int = 0
    invalid_rate: float | None = None
    expected_value: float | None = None
    win_probability: float | None = None
    nash_conv: float | None = None
    exploitability: float | None = None
    by_seat: tuple[SeatResult, ...] = ()
    by_group: tuple[Group, ...] = ()
    facts: Mapping[str, Interval] = field(default_factory=dict)
    words: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost, compare=False)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The one record that the table, `evaluation.json` and the report all read.

    `rows` are the contenders in the order given (the first is the one in question, the others what it is
    compared with) and, where exact, the best response to `against`. `games` were played by each contender.
    `sees_hidden` names the players that see what this game hides from their seat. `fact` is what the game is judged
    by where that is not the return. `setting` is what results depend on beside the task: of a shell, the backend, root
    file system and digest of its sandboxes. `further` are evaluations of the same players on other tasks.
    """

    task: str
    against: str
    games: int
    seed: int
    unit: str
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...] = ()
    version: int = VERSION
    sees_hidden: tuple[str, ...] = ()
    fact: str = ""
    setting: Mapping[str, str] = field(default_factory=dict)
    further: tuple[Evaluation, ...] = ()

    @property
    def side_by_side(self) -> tuple[Row, ...]:
        """Rows in reading order: what it is compared with, the player, the best possible."""
        contenders = [row for row in self.rows if row.player != BEST]
        return (*contenders[1:], *contenders[:1], *(row for row in self.rows if row.player == BEST))

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for `evaluation.json` and `--json`; the verdicts in words are added for readers."""
        data = asdict(self)
        for verdict, told in zip(self.comparisons, data["comparisons"], strict=True):
            told["sentence"] = verdict.sentence
        data["further"] = [evaluation.to_json() for evaluation in self.further]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_json`.

        Raises:
            InputError: it is not an evaluation, or one of another version.
        """
        if data.get("version") != VERSION:
            raise InputError(
                f"this evaluation has format version {data.get('version')!r}, not {VERSION}",
                "evaluate again with this version of ludora",
            )
        try:
            fields = {k: v for k, v in data.items() if k not in ("rows", "comparisons", "further")}
            fields["sees_hidden"] = tuple(data.get("sees_hidden", ()))
            fields["setting"] = {str(key): str(value) for key, value in data.get("setting", {}).items()}
            rows = tuple(map(_row, data["rows"]))
            if not rows:
                raise TypeError("it has no rows")
            told = [{k: v for k, v in verdict.items() if k != "sentence"} for verdict in data["comparisons"]]
            verdicts = tuple(Comparison(**_numbers(verdict)) for verdict in told)
            return cls(**fields, rows=rows, comparisons=verdicts, further=tuple(map(cls.from_json, data["further"])))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"this is no evaluation: {error}", "evaluate again") from error


def _row(data: Mapping[str, Any]) -> Row:
    parts = {
        "by_seat": tuple(SeatResult(**_numbers(seat)) for seat in data["by_seat"]),
        "by_group": tuple(Group(**_numbers(group)) for group in data.get("by_group", ())),
        "facts": {name: Interval(**_numbers(values)) for name, values in data["facts"].items()},
        "words": {name: _numbers(counts) for name, counts in data["words"].items()},
        "cost": Cost(**_numbers(data["cost"])),
    }
    return Row(**{**_numbers({k: v for k, v in data.items() if k not in parts}), **parts})


def _numbers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a row as they are, once it is sure that what should be a number or null is one."""
    for name, value in fields.items():
        if name not in ("player", "baseline", "of", "kind", "name") and not isinstance(value, int | float | None):
            raise TypeError(f"{name} is {value!r}, not a number")
    return dict(fields)
