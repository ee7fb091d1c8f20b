"""Sockets and processes: bind, say that it is ready, serve until a signal, close what is open."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette

from ludora.errors import InputError
from ludora.serve.connections import Settings, asked
from ludora.serve.guard import Guard, Receive, Rules, Scope, Send, local_names

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TOKEN_VARIABLE = "LUDORA_TOKEN"
CONNECTIONS = 2048  # at once; more are refused
STOP_SECONDS = 5  # for requests under way when the server is to stop


@dataclass(frozen=True, slots=True)
class Served:
    """An application and the socket it is served on; `stop` closes what its requests may wait for, in any thread."""

    app: Starlette
    socket: socket.socket
    stop: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        """The address, with the port that was given where any would do."""
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any free one.

    Raises:
        InputError: there is no such address here, or the port is in use.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server((str(address[0]), int(address[1])), family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        hint = "give other ports; 0 is any that is free"
        raise InputError(f"cannot listen at {host} port {port}: {why}", hint) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def rules(host: str) -> Rules:
    """What is allowed at an address: at a loopback one, its own names; anywhere else, whoever has the token.

    Raises:
        InputError: the address can be reached from elsewhere and there is no token, or it is too easy to guess.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    hint = f"set {TOKEN_VARIABLE} to 16 characters or more, for example from: openssl rand -hex 16"
    if not token and not is_loopback(host):
        raise InputError(f"{host} can be reached from other machines, so a token is needed", hint)
    if token and (len(token) < 16 or not token.isascii() or not token.isprintable()):
        raise InputError(f"{TOKEN_VARIABLE} is too easy to guess, or no plain text", hint)
    hosts = local_names(host) if is_loopback(host) else ()
    return Rules(token=token, hosts=hosts)


class Server(uvicorn.Server):
    """uvicorn that returns after SIGINT or SIGTERM once requests under way are done; a second SIGINT waits for none."""

    stops: Sequence[Callable[[], None]] = ()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does; meanwhile close what requests under way wait for, so that they are answered."""
        await asyncio.gather(super().shutdown(sockets), *map(asyncio.to_thread, self.stops))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Instead of uvicorn's, which raises the signal again when it is done. None outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)


def make_server(served: Sequence[Served], rules: Rules, ready: Callable[[], None]) -> Server:
    """One server for all sockets, each application behind its guard; `ready` is called once it serves."""
    apps: Mapping[int, Guard] = {s.socket.getsockname()[1]: Guard(s.app, rules) for s in served}

    async def by_port(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            with asked(scope):
                await apps[scope["server"][1]](scope, receive, send)
            return
        async with AsyncExitStack() as started:
            for s in served:
                await started.enter_async_context(s.app.router.lifespan_context(s.app))
            await receive()
            ready()
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    config = Settings(
        by_port,
        rules,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = Server(config)
    server.stops = [s.stop for s in served]
    return server


def serve(served: Sequence[Served], rules: Rules, ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM."""
    make_server(served, rules, ready).run(sockets=[s.socket for s in served])
