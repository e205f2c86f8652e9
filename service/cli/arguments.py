"""The arguments of `facette`, and the command that they select."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from functools import partial
from pathlib import Path

from service import __version__
from service.app.service import Service
from service.app.settings import (
    blob_place,
    database_place,
    database_settings,
    decode_limits,
    index_settings,
    session_settings,
)
from service.commands.archives import run_export, run_import
from service.commands.doctor import DoctorSettings, run_doctor
from service.commands.reembed import ReembedOptions, ReembedPlaces, reembed
from service.config import (
    CONFIG_PATH_VARIABLE,
    ENVIRONMENT_PREFIX,
    Config,
    load_config,
    render_example,
)
from service.domain.errors import ConfigError, FacetteError
from service.domain.names import NAME_RULE, is_name
from service.domain.types import TenantId
from service.machine.descriptors import raise_descriptor_limit
from service.machine.inherited import end_output
from service.process.server import Server
from service.process.supervisor import Supervisor, child_command, say_ready
from service.store.database.database import Database
from service.telemetry import configure_logging, remove_shared_metrics

_logger = logging.getLogger(__name__)

_SWITCH_INTERVAL_S = 1e-4


def run_command(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["export"]:
        return _export(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except FacetteError as error:
        print(f"facette: {error.message}", file=sys.stderr)
    except BrokenPipeError:  # the reader of standard output has seen enough
        return 1
    except OSError as error:
        print(f"facette: {error}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="facette", description="Self-hosted face recognition.")
    parser.add_argument("--version", action="version", version=f"facette {__version__}")
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(os.environ.get(CONFIG_PATH_VARIABLE, "config.toml")),
        help="configuration file (default: config.toml, or $FACETTE_CONFIG)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the service")
    serve.add_argument("--host", help="address to listen on, instead of the configured one")
    serve.add_argument("--port", type=int, help="port to listen on, instead of the configured one")
    serve.add_argument(
        "--processes", type=int, help="serving processes, instead of the configured number"
    )
    serve.set_defaults(run=_serve)

    process = commands.add_parser("serve-process")  # no help: the supervisor alone calls it
    for descriptor in ("listener", "parent", "ready"):
        process.add_argument(descriptor, type=int)
    process.add_argument("operations", type=int, nargs="?")
    process.set_defaults(run=_serve_process)

    init = commands.add_parser("init", help="create the configuration file if there is none")
    init.set_defaults(run=_init)

    token = commands.add_parser("token", help="print the configured token")
    token.set_defaults(run=_token)

    migrate = commands.add_parser("migrate", help="bring the database to the newest schema")
    migrate.set_defaults(run=_migrate)

    doctor = commands.add_parser("doctor", help="check the installation, and advise on faults")
    doctor.add_argument("--tenant", type=_tenant, help="check the data of this tenant alone")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.set_defaults(run=_doctor)

    take_out = commands.add_parser("export-tenant", help="export a tenant to one file")
    take_out.add_argument("tenant", type=_tenant, help="the tenant's id")
    take_out.add_argument("file", type=Path, help="a new tar file; gzipped if it ends with .gz")
    take_out.add_argument("--images", action="store_true", help="include the photos")
    take_out.set_defaults(run=_export_tenant)

    bring_in = commands.add_parser("import-tenant", help="import the tenant of a file")
    bring_in.add_argument("file", type=Path, help="a file that export-tenant wrote")
    bring_in.add_argument(
        "--as", dest="rename", type=_tenant, help="id of the tenant here, instead of its own"
    )
    bring_in.set_defaults(run=_import_tenant)

    reembed = commands.add_parser(
        "reembed",
        help="embed all stored faces by another model, then search by it",
        description="Embeds the faces of all stored images by another model while the service "
        "runs, then activates that model in one transaction. After an interruption, run it again: "
        "it continues where it stopped.",
    )
    reembed.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help="a folder of paths.models_dir, or 'default' for the models directly in it",
    )
    reembed.add_argument(
        "--leave-lost-faces",
        action="store_true",
        help="activate the model although some faces have no usable image: these stay in their "
        "clusters, and no new face is matched with them",
    )
    reembed.add_argument(
        "--keep-old",
        action="store_true",
        help="keep the vectors of the former model, so that you can go back to it",
    )
    reembed.add_argument("--json", action="store_true", help="print progress as JSON lines")
    reembed.set_defaults(run=_reembed)

    commands.add_parser("export", help="export the models to ONNX (see facette export --help)")
    return parser


def _export(arguments: Sequence[str]) -> int:
    try:
        # The exporter is no dependency of the service.
        from export.__main__ import main as export_main
    except ImportError:
        print("facette: the export program is not part of this installation", file=sys.stderr)
        return 2

    return export_main(arguments)


def _init(options: argparse.Namespace) -> int:
    path: Path = options.config
    text = render_example(secrets.token_urlsafe(32))
    try:
        # Created with mode 0600, since it holds the token.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{path} is there already; nothing was changed")
        return 0
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    print(f"{path} was created, with a random token")
    return 0


def _token(options: argparse.Namespace) -> int:
    print(load_config(options.config).auth.token)
    return 0


def _migrate(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    configure_logging(config.server.log_level, as_json=config.server.log_json)

    async def run() -> None:
        async with AsyncExitStack() as stack:
            database = await Database.open(database_settings(config, stack))
            await database.close()

    asyncio.run(run())
    print("the database has the newest schema")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    settings = DoctorSettings.of(_quiet_config(options))
    return run_doctor(settings, tenant_id=options.tenant, as_json=options.json)


def _export_tenant(options: argparse.Namespace) -> int:
    config = _quiet_config(options)
    blobs = blob_place(config) if options.images else None
    return run_export(database_place(config), blobs, options.tenant, options.file)


def _import_tenant(options: argparse.Namespace) -> int:
    config = _quiet_config(options)
    return run_import(
        database_place(config),
        blob_place(config),
        options.file,
        options.rename,
        keep_photos=config.blobs.store_images,
        largest_photo_bytes=config.server.max_body_bytes,
    )


def _tenant(text: str) -> TenantId:
    """A tenant id that the API accepts as well."""
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"an id must have {NAME_RULE}")
    return TenantId(text)


def _quiet_config(options: argparse.Namespace) -> Config:
    """The configuration of a command that prints its results: the log has errors alone."""
    config = load_config(options.config)
    configure_logging("error", as_json=config.server.log_json)
    return config


def _reembed(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    configure_logging(config.server.log_level, as_json=config.server.log_json)
    return reembed(
        ReembedPlaces(
            config.paths.models_dir,
            database_place(config),
            blob_place(config),
            session_settings(config),
            decode_limits(config),
            index_settings(config.match, config.vector_index),
        ),
        ReembedOptions(options.model, options.leave_lost_faces, options.keep_old, options.json),
    )


def _serve(options: argparse.Namespace) -> int:
    environment = dict(os.environ)
    if options.processes is not None:
        environment[f"{ENVIRONMENT_PREFIX}SERVER_PROCESSES"] = str(options.processes)
    load = partial(load_config, options.config, environment)
    config = load()
    configure_logging(config.server.log_level, as_json=config.server.log_json)
    host = options.host or config.server.host
    port = config.server.port if options.port is None else options.port
    with ExitStack() as stack:
        listener = stack.enter_context(_listen(host, port))
        operations = None
        if config.server.operations_port:
            operations_host = config.server.operations_host or host
            operations = stack.enter_context(
                _listen(operations_host, config.server.operations_port)
            )
        greeting = _greeting(options.config, config, host, listener.getsockname()[1])
        greet = partial(_greet, greeting)
        if config.server.processes == 1:
            return _run(_server(Service(config, load), greet, operations), listener)
        command = child_command(options.config)
        listeners = [listener] if operations is None else [listener, operations]
        return asyncio.run(Supervisor(config, listeners, command, load, greet).run())


def _serve_process(options: argparse.Namespace) -> int:
    """Run one of several processes; the supervisor has migrated the schema."""
    load = partial(load_config, options.config)
    config = load()
    configure_logging(config.server.log_level, as_json=config.server.log_json)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(fileno=options.listener))
        operations = None
        if options.operations is not None:
            operations = stack.enter_context(socket.socket(fileno=options.operations))
        say = partial(say_ready, options.ready)
        server = _server(Service(config, load), say, operations, options.parent)
        status = _run(server, listener)
    if server.orphaned:  # else the supervisor removes them
        remove_shared_metrics()
    return status


def _server(
    service: Service,
    on_ready: Callable[[], None],
    operations: socket.socket | None,
    parent: int | None = None,
) -> Server:
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


def _greet(text: str) -> None:
    """Print a text. A service whose standard output cannot be written serves all the same."""
    try:
        print(text, flush=True)
    except OSError as error:
        _logger.warning("standard output cannot be written: %s", error.strerror)
        end_output()


def _command() -> str:
    """The shell's name of this program, from the working folder."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{sys.executable} -m service.cli"
    if not started.is_file():
        return "facette"
    with suppress(ValueError, FileNotFoundError):  # the working folder may be removed
        started = started.relative_to(Path.cwd())
    return str(started)


def _greeting(config_path: Path, config: Config, host: str, port: int) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
    shown = f"[{shown}]" if ":" in shown else shown
    facette = _command()
    where = f"in {config_path}, under [auth]" if config_path.is_file() else "in FACETTE_AUTH_TOKEN"
    return (
        f"\nFacette is serving on http://{shown}:{port}\n"
        f"The token is {where}. Try it with a photo of yours:\n\n"
        f'  curl -H "token: $({facette} token)" -F tenant_id=demo -F image=@photo.jpg '
        f"http://{shown}:{port}/insert-image\n"
    )
