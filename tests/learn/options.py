"""What the tests of all options of a trainer share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ludora.runs.store import Run
from ludora.settings import TrainSettings

TESTS = Path(__file__).parents[1]
Happened = Callable[[Path, dict[str, Any]], str]


def told(run: Run, timing: Iterable[str]) -> list[Any]:
    """The metrics without times, and what was said at the start."""
    rows = [{key: row[key] for key in row.keys() - set(timing)} for row in run.rows("metrics.jsonl")]
    return [[{**row, "at": 0} for row in run.rows("events.jsonl") if row["event"] == "start"], rows]


def once(happened: Happened) -> Happened:
    """The same, each settings run once: many options are changed in the same run."""
    known: dict[str, str] = {}

    def unchanged(folder: Path, settings: dict[str, Any]) -> str:
        key = json.dumps(settings, sort_keys=True)
        if key not in known:
            known[key] = happened(folder, settings)
        return known[key]

    return unchanged


def changed(field: str, value: Any) -> dict[str, Any]:
    """The settings that change an option; some go with others."""
    return value if isinstance(value, dict) and field in value else {field: value}


def assert_all_are_tested(
    config: type[TrainSettings], changes: Mapping[str, Any], elsewhere: Mapping[str, str]
) -> None:
    """Every option is changed here, or by a test of another file that exists."""
    assert changes.keys() | elsewhere.keys() == config.model_fields.keys()
    for place in elsewhere.values():
        file, _, name = place.partition("::")
        assert f"def {name}(" in (TESTS / file).read_text(encoding="utf-8"), place
