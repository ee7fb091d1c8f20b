"""Sandboxes in containers of Docker or Podman. The same agent is process 1; the engine makes the namespaces.

The agent needs CAP_SYS_ADMIN for its mounts, and no profile that forbids mounting. What it runs has no capability that
a container has not by default, and our own system-call filter instead of the engine's.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from ludora.envs.sandbox.base import Limits
from ludora.envs.sandbox.child import Child
from ludora.envs.sandbox.talk import Running, agent_text, bootstrap
from ludora.errors import InputError

ENGINES = ("docker", "podman")
ANSWERS_WITHIN = 30.0  # seconds
CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID"),
    *("SETPCAP", "SETUID", "SYS_ADMIN", "SYS_CHROOT", "WAKE_ALARM"),
)
OURS = 64 * (1 << 20)  # bytes of the engine's limit that the agent and its file system's bookkeeping may need


def start(engine: str, image: str, limits: Limits) -> Running:
    """A fresh container.

    Args:
        engine: docker or podman.
        image: has bash and Python 3.9 or newer.

    Raises:
        InputError: there is no such engine, or no such image.
        EnvBroken: it did not start.
    """
    told = facts(engine, image)
    agent = agent_text(limits, ())
    child = Child(command(engine, image, limits, len(agent)), os.environ)
    sandbox = Running(child, limits, told)
    sandbox.start(agent)
    return sandbox


def facts(engine: str, image: str) -> dict[str, str]:
    """What results are got with. Raises InputError when there is no such engine or image."""
    return {"backend": f"{engine} {version(engine)}", "root": image, "digest": image_id(engine, image)}


def version(engine: str) -> str:
    """Of the engine's server.

    Raises:
        InputError: it is not there, or does not answer.
    """
    if shutil.which(engine) is None:
        raise InputError(f"{engine} is not installed", f"install {engine}, or use backend=namespaces, which needs none")
    found = _ask([engine, "version", "--format", "{{.Server.Version}}"])
    if found is None:
        raise InputError(
            f"{engine} does not answer", f"start its service and see {engine} info, or use backend=namespaces"
        )
    return found


def image_id(engine: str, image: str) -> str:
    """Raises InputError when the engine has no such image."""
    found = _ask([engine, "image", "inspect", "--format", "{{.Id}}", image])
    if found is None:
        raise InputError(f"{engine} has no image {image!r}", f"{engine} pull {image}")
    return found


def _ask(words: list[str]) -> str | None:
    """What a command of the engine prints; None when it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ANSWERS_WITHIN)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def command(engine: str, image: str, limits: Limits, agent_size: int) -> list[str]:
    """The command line of the engine, and of the Python that becomes the agent."""
    memory = str((limits.memory_mb + limits.disk_mb) * (1 << 20) + OURS)
    return [
        *(engine, "run", "--rm", "--interactive", "--network=none", "--hostname=sandbox", "--user=0:0", "--workdir=/"),
        *("--cap-drop=ALL", *(f"--cap-add={name}" for name in CAPABILITIES)),
        *("--security-opt=no-new-privileges", "--security-opt=seccomp=unconfined"),
        *("--security-opt=apparmor=unconfined", "--security-opt=label=disable"),
        *(f"--memory={memory}", f"--memory-swap={memory}", f"--pids-limit={limits.processes + 2}"),
        *("--ulimit=nofile=1024:1024", "--log-driver=none", "--entrypoint=python3", image),
        *("-I", "-S", "-c", bootstrap(agent_size)),
    ]
