"""Who may come in, how often and with how much: by hand-made ASGI, and over real sockets where bytes count."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect
from tests.serve.rig import running

from ludora.serve.guard import ADDRESSES, Guard, Rates, Rules

TOKEN = "a-token-of-enough-length"


async def size(request: Request) -> JSONResponse:
    return JSONResponse({"bytes": len(await request.body())})


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


APP = Starlette(routes=[Route("/size", size, methods=["GET", "POST"]), WebSocketRoute("/echo", echo)])


def client(**rules: Any) -> TestClient:
    return TestClient(Guard(APP, Rules(**rules)))


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"Authorization": "Bearer \xff"}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
    ],
)
def test_a_token_is_wanted(said: dict[str, str], status: int) -> None:
    headers = {key: value.encode("latin-1") for key, value in said.items()}
    answer = client(token=TOKEN).get("/size", headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.json()["detail"].startswith("a token is needed") and TOKEN not in answer.text
        assert answer.headers["www-authenticate"] == "Bearer"


def test_sockets_want_it_too() -> None:
    with client(token=TOKEN).websocket_connect("/echo", headers={"Authorization": f"Bearer {TOKEN}"}) as talk:
        talk.send_text("hello")
        assert talk.receive_text() == "hello"
    with pytest.raises(WebSocketDisconnect) as caught, client(token=TOKEN).websocket_connect("/echo"):
        pass
    assert caught.value.code == 1008


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:8000"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"}, 200),
        ({"Host": "127.0.0.1:8000", "Origin": "http://evil.example"}, 403),
        ({"Host": "127.0.0.1:8000", "Origin": "null"}, 403),
    ],
)
def test_a_page_in_a_browser_is_kept_out(headers: dict[str, str], status: int) -> None:
    guarded = client(hosts=("127.0.0.1", "localhost", "::1"))
    assert guarded.get("/size", headers=headers).status_code == status
    if status == 403:
        with pytest.raises(WebSocketDisconnect), guarded.websocket_connect("/echo", headers=headers):
            pass


def test_bodies_are_bounded() -> None:
    guarded = client(body_bytes=1000)
    assert guarded.post("/size", content=b"x" * 1000).json() == {"bytes": 1000}
    answer = guarded.post("/size", content=b"x" * 1001)
    assert answer.status_code == 413 and answer.json() == {"detail": "the body is longer than 1000 bytes"}
    chunks: Iterator[bytes] = (b"x" * 100 for _ in range(11))  # says no length
    assert guarded.post("/size", content=chunks).status_code == 413
    odd = {"Content-Length": "\N{SUPERSCRIPT TWO}".encode("latin-1")}  # looks like a digit, and is none
    assert guarded.post("/size", content=b"12", headers=odd).json() == {"bytes": 2}


def test_rates() -> None:
    now = [0.0]
    rates = Rates(3, lambda: now[0])
    assert [rates.take("a") for _ in range(4)] == [True, True, True, False]
    assert rates.take("b")
    now[0] = 0.34
    assert [rates.take("a") for _ in range(2)] == [True, False]
    now[0] = 100.0
    assert [rates.take("a") for _ in range(4)] == [True, True, True, False]  # a long silence saves nothing up


def test_only_so_many_addresses_are_remembered() -> None:
    rates = Rates(1, lambda: 0.0)
    for i in range(ADDRESSES + 10):
        rates.take(str(i))
    assert len(rates._left) == ADDRESSES
    assert not rates.take(str(ADDRESSES + 9)) and rates.take("0")


def test_too_many_requests() -> None:
    guarded = client(rate=5)
    answers = [guarded.get("/size") for _ in range(200)]
    refused = [a for a in answers if a.status_code == 429]
    assert refused and refused[0].headers["retry-after"] == "1" and "5 requests" in refused[0].json()["detail"]


def test_a_slow_body_is_not_waited_for() -> None:
    async def never() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [], "client": ("127.0.0.1", 1), "method": "POST", "path": "/size"}
    asyncio.run(Guard(APP, Rules(body_seconds=0.01))(scope, never, send))
    assert sent[0]["status"] == 408 and json.loads(sent[1]["body"])["detail"].startswith("the body took longer")


def test_a_request_that_the_server_waits_for_no_longer_is_told_so() -> None:
    begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await asyncio.sleep(60)

    async def nothing() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    async def stopped() -> None:
        scope = {"type": "http", "headers": [], "client": ("127.0.0.1", 1), "method": "POST", "path": "/size"}
        task = asyncio.create_task(Guard(app, Rules())(scope, nothing, send))
        await begun.wait()
        task.cancel()
        await task

    sent: list[Any] = []
    asyncio.run(stopped())
    assert sent[0]["status"] == 503 and json.loads(sent[1]["body"]) == {"detail": "the server stops"}


def test_over_real_sockets() -> None:
    """Chunks without end, a body that is cut off, no HTTP at all: each is answered or dropped, and the server lives."""
    with running(APP, rules=Rules(body_bytes=10_000)) as [url]:
        host, port = urlsplit(url).hostname, urlsplit(url).port
        with socket.create_connection((host, port)) as raw:
            raw.sendall(b"POST /size HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            raw.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
            raw.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
            assert raw.recv(100).startswith(b"HTTP/1.1 413")
        with socket.create_connection((host, port)) as raw:
            raw.sendall(b"POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nabc")
        with socket.create_connection((host, port)) as raw:
            raw.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
            assert raw.recv(100).startswith(b"HTTP/1.1 400")
        connection = http.client.HTTPConnection(str(host), port)
        connection.request("POST", "/size", b"x" * 10_000)
        assert json.loads(connection.getresponse().read()) == {"bytes": 10_000}
        connection.close()
