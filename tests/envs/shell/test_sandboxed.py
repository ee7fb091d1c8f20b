"""The shell on real sandboxes: every built-in template is proven, and what a scripted sandbox cannot show."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.envs.sandbox.conftest import root  # noqa: F401  a fixture
from tests.envs.shell.test_entries import raw, write

from ludora.cli.main import run
from ludora.envs.build import make_env, task_spec
from ludora.envs.check import check_env
from ludora.envs.sandbox.build import facts
from ludora.envs.shell.env import ShellEnv, Verdict
from ludora.envs.shell.options import Options, instance
from ludora.envs.shell.templates.all import TEMPLATES
from ludora.envs.shell.templates.base import EVAL, HELD_OUT
from ludora.envs.shell.verify import prove, unsound
from ludora.players.shell import Reference
from ludora.rollout import Game, collect
from ludora.types import Move, Outcome, Task

pytestmark = pytest.mark.usefixtures("root")  # of this machine's programs


def test_every_reference_is_right_and_doing_nothing_is_wrong() -> None:
    entries = [instance(t, HELD_OUT if t.held_out else EVAL, 1) for t in TEMPLATES.values()]
    proofs = prove(entries, Options(), threads=8)
    assert len(proofs) == len(TEMPLATES) and unsound(proofs) == []


def test_the_environment_keeps_its_promises() -> None:
    findings = check_env(task_spec("shell(act=bash)"), games=2, player=Reference())
    assert [finding for finding in findings if not finding.passed] == []


def test_episodes_in_threads_have_machines_of_their_own() -> None:
    spec = task_spec("shell(template=useradd-uid)")
    games = [Game(Task(spec, seed), (Reference(idle=seed % 2 == 1),)) for seed in range(8)]
    outcomes = [done.trajectories[0].outcome for done in collect(games, make_env)]
    assert outcomes == [Outcome.WON, Outcome.LOST] * 4


def episode(task: str, *commands: str) -> ShellEnv:
    env = ShellEnv(Task(task_spec(task)))
    try:
        for command in (*commands, "finish"):
            if env.turns():
                env.apply({0: Move(command)})
    finally:
        env.close()
    return env


def test_a_verdict_cannot_be_forged() -> None:
    forge = "printf '#!/bin/sh\\nexit 0\\n' > /tmp/yes; chmod 755 /tmp/yes; cp /tmp/yes /usr/bin/bash; cp /tmp/yes /usr/bin/["
    assert episode("shell(act=line, template=mkdir-one, index=0)", forge).verdict is Verdict.INCORRECT


def test_a_command_is_stopped_in_time_and_its_job_before_lives_on() -> None:
    start = "sleep 300 & echo $! > /tmp/pid"
    look = "kill -0 $(cat /tmp/pid) && echo alive"
    env = episode("shell(act=line, seconds=0.5, template=mkdir-one)", start, "while :; do :; done", look)
    told = [m.content for m in env._messages if m.role == "user"][1:]
    stopped = "There was no output.\n(The command was stopped after 0.5 seconds.)"
    assert told == ["There was no output.", stopped, "Output:\nalive"]


def test_a_file_without_end_pays_no_more_than_doing_nothing() -> None:
    """The check that reads it is stopped for memory or time, which is the agent's own doing."""
    spec = task_spec("shell(act=line, template=report-of-log, index=0, seconds=5)")
    asked = ShellEnv(Task(spec)).turns()[0].messages[-1].content
    files = set(re.findall(r"/srv/[\w.]+", asked))
    env = episode(str(spec), *(f"rm -f {name}; ln -s /dev/urandom {name}" for name in files))
    assert (env.verdict, env.result().outcomes, env.rewards()) == (Verdict.INCORRECT, (Outcome.LOST,), (-0.5,))


def test_a_job_that_a_check_waits_for_is_done_and_one_that_it_looks_for_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        tmp_path / "tasks.json",
        {
            "waits": scripts("sleep 1; test -f /srv/x", "(sleep 0.3; touch /srv/x) &"),
            "looks": scripts("pgrep -x sleep", "sleep 300 &"),
        },
    )
    assert run(["shell", "verify", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reference_correct"] == 2


def scripts(check: str, solution: str, setup: str = "true") -> dict[str, object]:
    def item(text: str) -> dict[str, str]:
        return {"command_name": "bash", "script": text}

    info = {"evaluation_command_item": item(check), "ground_truth_command_item": item(solution)}
    return raw(initialization_command_item=item(setup), evaluation_info=info)


def test_verify_says_what_is_wrong_with_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        tmp_path / "tasks.json",
        {
            "good": scripts("test -d /srv/x", "mkdir -p /srv/x"),
            "bad": scripts("test -d /srv/x", "echo oh no; exit 3"),
            "idle": scripts("true", "true"),
            "setup": scripts("true", "true", "echo no such thing; exit 4"),
        },
    )
    assert run(["shell", "verify", str(path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {k: found[k] for k in ("total", "reference_correct", "untouched_correct")} == {
        "total": 4,
        "reference_correct": 2,
        "untouched_correct": 1,
    }
    assert found["backend"] == "namespaces" and found["root"] == "host" and len(found["digest"]) == 64
    assert {u["entry"]: u["why"] for u in found["unsound"]} == {
        "bad": "the solution ended with status 3 (oh no), the check ended with status 1",
        "idle": "the check succeeds on the untouched machine",
        "setup": "the set-up of entry setup ended with status 4: no such thing",
    }
    assert run(["shell", "verify", str(path)]) == 1 and "oh no" in capsys.readouterr().out
    write(path, {"good": scripts("test -d /srv/x", "mkdir -p /srv/x")})
    assert run(["shell", "verify", str(path)]) == 0


def test_data_and_evaluation_as_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "chats.jsonl"
    assert (
        run(["data", "shell", str(out), "--task", "shell(level=1, act=line, rounds=1)", "--games", "3", "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["conversations"] == 3 == len(out.read_text().splitlines())
    assert run(["evaluate", "reference", "shell(split=eval, level=1)", "--games", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["setting"] == facts() and told["setting"]["root"] == "host"
    (row,) = told["rows"]
    assert row["wins"] == 2 and {group["kind"] for group in row["by_group"]} >= {"skill", "level", "status"}
