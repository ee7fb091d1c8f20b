"""Commands that load a model, on the tiny one: train, resume, interrupt, evaluate, merge, report, doctor."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ludora.cli.main import run as command_line
from ludora.runs.store import Run

TINY = ["model=tiny", "layers=all", "dtype=fp32", "threads=1", "games_per_update=8", "save_every=7", "evaluate_every=0"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of two updates."""
    folder = tmp_path_factory.mktemp("trained")
    words = ["train", "ppo", "kuhn-self-play", *TINY, "updates=2", f"runs_dir={folder / 'runs'}"]
    assert command_line(words) == 0
    return folder / "runs" / "kuhn-self-play"


def ludora_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    capsys.readouterr()
    assert command_line([*arguments, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_train_leaves_a_whole_run(trained: Path) -> None:
    run = Run.read(trained)
    assert run.steps[-1] == 2 and run.adapter.is_dir() and run.report_html.is_file() and not run.in_use
    assert run.config["seed"] == 0 and run.config["kind"] == "ppo"
    assert [row["step"] for row in run.rows("metrics.jsonl")] == [1, 2]


def test_show_and_list(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Run.open(trained) as run:
        kept = run.write_episodes(2, "{}\n")
    shown = ludora_json(capsys, "runs", "show", str(trained))
    assert shown["episodes"] == [str(kept)]
    assert shown["last_step"] == 2 and shown["metrics"]["step"] == 2 and shown["finished"]
    listed = ludora_json(capsys, "runs", "list", "--runs-dir", str(trained.parent))
    assert [info["name"] for info in listed["runs"]] == ["kuhn-self-play"]


def test_resume_goes_on_and_keeps_what_auto_came_to(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = ludora_json(capsys, "train", "ppo", "--resume", str(trained), "updates=3")
    assert summary["updates"] == 3
    config = Run.read(trained).config
    assert config["updates"] == 3 and config["device"] == "cpu" and config["dtype"] == "fp32"
    assert [row["step"] for row in Run.read(trained).rows("metrics.jsonl")] == [1, 2, 3]
    summary = ludora_json(capsys, "train", "ppo", "--resume", f"{trained}@2", "updates=3")
    assert [row["step"] for row in Run.read(trained).rows("metrics.jsonl")] == [1, 2, 3]


def test_resume_refuses_what_does_not_fit(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["train", "ppo", "--resume", str(trained), "rank=3"]) == 2
    assert "rank = 3 cannot change on --resume: it was" in capsys.readouterr().err
    assert command_line(["train", "ppo", "--resume", f"{trained}@99"]) == 2
    assert "no checkpoint of step 99" in capsys.readouterr().err
    before = Run.read(trained).config
    assert command_line(["train", "ppo", "--resume", str(trained), "opponent=adapter(nowhere)", "updates=9"]) == 2
    assert "no adapter in nowhere" in capsys.readouterr().err
    assert Run.read(trained).config == before  # what cannot be used is not written down


def test_evaluate_the_adapter(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    player = f"adapter({trained / 'adapter'})"
    words = ["evaluate", player, "kuhn_poker", "--compare", "base", "--exact", "--games", "8"]
    found = ludora_json(capsys, *words, "--model", "tiny", "--dtype", "fp32", "--threads", "1")
    assert {row["player"] for row in found["rows"]} >= {player, "base"}
    assert all(row["nash_conv"] is not None for row in found["rows"][:2])


def test_an_adapter_for_another_model_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    player = f"adapter({trained / 'adapter'})"
    words = ["evaluate", player, "kuhn_poker", "--games", "2", "--model", "tiny:gpt2", "--threads", "1"]
    assert command_line(words) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and "tiny" in error[0]


def test_merge(trained: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert command_line(["merge", str(trained / "adapter"), "merged", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert "cores usable" in err.splitlines()[0]  # a busy machine is not made slower by threads that wait for it
    assert found["argmax_agreement"] > 0.9 and (here / "merged" / "config.json").is_file()
    assert command_line(["merge", str(trained / "adapter"), "merged"]) == 2
    assert "merged exists already" in capsys.readouterr().err


def test_report(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained / "report.html").unlink()
    assert Path(ludora_json(capsys, "report", str(trained))["report"]).is_file()


def test_lists_and_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nash" in {row["name"] for row in ludora_json(capsys, "list", "players")["players"]}
    assert "tiny" in {row["name"] for row in ludora_json(capsys, "list", "models")["models"]}
    found = ludora_json(capsys, "doctor")
    assert found["missing"] == [] and found["gflops_fp32"] > 0 and found["packages"]["torch"]


def test_a_bad_start_leaves_no_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["train", "ppo", "kuhn-self-play", *TINY, 'targets=["nothing"]']) == 2
    assert "nothing" in capsys.readouterr().err
    assert command_line(["train", "ppo", "kuhn-self-play", *TINY, "opponent=mcts", "task=goofspiel"]) == 2
    assert "simultaneous" in capsys.readouterr().err  # found at the first move, after the start was saved
    assert list(here.iterdir()) == []


def test_ctrl_c_saves_and_resume_goes_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "ppo", "kuhn-self-play", *TINY, "updates=100000", "minutes=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ludora", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.startswith("update 2"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopping after this update" in err and "Traceback" not in err
    assert "go on with: ludora train ppo --resume runs/kuhn-self-play" in out
    run = Run.read(here / "runs" / "kuhn-self-play")
    done = run.steps[-1]
    assert done >= 2 and [row["step"] for row in run.rows("metrics.jsonl")][-1] == done
    summary = ludora_json(capsys, "train", "ppo", "kuhn-self-play", "--resume", f"updates={done + 1}")
    assert summary["updates"] == done + 1


def test_play(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ludora", "play", "kuhn_poker", "--against", "first", "--seed", "3"],
        input="hello\n1\n1\n1\n",
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "'hello' is not one of the moves" in done.stdout and "seat 0 (you): " in done.stdout
