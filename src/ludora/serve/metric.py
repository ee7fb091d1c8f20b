"""The benchmark's metric: rates by skill, by difficulty, and over all. A rate of nothing is -1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ludora.envs.shell.entries import Entry
from ludora.envs.shell.env import Status
from ludora.envs.shell.templates.base import SKILLS
from ludora.serve.bodies import Judged, Partial

Table = dict[str, float]


def metric(partials: Sequence[Partial], entries: Mapping[str, Entry]) -> dict[str, dict[str, Table]]:
    """`skill`, `difficulty_level` and `overall`, each a dictionary of tables."""
    judged = [(entries[str(p.sample_index)], p.evaluation_record.outcome is Judged.CORRECT) for p in partials]
    skills = _tables(judged, lambda entry: entry.skills, SKILLS)
    effective = {f"effective_{name}": dict(table) for name, table in skills.items()}  # every skill of a task counts
    levels = sorted({str(entry.level) for entry, _ in judged})
    return {
        "skill": skills | effective,
        "difficulty_level": _tables(judged, lambda entry: (str(entry.level),), levels),
        "overall": _overall(partials),
    }


def _tables(
    judged: Sequence[tuple[Entry, bool]], keys: Callable[[Entry], Sequence[str]], known: Sequence[str]
) -> dict[str, Table]:
    count: Table = dict.fromkeys(known, 0)
    correct: Table = dict.fromkeys(known, 0)
    for entry, right in judged:
        for key in keys(entry):
            count[key] = count.get(key, 0) + 1
            correct[key] = correct.get(key, 0) + right
    rate = {key: correct[key] / n if n else -1.0 for key, n in count.items()}
    return {"count_dict": count, "correct_count_dict": correct, "correct_rate_dict": rate}


def _overall(partials: Sequence[Partial]) -> dict[str, Table]:
    n = len(partials)
    basic: dict[str, Table] = {"basic": {"session_count": n}}
    if not n:
        return basic
    outcomes = [p.evaluation_record.outcome for p in partials]
    statuses = [p.sample_status for p in partials]
    return basic | {
        "evaluation_outcome": {str(outcome): outcomes.count(outcome) / n for outcome in Judged},
        "sample_status": {str(status): statuses.count(status) / n for status in Status},
    }
