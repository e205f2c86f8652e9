"""Loads the named SQL statements of `sql/`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)[ \t]*$", re.MULTILINE)


def parse_statements(text: str) -> dict[str, str]:
    """The statements of one file by name; each begins after a line `-- name: <name>`.

    Raises:
        ValueError: two statements have the same name, or a name has no statement.
    """
    parts = _NAME.split(text)[1:]
    statements: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        statement = "\n".join(
            line for line in body.splitlines() if not line.lstrip().startswith("--")
        ).strip()
        if name in statements or not statement:
            raise ValueError(f"SQL statement {name} is empty or defined twice")
        statements[name] = statement
    return statements


def load_statements() -> Mapping[str, str]:
    """All statements of the package by name."""
    statements: dict[str, str] = {}
    for resource in sorted(files("service.store").joinpath("sql").iterdir(), key=lambda r: r.name):
        if resource.name.endswith(".sql"):
            for name, statement in parse_statements(resource.read_text(encoding="utf-8")).items():
                if name in statements:
                    raise ValueError(f"SQL statement {name} is defined twice")
                statements[name] = statement
    return MappingProxyType(statements)


SQL = load_statements()


@lru_cache(maxsize=64)
def with_dimension(name: str, dimension: int) -> str:
    """A statement whose placeholder `{dimension}` is replaced by a number.

    Indexes are built over vectors that are cast to the dimension of their space. PostgreSQL uses
    such an index only for statements that contain the same cast with a literal. The text is cached,
    so that asyncpg finds the prepared statement again.
    """
    return SQL[name].replace("{dimension}", str(int(dimension)))


@cache
def with_statement(name: str, inner: str) -> str:
    """A statement whose placeholder `{<inner>}` is replaced by the statement of that name."""
    return SQL[name].replace(f"{{{inner}}}", SQL[inner])


def for_tenant(name: str, tenant_id: str) -> str:
    """A statement whose placeholder `{tenant}` is replaced by a tenant's bytes, in hexadecimal."""
    return SQL[name].replace("{tenant}", tenant_id.encode().hex())
