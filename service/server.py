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
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.hangup import Hangup
from service.runtime.memory import settle_heap

if TYPE_CHECKING:
    from service.app import Service

_logger = logging.getLogger(__name__)

# Longer than clients and proxies keep a connection for another request (60 s and less are usual),
# so that it is theirs to close: a request that meets a closing connection is lost.
_KEEP_ALIVE_S = 75
# A caller that asks one thing after the other has the next request on its way already.
_LAST_REQUEST_S = 0.5
# As long as the boundary reads on for a caller that is still sending, and a moment more.
_CANCELLED_S = 3.0
_TICK_S = 0.02


class _State(ServerState):
    """What all connections share; `ending` once each should be told that it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ending = False


class Connection(HttpToolsProtocol):
    """A connection that can be brought to its end between two requests, not within one."""

    server_state: _State

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._reading_head = False
        self._last: RequestResponseCycle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing of a request was read that is not answered yet."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and not self.pipeline and not self._reading_head

    def end(self) -> None:
        """Make the answer to what was read last the connection's last one."""
        if not self.idle and not self._reading_head:
            self._announce_end()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading_head = True

    def on_headers_complete(self) -> None:
        former = self.cycle
        super().on_headers_complete()
        self._reading_head = False
        if self.server_state.ending:
            if former is not None and former is self._last and not former.response_started:
                former.keep_alive = True  # this one was sent behind it, and is answered too
            self._announce_end()

    def _announce_end(self) -> None:
        if self.cycle.keep_alive:
            self.cycle.keep_alive = False
            self._last = self.cycle


class Server(uvicorn.Server):
    """Serves on one listening socket until it is told to stop.

    Args:
        on_ready: called once requests are answered.
        parent: read end of a pipe that the supervising process holds open, if there is one. When
            it closes, the parent has died, and this process stops as well. A supervised process
            takes any number of SIGTERM for one (a process manager may send it to the parent and
            to everybody); else the second one stops at once.
    """

    server_state: _State

    def __init__(
        self, service: Service, on_ready: Callable[[], None], *, parent: int | None = None
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
                timeout_keep_alive=_KEEP_ALIVE_S,
            )
        )
        self.server_state = _State()
        self._service = service
        self._on_ready = on_ready
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
        if not await super().on_tick(counter):
            return False
        self._end_connections()
        return self.force_exit or time.monotonic() >= self._stopping_since + self._delay_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port, answer what was read, then bring the service down."""
        self._end_connections()
        for listener in sockets or []:
            await self._accept_waiting(listener)
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        if not await self._finish_requests():
            await self._cancel_requests()
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

    def _connections(self) -> list[Connection]:
        return [each for each in self.server_state.connections if isinstance(each, Connection)]

    async def _accept_waiting(self, listener: socket.socket) -> None:
        """Take what the kernel has connected already: closing the port would reset it."""
        listener.setblocking(False)
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:  # nothing waits, or what waited has gone
                return
            await asyncio.get_running_loop().connect_accepted_socket(self._connect, accepted)

    def _connect(self) -> Connection:
        return Connection(self.config, self.server_state, self.lifespan.state)

    async def _finish_requests(self) -> bool:
        """Wait until every request is answered; False when time ran out, or patience."""
        state = self.server_state
        began = time.monotonic()
        limit_s = self._service.config.server.shutdown_timeout_s
        while state.connections or state.tasks:
            now = time.monotonic()
            if self.force_exit or now >= began + limit_s:
                return False
            if now >= began + _LAST_REQUEST_S:
                for connection in self._connections():
                    if connection.idle:
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
