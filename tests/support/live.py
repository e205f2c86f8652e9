"""A service with its settings in a file, and callers that keep it busy while something happens."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import psutil

from bench.common.server import NO_AUTHORITIES
from tests.support.folders import open_folder
from tests.support.service import TOKEN, ServiceProcess

WAIT_S = 60.0


class ConfiguredService(ServiceProcess):
    """A service that reads its token from config.toml, so that a reload can change it."""

    def __init__(
        self,
        folder: Path,
        models: Path,
        environment: dict[str, str] | None = None,
        *,
        first_start: bool = False,
    ) -> None:
        super().__init__(folder, models, environment, first_start=first_start)
        del self._environment["FACETTE_AUTH_TOKEN"]
        self.configure()

    def configure(self, settings: str = "", *, token: str = TOKEN) -> None:
        """Write the file: the token, and further sections."""
        text = f'[auth]\ntoken = "{token}"\n{settings}'
        (self.folder / "config.toml").write_text(text, encoding="utf-8")

    def hang_up(self, says: str, times: int = 1) -> str:
        """Send SIGHUP and wait for new log lines that hold `says`; returns the new lines."""
        return hang_up(self, says, times)

    def metric(self, name: str) -> float:
        """A sample of /metrics, 0 where there is none."""
        for line in httpx.get(f"{self.url}/metrics", verify=NO_AUTHORITIES).text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0


def hang_up(service: ServiceProcess, says: str, times: int = 1) -> str:
    """Send SIGHUP and wait for new log lines that hold `says`; returns the new lines."""
    before = len(service.log)
    psutil.Process(service.pid).send_signal(signal.SIGHUP)
    wait_until(lambda: service.log[before:].count(says) >= times)
    return service.log[before:]


@contextmanager
def adjusted(service: ServiceProcess, settings: str) -> Iterator[ServiceProcess]:
    """A running service with other settings for the time of the block.

    It costs two reloads instead of a service: for settings that need no restart and no models.

    Args:
        service: one whose own settings are all in its environment.
        settings: what to write to its configuration file.
    """
    file = service.folder / "config.toml"
    file.write_text(settings, encoding="utf-8")
    try:
        log = hang_up(service, "reloaded")
        assert "needs_restart=nothing" in log
        yield service
    finally:
        file.unlink()
        hang_up(service, "reloaded")


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; fail when it does not come to."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.05)


def postmasters(data_dir: Path) -> list[psutil.Process]:
    """The PostgreSQL servers of a data folder, without the processes that these have forked.

    One that was just forked bears the command line of its server, until it gives itself a title.
    """
    folder = str(data_dir / "postgres")
    named = [
        each
        for each in psutil.process_iter(["name", "cmdline", "ppid"])
        if each.info["name"] == "postgres" and folder in (each.info["cmdline"] or [])
    ]
    pids = {each.pid for each in named}
    return [each for each in named if each.info["ppid"] not in pids]


def postgres_of(service: ServiceProcess) -> list[psutil.Process]:
    """The servers of its embedded database."""
    return postmasters(service.data_dir)


def end(service: ServiceProcess) -> None:
    """Leave nothing of it, whatever state a failed test left it in."""
    service.kill()
    for each in postgres_of(service):
        each.kill()


def insert(client: httpx.Client, photo: bytes, tenant: str = "t") -> httpx.Response:
    return client.post("/insert-image", data={"tenant_id": tenant}, files={"image": photo})


class Callers:
    """What callers got: the answers by status, and the failures by the name of the exception."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()
        self.last: list[httpx.Response] = []
        self.enough = threading.Event()

    @property
    def answered(self) -> int:
        return self.answers.total()

    def call(self, client: httpx.Client, ask: Callable[[httpx.Client], httpx.Response]) -> None:
        """Ask again and again, until it is enough or nobody listens any more."""
        answer: httpx.Response | None = None
        while not self.enough.is_set():
            try:
                answer = ask(client)
            except httpx.TransportError as error:
                self.failures[type(error).__name__] += 1
                break
            self.answers[answer.status_code] += 1
        if answer is not None:
            self.last.append(answer)


@contextmanager
def busy(
    service: ServiceProcess, ask: Callable[[httpx.Client], httpx.Response], callers: int
) -> Iterator[Callers]:
    """Callers on connections of their own for the time of the block; every one was answered."""
    found = Callers()
    clients = [service.client() for _ in range(callers)]
    with ThreadPoolExecutor(callers) as executor:
        running: list[Future[None]] = [
            executor.submit(found.call, client, ask) for client in clients
        ]
        try:
            wait_until(lambda: found.answered + found.failures.total() >= 2 * callers)
            yield found
        finally:
            found.enough.set()
    for client in clients:
        client.close()
    for each in running:
        each.result()


@contextmanager
def running(
    kind: type[ServiceProcess], models: Path, settings: Mapping[str, object]
) -> Iterator[ServiceProcess]:
    """A service of this kind with these settings of [server], which ends without a traceback."""
    environment = {f"FACETTE_SERVER_{key.upper()}": str(value) for key, value in settings.items()}
    with open_folder() as folder:
        service = kind(folder, models, environment)
        try:
            yield service.start()
            assert service.stop() == 0
            assert "Traceback" not in service.log
        finally:
            end(service)
