"""`calculate_metric`, against figures worked out by hand."""

from __future__ import annotations

from typing import Any

from tests.serve.rig import Client, workshop

from ludora.envs.shell.templates.base import SKILLS


def partial(key: str | int, outcome: str, status: str = "completed") -> dict[str, Any]:
    return {"sample_index": key, "sample_status": status, "evaluation_record": {"outcome": outcome}}


def test_rates_by_hand() -> None:
    client = Client(workshop().app())
    partials = [
        partial("0", "correct"),
        partial(0, "incorrect", "task_limit_reached"),
        partial("1", "correct"),
        partial("2", "unknown", "task_environment_error"),
    ]
    found = client.post("calculate_metric", {"session_partial_list": partials})["metric"]
    skill = found["skill"]
    assert set(skill["count_dict"]) == {*SKILLS, "odd"}
    assert (skill["count_dict"]["mkdir"], skill["correct_count_dict"]["mkdir"]) == (3, 2)
    assert skill["correct_rate_dict"]["mkdir"] == 2 / 3 and skill["correct_rate_dict"]["chmod"] == 0.5
    assert skill["correct_rate_dict"]["grep"] == skill["correct_rate_dict"]["odd"] == 0
    assert skill["correct_rate_dict"]["awk"] == -1 and skill["count_dict"]["awk"] == 0
    assert skill["effective_correct_rate_dict"] == skill["correct_rate_dict"]
    assert set(skill) == {
        f"{a}{b}" for a in ("", "effective_") for b in ("count_dict", "correct_count_dict", "correct_rate_dict")
    }
    assert found["difficulty_level"]["count_dict"] == {"0": 2, "1": 1, "2": 1}
    assert found["difficulty_level"]["correct_rate_dict"] == {"0": 0.5, "1": 1, "2": 0}
    overall = found["overall"]
    assert overall["basic"] == {"session_count": 4}
    assert overall["evaluation_outcome"] == {
        "unset": 0, "correct": 0.5, "incorrect": 0.25, "unknown": 0.25, "ignored": 0,
    }  # fmt: skip
    assert sum(overall["sample_status"].values()) == 1 and len(overall["sample_status"]) == 10
    assert overall["sample_status"]["completed"] == 0.5 and overall["sample_status"]["task_limit_reached"] == 0.25


def test_no_sessions() -> None:
    found = Client(workshop().app()).post("calculate_metric", {"session_partial_list": []})["metric"]
    assert found["overall"] == {"basic": {"session_count": 0}}
    assert set(found["skill"]["correct_rate_dict"].values()) == {-1.0} and len(found["skill"]["count_dict"]) == 29
    assert found["difficulty_level"] == {"count_dict": {}, "correct_count_dict": {}, "correct_rate_dict": {}}
