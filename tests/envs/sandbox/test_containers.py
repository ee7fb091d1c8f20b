"""Docker and Podman: the command lines of the real clients. An engine of these tests answers in their place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ludora.envs.sandbox import containers
from ludora.envs.sandbox.base import Done, Limits
from ludora.envs.sandbox.build import open_sandbox
from ludora.envs.sandbox.talk import agent_text
from ludora.errors import EnvBroken, InputError

# Notes what it was told. Reads the agent, but is only an agent itself: answers every request with its script.
ENGINE = """#!/usr/bin/env python3
import json, os, sys
words = sys.argv[1:]
with open(os.environ["SAID"], "a") as said: said.write(json.dumps([os.path.basename(sys.argv[0]), *words]) + "\\n")
if words[0] == "version": print("28.2.2")
elif words[:2] == ["image", "inspect"]:
    if words[-1] == "missing": sys.exit("Error: No such image: missing")
    print("sha256:abc")
elif words[0] == "run":
    if words[-5] == "broken": sys.exit("docker: Error response from daemon: broken.")
    size = int(words[-1].split("<")[1].split(":")[0])
    agent = sys.stdin.buffer.read(size)
    assert agent.rstrip().endswith(b")") and b"main(" in agent
    compile(agent, "agent", "exec")
    print("ready", flush=True)
    while line := sys.stdin.buffer.readline():
        language, seconds, trusted, size = line.split()
        script = sys.stdin.buffer.read(int(size))
        answer = language + b" " + trusted + b" " + script
        sys.stdout.buffer.write(b"3 0 0 0 0.5 %d\\n" % len(answer) + answer)
        sys.stdout.flush()
"""


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / request.param).write_text(ENGINE)
    (tmp_path / request.param).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    return str(request.param)


def test_a_container(engine: str, tmp_path: Path) -> None:
    limits = Limits(processes=50, memory_mb=256, disk_mb=64)
    sandbox = open_sandbox(limits, backend=engine, image="local-os/default")
    assert sandbox.facts == {"backend": f"{engine} 28.2.2", "root": "local-os/default", "digest": "sha256:abc"}
    assert sandbox.run("echo grün") == Done(3, "bash 0 echo grün", seconds=0.5)
    assert sandbox.run("x", language="python", trusted=True) == Done(3, "python 1 x", seconds=0.5)
    sandbox.close()
    assert sandbox.child.process.returncode == 0
    version, image, run = map(json.loads, (tmp_path / "said").read_text().splitlines())
    assert version == [engine, "version", "--format", "{{.Server.Version}}"]
    assert image == [engine, "image", "inspect", "--format", "{{.Id}}", "local-os/default"]
    assert run[:3] == [engine, "run", "--rm"] and run[-5] == "local-os/default" and run[-4:-1] == ["-I", "-S", "-c"]
    wanted = {
        "--interactive",
        "--network=none",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--pids-limit=52",
    }
    assert wanted <= set(run) and f"--memory={384 << 20}" in run and f"--memory-swap={384 << 20}" in run
    assert not {"--privileged", "--pid=host", "--net=host", "-v", "--volume"} & set(run)


def test_refusals(engine: str) -> None:
    with pytest.raises(InputError, match="no image 'missing'") as caught:
        open_sandbox(backend=engine, image="missing")
    assert caught.value.hint == f"{engine} pull missing"
    with pytest.raises(EnvBroken, match="Error response from daemon: broken"):
        open_sandbox(backend=engine, image="broken")


def test_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="podman is not installed") as caught:
        open_sandbox(backend="podman", image="x")
    assert "namespaces" in caught.value.hint


def test_an_engine_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="docker does not answer"):
        open_sandbox(backend="docker", image="x")


def test_an_agent_that_says_something_else_is_no_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        'case "$1" in version) echo 1;; image) echo x;; *) cat > /dev/null & echo "the file system: no overlay"; esac'
    )
    (tmp_path / "docker").write_text(f"#!/bin/sh\n{code}\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(EnvBroken, match="no overlay"):
        open_sandbox(backend="docker", image="x")


def test_the_agent_imports_few_modules_and_none_of_ours() -> None:
    import ast

    tree = ast.parse(agent_text(Limits(), ()))
    names = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names == {"__future__", "ctypes", "os", "resource", "select", "time"}


def test_capabilities_of_the_agent_are_those_it_needs() -> None:
    assert "SYS_ADMIN" in containers.CAPABILITIES and not {"NET_ADMIN", "SYS_PTRACE", "MKNOD", "NET_RAW"} & set(
        containers.CAPABILITIES
    )
