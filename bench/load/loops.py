"""The two ways to send: a closed loop over n connections, an open one at the times of a Poisson."""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from bench.load.alarm import Alarm
from bench.load.connection import Connection, Exchange
from bench.load.plan import Phase
from bench.load.tally import Tally
from bench.load.wire import Target, prepare

# How often requests are looked at for their timeout; each ends late by up to that.
_SWEEP_S = 0.1
# Before a closed loop tries again where nobody listens: it would only spin.
_RECONNECT_S = 0.02
_CONNECT_TIMEOUT_S = 10.0


class Load(ABC):
    """One phase on its way: sends, and waits until everything sent has ended."""

    def __init__(self, target: Target, phase: Phase) -> None:
        self.tally = Tally(phase)
        self.keep_bodies = phase.collect
        self._target = target
        self._phase = phase
        self._loop = asyncio.get_running_loop()
        self._requests = [prepare(call, target) for call in phase.calls]
        self._next_call = 0
        self._connections: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._sending = True

    async def run(self) -> None:
        """Send for the phase's time."""
        await self._prepare()
        started = time.perf_counter()
        self.tally.start(started)
        self._at(self.tally.begin, self.tally.measuring_begins)
        self._at(self.tally.end, self._stop)
        sweeping = self._loop.create_task(self._sweep())
        try:
            self._begin(started)
            await self._over.wait()
        finally:
            self._sending = False
            sweeping.cancel()
            for task in self._opening:
                task.cancel()
            await asyncio.gather(sweeping, *self._opening, return_exceptions=True)
            for connection in list(self._connections):
                connection.close()

    @abstractmethod
    async def _prepare(self) -> None:
        """Prepare everything that the measured time should not include."""

    @abstractmethod
    def _begin(self, now: float) -> None:
        """Start to send."""

    def _stop(self) -> None:
        if time.perf_counter() < self.tally.end:  # timers of whole milliseconds may be early
            self._at(self.tally.end, self._stop)
            return
        self._send_due()
        self._sending = False
        self.tally.measuring_ends()
        self._finish_if_idle()

    def _finish_if_idle(self) -> None:
        if not self._sending and self.tally.in_flight == 0:
            self._over.set()

    @abstractmethod
    def _send_due(self) -> None:
        """Send the requests that are due at the end of the time."""

    def _due(self, intended: float) -> Exchange:
        call = self._next_call % len(self._requests)
        self._next_call += 1
        return self.tally.sent(call, intended)

    async def _connect(self) -> Connection:
        """A new connection.

        Raises:
            OSError: there is none to be had.
        """
        _, connection = await asyncio.wait_for(
            self._loop.create_connection(
                lambda: Connection(self),
                self._target.host,
                self._target.port,
                family=self._target.family,
                ssl=self._target.tls,
                server_hostname=self._target.server_name,
            ),
            _CONNECT_TIMEOUT_S,
        )
        if not connection.usable:
            raise ConnectionResetError("closed as soon as it was open")
        self._connections.add(connection)
        self.tally.most_connections = max(self.tally.most_connections, len(self._connections))
        return connection

    def _open(self, exchange: Exchange | None) -> None:
        """Connect in the background, for an exchange that waits for it or for the next one."""
        task = self._loop.create_task(self._connect_for(exchange))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    @abstractmethod
    async def _connect_for(self, exchange: Exchange | None) -> None: ...

    def _at(self, when: float, act: Callable[[], None]) -> None:
        self._loop.call_later(max(when - time.perf_counter(), 0), act)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            overdue = time.perf_counter() - self._phase.timeout_s
            for connection in list(self._connections):
                exchange = connection.exchange
                if exchange is not None and exchange.intended < overdue:
                    connection.give_up("timeout")

    # Owner of connections

    def answered(
        self, connection: Connection, exchange: Exchange, status: int, body: bytes
    ) -> None:
        self.tally.answered(exchange, time.perf_counter(), status, body)
        if not connection.usable:
            self._connections.discard(connection)
        self._free(connection)
        self._finish_if_idle()

    def failed(self, connection: Connection, exchange: Exchange, error: str) -> None:
        self.tally.failed(exchange, time.perf_counter(), error)
        self._connections.discard(connection)
        self._free(connection)
        self._finish_if_idle()

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)

    @abstractmethod
    def _free(self, connection: Connection) -> None:
        """An exchange ended; its connection may not be usable any more."""


class ClosedLoop(Load):
    """Every connection sends its next request when the last one is answered."""

    async def _prepare(self) -> None:
        self._ready = await asyncio.gather(
            *(self._connect() for _ in range(self._phase.connections))
        )

    def _begin(self, now: float) -> None:
        for connection in self._ready:
            self._free(connection)

    def _send_due(self) -> None:
        """Nothing is due: a closed loop sends at once."""

    def _free(self, connection: Connection) -> None:
        now = time.perf_counter()
        if now >= self.tally.end:  # what is sent from then on would not be counted
            return
        if connection.usable:
            exchange = self._due(now)
            connection.send(self._requests[exchange.call], exchange)
        else:
            self._open(None)

    async def _connect_for(self, exchange: Exchange | None) -> None:
        while (now := time.perf_counter()) < self.tally.end:
            due = self._due(now)
            try:
                connection = await self._connect()
            except OSError:
                self.tally.failed(due, time.perf_counter(), "connect")
                self._finish_if_idle()
                await asyncio.sleep(_RECONNECT_S)
                continue
            connection.send(self._requests[due.call], due)
            return


class OpenLoop(Load):
    """Requests are sent when they are due, independent of earlier answers."""

    def __init__(self, target: Target, phase: Phase) -> None:
        super().__init__(target, phase)
        self._random = random.Random(phase.seed)  # noqa: S311
        self._alarm = Alarm(self._loop, self._send_due)
        self._arrival = 0.0
        # The one used last goes first: those too many fall idle, and the server may close them.
        self._idle: list[Connection] = []

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self._alarm.close()

    async def _prepare(self) -> None:
        """Connections are opened when they are needed."""

    def _begin(self, now: float) -> None:
        self._arrival = now + self._gap()
        self._alarm.set(self._arrival)

    def _gap(self) -> float:
        return self._random.expovariate(self._phase.rate)

    def _send_due(self) -> None:
        now = time.perf_counter()
        while self._arrival <= now and self._arrival < self.tally.end:
            self._dispatch(self._due(self._arrival))
            self._arrival += self._gap()
        if self._arrival < self.tally.end:
            self._alarm.set(self._arrival)

    def _dispatch(self, exchange: Exchange) -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                self._send(connection, exchange)
                return
        self._open(exchange)

    def _send(self, connection: Connection, exchange: Exchange) -> None:
        self.tally.lag(exchange, time.perf_counter())
        connection.send(self._requests[exchange.call], exchange)

    def _free(self, connection: Connection) -> None:
        if connection.usable:
            self._idle.append(connection)

    async def _connect_for(self, exchange: Exchange | None) -> None:
        assert exchange is not None
        try:
            connection = await self._connect()
        except OSError:
            self.tally.failed(exchange, time.perf_counter(), "connect")
            self._finish_if_idle()
            return
        self._send(connection, exchange)


def make_load(target: Target, phase: Phase) -> Load:
    """The loop that a phase asks for."""
    return ClosedLoop(target, phase) if phase.kind == "closed" else OpenLoop(target, phase)
