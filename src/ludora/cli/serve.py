"""`ludora serve`: environments for other programs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ludora.errors import InputError, MissingExtra

ITEMS_PORT = 8001


def serve(
    tasks: Annotated[
        list[str] | None, typer.Argument(metavar="TASK", help="shell by default; with --openenv any TASKs.")
    ] = None,
    openenv: Annotated[bool, typer.Option("--openenv", help="Serve as OpenEnv does, over WebSockets.")] = False,
    opponent: Annotated[
        list[str] | None,
        typer.Option(metavar="PLAYER", help="Whom clients may play against, with --openenv; may be given repeatedly."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address; any but a loopback one needs a token in LUDORA_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 8000,
    items_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the chat-history-item server.")
    ] = ITEMS_PORT,
    sessions: Annotated[int, typer.Option(min=1, max=4096, help="Sessions open at once.")] = 64,
    idle: Annotated[int, typer.Option(min=1, help="Seconds without a call after which a session is closed.")] = 600,
) -> None:
    """Serve shell tasks over LifelongAgentBench's routes, or any TASKs as OpenEnv, until SIGINT or SIGTERM."""
    if openenv and items_port != ITEMS_PORT:
        raise InputError("--items-port has no effect with --openenv", "leave it out")
    if opponent and not openenv:
        raise InputError("--opponent has no effect without --openenv", "add --openenv, or leave it out")
    try:
        from ludora.serve import build, run
    except ImportError:
        raise MissingExtra("serving needs fastapi and uvicorn", "pip install 'ludora[serve]'") from None

    rules = run.rules(host)
    where = build.Where(host, port, items_port, sessions, idle)
    if openenv:
        served, told = build.openenv_servers(tasks or [], opponent or ["random"], where)
    else:
        served, told = build.benchmark_servers(tasks or [], where)

    def ready() -> None:
        sys.stdout.write(f"ready: {told}\n")
        sys.stdout.flush()

    run.serve(served, rules, ready)
