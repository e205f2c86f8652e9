"""One serving process: uvicorn's server, with a stop that leaves no request unanswered.

Told to stop, the service says so at /readyz at once and goes on serving for
`server.shutdown_delay_s`; from then on the last answer of each connection says that it is the
last. Then the port is closed, and what was read is answered within `server.shutdown_timeout_s`.
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
from service.process.hangup import Hangup
from service.process.places import PlaceLimits, Places, place_limits

if TYPE_CHECKING:
    from service.app.service import Service

_logger = logging.getLogger(__name__)

# A caller that asks one thing after the other has the next request on its way already.
_LAST_REQUEST_S = 0.5
# As long as the boundary reads on for a caller that is still sending, and a moment more.
_CANCELLED_S = 3.0
# What has begun to come gets this long: a request that is still on its way is answered, and half a
# head does not hold up the end.
_LAST_HEAD_S = 2.0
_TICK_S = 0.02
# Of uvicorn's ticks, ten a second.
_TICKS_OF_EXPIRY = 5
_TICKS_OF_LOG = 10
# Those of the operations port are apart, and come on top.
_OPERATIONS_LIMITS = PlaceLimits(total=64, of_one_address=64)


class Server(uvicorn.Server):
    """Serves on one listening socket until it is told to stop.

    Args:
        on_ready: called once requests are answered.
        descriptors: files that the process may have open.
        operations: the listening socket of the operations port, if there is one; it is closed at
            the end.
        parent: read end of a pipe that the supervising process holds open, if there is one. When
            it closes, the parent has died, and this process stops as well. A supervised process
            takes any number of SIGTERM for one (a process manager may send it to the parent and
            to everybody); else the second one stops at once.
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
                proxy_headers=False,  # nothing here depends on who calls
                timeout_keep_alive=service.config.server.keep_alive_s,
            )
        )
        self._service = service
        self._on_ready = on_ready
        self._operations = operations
        self.server_state = self._open_places(descriptors)
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
        await super().startup(sockets)
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
        """Stop, or with a second signal stop at once; runs as a signal handler."""
        if not self.should_exit:
            self._stop()
        elif self._parent is None:
            self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Whether the port should be closed now."""
        if counter % _TICKS_OF_EXPIRY == 0:
            self._expire_connections()
        if counter % _TICKS_OF_LOG == 0:
            self.server_state.log_refusals()
        if not await super().on_tick(counter):
            return False
        self._end_connections()
        return self.force_exit or time.monotonic() >= self._stopping_since + self._delay_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port, answer what was read, then bring the service down."""
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

    def _stop(self) -> None:
        self._service.begin_stopping()
        # Whoever asks from now on is told; whoever has asked already, with the next tick.
        self.server_state.ending = True
        self._stopping_since = time.monotonic()
        self.should_exit = True

    def _parent_gone(self, pipe: int) -> None:
        asyncio.get_running_loop().remove_reader(pipe)
        self.orphaned = True
        _logger.error("the supervising process is gone: stopping")
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
        self.server_state.ending = True
        for connection in self._connections():
            connection.end()

    def _open_places(self, descriptors: int) -> ConnectionState:
        config, metrics = self._service.config, self._service.metrics
        limits = place_limits(config, descriptors)
        wanted = share(config.server.max_connections, config)
        if limits.total < wanted:
            _logger.warning(
                "fewer connections than server.max_connections, for want of file descriptors",
                extra={"fields": {"connections": limits.total, "descriptors": descriptors}},
            )

        def note_refusal(reason: str) -> None:
            self.server_state.note_refusal(reason)

        return ConnectionState(
            metrics,
            places=Places(limits, on_size=metrics.connections.set, on_refusal=note_refusal),
            operations=self._service.operations,
            operations_places=Places(
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
        """Take what the kernel has connected already: closing the port would reset it."""
        listener.setblocking(False)
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:  # nothing waits, or what waited has gone
                return
            connect = partial(self._connect, kind)
            await asyncio.get_running_loop().connect_accepted_socket(connect, accepted)

    def _connect(self, kind: type[Connection]) -> Connection:
        return kind(self.config, self.server_state, self.lifespan.state)

    async def _finish_requests(self) -> bool:
        """Wait until every request is answered; False when time ran out, or patience."""
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
