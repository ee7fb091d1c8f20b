"""Early warnings: told when they begin, once, and again when they come back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ludora.learn.monitors import Monitors

FINE = {"entropy_share": 0.5, "kl_old": 0.01, "return_spread": 1.0}


@pytest.mark.parametrize(
    ("change", "word"),
    [({"entropy_share": 0.01}, "entropy"), ({"kl_old": 0.5}, "0.50 nats"), ({"return_spread": 0.05}, "alike")],
)
def test_each_trouble_is_told_once_until_it_comes_back(change: dict[str, float], word: str) -> None:
    found = Monitors()
    assert found.observe(FINE) == []
    [text] = found.observe(FINE | change)
    assert word in text
    assert found.observe(FINE | change) == []
    again = Monitors()
    again.load(json.loads(json.dumps(found.state())))
    assert again.observe(FINE | change) == []  # also after a resume
    assert again.observe(FINE) == [] and len(again.observe(FINE | change)) == 1


def test_nothing_to_tell_where_nothing_is_known() -> None:
    assert Monitors().observe({}) == [] and Monitors().observe({"return_spread": 0.0}) == []


def test_another_stage_has_another_spread() -> None:
    found = Monitors()
    found.observe({"return_spread": 10.0})
    found.calm()
    assert found.observe({"return_spread": 0.5}) == []


def test_a_run_that_moves_too_fast_warns(train: Callable[..., Any]) -> None:
    run = train(learning_rate=0.5, updates=3)
    assert "nats per decision" in run.said
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert any(event["event"] == "warning" and "nats per decision" in event["text"] for event in events)
    assert "warning" not in train(updates=2).said
