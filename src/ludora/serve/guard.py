"""What stands between a socket and an application: who may come in, how often, and with how much.

Everything is checked before the application sees it, at the level of ASGI, because a limit on `Content-Length` alone is
passed by a chunked body.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ADDRESSES = 4096  # whose rate is remembered
_LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits of a server.

    Attributes:
        token: that every request must carry as `Authorization: Bearer ...`; empty: none.
        hosts: names under which the server may be addressed; empty: any. A page in somebody's browser can reach a
            loopback address under a name of its own, but it cannot hide that name.
        body_bytes: of one request, or one message of a WebSocket.
        body_seconds: until it must have come in.
        header_seconds: until the headers of a request must have come in.
        rate: requests (messages) per second from one address, over any second of a burst.
    """

    token: str = ""
    hosts: tuple[str, ...] = ()
    body_bytes: int = 4 << 20
    body_seconds: float = 30.0
    header_seconds: float = 10.0
    rate: int = 1000


class Rates:
    """A bucket of requests per address that fills at `rate` a second, up to one second's worth."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self._clock = rate, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address -> requests left, when

    def take(self, address: str) -> bool:
        """Whether one more request may come from there now."""
        now = self._clock()
        left, then = self._left.pop(address, (float(self.rate), now))
        left = min(self.rate, left + (now - then) * self.rate)
        allowed = left >= 1
        self._left[address] = (left - allowed, now)
        if len(self._left) > ADDRESSES:
            self._left.popitem(last=False)
        return allowed


class Guard:
    """An application behind its rules."""

    def __init__(self, app: App, rules: Rules) -> None:
        self.app, self.rules, self._rates = app, rules, Rates(rules.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with one line of why not."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        address = (scope.get("client") or ("",))[0]
        refusal = self._refusal(headers, address)
        if scope["type"] == "websocket":
            if refusal:
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
            else:
                await self.app(scope, self._paced(receive, address), send)
            return
        body = b""
        if not refusal:
            try:
                body, refusal = await asyncio.wait_for(self._body(headers, receive), self.rules.body_seconds)
            except TimeoutError:
                refusal = (408, f"the body took longer than {self.rules.body_seconds:g} seconds")
        if refusal:
            await _answer(send, *refusal)
            return
        began = False

        async def noted(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self.app(scope, _replay(body, receive), noted)
        except asyncio.CancelledError:  # the server stops, and waits no longer
            if began:
                raise
            await _answer(send, 503, "the server stops")

    def _refusal(self, headers: dict[str, str], address: str) -> tuple[int, str] | None:
        """Status and reason, before anything is read."""
        rules = self.rules
        if rules.hosts and _host(f"//{headers.get('host', '')}") not in rules.hosts:
            return 403, "the server is not known under this name"
        if (origin := headers.get("origin")) and _netloc(origin) != _netloc(f"//{headers.get('host', '')}"):
            return 403, "pages of other sites may not ask this server"
        said = headers.get("authorization", "").encode("latin-1")
        if rules.token and not hmac.compare_digest(said, f"Bearer {rules.token}".encode()):
            return 401, "a token is needed: Authorization: Bearer TOKEN"
        if not self._rates.take(address):
            return 429, f"more than {rules.rate} requests a second"
        return None

    async def _body(self, headers: dict[str, str], receive: Receive) -> tuple[bytes, tuple[int, str] | None]:
        too_long = (413, f"the body is longer than {self.rules.body_bytes} bytes")
        if (length := headers.get("content-length", "")).isdecimal() and int(length[:20]) > self.rules.body_bytes:
            return b"", too_long
        parts, held = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":  # the client left
                return b"", (400, "the body was cut off")
            parts.append(message.get("body", b""))
            held += len(parts[-1])
            if held > self.rules.body_bytes:
                return b"", too_long
            if not message.get("more_body"):
                return b"".join(parts), None

    def _paced(self, receive: Receive, address: str) -> Receive:
        """Messages of a WebSocket no faster than the rate."""

        async def paced() -> Message:
            message = await receive()
            while message["type"] == "websocket.receive" and not self._rates.take(address):
                await asyncio.sleep(1 / self.rules.rate)
            return message

        return paced


def local_names(host: str) -> tuple[str, ...]:
    """The names under which a server at a loopback address may be addressed."""
    return tuple(dict.fromkeys((*_LOCAL, host.lower())))


def _netloc(url: str) -> str | None:
    """Host and port of an address, None where it is none."""
    try:
        return urlsplit(url).netloc.lower() or None
    except ValueError:
        return None


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body that was read already, and afterwards what else comes."""
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay


async def _answer(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 429:
        headers.append((b"retry-after", b"1"))
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # what else it sends is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
