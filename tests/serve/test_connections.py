"""Connections that stay half open are closed, others are not; none of these tests depends on how fast the machine is."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from tests.serve.rig import running
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ludora.serve import run
from ludora.serve.guard import Rules

TOKEN = "a-token-of-enough-length"
BOUND = 0.4  # seconds
HALF = b"POST /slow HTTP/1.1\r\nHost: 127.0.0.1\r\n"
WHOLE = HALF + b"Authorization: Bearer " + TOKEN.encode() + b"\r\nContent-Length: 0\r\n\r\n"
GUARDS = [Rules(header_seconds=BOUND, hosts=("127.0.0.1",)), Rules(header_seconds=BOUND, token=TOKEN)]
Found = TypeVar("Found")


async def slow(request: Request) -> JSONResponse:
    """Takes longer than headers may."""
    await asyncio.sleep(3 * BOUND)
    return JSONResponse("slow")


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


APP = Starlette(routes=[Route("/slow", slow, methods=["POST"]), WebSocketRoute("/echo", echo)])


def dial(url: str) -> socket.socket:
    return socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=60)


def ended(raw: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    found = b""
    try:
        while data := raw.recv(1000):
            found += data
    except ConnectionError:  # closed with bytes of ours on the way
        pass
    return found


def once(attempt: Callable[[], Found]) -> Found:
    """One success in ten: this machine may be so busy that a client is late by itself."""
    for _ in range(9):
        try:
            return attempt()
        except (OSError, httpx.TransportError, ConnectionClosed):
            pass
    return attempt()


@pytest.mark.parametrize("rules", GUARDS, ids=["loopback", "token"])
@pytest.mark.parametrize(
    "said", [b"", b"PO", HALF, HALF + b"X: " + b"x" * 1000], ids=["nothing", "a bit", "half", "more"]
)
def test_headers_that_do_not_end(rules: Rules, said: bytes) -> None:
    with running(APP, rules=rules) as [url], dial(url) as raw:
        raw.sendall(said)
        assert ended(raw) == b""


def test_headers_that_come_byte_by_byte() -> None:
    with running(APP, rules=GUARDS[0]) as [url], dial(url) as raw, pytest.raises(ConnectionError):
        raw.sendall(HALF)
        for _ in range(3000):
            raw.sendall(b"x")
            time.sleep(0.02)


def test_headers_of_another_request_on_the_same_connection() -> None:
    def attempt() -> bytes:
        with dial(url) as raw:
            raw.sendall(WHOLE)
            first = raw.recv(1000)
            if not first:
                raise ConnectionError
            raw.sendall(HALF)
            return first + ended(raw)

    with running(APP, rules=GUARDS[0]) as [url]:
        assert once(attempt).count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("rules", GUARDS, ids=["loopback", "token"])
def test_requests_under_way_are_not_cut_off(rules: Rules) -> None:
    def attempt() -> list[int]:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as http:
            return [http.post("/slow").status_code for _ in range(2)]

    with running(APP, rules=rules) as [url]:
        assert once(attempt) == [200, 200]


def test_sockets_under_way_are_not_cut_off() -> None:
    def attempt() -> str | bytes:
        with connect(url.replace("http", "ws") + "/echo") as talk:
            time.sleep(3 * BOUND)
            talk.send(iter(["in ", "three ", "parts"]))
            return talk.recv(60)

    with running(APP, rules=GUARDS[0]) as [url]:
        assert once(attempt) == "in three parts"


@pytest.mark.parametrize("rules", GUARDS, ids=["loopback", "token"])
def test_half_open_connections_lock_nobody_out(rules: Rules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "CONNECTIONS", 4)
    with running(APP, rules=rules) as [url], ExitStack() as held:
        for _ in range(8):
            held.enter_context(dial(url)).sendall(HALF)
        for _ in range(3000):
            with dial(url) as raw:
                raw.sendall(WHOLE.replace(b"/slow", b"/nowhere").replace(b"Content", b"Connection: close\r\nContent"))
                status = ended(raw)[9:12]
            if status == b"404":
                break
            assert status in (b"503", b"")
            time.sleep(0.02)
        assert status == b"404"


def test_a_message_in_fragments_that_does_not_end() -> None:
    def fragments() -> Iterator[str]:
        for _ in range(3000):
            yield "a fragment, "
            time.sleep(0.02)

    with (
        running(APP, rules=Rules(body_seconds=1.5)) as [url],
        connect(url.replace("http", "ws") + "/echo") as talk,
        pytest.raises(ConnectionClosed) as caught,
    ):
        talk.send(fragments())
    assert caught.value.rcvd is None or caught.value.rcvd.code in (1008, 1011)  # 1011: we were late with a pong


def test_a_frame_that_does_not_end() -> None:
    with running(APP, rules=Rules(body_seconds=0.6)) as [url], dial(url) as raw:
        raw.sendall(
            b"GET /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert raw.recv(1000).startswith(b"HTTP/1.1 101")
        raw.sendall(b"\x81\xfd")  # a text of 64 bits' length, which is not said
        ended(raw)
