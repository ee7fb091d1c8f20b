"""From TASK strings to servers that are ready to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ludora.envs.build import task_spec
from ludora.envs.sandbox.build import open_sandbox
from ludora.envs.shell.entries import Entry
from ludora.envs.shell.env import machine
from ludora.envs.shell.options import entries_of, entry_of, options_of, templates_of
from ludora.errors import InputError, MissingExtra
from ludora.serve.app import PREFIX
from ludora.serve.items import PromptItems, items_app
from ludora.serve.run import Served, bind
from ludora.serve.sessions import Sessions
from ludora.serve.tasks import Tasks, task_app
from ludora.types import Spec, Task

INSTANCES = 3  # of each built-in template


@dataclass(frozen=True, slots=True)
class Where:
    """Where to listen, and how much at once.

    Attributes:
        host, port: address; port 0 is any that is free.
        items_port: of the chat-history-item server.
        sessions: open at once.
        idle_seconds: after which one is closed.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    items_port: int = 8001
    sessions: int = 64
    idle_seconds: float = 600.0


def benchmark_servers(tasks: Sequence[str], where: Where) -> tuple[list[Served], str]:
    """The task server and the chat-history-item server, and what to tell when they run.

    Raises:
        InputError: not one shell task, an address that cannot be had, or a machine without a sandbox.
    """
    if len(tasks) > 1:
        raise InputError("one TASK is served at a time", "with --openenv several can be")
    spec = task_spec(tasks[0] if tasks else "shell")
    if spec.name != "shell":
        raise InputError(f"these servers serve shell tasks, not {spec}", "add --openenv to serve any other TASK")
    entries, options = entries_by_key(spec), options_of(spec)
    open_sandbox(
        backend=options.backend, image=options.image
    ).close()  # what this machine lacks is told now, not at the first session
    items = PromptItems(options.act, options.rounds)
    served_items = Served(items_app(items), bind(where.host, where.items_port))
    served_tasks = Tasks(
        entries,
        lambda entry, seconds: machine(entry, replace(options, seconds=seconds)),
        items,
        Sessions(where.sessions, where.idle_seconds),
        options.rounds,
        options.seconds,
        options.act,
        options.output,
        served_items.url + PREFIX,
    )
    served = Served(task_app(served_tasks), bind(where.host, where.port), served_tasks.sessions.close)
    told = f"{len(entries)} tasks of {spec} at {served.url}{PREFIX}, chat history items at {served_items.url}{PREFIX}"
    return [served, served_items], told


def entries_by_key(spec: Spec) -> Mapping[str, Entry]:
    """What a shell TASK may mean, by the key that clients ask for: a file's own keys, or numbers from 0."""
    options = options_of(spec)
    if options.path:
        return {entry.key: entry for entry in entries_of(options)}
    if options.index:
        return {options.index: entry_of(Task(spec))}
    numbered = [
        replace(spec, params=(*spec.params, ("index", i))) for i in range(INSTANCES * len(templates_of(options)))
    ]
    return {str(i): entry_of(Task(one)) for i, one in enumerate(numbered)}


def openenv_servers(tasks: Sequence[str], opponents: Sequence[str], where: Where) -> tuple[list[Served], str]:
    """The OpenEnv server of some tasks, and what to tell when it runs.

    Raises:
        InputError: no such task or opponent, or an address that cannot be had.
        MissingExtra: openenv is not installed.
    """
    if not tasks:
        raise InputError("there is nothing to serve", "name a TASK: ludora serve --openenv leduc_poker")
    try:
        from ludora.serve.openenv import menu, openenv_app
    except ImportError:
        raise MissingExtra("--openenv needs the package openenv", "pip install 'ludora[serve]'") from None
    offered = menu(tasks, opponents)
    served = Served(openenv_app(offered, where.sessions, where.idle_seconds), bind(where.host, where.port))
    return [served], f"OpenEnv server of {', '.join(offered.tasks)} at {served.url}"
