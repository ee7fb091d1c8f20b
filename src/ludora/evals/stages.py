"""What a run of several games or stages came to: success of the player and of what it began as, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ludora.errors import InputError
from ludora.evals.record import Evaluation
from ludora.evals.stats import mcnemar, wilson

ALL = "all games"


@dataclass(frozen=True, slots=True)
class StageRow:
    """One game of a stage, or all of them (`game` is ALL): success is the share of games won, with Wilson's interval.

    `p_value` is McNemar's exact test on the games that only one of the two won: both played the same deals.
    """

    stage: str
    opponent: str
    game: str
    games: int
    success: float
    success_low: float | None
    success_high: float | None
    base_success: float
    base_low: float | None
    base_high: float | None
    p_value: float


def stage_rows(evaluations: Iterable[tuple[str, Evaluation]]) -> list[StageRow]:
    """The rows of (stage, evaluation) pairs, each of a player and its baseline; then one for all games of a stage."""
    stages: dict[str, list[Evaluation]] = {}
    for stage, evaluation in evaluations:
        stages.setdefault(stage, []).append(evaluation)
    rows = []
    for stage, found in stages.items():
        rows += [_row(stage, e.task, [e]) for e in found]
        if len(found) > 1:
            rows.append(_row(stage, ALL, found))
    return rows


def _row(stage: str, game: str, found: Sequence[Evaluation]) -> StageRow:
    pairs = [e.comparisons[0] for e in found if e.comparisons]
    ours, theirs = ([e.rows[i] for e in found] for i in (0, 1))
    now = wilson(sum(r.wins for r in ours), games := sum(r.games for r in ours))
    base = wilson(sum(r.wins for r in theirs), sum(r.games for r in theirs))
    p_value = mcnemar(sum(c.wins_only_player for c in pairs), sum(c.wins_only_baseline for c in pairs))
    opponents = ", ".join(dict.fromkeys(e.against for e in found if e.against))
    return StageRow(stage, opponents, game, games, now.mean, now.low, now.high, base.mean, base.low, base.high, p_value)


def to_json(rows: Iterable[StageRow]) -> list[dict[str, Any]]:
    """Plain dictionaries for `stages.json`."""
    return [asdict(row) for row in rows]


def from_json(data: Sequence[Mapping[str, Any]]) -> list[StageRow]:
    """The inverse of `to_json`.

    Raises:
        InputError: these are no such rows.
    """
    try:
        return [StageRow(**row) for row in data]
    except TypeError as error:
        raise InputError(f"these are no results of stages: {error}", "evaluate again") from error
