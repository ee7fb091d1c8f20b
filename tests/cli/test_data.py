"""`ludora data` and Snake at the terminal, as commands."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from tests.data.rig import read_trajectories

from ludora.cli.main import run

CHAT = '{"prompt": "?", "completion": "Who knows?"}'
SMALL = ["--games", "6", "--size", "5", "--expert", "bfs-safe(noise=0.2)", "--eval-share", "0.34"]


def ludora(*arguments: str, cwd: Path, typed: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120"}
    command = [sys.executable, "-m", "ludora", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, input=typed, capture_output=True, text=True, timeout=100)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of expert games, with what the command printed."""
    folder = tmp_path_factory.mktemp("data")
    done = ludora("data", "snake", "out", *SMALL, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "told.json").write_text(done.stdout)
    return folder


def test_it_prints_what_it_made(made: Path) -> None:
    assert (made / "told.json").read_text().count("\n") == 1
    told = json.loads((made / "told.json").read_text())
    assert (told["task"], told["expert"]) == ("snake(max_steps=400, size=5, text=features)", "bfs-safe(noise=0.2)")
    assert sorted(p.name for p in (made / "out").iterdir()) == ["eval.jsonl", "train.jsonl"]
    for part, games in (("train", 4), ("eval", 2)):
        found = read_trajectories(made / "out" / f"{part}.jsonl").all_good()
        assert told[part]["games"] == len(found) == games
        assert told[part]["moves"] == sum(len(t.steps) for t in found)
        assert {str(t.task.env) for t in found} == {"snake(size=5)"}
        assert {t.player for t in found} == {"bfs-safe(noise=0.2)"}


def test_people_get_a_table(made: Path) -> None:
    done = ludora("data", "snake", "again", *SMALL, "--text", "board", "--max-steps", "30", cwd=made)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout and "distinct_prompts" in done.stdout and "max_steps 4" in done.stdout
    games = read_trajectories(made / "again" / "train.jsonl").all_good()
    assert {str(t.task.env) for t in games} == {"snake(max_steps=30, size=5, text=board)"}
    twice = ludora("data", "snake", "again", *SMALL, cwd=made)
    assert twice.returncode == 2 and "again/train.jsonl exists already" in twice.stderr


def test_check_counts_and_names_bad_lines(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = made / "out" / "train.jsonl"
    assert run(["data", "check", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["lines"], told["bad_lines"]) == (4, []) and told["with_reasoning"] == told["moves"] > 100
    lines = path.read_text().splitlines()
    (made / "bad.jsonl").write_text("\n".join([lines[0], lines[1][:-9], "", '{"prompt": "?"}', CHAT]))
    assert run(["data", "check", str(made / "bad.jsonl"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["lines"], told["games"], told["conversations"]) == (2, 1, 1)
    assert [bad["line"] for bad in told["bad_lines"]] == [2, 4]
    assert run(["data", "check", str(made / "bad.jsonl")]) == 1
    assert "line 4: 'completion' is missing" in capsys.readouterr().out


def test_chats_and_tables(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(made / "out" / "eval.jsonl")
    assert run(["data", "messages", source, str(made / "chats.jsonl"), "--reasoning", "--json"]) == 0
    chats = json.loads(capsys.readouterr().out)["chats"]
    assert run(["data", "table", source, str(made / "rows.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == chats
    rows = (made / "rows.csv").read_text().splitlines()
    said = [json.loads(line)["messages"] for line in (made / "chats.jsonl").read_text().splitlines()]
    assert len(rows) == chats + 1 == len(said) + 1
    for row, chat in zip(rows[1:], said, strict=True):
        assert re.search(r"\nMove: (\w+)$", chat[-1]["content"])[1].upper() == row.rpartition(",")[2]


def test_bad_lines_are_passed_over_only_when_asked(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "mixed.jsonl").write_text(f'{{"prompt": "?", "completion": "Move: up"}}\noops\n{CHAT}\n')
    words = ["data", "messages", str(made / "mixed.jsonl"), str(made / "mixed-chats.jsonl")]
    assert run(words) == 2
    told = capsys.readouterr().err
    assert "mixed.jsonl:2: it is not JSON" in told and "mixed.jsonl:3: the answer names no move of Snake" in told
    assert not (made / "mixed-chats.jsonl").exists()
    assert run([*words, "--skip-bad"]) == 0
    shown = capsys.readouterr()
    assert "mixed.jsonl:2" in shown.err and "1 chats in" in shown.out


def test_a_table_names_the_lines_that_do_not_replay(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, other = (made / "out" / "train.jsonl").read_text().splitlines()[:2]
    wrong = json.dumps({**json.loads(other), "info": {"apples": 99}})
    (made / "odd.jsonl").write_text("\n".join([good, "", wrong, "{", other]))
    words = ["data", "table", str(made / "odd.jsonl"), str(made / "odd.csv")]
    assert run(words) == 2
    told = capsys.readouterr().err
    assert "odd.jsonl:3: the game replays to" in told and "odd.jsonl:4: it is not JSON" in told
    assert not (made / "odd.csv").exists()
    assert run([*words, "--skip-bad", "--json"]) == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert (told["games"], told["bad_lines"]) == (2, [3, 4]) and "odd.jsonl:3" in shown.err
    for text, why in (("\n", "holds no games"), ("{\n", "cannot be used")):
        (made / "none.jsonl").write_text(text)
        assert run(["data", "table", str(made / "none.jsonl"), str(made / "no.csv"), "--skip-bad"]) == 2
        assert why in capsys.readouterr().err and not (made / "no.csv").exists()


@pytest.mark.parametrize(
    ("command", "place"),
    [("messages", "nowhere/new"), ("messages", "told.json/new"), ("table", "nowhere/new"), ("snake", "told.json/new")],
)
def test_where_nothing_can_be_written_is_said(
    made: Path, capsys: pytest.CaptureFixture[str], command: str, place: str
) -> None:
    out, source = str(made / place), str(made / "out" / "eval.jsonl")
    words = ["snake", out, *SMALL] if command == "snake" else [command, source, out]
    assert run(["data", *words]) == 2
    told = capsys.readouterr().err
    assert f"error: {out} cannot be written: " in told and "hint: choose another place" in told and ".tmp" not in told


# ---- at the terminal -----------------------------------------------------------------------------------------------


def test_watching_prints_every_frame_where_there_is_no_terminal(tmp_path: Path) -> None:
    done = ludora("play", "snake(size=4, max_steps=9)", "--watch", "hamiltonian", "--seed", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("@") == 9 and "\x1b" not in done.stdout
    assert [
        int(n) for n in re.findall(r"^(\d+)\. seat 0, hamiltonian: (?:up|down|left|right)  \(The", done.stdout, re.M)
    ] == [*range(1, 10)]
    assert re.search(r"return \+\d+, apples \d+, length \d+, steps 9, reversals 0, end reason max_steps", done.stdout)
    again = ludora("play", "snake(size=4, max_steps=9)", "--watch", "hamiltonian", "--seed", "5", cwd=tmp_path)
    assert again.stdout == done.stdout


def test_a_person_sees_the_board_and_types_moves(tmp_path: Path) -> None:
    done = ludora("play", "snake(size=4)", "--seed", "5", cwd=tmp_path, typed="u\nsideways\n1\nup\n")
    assert done.returncode == 0, done.stderr
    assert "'sideways' is not one of the moves" in done.stdout
    assert done.stdout.count("Eat the apples (*)") == 1 and done.stdout.count("+---------+") == 4
    assert "end reason wall" in done.stdout


def test_any_game_can_be_watched(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["play", "kuhn_poker", "--watch", "first", "--against", "random", "--seed", "2"]) == 0
    shown = capsys.readouterr().out
    assert "You hold: " in shown and "seat 0, first: Check" in shown and "seat 1, random: " in shown
    assert "seat 0 (first)" in shown and "(you)" not in shown


def on_a_terminal(*arguments: str, keys: list[bytes], waits: bytes = b"leaves.") -> str:
    """What a process shows on a terminal; a key is pressed whenever it has drawn a board and waits."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    command = [sys.executable, "-m", "ludora", *arguments]
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment, preexec_fn=lambda: os.login_tty(slave)
    )
    os.close(slave)
    shown, answered = b"", 0
    try:
        while process.poll() is None or select.select([master], [], [], 0)[0]:
            if select.select([master], [], [], 0.05)[0]:
                try:
                    shown += os.read(master, 65536)
                except OSError:  # the other side is closed
                    break
            if shown.count(waits) > answered and answered < len(keys):
                os.write(master, keys[answered])
                answered += 1
        process.wait()
    finally:
        process.kill()
        os.close(master)
    return shown.decode()


def test_arrow_keys_steer_on_a_terminal() -> None:
    shown = on_a_terminal("play", "snake(size=4)", "--seed", "5", keys=[b"\x1b[A", b"a", b"\x1b[D", b"\x1b[D", b"h"])
    assert "end reason wall" in shown and "steps 4" in shown  # up, left, left, and into the wall
    assert shown.count("\x1b[H") >= 4 and "Arrow keys" in shown


def test_q_leaves() -> None:
    shown = on_a_terminal("play", "snake(size=4)", keys=[b"w", b"q"])
    assert "the game was left" in shown and "end reason" not in shown


def test_watching_draws_frames_over_one_another_on_a_terminal() -> None:
    shown = on_a_terminal("play", "snake(size=4, max_steps=5)", "--watch", "bfs", "--delay", "0.01", keys=[])
    assert shown.count("\x1b[H") == int(re.search(r"steps (\d+)", shown)[1]) > 0


SHORT = ("evaluate", "hamiltonian", "snake(size=4, max_steps=9)", "snake(size=6, max_steps=9)", "--games", "3")
ASKED = ("evaluate", "base", "arithmetic", "--games", "3", "--answer-tokens", "2", "--model", "tiny", "--threads", "1")


@pytest.mark.parametrize(
    ("words", "what", "total"), [((*SHORT, "--compare", "bfs"), "games", 12), (ASKED, "answers", 3)]
)
def test_an_evaluation_counts_on_a_terminal_and_wipes_it_away(words: tuple[str, ...], what: str, total: int) -> None:
    shown = on_a_terminal(*words, keys=[])
    bar, table = shown.split("\x1b[?25h")  # the cursor is shown again where the bar ends
    assert f"{what} " in bar and "0%" in bar and f" {total}/{total} " in re.sub(r"\x1b\[[0-9;]*m", "", bar)
    assert "┏" not in bar and "%" in table
    assert bar.endswith("\x1b[2K") or table.lstrip("\r\n").startswith("\x1b[1A\x1b[2K")


def test_an_evaluation_is_silent_elsewhere_and_where_a_person_plays(tmp_path: Path) -> None:
    done = ludora(*SHORT, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    play = ("evaluate", "random", "kuhn_poker", "--games", "2", "--against", "epsilon(0, human)")
    assert "0/2" not in on_a_terminal(*play, keys=[b"quit\n"], waits=b"Your move: ")


def test_ctrl_c_ends_an_evaluation_and_its_bar() -> None:
    long = ("evaluate", "hamiltonian", "snake(size=30, max_steps=9999)", "--games", "500")
    shown = on_a_terminal(*long, keys=[b"\x03"], waits=b"0:00:01")  # the games have begun
    assert shown.endswith("\x1b[?25h\r\x1b[1A\x1b[2K")
