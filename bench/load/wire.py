"""Requests as bytes: heads, multipart forms, and where a URL leads."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from bench.load.plan import Call

_BOUNDARY = "facette-load-5b1d6c3e9a7f4d20"
# Longer bodies stay apart from their heads, so that many calls can share one.
_JOINED_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A server: the address to connect to, and the name that it is called by."""

    host: str
    port: int
    family: socket.AddressFamily
    name: str
    tls: ssl.SSLContext | None
    server_name: str | None
    prefix: str


def resolve(url: str) -> Target:
    """Look a URL's host up, once for all connections.

    Raises:
        ValueError: it is no http or https URL.
        OSError: the host is not known.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url} is no http or https URL")
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    family, _, _, _, address = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)[0]
    return Target(
        host=str(address[0]),
        port=port,
        family=family,
        name=parts.netloc.rpartition("@")[2],
        tls=ssl.create_default_context() if secure else None,
        server_name=parts.hostname if secure else None,
        prefix=parts.path.rstrip("/"),
    )


def prepare(call: Call, target: Target) -> tuple[bytes, ...]:
    """A call's bytes, in one piece or two."""
    lines = [f"{call.method} {target.prefix}{call.path} HTTP/1.1", f"Host: {target.name}"]
    lines += [f"{name}: {value}" for name, value in call.headers]
    if call.body or call.method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(call.body)}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return (head + call.body,) if len(call.body) <= _JOINED_BYTES else (head, call.body)


def multipart(
    name: str, data: bytes, fields: Mapping[str, str] | None = None, filename: str = "photo.jpg"
) -> tuple[tuple[str, str], bytes]:
    """A form with one file: its Content-Type header and its body."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in (fields or {}).items()
    ]
    parts.append(
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"'
        "\r\nContent-Type: application/octet-stream\r\n\r\n"
    )
    head = "".join(parts).encode("utf-8")
    body = head + data + f"\r\n--{_BOUNDARY}--\r\n".encode("ascii")
    return ("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}"), body
