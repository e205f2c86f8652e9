"""One serving process: uvicorn's server, with a graceful stop.

A stop has three steps. /readyz fails at once, while requests are served as before for
`server.shutdown_delay_s`; each response announces that its connection ends. Then the port is
closed. Requests that were received are answered within `server.shutdown_timeout_s`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from service.app.settings import share
from service.machine.memory import settle_heap
from service.process.connection import Connection, ConnectionState, OperationsConnection
from service.process.connection_limiter import (
    ConnectionLimiter,
    ConnectionLimits,
    connection_limits,
)
from service.process.hangup import Hangup

if TYPE_CHECKING:
    from service.app.service import Service

_logger = logging.getLogger(__name__)

# At shutdown, idle connections stay open for this long: a client that sends one request after
# another may have the next one on the wire.
_LAST_REQUEST_S = 0.5
# The boundary reads on for two seconds from a client that is still sending; one more is a margin.
_CANCELLED_S = 3.0
# At shutdown, a request head that has begun to arrive must be complete within this time.
_LAST_HEAD_S = 2.0
_TICK_S = 0.02
# In ticks of uvicorn, ten a second.
_TICKS_OF_EXPIRY = 5
_TICKS_OF_LOG = 10
# The operations port has slots of its own, in addition to those of the main port.
_OPERATIONS_LIMITS = ConnectionLimits(total=64, per_address=64)


class Server(uvicorn.Server):
    """Serves on one listening socket until a signal stops it.

    Args:
        on_ready: called once requests are answered.
        descriptors: number of file descriptors that the process may have.
        operations: listening socket of the operations port, if there is one; closed at the end.
        parent: read end of a pipe that the supervisor holds open, if there is one. The process
            stops when it closes: the supervisor has died. A supervised process treats repeated
            SIGTERM as one, since a process manager may signal both the supervisor and its
            children. Without a supervisor, a second signal stops at once.

    Attributes:
        orphaned: whether the supervisor has died.
    """

    server_state: ConnectionState

    def __init__(
        self,
        service: Service,
        on_ready: Callable[[], None],
        *,
        descriptors: int,
        operations: socket.socket | None = None,
        parent: int | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                service,
                loop="uvloop",
                http=Connection,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # nothing depends on the address of the client
                timeout_keep_alive=service.config.server.keep_alive_s,
            )
        )
        self._service = service
        self._on_ready = on_ready
        self._operations = operations
        self.server_state = self._connection_state(descriptors)
        self._parent = parent
        self.orphaned = False
        self._hung_up_early = False
        self._hangup = Hangup()
        self._stopping_since = 0.0
        self._reloading: set[asyncio.Task[bool]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the service, then listen."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        uvicorn_logger = logging.getLogger("uvicorn.error")
        uvicorn_logger.addFilter(self._adds_to_the_log)
        try:
            await super().startup(sockets)
        finally:
            uvicorn_logger.removeFilter(self._adds_to_the_log)
        if self._operations is not None:
            connect = partial(self._connect, OperationsConnection)
            self.servers.append(await loop.create_server(connect, sock=self._operations))
        if self._parent is not None:
            loop.add_reader(self._parent, self._parent_gone, self._parent)
        if not self.should_exit:
            settle_heap()
            self._on_ready()
        if self._hung_up_early:
            self._hang_up()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, or stop at once after a second signal; runs as a signal handler."""
        if not self.should_exit:
            self._stop()
        elif self._parent is None:
            self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Do periodic work; returns whether the port should be closed now."""
        if counter % _TICKS_OF_EXPIRY == 0:
            self._expire_connections()
        if counter % _TICKS_OF_LOG == 0:
            self.server_state.log_refusals()
        if not await super().on_tick(counter):
            return False
        self._end_connections()
        return self.force_exit or time.monotonic() >= self._stopping_since + self._delay_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port, answer the requests that were received, then stop the service."""
        self._end_connections()
        listening: list[tuple[socket.socket, type[Connection]]]
        listening = [(listener, Connection) for listener in sockets or []]
        if self._operations is not None:
            listening.append((self._operations, OperationsConnection))
        for listener, kind in listening:
            await self._accept_waiting(listener, kind)
        for server in self.servers:
            server.close()
        for listener, _ in listening:
            listener.close()
        if not await self._finish_requests():
            await self._cancel_requests()
        self.server_state.log_refusals()
        await self.lifespan.shutdown()

    @property
    def _delay_s(self) -> float:
        return self._service.config.server.shutdown_delay_s

    def _adds_to_the_log(self, record: logging.LogRecord) -> bool:
        """Drop what uvicorn logs of a failed start: the service has logged the reason."""
        return not self._service.start_failed

    def _stop(self) -> None:
        self._service.begin_stopping()
        # Responses to later requests announce the end; the next tick reaches those in progress.
        self.server_state.announce_end()
        self._stopping_since = time.monotonic()
        self.should_exit = True

    def _parent_gone(self, pipe: int) -> None:
        asyncio.get_running_loop().remove_reader(pipe)
        self.orphaned = True
        _logger.error("the supervisor has died: stopping")
        if not self.should_exit:
            self._stop()

    def _hang_up(self) -> None:
        if not self.started:
            self._hung_up_early = True
        elif self._hangup.means_stop():
            self.handle_exit(signal.SIGHUP, None)
        elif not self.should_exit:
            task = asyncio.get_running_loop().create_task(self._service.reload())
            self._reloading.add(task)
            task.add_done_callback(self._reloading.discard)

    def _end_connections(self) -> None:
        self.server_state.announce_end()
        for connection in self._connections():
            connection.end()

    def _connection_state(self, descriptors: int) -> ConnectionState:
        config, metrics = self._service.config, self._service.metrics
        limits = connection_limits(config, descriptors)
        wanted = share(config.server.max_connections, config)
        if limits.total < wanted:
            _logger.warning(
                "too few file descriptors for server.max_connections",
                extra={"fields": {"connections": limits.total, "descriptors": descriptors}},
            )

        def note_refusal(reason: str) -> None:
            self.server_state.note_refusal(reason)

        return ConnectionState(
            metrics,
            limiter=ConnectionLimiter(
                limits, on_size=metrics.connections.set, on_refusal=note_refusal
            ),
            operations=self._service.operations,
            operations_limiter=ConnectionLimiter(
                _OPERATIONS_LIMITS, on_size=lambda _: None, on_refusal=note_refusal
            ),
            head_timeout_s=config.server.head_timeout_s,
        )

    def _expire_connections(self) -> None:
        now = time.monotonic()
        for connection in self._connections():
            connection.expire(now)

    def _connections(self) -> list[Connection]:
        return [each for each in self.server_state.connections if isinstance(each, Connection)]

    async def _accept_waiting(self, listener: socket.socket, kind: type[Connection]) -> None:
        """Accept the connections in the kernel's queue: closing the port would reset them."""
        listener.setblocking(False)
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:  # the queue is empty, or the client has gone
                return
            connect = partial(self._connect, kind)
            await asyncio.get_running_loop().connect_accepted_socket(connect, accepted)

    def _connect(self, kind: type[Connection]) -> Connection:
        return kind(self.config, self.server_state, self.lifespan.state)

    async def _finish_requests(self) -> bool:
        """Wait until every request is answered; False on a timeout or a second signal."""
        state = self.server_state
        began = time.monotonic()
        limit_s = self._service.config.server.shutdown_timeout_s
        while state.connections or state.tasks:
            now = time.monotonic()
            if self.force_exit or now >= began + limit_s:
                return False
            self._expire_connections()
            for connection in self._connections():
                if now >= began + _LAST_HEAD_S:
                    connection.give_up_head()
                if now >= began + _LAST_REQUEST_S and connection.idle:
                    connection.transport.close()
            await asyncio.sleep(_TICK_S)
        return True

    async def _cancel_requests(self) -> None:
        tasks = list(self.server_state.tasks)
        if tasks:
            _logger.warning("requests were cut off", extra={"fields": {"requests": len(tasks)}})
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCELLED_S)
        for connection in self._connections():
            connection.transport.close()
