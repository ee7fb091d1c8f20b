"""`ludora train sft` by running it, on the tiny model: train, resume, skip, refuse, interrupt."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.learn import toy

from ludora.cli.main import run as command_line
from ludora.runs.store import Run

TINY = ["model=tiny", "layers=top:2", "dtype=fp32", "threads=1", "task=kuhn_poker", "evaluate_games=2", "epochs=1"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    toy.games(tmp_path / "games.jsonl")
    return tmp_path


def train(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert command_line(["train", "sft", *words, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_trains_resumes_and_refuses_other_examples(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = train(capsys, "imitation", *TINY, "data=games.jsonl", "lora=seed-quality", "batch=32", "evaluate_every=3")
    run = Run.read(here / "runs" / "imitation")
    assert summary["ended"] == "epochs" and summary["steps"] == 6 and summary["after"]["move_accuracy"] > 0.3
    assert run.config["kind"] == "sft" and run.config["targets"] == "attention" and run.config["accumulation"] == 4
    assert run.config["rank"] == 16 and run.config["layers"] == "top:2" and run.report_html.is_file()
    assert len(summary["evaluation"]["rows"]) == 3 and run.adapter.is_dir()
    again = train(capsys, "--resume", "imitation", "epochs=2")
    assert again["steps"] == 12 and [row["step"] for row in run.rows("metrics.jsonl")] == [0, 3, 6, 9, 10, 12]
    toy.games(here / "other.jsonl", seed=4)
    for change, message in (
        ("batch=8", "batch = 8 cannot change on --resume: it was 32"),
        ("eval_share=0.4", "the examples are not those that this run began with"),
        ("labels=names", "labels = names cannot change on --resume: it was letters"),
        ("data=other.jsonl", "the examples are not those that this run began with"),
    ):
        assert command_line(["train", "sft", "--resume", "imitation", change]) == 2
        assert message in capsys.readouterr().err
    assert run.steps[-1] == 12 and run.config["data"] == "games.jsonl" and run.config["eval_share"] == 0.05
    Path("games.jsonl").rename("moved.jsonl")
    assert train(capsys, "--resume", "imitation", "data=moved.jsonl", "epochs=3")["steps"] == 18


def test_bad_lines_are_refused_by_number_or_skipped(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Path("games.jsonl").open("a") as file:
        file.write('{"messages": 3}\n')
    assert command_line(["train", "sft", "imitation", *TINY, "data=games.jsonl"]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error: ", "hint: "))]
    assert told == [
        "error: 1 of 41 lines cannot be used: games.jsonl:41: 'messages' is not a list",
        "hint: mend or delete these lines, or set bad_lines=skip",
    ]
    assert not (here / "runs").exists()  # nothing is left of a run that never began
    summary = train(capsys, "imitation", *TINY, "data=games.jsonl", "bad_lines=skip", "steps=1")
    assert summary["skipped_lines"] == 1
    warned = [row["text"] for row in Run.read(here / "runs" / "imitation").rows("events.jsonl") if "text" in row]
    assert warned == ["games.jsonl:41 is skipped: 'messages' is not a list"]


def test_no_number_of_a_bad_line_is_lost(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every other line of many: more numbers than a message has room for."""
    good = Path("games.jsonl").read_text().splitlines()
    Path("odd.jsonl").write_text("".join(f"{{}}\n{good[n % len(good)]}\n" for n in range(200)))
    numbers = ", ".join(str(n) for n in range(1, 401, 2))
    assert command_line(["train", "sft", "imitation", *TINY, "data=odd.jsonl"]) == 2
    assert f"200 of 400 lines cannot be used: odd.jsonl lines {numbers}. The first: odd" in capsys.readouterr().err
    assert train(capsys, "imitation", *TINY, "data=odd.jsonl", "bad_lines=skip", "steps=1")["skipped_lines"] == 200
    rows = list(Run.read(here / "runs" / "imitation").rows("events.jsonl"))
    assert [row["skipped"] for row in rows if row["event"] == "start"] == [{"odd.jsonl": numbers}]
    assert f"of odd.jsonl these lines are skipped: {numbers}" in [row["text"] for row in rows if "text" in row]


def test_two_files_and_held_out_ones_apart(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy.chats(here / "chats.jsonl", 5)
    toy.games(here / "other.jsonl", count=3, seed=9)
    words = ['data=["games.jsonl", "chats.jsonl"]', "eval_data=other.jsonl", "steps=1"]
    summary = train(capsys, "imitation", *TINY, *words)
    start = next(row for row in Run.read(summary["run"]).rows("events.jsonl") if row["event"] == "start")
    assert (start["examples"], start["held_out"]) == (205, 15)


def test_ctrl_c_saves_and_says_how_to_go_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["imitation", *TINY[:-1], "data=games.jsonl", "epochs=100000", "log_every=1"]
    command = [sys.executable, "-m", "ludora", "train", "sft", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Step 2"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert "go on with: ludora train sft --resume runs/imitation" in out and "Traceback" not in err
    done = Run.read(here / "runs" / "imitation").steps[-1]
    assert done >= 2
    assert train(capsys, "imitation", "--resume", f"steps={done + 1}")["steps"] == done + 1
