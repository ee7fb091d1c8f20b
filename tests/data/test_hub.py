"""Data sets by name, read by the package `datasets` from small copies of their repositories in the same columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ludora.data import hub
from ludora.data.questions import Sizes, key_of
from ludora.data.sources import load
from ludora.errors import InputError, MissingExtra

datasets.disable_progress_bars()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package keeps what it converts; here beside the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def repository(folder: Path, config: str, splits: dict[str, list[dict[str, Any]]], ending: str = "parquet") -> Path:
    """A copy as the hub lays it out: a card that names the parts, and a file for each of them."""
    data = folder / config
    data.mkdir(parents=True)
    lines = ["---", "configs:", f"- config_name: {config}", "  data_files:"]
    for split, rows in splits.items():
        name = f"{split}-00000-of-00001.{ending}"
        if ending == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), data / name)
        elif ending == "arrow":
            table = pa.Table.from_pylist(rows)
            with pa.OSFile(str(data / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
        else:
            (data / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        lines += [f"  - split: {split}", f"    path: {config}/{name}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder


def gsm8k(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"question": f"Tom has {i} apples and buys 2. How many?", "answer": f"{i}+2=<<{i}+2={i + 2}>>\n#### {i + 2}"}
        for i in range(first, first + count)
    ]


def test_gsm8k_keeps_its_own_test_split(tmp_path: Path) -> None:
    twice = gsm8k(1)  # of the train split, and in the test split, too
    folder = repository(tmp_path / "gsm8k", "main", {"train": gsm8k(20), "test": [*gsm8k(5, 100), *twice]})
    splits = load(f"gsm8k(path={folder})", Sizes(12, 3, 6), 1)
    assert splits.style == "gsm8k" and "####" in splits.instruction and splits.duplicates == 1
    assert {q.question for q in splits.test} == {r["question"] for r in [*gsm8k(5, 100), *twice]}
    learnt = {q.question for q in (*splits.train, *splits.search)}
    assert learnt <= {r["question"] for r in gsm8k(20)} - {twice[0]["question"]} and len(learnt) == 15
    assert {q.answer for q in splits.train} <= {r["answer"] for r in gsm8k(20)}


def test_a_copy_of_the_files_alone(tmp_path: Path) -> None:
    folder = repository(tmp_path / "gsm8k", "main", {"train": gsm8k(10), "test": gsm8k(5, 100)})
    (folder / "README.md").unlink()
    assert len(load(f"gsm8k(path={folder})", Sizes(test=5)).test) == 5


def mmlu_pro(count: int) -> list[dict[str, Any]]:
    return [
        {
            "question_id": 70 + i,
            "question": "Which of these?",
            "options": [f"option {i}-{n}" for n in range(3 + i % 8)],
            "answer": "ABCDEFGHIJ"[i % (3 + i % 8)],
            "answer_index": i % (3 + i % 8),
            "cot_content": "",
            "category": "physics" if i % 2 else "law",
            "src": "ori",
        }
        for i in range(count)
    ]


def test_mmlu_pro_is_cut_from_its_test_split(tmp_path: Path) -> None:
    validation = [{**row, "question": "An example?"} for row in mmlu_pro(3)]
    folder = repository(tmp_path / "mmlu", "default", {"test": mmlu_pro(30), "validation": validation}, "arrow")
    splits = load(f"mmlu-pro(path={folder})", Sizes(18, 6, 6))
    assert splits.style == "choice" and {len(part) for part in (splits.search, splits.test)} == {6}
    everything = (*splits.train, *splits.search, *splits.test)
    assert len({key_of(q) for q in everything}) == 30  # equal words, other options
    tenth = next(q for q in everything if q.id == "77")
    assert (tenth.answer, len(tenth.options), tenth.group) == ("The answer is (H).", 10, "physics")


def test_shares_of_a_named_data_set(tmp_path: Path) -> None:
    folder = repository(tmp_path / "mmlu", "default", {"test": mmlu_pro(40)})
    splits = load(f"mmlu-pro(path={folder}, search_share=0.1, test_share=0.05)", Sizes(34, 4, 2))
    assert (len(splits.train), len(splits.search), len(splits.test)) == (34, 4, 2)
    other = repository(tmp_path / "gsm8k", "main", {"train": gsm8k(10), "test": gsm8k(5, 100)})
    assert len(load(f"gsm8k(path={other}, search_share=0.5)", Sizes(5, 5, 5)).search) == 5
    with pytest.raises(InputError, match="test split of its own"):
        load(f"gsm8k(path={other}, test_share=0.5)", Sizes(5))


def test_squad_has_all_its_answers(tmp_path: Path) -> None:
    def row(i: int) -> dict[str, Any]:
        return {
            "id": f"id{i}",
            "title": "Rivers",
            "context": f"The river {i} flows north.",
            "question": f"Where does river {i} flow? ",
            "answers": {"text": ["north", "north", "to the north"], "answer_start": [15, 15, 12]},
        }

    parts = {"train": [row(i) for i in range(10)], "validation": [row(i) for i in range(20, 25)]}
    folder = repository(tmp_path / "squad", "plain_text", parts)
    splits = load(f"squad(path={folder})", Sizes(6, 2, 5))
    question = splits.test[0]
    assert question.question == f"The river {question.id[2:]} flows north.\n\nWhere does river {question.id[2:]} flow?"
    assert (question.answer, question.also, question.group) == ("north", ("to the north",), "Rivers")


def test_alpaca_and_dolly_bring_what_is_given_beside_the_instruction(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": f"Name {i} fruits.", "input": "" if i % 2 else "red", "output": "Apple.", "text": ""}
        for i in range(10)
    ]
    folder = repository(tmp_path / "alpaca", "default", {"train": rows}, "jsonl")
    asked = {q.question for q in load(f"alpaca(path={folder})", Sizes(6, 2, 2)).train}
    assert asked <= {f"Name {i} fruits." if i % 2 else f"Name {i} fruits.\n\nred" for i in range(10)}
    rows = [
        {"instruction": f"Who is {i}?", "context": "A tale." if i else "", "response": "Nobody.", "category": "open_qa"}
        for i in range(10)
    ]
    folder = repository(tmp_path / "dolly", "default", {"train": rows}, "jsonl")
    splits = load(f"dolly(path={folder})", Sizes(6, 2, 2))
    assert splits.style == "text" and splits.train[0].group == "open_qa"
    assert {q.question for q in (*splits.train, *splits.search, *splits.test)} == {
        f"A tale.\n\nWho is {i}?" if i else "Who is 0?" for i in range(10)
    }


def test_rows_without_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    """alpaca as it is published has 28 of them; a file of one's own is refused for one."""
    rows = [{"instruction": f"Name {i} fruits.", "input": "", "output": "Apple."} for i in range(10)]
    gaps = [{"instruction": "Draw one.", "input": "", "output": " "}, {"instruction": "", "input": "", "output": "No."}]
    folder = repository(tmp_path / "alpaca", "default", {"train": [*gaps, *rows]}, "jsonl")
    splits = load(f"alpaca(path={folder})", Sizes(6, 2, 2))
    assert splits.empty == 2 and splits.gaps.startswith("2 rows with an empty question or answer")
    assert all(q.question.startswith("Name") for q in (*splits.train, *splits.search, *splits.test))
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps(row) + "\n" for row in (*rows, gaps[0])))
    with pytest.raises(InputError, match="its question or answer is empty"):
        load(f"dataset({own})", Sizes(1))


@pytest.mark.parametrize(
    ("name", "rows", "why"),
    [
        ("gsm8k", [{"question": "a?", "solution": "b"}], "gsm8k, train, row 0: 'answer' is missing"),
        ("alpaca", [{"instruction": "a", "input": "", "output": None}], "row 0: 'output' is not a text"),
        ("mmlu-pro", [{**mmlu_pro(1)[0], "answer": "B"}], "row 0: its answer 'B' is not option 0 of 3"),
        ("squad", [{"id": "1", "title": "", "context": "c", "question": "q", "answers": {"text": []}}], "no answer"),
    ],
)
def test_other_columns_are_refused(tmp_path: Path, name: str, rows: list[dict[str, Any]], why: str) -> None:
    known = hub.NAMED[name]
    parts = {split: rows for split in (known.split, known.test) if split}
    folder = repository(tmp_path / "copy", known.config, parts, "jsonl")
    with pytest.raises(InputError) as caught:
        load(f"{name}(path={folder})", Sizes(train=1))
    assert why in caught.value.message and "copy" in caught.value.hint


def test_what_cannot_be_loaded_names_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError) as caught:  # offline, and not in the cache
        load("gsm8k", Sizes(test=1))
    assert "cannot load the data set gsm8k from openai/gsm8k" in caught.value.message
    assert "gsm8k(path=FOLDER)" in caught.value.hint and "\n" not in caught.value.message
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cannot load the data set squad"):
        load(f"squad(path={tmp_path / 'empty'})", Sizes(test=1))
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as missing:
        load("gsm8k", Sizes(test=1))
    assert missing.value.hint == "pip install 'ludora[datasets]'"
