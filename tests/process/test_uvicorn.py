"""The parts of uvicorn and httptools that the serving process relies on beyond their API.

`service/process/server.py` and `connection.py` subclass uvicorn's server, its protocol, its flow
control and its state. pyproject.toml therefore holds uvicorn and httptools to one minor version. An
upgrade begins here: each failure names what to compare with the new source, and where it is used.
"""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent

import httptools
import pytest
import uvicorn
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

ROOT = Path(__file__).resolve().parents[2]

# Class, attributes that its `__init__` makes, and what breaks without them.
ATTRIBUTES: list[tuple[type, str, str]] = [
    (uvicorn.Server, "config server_state started should_exit force_exit", "start and stop"),
    (ServerState, "connections tasks default_headers total_requests", "the end of connections"),
    (
        HttpToolsProtocol,
        (
            "app client connections cycle flow headers loop parser pipeline scope server_state "
            "tasks timeout_keep_alive timeout_keep_alive_task transport"
        ),
        "Connection: limits, pipelining, refusals and keep-alive",
    ),
    (
        RequestResponseCycle,
        "body disconnected keep_alive message_event response_complete response_started scope",
        "Connection: which request is in progress, and the last response of a connection",
    ),
    (LifespanOn, "startup_failed error_occurred should_exit state", "the end of a failed start"),
]

# Function, its parameters, and the calls and assignments in its body that are relied on.
METHODS: list[tuple[Callable[..., object], str, str]] = [
    (uvicorn.Server.startup, "self sockets", "self.lifespan.startup self.servers self.started"),
    (uvicorn.Server.shutdown, "self sockets", "self.lifespan.shutdown"),
    (uvicorn.Server.on_tick, "self counter", "self.server_state.default_headers self.should_exit"),
    (uvicorn.Server.handle_exit, "self sig frame", ""),
    (uvicorn.Server.main_loop, "self", "self.on_tick asyncio.sleep"),
    (
        uvicorn.Server._serve,
        "self sockets",
        "self.lifespan self.startup self.main_loop self.shutdown",
    ),
    (uvicorn.Server.run, "self sockets", "self.serve"),
    (uvicorn.Server.capture_signals, "self", "self.handle_exit"),
    (
        HttpToolsProtocol.__init__,
        "self config server_state app_state _loop",
        "self.parser httptools.HttpRequestParser",
    ),
    (HttpToolsProtocol.connection_made, "self transport", "self.flow self.client"),
    (
        HttpToolsProtocol.connection_lost,
        "self exc",
        "self.connections.discard self.cycle.message_event.set self.parser",
    ),
    (HttpToolsProtocol.data_received, "self data", "self.parser.feed_data"),
    (HttpToolsProtocol.pause_writing, "self", "self.flow.pause_writing"),
    (HttpToolsProtocol.resume_writing, "self", "self.flow.resume_writing"),
    (HttpToolsProtocol.on_message_begin, "self", "self.url self.headers self.scope"),
    (HttpToolsProtocol.on_url, "self url", "self.url"),
    (HttpToolsProtocol.on_header, "self name value", "self.headers.append"),
    (
        HttpToolsProtocol.on_headers_complete,
        "self",
        "self.cycle self.pipeline.appendleft self.flow.pause_reading self._start_asgi_task",
    ),
    (HttpToolsProtocol.on_body, "self body", "self.cycle.body self.cycle.message_event.set"),
    (HttpToolsProtocol.on_message_complete, "self", "self.cycle.message_event.set"),
    (
        HttpToolsProtocol.on_response_complete,
        "self",
        (
            "self.transport.is_closing self.flow.resume_reading self.pipeline.pop "
            "self._start_asgi_task self.timeout_keep_alive_task"
        ),
    ),
    (HttpToolsProtocol._start_asgi_task, "self cycle app", "cycle.run_asgi self.tasks.add"),
    (HttpToolsProtocol._unset_keepalive_if_required, "self", "self.timeout_keep_alive_task"),
    (HttpToolsProtocol.timeout_keep_alive_handler, "self", "self.transport.close"),
    (FlowControl.__init__, "self transport", ""),
    (FlowControl.pause_reading, "self", ""),
    (FlowControl.resume_reading, "self", ""),
    (
        RequestResponseCycle.send,
        "self message",
        "self.transport.write self.keep_alive self.response_complete self.on_response",
    ),
    (RequestResponseCycle.receive, "self", "self.flow.resume_reading self.disconnected"),
    (LifespanOn.startup, "self", "self.logger.error self.should_exit"),
    (LifespanOn.shutdown, "self", ""),
]


def _tree(function: Callable[..., object]) -> ast.AST:
    return ast.parse(dedent(inspect.getsource(function)))


def _dotted(function: Callable[..., object]) -> set[str]:
    """Every dotted name in a function, and each of its prefixes."""
    nodes = (node for node in ast.walk(_tree(function)) if isinstance(node, ast.Attribute))
    return {ast.unparse(node) for node in nodes}


def _made_by(kind: type) -> set[str]:
    return {
        node.attr
        for node in ast.walk(_tree(kind.__init__))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }


@pytest.mark.parametrize(("kind", "names", "used_for"), ATTRIBUTES, ids=lambda each: str(each))
def test_attributes_are_made_by_the_constructor(kind: type, names: str, used_for: str) -> None:
    missing = set(names.split()) - _made_by(kind)
    assert not missing, (
        f"{kind.__module__}.{kind.__name__} has no {missing} any more. Find the replacement in "
        f"its source, and change service/process, where they are used for: {used_for}."
    )


@pytest.mark.parametrize(
    ("method", "parameters", "relied_on"),
    METHODS,
    ids=lambda each: getattr(each, "__qualname__", ""),
)
def test_methods_have_the_signature_and_do_what_is_relied_on(
    method: Callable[..., object], parameters: str, relied_on: str
) -> None:
    name = f"{method.__module__}.{method.__qualname__}"
    assert list(inspect.signature(method).parameters) == parameters.split(), (
        f"{name} has other parameters: change its override or its callers in service/process."
    )
    missing = set(relied_on.split()) - _dotted(method)
    assert not missing, (
        f"{name} does not mention {missing} any more. Read its new source, and compare it with the "
        "override in service/process/server.py or connection.py."
    )


def test_requests_report_their_end_to_the_connection() -> None:
    create = _dotted(HttpToolsProtocol.on_headers_complete)
    assert "self.on_response_complete" in create, (
        "a request no longer calls on_response_complete at its end, where Connection frees its "
        "input and starts the next one"
    )


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (httptools, "HttpParserError HttpParserUpgrade HttpRequestParser"),
        (
            httptools.HttpRequestParser,
            (
                "feed_data get_http_version get_method should_keep_alive should_upgrade "
                "set_dangerous_leniencies"
            ),
        ),
    ],
    ids=["httptools", "HttpRequestParser"],
)
def test_httptools_has_what_connections_use(owner: object, names: str) -> None:
    missing = [name for name in names.split() if not hasattr(owner, name)]
    assert not missing, f"httptools has no {missing}: see Connection._feed, and uvicorn's protocol"


def test_an_upgrade_tells_where_the_rest_of_the_input_begins() -> None:
    class Callbacks:
        def on_message_complete(self) -> None:
            """Let the parser go on to the next request."""

    head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n"
    with pytest.raises(httptools.HttpParserUpgrade) as caught:
        httptools.HttpRequestParser(Callbacks()).feed_data(head + b"GET ")
    assert caught.value.args == (len(head),), (
        "HttpParserUpgrade has another argument: Connection._feed resumes parsing behind it"
    )


def test_an_exception_of_a_callback_ends_parsing() -> None:
    class Callbacks:
        def on_header(self, name: bytes, value: bytes) -> None:
            raise LookupError

    with pytest.raises(httptools.HttpParserError):
        httptools.HttpRequestParser(Callbacks()).feed_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


def _used_of_uvicorn() -> Iterator[str]:
    """Names of uvicorn's classes that the overrides call through `super()`."""
    for module in ("server.py", "connection.py"):
        source = (ROOT / "service" / "process" / module).read_text("utf-8")
        yield from re.findall(r"super\(\)\.(\w+)\(", source)


def test_every_method_that_is_called_through_super_is_named_here() -> None:
    named = {method.__name__ for method, _, _ in METHODS} | {"__init__"}
    assert set(_used_of_uvicorn()) - named == set()


@pytest.mark.parametrize("package", ["uvicorn", "httptools"])
def test_minor_version_is_pinned_to_the_one_that_was_checked(package: str) -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (requirement,) = (
        each for each in pyproject["project"]["dependencies"] if each.startswith(package)
    )
    major, minor = map(int, version(package).split(".")[:2])
    assert requirement == f"{package}>={major}.{minor},<{major}.{minor + 1}"
