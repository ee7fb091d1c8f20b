"""Evaluations on data sets: counts by hand, the written report, and the command."""

from __future__ import annotations

import errno
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.evals.test_report import Checker
from tests.models import rig as rigs
from tests.models.rig import rig

from ludora.cli.main import run as command_line
from ludora.data.questions import Question, Splits, choice_answer, mark_of
from ludora.errors import InputError
from ludora.evals.quiz import Asking, Quiz, check_asking, check_unseen, from_records
from ludora.evals.quiz_report import markdown, measures, page, show, verdicts, write
from ludora.evals.records import Record
from ludora.evals.stats import bootstrap, mcnemar
from ludora.grammar import parse
from ludora.settings import ModelSettings

QUESTIONS = tuple(Question(f"q{i}", f"What is {i} + <b>1</b>?", f"Answer: {i + 1}", (), "sums") for i in range(20))
DATA = Splits("dataset(sums)", "final", "", (), (), QUESTIONS)


def answers(right: Sequence[bool], loss: float = 2.0) -> list[Record]:
    return [
        Record(q.id, True, f"Answer: {i + ok}", str(i + ok), ok, ok, ok, True, False, loss, 4)
        for i, (q, ok) in enumerate(zip(QUESTIONS, right, strict=True))
    ]


BEFORE, AFTER = [i < 6 for i in range(20)], [3 <= i < 16 for i in range(20)]
BOTH = from_records(DATA, QUESTIONS, 0, "flexible", {"adapter(x)": answers(AFTER, 1.0), "base": answers(BEFORE)})
ALONE = from_records(DATA, QUESTIONS, 0, "strict", {"base": answers(BEFORE)})


def test_counts_by_hand() -> None:
    pair = BOTH.comparison
    assert pair is not None
    assert (pair.improvements, pair.regressions, pair.both_right, pair.both_wrong) == (10, 3, 3, 4)
    assert pair.difference == pytest.approx(7 / 20) and pair.p_value == mcnemar(10, 3) == pytest.approx(
        0.0923, abs=1e-4
    )
    assert pair.difference_low is not None and pair.difference_high is not None
    assert pair.difference_low < 0.35 < pair.difference_high
    assert (pair.nll_difference, pair.nll_difference_low) == (-0.25, -0.25)
    assert [row.rate for row in BOTH.rows] == [13 / 20, 6 / 20]
    assert BOTH.rows[0].low < 0.65 < BOTH.rows[0].high
    assert [i.id for i in BOTH.changed(False, True)] == ["q0", "q1", "q2"]
    assert "No reliable difference between adapter(x) and base: +35.0 points" in pair.sentence
    better = from_records(DATA, QUESTIONS, 0, "strict", {"a": answers([True] * 20), "b": answers(BEFORE)}).comparison
    assert better is not None and better.sentence.startswith("a is better than b: +70.0 points")
    worse = from_records(DATA, QUESTIONS, 0, "strict", {"b": answers(BEFORE), "a": answers([True] * 20)}).comparison
    assert worse is not None and worse.sentence.startswith("b is worse than a: -70.0 points")


def test_the_bootstrap_agrees_with_the_normal_interval_of_many_pairs() -> None:
    values = [1.0] * 300 + [0.0] * 500 + [-1.0] * 200
    found = bootstrap(values, seed=1)
    error = math.sqrt((0.5 - 0.01) / 1000)
    assert found.mean == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1 - 1.96 * error, abs=0.004)
    assert found.high == pytest.approx(0.1 + 1.96 * error, abs=0.004)
    assert bootstrap(values, seed=1) == found != bootstrap(values, seed=2)
    assert bootstrap([3.0]).low is None and bootstrap([2.0, 2.0]).low == 2.0
    with pytest.raises(ValueError):
        bootstrap([])


def test_json_round_trip() -> None:
    broken = [
        Record(q.id, nll=math.inf, tokens=4, option="A", option_right=False, option_nll=math.inf) for q in QUESTIONS
    ]
    infinite = from_records(DATA, QUESTIONS, 3, "choice", {"a": broken, "b": answers(BEFORE)})
    for quiz in (BOTH, ALONE, infinite):
        data = json.loads(json.dumps(quiz.to_json(), allow_nan=False))
        assert Quiz.from_json(data) == quiz
    assert infinite.comparison is not None and infinite.comparison.nll_difference is None
    assert "sentence" in BOTH.to_json()["comparison"]


@pytest.mark.parametrize(
    "damage",
    [{"version": 9}, {"kind": "games"}, {"items": 3}, {"items": [{"id": "1"}]}, {"metric": "best"}, {"rows": [{}]}],
)
def test_a_damaged_record_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Quiz.from_json(BOTH.to_json() | damage)


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "new" / "report", BOTH)
    assert sorted(p.name for p in path.parent.iterdir()) == ["evaluation.json", "report.html", "report.md"]
    assert Quiz.from_json(json.loads((path.parent / "evaluation.json").read_text())) == BOTH
    html, text = path.read_text(encoding="utf-8"), (path.parent / "report.md").read_text(encoding="utf-8")
    told = Checker(html)
    for words in (
        "Improvements: 10",
        "Regressions: 3",
        "Both wrong: 4",
        "What is 0 + <b>1</b>?",
        "65.0 %",
        "p = 0.092",
    ):
        assert words in told.text and words in text, words
    assert "<b>" not in html and "and 2 more" not in html
    assert text.index("## Improvements") < text.index("## Regressions") < text.index("## Both wrong")
    mute = from_records(DATA, QUESTIONS, 0, "strict", {"a": [Record(q.id, True, "well", tokens=1) for q in QUESTIONS]})
    assert "a: well  [nothing read]" in markdown(mute) and "[nothing read]" not in text
    assert "Wrong: 14" in markdown(ALONE) and "and 4 more in evaluation.json" in page(ALONE)
    assert verdicts(ALONE) == []


def test_lines_of_the_table() -> None:
    lines = {line.label: line.cells for line in measures(BOTH)}
    assert lines["right, read in any form"][1].startswith("65.0 % (")
    assert lines["perplexity of the answers"] == (f"{math.exp(0.5):.3f}", f"{math.exp(0.25):.3f}")
    assert lines["answers not in the form asked for"] == ("0.0 %", "0.0 %")
    assert not any("option" in label for label in lines)
    options = [Record(q.id, nll=1.0, tokens=1, option="A", option_right=True, option_nll=0.1) for q in QUESTIONS]
    by_options = measures(from_records(DATA, QUESTIONS, 0, "choice", {"a": options}))
    assert by_options[0].label == "the right option is the likeliest" and by_options[0].main
    out = io.StringIO()
    show(BOTH, Console(file=out, width=120, color_system=None))
    assert "dataset(sums), 20 questions of its test split" in out.getvalue() and "adapter(x)" in out.getvalue()


def test_a_question_that_an_adapter_has_seen_is_not_asked(tmp_path: Path) -> None:
    def record(text: str) -> None:
        (tmp_path / "ludora.json").write_text(text)

    adapter = [parse(f"adapter({tmp_path})"), parse("base")]
    others = tuple(Question(f"o{i}", f"other {i}", "1") for i in range(5))
    check_unseen(adapter, DATA)  # nothing is recorded
    for text in ("no json", "[]", '{"data": 3}', '{"data": {"seen": 3}}', '{"base": "x"}'):
        record(text)
        check_unseen(adapter, DATA)
    seen = {"source": "dataset(sums.jsonl)", "seed": 1, "train": 5, "seen": [mark_of(q) for q in others]}
    record(json.dumps({"data": seen}))
    check_unseen(adapter, DATA)
    record(json.dumps({"data": seen | {"seen": [mark_of(q) for q in (*others, *QUESTIONS[:3])]}}))
    with pytest.raises(InputError, match=r"has seen 3 of these 20 test questions") as caught:
        check_unseen(adapter, DATA)
    assert "dataset(sums.jsonl)" in caught.value.hint


# ---- the command ---------------------------------------------------------------------------------------------------


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert command_line(["evaluate", *words, "--model", "tiny", "--dtype", "fp32", "--threads", "1", "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_an_adapter_against_the_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    r = rig("llama")
    player = f"adapter({rigs.save(r.add(rank=3), r.base, tmp_path / 'adapter')})"
    out = tmp_path / "out"
    words = [player, "arithmetic", "--compare", "base", "--games", "5", "--answer-tokens", "6", "--out", str(out)]
    found = run_json(capsys, *words)
    assert [row["player"] for row in found["rows"]] == [player, "base"] and len(found["items"]) == 5
    assert found["rows"][0]["totals"]["truncated"] > 0 and found["comparison"]["questions"] == 5
    assert found["task"] == "dataset(arithmetic)" and found["metric"] == "flexible"
    assert (out / "report.html").is_file() and Quiz.from_json(found) == Quiz.from_json(
        json.loads((out / "evaluation.json").read_text())
    )
    assert command_line(["evaluate", *words]) == 2  # the folder is there
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["file/sub", "file/deep/sub", "new/" + "x" * 300])
def test_where_no_report_can_be_written_is_said_first(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert command_line(["evaluate", "base", "arithmetic", "--model", "tiny", "--out", place]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and " cannot be written: " in error and error.count("\n") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_table_is_there_though_the_report_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("ludora.evals.quiz_report.replace_file", full)
    words = ["base", "arithmetic", "--games", "2", "--answer-tokens", "2", "--out", str(tmp_path / "out")]
    assert command_line(["evaluate", *words, "--model", "tiny", "--threads", "1"]) == 1
    shown = capsys.readouterr()
    assert "2 questions of its test split" in shown.out and "No space left" in shown.err


def test_options_count_where_there_are_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": f"{i}?", "answer": "b", "options": ["up", "down"]} for i in range(10)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = f"dataset({tmp_path / 'a.jsonl'}, test_share=1, search_share=0)"
    found = run_json(capsys, "base", task, "--games", "10", "--answer-tokens", "2")
    assert found["metric"] == "choice" and found["rows"][0]["totals"]["options"] is not None
    assert found["items"][0]["reference"] == choice_answer(1)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["base", "gsm9k"], "gsm9k"),
        (["base", "dataset(gsm9k)"], "no data set 'gsm9k'"),
        (["random", "arithmetic"], "random answers no questions"),
        (["base", "arithmetic", "--compare", "base"], "contenders must differ"),
        (["base", "arithmetic", "--against", "mcts"], "--against has no effect"),
        (["base", "arithmetic", "--exact"], "--exact has no effect"),
        (["base", "arithmetic", "kuhn_poker"], "one at a time"),
        (["base", "arithmetic", "--compare", "adapter(x)", "--compare", "adapter(y)"], "one --compare"),
        (["base", "arithmetic", "--games", "0"], "at least one question"),
        (["base", "arithmetic", "--metric", "best"], "no metric 'best'"),
        (["base", "arithmetic", "--metric", "choice"], "needs options"),
        (["base", "arithmetic", "--act", "say"], "act = say has no effect"),
        (["base", "arithmetic", "--temperature", "0.5"], "temperature = 0.5 has no effect"),
        (["base", "arithmetic", "--games", "100000"], "different questions for test"),
        (["base", "kuhn_poker", "--metric", "strict"], "--metric has no effect"),
        (["base", "kuhn_poker", "--out", "x"], "--out has no effect"),
        (["base", "kuhn_poker", "--answer-tokens", "9"], "--answer-tokens has no effect"),
    ],
)
def test_what_is_refused(
    words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command_line(["evaluate", *words]) == 2
    error = capsys.readouterr().err
    assert why in error and error.count("\n") == 2 and "hint: " in error
    assert list(tmp_path.iterdir()) == []


def test_players_are_checked_before_anything_is_loaded() -> None:
    check_asking([parse("base"), parse("adapter(x)")], "gsm8k", ModelSettings(), Asking())


def test_list_datasets(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["list", "datasets", "--json"]) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)["datasets"]}
    assert {"gsm8k", "mmlu-pro", "squad", "alpaca", "dolly", "arithmetic", "reasoning-gym"} <= set(found)
    assert "pip install 'ludora[datasets]'" in found["gsm8k"]["needs"] and found["arithmetic"]["needs"] == ""
