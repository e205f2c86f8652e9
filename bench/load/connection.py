"""One HTTP/1.1 connection: writes prepared requests, parses answers with httptools."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from httptools import HttpParserError, HttpResponseParser


class Exchange:
    """One request under way: which call, when it was to be sent, and whether it counts."""

    __slots__ = ("call", "intended", "measured")

    def __init__(self, call: int, intended: float, measured: bool) -> None:
        self.call = call
        self.intended = intended
        self.measured = measured


class Owner(Protocol):
    """Who is told how exchanges end; the connection is free by then, or closed."""

    keep_bodies: bool

    def answered(
        self, connection: Connection, exchange: Exchange, status: int, body: bytes
    ) -> None: ...

    def failed(self, connection: Connection, exchange: Exchange, error: str) -> None: ...

    def closed(self, connection: Connection) -> None:
        """It went while it had nothing to do."""


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; httptools calls its on_ methods."""

    __slots__ = (
        "_body",
        "_complete",
        "_ends_with_connection",
        "_head_complete",
        "_keep_alive",
        "_owner",
        "_parser",
        "_started",
        "_transport",
        "exchange",
        "usable",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._body: list[bytes] = []
        self._started = False
        self._head_complete = False
        self._ends_with_connection = True
        self._complete = False
        self._keep_alive = True
        self.exchange: Exchange | None = None
        self.usable = False

    def send(self, pieces: tuple[bytes, ...], exchange: Exchange) -> None:
        """Write one request; the connection must be usable and have no exchange."""
        self.exchange = exchange
        for piece in pieces:
            self._transport.write(piece)

    def close(self) -> None:
        """Close it; an exchange under way ends without its owner hearing of it."""
        self.exchange = None
        self.usable = False
        self._transport.abort()

    def give_up(self, error: str) -> None:
        """End the exchange under way with an error, and close."""
        exchange = self.exchange
        self.close()
        if exchange is not None:
            self._owner.failed(self, exchange, error)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.usable = True

    def data_received(self, data: bytes) -> None:
        if self.exchange is None:  # nobody asked
            self.close()
            self._owner.closed(self)
            return
        self._started = True
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self.give_up("malformed")
            return
        if self._complete:
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        was_usable = self.usable
        self.usable = False
        exchange = self.exchange
        if exchange is None:
            if was_usable:
                self._owner.closed(self)
        elif self._head_complete and self._ends_with_connection and error is None:
            self._finish()
        else:
            self.exchange = None
            self._owner.failed(self, exchange, "in_answer" if self._started else "before_answer")

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._ends_with_connection = False

    def on_headers_complete(self) -> None:
        self._head_complete = True

    def on_body(self, data: bytes) -> None:
        if self._owner.keep_bodies or self._parser.get_status_code() >= 300:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:  # an interim answer; the real one follows
            self._head_complete = False
            self._ends_with_connection = True
        else:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()

    def _finish(self) -> None:
        exchange = self.exchange
        assert exchange is not None
        status = self._parser.get_status_code()
        body = b"".join(self._body)
        if not (self._complete and self._keep_alive) and self.usable:
            self.usable = False
            self._transport.close()
        self.exchange = None
        self._body.clear()
        self._started = self._head_complete = self._complete = False
        self._ends_with_connection = True
        self._owner.answered(self, exchange, status, body)
