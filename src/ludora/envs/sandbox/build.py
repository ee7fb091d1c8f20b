"""From what the user asked for to a sandbox that runs."""

from __future__ import annotations

from ludora.envs.sandbox.base import Limits, Sandbox
from ludora.envs.sandbox.namespaces import NamespaceSandbox
from ludora.envs.sandbox.roots import Root, find_root


def open_sandbox(limits: Limits = Limits(), root: Root | None = None) -> Sandbox:  # noqa: B008  frozen
    """A fresh sandbox; whoever opens it closes it.

    Args:
        limits: what may be used in it.
        root: its root file system; without one, that which `ludora shell setup` made last.

    Raises:
        InputError: there is no root file system, or this machine cannot have a sandbox; the hint says what is missing.
        EnvBroken: it did not start, though it could.
    """
    return NamespaceSandbox(root or find_root(), limits)
