"""Arguments of `facette serve`, what it says on a terminal, and one of several processes."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from service.cli.naming import shell_name
from service.cli.settings import logged_config
from service.cli.values import ConfigPath, PortNumber

if TYPE_CHECKING:
    import socket

    from service.app.service import Service
    from service.config import Config
    from service.process.server import Server

_logger = logging.getLogger(__name__)

_SWITCH_INTERVAL_S = 1e-4


def serve(
    *,
    host: str | None = None,
    port: PortNumber | None = None,
    processes: int | None = None,
    config: ConfigPath,
) -> int:
    """Run the service until Ctrl-C or SIGTERM.

    Args:
        host: address to listen on, instead of the configured one
        port: port to listen on, instead of the configured one
        processes: serving processes, instead of the configured number
    """
    import asyncio

    from service.app.service import Service
    from service.config import ENVIRONMENT_PREFIX, load_config
    from service.process.supervisor import Supervisor, child_command
    from service.telemetry import configure_logging

    environment = dict(os.environ)
    if processes is not None:
        environment[f"{ENVIRONMENT_PREFIX}SERVER_PROCESSES"] = str(processes)
    load = partial(load_config, config, environment)
    loaded = load()
    configure_logging(loaded.server.log_level, as_json=loaded.server.log_json)
    steps = Steps()
    host = host or loaded.server.host
    port = loaded.server.port if port is None else port
    with ExitStack() as stack:
        listener = stack.enter_context(_listen(host, port))
        operations = None
        if loaded.server.operations_port:
            operations_host = loaded.server.operations_host or host
            operations = stack.enter_context(
                _listen(operations_host, loaded.server.operations_port)
            )
        text = greeting(config, loaded, host, listener.getsockname()[1])
        greet = partial(_greet, text, steps)
        if loaded.server.processes == 1:
            return _run(_server(Service(loaded, load, steps.say), greet, operations), listener)
        command = child_command(config)
        listeners = [listener] if operations is None else [listener, operations]
        return asyncio.run(Supervisor(loaded, listeners, command, load, greet, steps.say).run())


def serve_process(
    listener: int, parent: int, ready: int, operations: int | None = None, /, *, config: ConfigPath
) -> int:
    """Run one of several processes; the supervisor has migrated the schema.

    The arguments are the descriptors of `Supervisor`.
    """
    import socket

    from service.app.service import Service
    from service.config import load_config
    from service.process.supervisor import say_ready
    from service.telemetry import remove_shared_metrics

    load = partial(load_config, config)
    loaded = logged_config(config)
    with ExitStack() as stack:
        main = stack.enter_context(socket.socket(fileno=listener))
        other = None
        if operations is not None:
            other = stack.enter_context(socket.socket(fileno=operations))
        server = _server(Service(loaded, load), partial(say_ready, ready), other, parent)
        status = _run(server, main)
    if server.orphaned:  # else the supervisor removes them
        remove_shared_metrics()
    return status


class Steps:
    """What is said while the service starts: steps on a terminal, elsewhere the log alone."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._shown = sys.stderr.isatty() and not logging.getLogger().isEnabledFor(logging.DEBUG)
        if self._shown:
            logging.disable(logging.INFO)

    def say(self, step: str) -> None:
        """Say what begins now, and how long after the start."""
        if self._shown:
            took_s = time.monotonic() - self._began
            here = step.replace(f"{Path.cwd()}{os.sep}", "")
            print(f"{took_s:6.1f} s  {here}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """From now on the log says everything."""
        if self._shown:
            logging.disable(logging.NOTSET)


def _server(
    service: Service,
    on_ready: Callable[[], None],
    operations: socket.socket | None,
    parent: int | None = None,
) -> Server:
    from service.machine.descriptors import raise_descriptor_limit
    from service.process.server import Server

    return Server(
        service,
        on_ready,
        descriptors=raise_descriptor_limit(),
        operations=operations,
        parent=parent,
    )


def _run(server: Server, listener: socket.socket) -> int:
    # A worker that ends a model call needs the GIL, which the event loop releases only after this
    # interval. With the default of 5 ms a core is often idle in between.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        server.run(sockets=[listener])
    except SystemExit:  # how uvicorn reports a failed start
        return 2
    return 1 if server.force_exit else 0


def _listen(host: str, port: int) -> socket.socket:
    """Bind the port before the service starts, which takes seconds: a used port fails at once."""
    import socket

    from service.domain.errors import ConfigError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    except (TypeError, UnicodeError):  # the name cannot be encoded for a look-up
        listener.close()
        raise ConfigError(f"cannot listen on {host}:{port}: it is no host name") from None
    return listener


def _greet(text: str, steps: Steps) -> None:
    """End the steps, and print a text.

    A service whose standard output cannot be written serves all the same.
    """
    from service.machine.inherited import end_output

    steps.end()
    try:
        print(text, flush=True)
    except OSError as error:
        _logger.warning("standard output cannot be written: %s", error.strerror)
        end_output()


def greeting(config_path: Path, config: Config, host: str, port: int) -> str:
    """What a service says that serves: where it is, and lines to try."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
    shown = f"[{shown}]" if ":" in shown else shown
    facette = shell_name(config_path)
    where = f"in {config_path}, under [auth]" if config_path.is_file() else "in FACETTE_AUTH_TOKEN"
    # `facette ingest` reads the address in the configuration.
    url = "" if port == config.server.port else f" --url http://{shown}:{port}"
    return (
        f"\nFacette is serving on http://{shown}:{port}\n"
        f"Its console is at http://{shown}:{port}/console, and its routes are at\n"
        f"http://{shown}:{port}/docs. It stops with Ctrl-C.\n"
        f"The token is {where}. Try it with a photo of yours:\n\n"
        f'  curl -H "token: $({facette} token)" -F tenant_id=demo -F image=@photo.jpg '
        f"http://{shown}:{port}/insert-image\n\n"
        "or with a folder of them:\n\n"
        f"  {facette} ingest photos --tenant demo{url}\n"
    )
