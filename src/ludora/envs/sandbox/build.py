"""From what the user asked for to a sandbox that runs."""

from __future__ import annotations

from ludora.envs.sandbox import containers, namespaces
from ludora.envs.sandbox.base import Limits
from ludora.envs.sandbox.checks import refuse
from ludora.envs.sandbox.roots import Root, find_root
from ludora.envs.sandbox.talk import Running
from ludora.errors import EnvBroken, InputError, nearest

BACKENDS = ("namespaces", *containers.ENGINES)
DEFAULT = Limits()


def open_sandbox(
    limits: Limits = DEFAULT, *, backend: str = "namespaces", image: str = "", root: Root | None = None
) -> Running:
    """A fresh sandbox; whoever opens it closes it. What cannot be had is refused: nothing ever runs without one.

    Args:
        limits: what may be used in it.
        backend: namespaces, docker or podman.
        image: of docker or podman.
        root: of namespaces; without one, what `ludora shell setup` made last.

    Raises:
        InputError: there is no such backend, root file system or image here; the hint says what to do.
        EnvBroken: it did not start.
    """
    _check(backend, image)
    if backend != "namespaces":
        return containers.start(backend, image, limits)
    try:
        return namespaces.start(root or find_root(), limits)
    except EnvBroken:
        refuse()
        raise


def facts(backend: str = "namespaces", image: str = "") -> dict[str, str]:
    """What results are got with, without opening a sandbox: `backend`, `root` and the root's `digest`.

    Raises:
        InputError: there is no such backend, root file system or image here.
    """
    _check(backend, image)
    return namespaces.facts(find_root()) if backend == "namespaces" else containers.facts(backend, image)


def _check(backend: str, image: str) -> None:
    if backend not in BACKENDS:
        raise InputError(f"there is no sandbox backend {backend!r}", nearest(backend, BACKENDS))
    if image and backend == "namespaces":
        raise InputError(f"an image ({image}) is for docker or podman", "backend=docker or backend=podman")
    if not image and backend != "namespaces":
        raise InputError(
            f"{backend} needs an image", "image=debian:stable-slim with python3 in it, or the benchmark's own"
        )
