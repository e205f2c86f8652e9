"""A real HTTP server of few lines in a thread, to be as faulty as a test of the client wants."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from httptools import HttpRequestParser

Reply = Callable[["Conversation"], None]


class Conversation(asyncio.Protocol):
    """One connection; `reply` is called at the end of every request."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.parser = HttpRequestParser(self)
        self.path = ""
        self.headers: dict[str, str] = {}
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections += 1

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.path, self.headers, self.body = url.decode(), {}, b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.server.requests += 1
        self.server.reply(self)

    def answer(self, status: int = 200, body: bytes = b"fine", *headers: str) -> None:
        """Write a whole answer."""
        lines = [f"HTTP/1.1 {status} Some", f"Content-Length: {len(body)}", *headers, "", ""]
        self.transport.write("\r\n".join(lines).encode() + body)


class Server:
    """Where it listens, and how many connections and requests it has seen."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.url = ""
        self.connections = 0
        self.requests = 0


@contextmanager
def serving(reply: Reply) -> Iterator[Server]:
    """A server for the time of the block."""
    server = Server(reply)
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stopped = asyncio.Event()

    async def serve() -> None:
        conversations: list[Conversation] = []

        def conversation() -> Conversation:
            conversations.append(Conversation(server))
            return conversations[-1]

        listener = await loop.create_server(conversation, "127.0.0.1", 0)
        server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        started.set()
        await stopped.wait()
        listener.close()
        for each in conversations:
            each.transport.abort()
        await asyncio.sleep(0)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
        loop.close()
