"""The command line as a process: exit codes, one line and a hint for bad input, results alone on stdout."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from ludora.cli.main import run
from ludora.runs.store import Run


def ludora(*arguments: str, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120", **extra}
    command = [sys.executable, "-m", "ludora", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["train", "ppo", "leduk"], "no preset and no config file is called 'leduk'", "leduc-vs-random"),
        (["train", "ppo", "none.toml"], "none.toml does not exist", "ludora list presets"),
        (["train", "ppo", "seed", "learnig_rate=1"], "unknown key 'learnig_rate'", "did you mean 'learning_rate'?"),
        (["train", "ppo", "seed", "rank=0"], "rank = 0 is not allowed: a whole number, at least 1 and", "rank: LoRA"),
        (["train", "ppo", "seed", "rank"], "'rank' is not key=value", "for example"),
        (["train", "ppo", "seed", "task=leduk_poker"], "unknown game 'leduk_poker'", "did you mean 'leduc_poker'?"),
        (["train", "ppo", "seed", "task=2200000000"], "task id 2200000000 is out of range", "ids run from 0"),
        (["train", "ppo"], "a CONFIG is missing", "ludora list presets"),
        (["train", "ppo", "--resume"], "--resume needs a RUN or a CONFIG", "ludora runs list"),
        (["train", "ppo", "seed", "--resume"], "there is no run 'seed' in runs to resume", "leave --resume out"),
        (["train", "ppo", "--resume", "nope@5", "seed=3"], "there is no run 'nope' in runs", "ludora train"),
        (["train", "sft", "imitation"], "data names no file to learn from", "data=games.jsonl"),
        (["train", "sft", "imitation", "data=x", "task=leduk_poker"], "unknown game 'leduk_poker'", "leduc_poker"),
        (["train", "sft", "imitation", "data=x", "opponent=rnadom"], "there is no player 'rnadom'", "did you mean"),
        (["train", "sft", "imitation", "data=x", "opponent=self"], "self is an opponent for training only", "adapter("),
        (
            ["train", "sft", "imitation", "data=x", "answer=resoning"],
            "answer = 'resoning' is",
            "did you mean 'reasoning'?",
        ),
        (
            ["train", "sft", "imitation", "data=x", "lora=seed-fast"],
            "lora = 'seed-fast' is not allowed",
            "did you mean",
        ),
        (["train", "sft", "seed", "data=x"], "preset seed is a config of kind 'ppo', not 'sft'", "ludora train ppo"),
        (["evaluate", "random", "leduk_poker"], "unknown game 'leduk_poker'", "did you mean 'leduc_poker'?"),
        (["evaluate", "random", "9900000000"], "task id 9900000000 is out of range", "ids run from 0"),
        (
            ["evaluate", "random", "kuhn_poker", "--dtype", "f16"],
            "dtype = 'f16' is not allowed",
            "did you mean 'fp16'?",
        ),
        (["evaluate", "random", "kuhn_poker", "--top-p", "0.5"], "top_p = 0.5 has no effect", "set act = say"),
        (["evaluate", "random", "kuhn_poker", "--gmaes", "3"], "No such option: --gmaes", "see ludora evaluate --help"),
        (
            ["evaluate", "random", "kuhn_poker", "--games", "x"],
            "'--games': Input should be a valid integer",
            "see ludora evaluate --help",
        ),
        (["evaluate", "random"], "Missing argument 'TASK'", "see ludora evaluate --help"),
        (["evalute"], "No such command 'evalute'", "see ludora --help"),
        (["report", "nope"], "there is no run 'nope' in runs", "ludora train starts one"),
        (["runs", "show", "../.."], "there is no run '../..' in runs", "ludora train starts one"),
        (["play", "kuhn_poker", "--seat", "2"], "there is no seat 2 in kuhn_poker", "seats are 0 to 1"),
        (["play", "kuhn_poker", "--delay", "1"], "--delay has no effect without --watch", "add --watch PLAYER"),
        (["play", "kuhn_poker", "--watch", "first", "--delay", "inf"], "--delay inf is out of", "0 to 3600 seconds"),
        (["play", "kuhn_poker", "--watch", "first", "--delay", "nan"], "--delay nan is out of", "0 to 3600 seconds"),
        (["play", "kuhn_poker", "--watch", "first", "--delay", "1e300"], "--delay 1e+300 is out", "0 to 3600 seconds"),
        (["play", "kuhn_poker", "--watch", "first", "--delay", "-1"], "--delay -1 is out of", "0 to 3600 seconds"),
        (["evaluate", "bfs", "kuhn_poker"], "player bfs plays snake only", "choose random"),
        (["evaluate", "random", "hex", "--against", "astar"], "player astar plays snake only", "choose random"),
        (["play", "kuhn_poker", "--against", "bfs"], "player bfs plays snake only", "choose random"),
        (["play", "snake(sise=4)"], "snake has no option 'sise'", "did you mean 'size'?"),
        (["play", "snake", "--watch", "bfs:fast"], "no player of snake is called 'bfs:fast'", "did you mean 'bfs"),
        (["data", "snake", "out", "--expert", "mcts"], "no player of snake is called 'mcts'", "known: astar, bfs"),
        (["data", "snake", "out", "--size", "2"], "size is a whole number from 4 to 100, not 2", "size=4"),
        (["data", "snake", "out", "--games", "0"], "at least 1 game must be played, not 0", "--games"),
        (["data", "snake", "out", "--games", "99999999999999999999"], "at most 10,000,000 games", "--games 200"),
        (["data", "shell", "out", "--games", "99999999999999999999"], "at most 10,000,000 tasks", "--games 400"),
        (["config", "new", f"{'n' * 300}.toml"], "the name is too long for a file: nnn", "a shorter one"),
        (["report", "n" * 300], "the name is too long for a file: nnn", "a shorter one"),
        (["runs", "show", "n" * 300], "the name is too long for a file: nnn", "a shorter one"),
        (["runs", "show", "run@" + "9" * 5000], "the name is too long for a file: runs/run@999", "a shorter one"),
        (["runs", "show", "run@\N{SUPERSCRIPT TWO}"], "there is no run 'run@\N{SUPERSCRIPT TWO}'", "ludora train"),
        (["train", "ppo", "--resume", "n" * 300], "the name is too long for a file: nnn", "a shorter one"),
        (["evaluate", f"adapter({'n' * 300})", "kuhn_poker"], "the adapter in nnn", "adapter_config.json"),
        (["play", "9" * 5000], "out of range", "ids run from 0"),
        (["data", "check", "none.jsonl"], "there is no file none.jsonl", "ludora data snake"),
        (["config", "show", "sed"], "no preset and no config file is called 'sed'", "did you mean 'seed'?"),
        (["config", "check", "seed", "task=hex(bord=3)"], "bord", ""),
        (["config", "check", "seed", "opponent=rnadom"], "there is no player 'rnadom'", "did you mean 'random'?"),
        (["train", "ppo", "seed", "opponent={self = 1, nsah = 1}"], "there is no player 'nsah'", "'nash'"),
        (["train", "ppo", "x" * 5000], "no preset and no config file is called", "known: "),
        (["evaluate", "random", "x" * 5000], "unknown game", "known: "),
        (["evaluate", "bfs", "snake", "--against", "random"], ") is a game for one", "leave out --against"),
        (["play", "snake(size=5)", "--watch", "bfs", "--against", "bfs"], "is a game for one", "leave out --against"),
        (["evaluate", "random", "kuhn_poker", "--against", ""], "a name is expected", "write name"),
        (["evaluate", "base", "kuhn_poker", "--compare", "bsae"], "there is no player 'bsae'", "did you mean 'base'?"),
        (["evaluate", "base", "kuhn_poker", "--games", "0"], "games must be at least 1", "0 games are possible"),
        (["evaluate", "base", "kuhn_poker", "--games", "99999999999999999999"], "at most 10,000,000", "thousands"),
        (["demo", "--runs-dir", ""], "runs_dir = '' is not allowed", "runs_dir: folder"),
        (["demo", "--minutes", "nan"], "minutes", ""),
        (["play", "kuhn_poker", "--against", "self"], "opponent for training only", "adapter("),
    ],
)
def test_bad_input_is_one_line_and_a_hint(tmp_path: Path, arguments: list[str], message: str, hint: str) -> None:
    done = ludora(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("error: ") and message in lines[0] and len(lines[0]) < 700
    assert lines[1].startswith("hint: ") and hint in lines[1]
    assert list(tmp_path.iterdir()) == []  # nothing was written


@pytest.mark.parametrize("line", [b"nonsense", b"[]", b"\xff\xfe"])
def test_a_damaged_log_names_file_and_line(tmp_path: Path, line: bytes) -> None:
    with Run.create(tmp_path / "runs", "leduc", {"kind": "ppo", "name": "leduc"}) as run:
        (run.path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b"\n")
    done = ludora("runs", "show", "leduc", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert "error: runs/leduc/metrics.jsonl:2 is damaged: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["runs", "show", "leduc@99"], ["report", "runs/leduc@99"], ["report", "leduc@1"]])
def test_a_step_is_refused_where_a_whole_run_is_asked_for(tmp_path: Path, command: list[str]) -> None:
    with Run.create(tmp_path / "runs", "leduc", {"kind": "ppo", "name": "leduc"}) as run:
        run.save_checkpoint(1, {"state.json": b"{}"})
    done = ludora(*command, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    step = command[-1].rpartition("@")[2]
    said = [f"error: '{command[-1]}' names step {step}, but this is about a whole run", f"hint: leave out @{step}"]
    assert done.stderr.splitlines() == said


def test_a_run_in_use_names_the_process(tmp_path: Path) -> None:
    with Run.create(tmp_path / "runs", "leduc", {"kind": "ppo", "name": "leduc"}):
        done = ludora("train", "ppo", "--resume", "leduc", cwd=tmp_path)
    assert done.returncode == 2
    assert f"error: run runs/leduc is in use by process {os.getpid()} on " in done.stderr
    assert "hint: wait for it, or stop it" in done.stderr and "Traceback" not in done.stderr


def test_a_traceback_on_request(tmp_path: Path) -> None:
    done = ludora("report", "nope", cwd=tmp_path, LUDORA_DEBUG="1")
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    done = ludora("train", "ppo", "seed", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: cannot make a run folder in runs: File exists",
        "hint: choose another with runs_dir=FOLDER",
    ]


def test_help_is_fast(tmp_path: Path) -> None:
    """It imports nothing but what typer does, and our own modules of the command line: seconds are noise, this is not."""
    told = "import sys; print(*{name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    packages = []
    for first in ("from ludora.cli.main import run; run(['--help'])", "import typer, typer.rich_utils, rich.table"):
        command = [sys.executable, "-c", f"{first}\n{told}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=100)
        packages.append(set(done.stdout.splitlines()[-1].split()))
    assert packages[0] - packages[1] == {"ludora"}
    listing = "print(*(name for name in sys.modules if name.startswith('ludora.')))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nfrom ludora.cli.main import run; run(['--help'])\n{listing}"],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    ours = set(done.stdout.splitlines()[-1].split())
    assert all(name.startswith("ludora.cli") or name == "ludora.errors" for name in ours), ours


def test_version(tmp_path: Path) -> None:
    from ludora import __version__

    assert ludora("--version", cwd=tmp_path).stdout == f"ludora {__version__}\n"


def test_help_names_every_command(tmp_path: Path) -> None:
    commands = ("demo", "train", "evaluate", "play", "data", "report", "runs", "list", "config", "merge", "check-env")
    commands += ("doctor",)
    shown = ludora("--help", cwd=tmp_path).stdout
    assert [name for name in commands if name not in shown] == []
    for name in commands:
        done = ludora(name, "--help", cwd=tmp_path)
        assert done.returncode == 0 and "Usage: ludora " + name in done.stdout


def test_json_is_alone_on_stdout(tmp_path: Path) -> None:
    for arguments in (["list", "presets"], ["list", "games"], ["config", "show", "seed"], ["runs", "list"]):
        done = ludora(*arguments, "--json", cwd=tmp_path)
        assert done.returncode == 0 and done.stdout.count("\n") == 1
        assert isinstance(json.loads(done.stdout), dict)


def test_config_show_reads_back(tmp_path: Path) -> None:
    shown = ludora("config", "show", "kuhn-self-play", "seed=7", "--json", cwd=tmp_path).stdout
    (tmp_path / "mine.json").write_text(shown)
    again = ludora("config", "show", "mine.json", "--json", cwd=tmp_path).stdout
    assert json.loads(again) == json.loads(shown) and json.loads(again)["seed"] == 7


def test_config_check(tmp_path: Path) -> None:
    (tmp_path / "games.jsonl").touch()
    for words, ending in (
        ([], "games of the data's task"),
        (["task=none"], "no games"),
        (["task=200000042"], "leduc_poker"),
    ):
        done = ludora("config", "check", "imitation", "data=games.jsonl", *words, cwd=tmp_path)
        assert done.stdout == f"ok: sft config, at the end {ending}\n"
    for words, message in (
        ([], "data names no file to learn from"),
        (["data=nope.jsonl"], "there is no file nope.jsonl"),
        (["data=games.jsonl", "eval_data=nope.jsonl"], "there is no file nope.jsonl"),
    ):
        done = ludora("config", "check", "imitation", *words, cwd=tmp_path)
        assert done.returncode == 2 and done.stdout == "" and message in done.stderr and "hint:" in done.stderr
    done = ludora("config", "check", "seed", "task=200000042", cwd=tmp_path)
    assert done.stdout == "ok: ppo config for leduc_poker(players=2)\n" or "leduc_poker" in done.stdout


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("adapter={}/none", "no adapter in {}/none: adapter_config.json is missing"),
        ("adapter={}/half", "no adapter in {}/half: adapter_model.safetensors is missing"),
        ("adapter={}/half/adapter_config.json", "adapter_config.json is not a folder"),
        ("model={}/none", "there is no model folder {}/none"),
        ("model={}/half", "{}/half holds an adapter, not a base model"),
        ("model=tiny:zzz", "there is no tiny model of type 'zzz'"),
        ("device=tpu", "there is no device 'tpu'"),
        ("device=cuda:x", "there is no device 'cuda:x'"),
        ("opponent=adapter({}/none)", "no adapter in {}/none"),
        ('opponent={{random = 1, "epsilon(0.5, adapter({}/none))" = 1}}', "no adapter in {}/none"),
        ("opponent=merged({}/none)", "there is no model folder {}/none"),
        ('compare=["adapter({}/none)"]', "no adapter in {}/none"),
        ('stages=[{{name = "a", opponent = "adapter({}/none)"}}]', "no adapter in {}/none"),
    ],
)
def test_what_a_config_names_is_looked_for_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "adapter_config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for command in (["config", "check"], ["train", "ppo"]):
        assert run([*command, "leduc-vs-random", override.format(tmp_path)]) == 2
        error = "".join(capsys.readouterr().err.splitlines())
        assert message.format(tmp_path) in error and "hint: " in error and "threads:" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["half"]


def test_what_only_the_hub_knows_passes(capsys: pytest.CaptureFixture[str]) -> None:
    for override in ("model=owner/name", "model=gpt2", "model=tiny:gpt2", "device=cuda:7"):
        assert run(["config", "check", "leduc-vs-random", override]) == 0
        assert capsys.readouterr().out == "ok: ppo config for leduc_poker\n"


def test_games_by_number_and_by_name(tmp_path: Path) -> None:
    games = json.loads(ludora("list", "games", "--json", cwd=tmp_path).stdout)["games"]
    assert (
        [game["name"] for game in games[22:]] == ["snake", "shell", "openenv"]
        and games[2]["name"] == "leduc_poker"
        and games[2]["first_task_id"] == 200_000_000
    )
    assert games[22] == {
        **{"name": "snake", "first_task_id": None, "long_name": "Snake on an n x n board"},
        **{"index": None, "players": "1", "kind": "chance, alone", "dynamics": "sequential"},
    }
    more = json.loads(ludora("list", "games", "--all", "--json", cwd=tmp_path).stdout)["games"]
    assert more[:22] == games[:22] and {"kuhn_poker", "snake"} <= {game["name"] for game in more}


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_table_of_games_has_a_line_for_each_and_explains_its_letters(tmp_path: Path, columns: str) -> None:
    lines = ludora("list", "games", cwd=tmp_path, COLUMNS=columns).stdout.splitlines()
    assert lines[1].split() == ["game", "no", "seats", "kind", "turns", "tokens", "legal", "exact", "bots"]
    rows = [line.split() for line in lines[3:25]]
    assert rows[2] == ["leduc_poker", "2", "2-10", "chz", "4", "135-162", "3", "yes", "min"]
    assert all(len(row) == 9 and row[1] == str(number) for number, row in enumerate(rows))
    told = "\n".join(lines[26:])
    assert all(f"\n{word} " in f"\n{told}" for word in lines[1].split()[1:])  # the first is plain
    kinds, bots = ({letter for row in rows for letter in row[at]} for at in (3, 8))
    assert all(f"{letter} " in told for letter in kinds | bots - {"-"})
    assert max(map(len, lines)) <= int(columns)


def test_check_env(tmp_path: Path) -> None:
    done = ludora("check-env", "tic_tac_toe", "--games", "3", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["passed"] and len(found["findings"]) >= 10


def test_runs_clean_asks(tmp_path: Path) -> None:
    for _ in range(3):
        Run.create(tmp_path / "runs", "leduc", {}).close()
        time.sleep(0.01)
    done = ludora("runs", "clean", "--keep", "1", cwd=tmp_path)
    assert done.returncode == 2 and "add --yes" in done.stderr
    assert len(list((tmp_path / "runs").iterdir())) == 3
    done = ludora("runs", "clean", "--keep", "1", "--yes", "--json", cwd=tmp_path)
    assert sorted(json.loads(done.stdout)["deleted"]) == ["runs/leduc", "runs/leduc-2"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["leduc-3"]


def test_list_games_says_what_each_game_is(tmp_path: Path) -> None:
    games = {game["name"]: game for game in json.loads(ludora("list", "games", "--json", cwd=tmp_path).stdout)["games"]}
    assert games["leduc_poker"]["exact"] and games["leduc_poker"]["search"] == ["mcts", "ismcts", "nash"]
    assert games["goofspiel"]["kind"].startswith("simultaneous") and games["goofspiel"]["search"] == []
    assert games["hearts"]["players"] == "4" and games["2048"]["kind"] == "chance, alone"
    assert all(game["prompt_tokens"] <= game["prompt_tokens_max"] <= 2048 for game in list(games.values())[:22])
    shown = ludora("list", "games", cwd=tmp_path, COLUMNS="80").stdout
    leduc = next(line.split() for line in shown.splitlines() if "leduc_poker" in line)
    assert leduc[1:4] == ["2", "2-10", "chz"] and leduc[-2:] == ["yes", "min"]
    assert "c chance, h hidden information" in shown and "i ismcts" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_check_env_of_several_tasks(tmp_path: Path) -> None:
    done = ludora("check-env", "tic_tac_toe", "wrap(2400000000)", "--games", "1", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["passed"] and [task["task"] for task in found["tasks"]] == ["tic_tac_toe", "leduc_poker"]
    assert "tic_tac_toe" in ludora("check-env", "tic_tac_toe", "kuhn_poker", "--games", "1", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "random", "goofspiel", "--against", "mcts:weak"], "cannot play simultaneous moves"),
        (["evaluate", "ismcts", "chess"], "is for games with hidden information"),
        (["evaluate", "epsilon(2, first)", "leduc_poker"], "must be from 0 to 1"),
        (["evaluate", "nash", "chess"], "too large"),
        (["check-env", "tic_tac_toe", "wrap(chess)"], "does not name one task id"),
    ],
)
def test_impossible_players_and_ids_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = ludora(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and message in done.stderr
    assert [line.split(":")[0] for line in done.stderr.strip().splitlines()[-2:]] == ["error", "hint"]


@pytest.mark.parametrize(
    ("error", "arguments", "hint"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), ["train", "ppo", "seed"], "minibatch"),
        (RuntimeError("CUDA error: out of memory"), ["train", "sft", "imitation"], "accumulation"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), ["evaluate", "base", "x"], "--quantize"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), ["merge", "a", "b"], "--device cpu"),
        (MemoryError(), ["report", "x"], "smaller model"),
    ],
)
def test_memory_that_runs_out_is_one_line(
    error: BaseException,
    arguments: list[str],
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("ludora.cli.main.app", partial(_fail, error))
    monkeypatch.setenv("LUDORA_DEBUG", "0")
    assert run(arguments) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 2
    assert shown.err.startswith("error: memory ran out\nhint: ") and hint in shown.err
    monkeypatch.setattr("ludora.cli.main.app", partial(_fail, RuntimeError("a bug of ours")))
    with pytest.raises(RuntimeError, match="a bug of ours"):
        run(arguments)


def _fail(error: BaseException, **options: object) -> None:
    raise error
