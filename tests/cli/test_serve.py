"""`ludora serve` as a process: the ready line, real sandboxes behind it, a graceful stop; and what it refuses."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from tests.serve.rig import answered

from ludora.cli.main import run
from ludora.envs.sandbox.build import open_sandbox
from ludora.errors import InputError

TASK = "shell(template=mkdir+touch, split=eval)"


@contextmanager
def serving(
    *words: str, environment: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The command as a process, and the addresses of its ready line."""
    command = [sys.executable, "-m", "ludora", "serve", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        try:
            line = process.stdout.readline()
            assert line.startswith("ready: "), process.communicate()[1]
            yield process, re.findall(r"http://\S+?(?=,|$|\s)", line)
        finally:
            process.kill()


def test_shell_tasks_on_real_sandboxes() -> None:
    try:
        open_sandbox().close()
    except InputError as error:
        pytest.skip(f"no sandbox here: {error.message}")
    with serving("--port", "0", "--items-port", "0", "--sessions", "3") as (process, [tasks, items]):
        index = requests.post(f"{tasks}/get_sample_index_list", json={}).json()["sample_index_list"][0]
        new = {"session": {"task_name": "os_interaction", "sample_index": index}}
        first, second = (requests.post(f"{tasks}/reset", json=new).json()["session"] for _ in range(2))
        assert (
            first["chat_history"]["value"][0]["content"]
            == (
                requests.post(f"{items}/construct", json={"chat_history_item_index": 0}).json()["chat_history_item"][
                    "content"
                ]
            )
        )

        def said(session: dict[str, Any], script: str) -> dict[str, Any]:
            body = {"session": answered(session, f"Act: bash\n```bash\n{script}\n```")}
            return dict(requests.post(f"{tasks}/interact", json=body).json()["session"])

        first, second = said(first, "echo first > /tmp/mine; whoami"), said(second, "cat /tmp/mine")
        assert first["chat_history"]["value"][-1]["content"] == "Output:\nroot"
        assert "No such file" in second["chat_history"]["value"][-1]["content"]
        assert said(first, "cat /tmp/mine")["chat_history"]["value"][-1]["content"] == "Output:\nfirst"
        done = requests.post(f"{tasks}/interact", json={"session": answered(second, "Act: finish")}).json()["session"]
        judged = requests.post(f"{tasks}/complete", json={"session": done}).json()["session"]
        assert judged["evaluation_record"]["outcome"] == "incorrect"
        assert requests.get(tasks.replace("/api", "/openapi.json")).json()["info"]["title"] == "Ludora task server"
        assert requests.get(tasks.replace("/api", "/docs")).status_code == 200
        assert requests.post(f"{tasks}/ping", headers={"Host": "evil.example"}).status_code == 403
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.communicate() == ("", "")


def test_openenv_and_a_graceful_stop_on_ctrl_c() -> None:
    with serving("--openenv", "leduc_poker", "--opponent", "first", "--port", "0") as (process, [url]):
        assert requests.get(f"{url}/health").json() == {"status": "healthy"}
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.communicate() == ("", "")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("leduc_poker", "serve shell tasks, not leduc_poker"),
        ("shell shell", "one TASK is served at a time"),
        ("shell(path=nowhere.json)", "nowhere.json"),
        ("lduc_poker --openenv", "lduc_poker"),
        ("--openenv", "there is nothing to serve"),
        ("leduc_poker --openenv --opponent base", "needs a model"),
        ("leduc_poker --openenv --opponent human", "needs a person"),
        ("leduc_poker --openenv --items-port 5", "--items-port has no effect"),
        ("--opponent first", "--opponent has no effect"),
        ("--host 0.0.0.0", "a token is needed"),
        ("--host :: ", "a token is needed"),
        ("--host example.invalid", "a token is needed"),
        ("leduc_poker --openenv --host 127.0.0.999 ", "a token is needed"),
        ("--port 99999", "--port"),
        ("--sessions 0", "--sessions"),
        ("--idle nan", "--idle"),
    ],
)
def test_what_is_refused(
    words: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LUDORA_TOKEN", raising=False)
    assert run(["serve", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and why in err and err.startswith("error: ") and err.count("\n") == 2


@pytest.mark.parametrize("token", ["short", "a token with \u00fcmlauts in it", "a-token-with-a-\x07-in-it"])
def test_tokens_that_are_refused(
    token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LUDORA_TOKEN", token)
    assert run(["serve", "--host", "0.0.0.0"]) == 2
    err = capsys.readouterr().err
    assert "too easy to guess" in err and token not in err


def test_addresses_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LUDORA_TOKEN", "a-token-of-enough-length")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words in (["--port", str(port)], ["--host", "host.invalid"], ["--host", "192.0.2.1"]):
            assert run(["serve", "--openenv", "leduc_poker", *words]) == 2
            err = capsys.readouterr().err
            assert err.startswith("error: cannot listen at ") and err.count("\n") == 2


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for module in ("ludora.serve.openenv", "openenv", "openenv.core", "openenv.core.env_server"):
        monkeypatch.setitem(sys.modules, module, None)
    assert run(["serve", "--openenv", "leduc_poker"]) == 2
    assert "pip install 'ludora[serve]'" in capsys.readouterr().err
