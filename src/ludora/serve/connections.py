"""Connections that must not stay half open: uvicorn's, with a time-out for what it waits for without one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ludora.serve.guard import Rules

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as HTTPProtocol
    from uvicorn.server import ServerState
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol as HTTPProtocol  # whichever is installed

KEY = "ludora_connection"  # of a request's connection, in the state of its scope
TOO_SLOW = 1008  # the code with which a WebSocket is closed


class Settings(uvicorn.Config):
    """uvicorn's, and the rules that its connections keep."""

    def __init__(self, app: Any, rules: Rules, **others: Any) -> None:
        super().__init__(
            app,
            http=Connection,
            ws=Talk,
            ws_max_size=rules.body_bytes,
            # No ping is answered in the middle of a frame, so this is also how long one may take to come in.
            ws_ping_interval=rules.body_seconds / 3,
            ws_ping_timeout=rules.body_seconds * 2 / 3,
            **others,
        )
        self.rules = rules


class Patience:
    """Calls `late` when the time is up, unless it is stopped before."""

    def __init__(self, seconds: float, late: Callable[[], None]) -> None:
        self._seconds, self._late = seconds, late
        self._timer: asyncio.TimerHandle | None = None

    @property
    def runs(self) -> bool:
        """Whether the time runs."""
        return self._timer is not None

    def start(self) -> None:
        """From now on, whatever was before."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._ring)

    def stop(self) -> None:
        """No longer. Idempotent."""
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self._late()


class Connection(HTTPProtocol):
    """Closed when the headers of a request have begun, or the connection has, and they do not end in time.

    Until the first byte of another request on the same connection, uvicorn's own `timeout_keep_alive` holds.
    """

    def __init__(
        self,
        config: Settings,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, KEY: self}, _loop)
        self._patience = Patience(config.rules.header_seconds, lambda: self.transport.abort())
        self._asked = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Its first request is waited for."""
        super().connection_made(transport)
        self._patience.start()

    def data_received(self, data: bytes) -> None:
        """With what comes after an answer, another request begins."""
        if not self._asked and not self._patience.runs:
            self._patience.start()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for."""
        self._patience.stop()
        super().connection_lost(exc)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """While the application has a request, whose headers are there then."""
        self._patience.stop()
        self._asked += 1
        try:
            yield
        finally:
            self._asked -= 1


class Talk(WebSocketsSansIOProtocol):
    """A WebSocket that is closed when a message in fragments does not end in time."""

    def __init__(self, config: Settings, *rest: Any, **named: Any) -> None:
        super().__init__(config, *rest, **named)
        self._patience = Patience(config.rules.body_seconds, self._too_slow)
        self._message: list[bytes] = []
        self._why = f"a message took longer than {config.rules.body_seconds:g} seconds"

    def data_received(self, data: bytes) -> None:
        """The time runs from the first fragment on."""
        super().data_received(data)
        if not self.frames:
            self._patience.stop()
        elif self.frames is not self._message:  # every message has a list of its own
            self._patience.start()
        self._message = self.frames

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for."""
        self._patience.stop()
        super().connection_lost(exc)

    def _too_slow(self) -> None:
        if self.read_paused:  # it is the server that takes its time
            self._patience.start()
            return
        self.conn.fail(TOO_SLOW, self._why)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.abort()


@contextmanager
def asked(scope: MutableMapping[str, Any]) -> Iterator[None]:
    """While the application has what came in on a connection of this kind."""
    with scope["state"].pop(KEY).asked():
        yield
