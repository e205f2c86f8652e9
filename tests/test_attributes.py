"""Objects keep their own state: attributes are made in `__init__`, and set by no other object."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVICE = Path(__file__).resolve().parents[1] / "service"
ROOMS = (
    "api",
    "app",
    "cli",
    "commands",
    "process",
    "store/archive",
    "store/blob",
    "store/embedded",
)
ROOMS += ("store/embedded", "telemetry", "usecases")
MODULES = sorted(path for room in ROOMS for path in (SERVICE / room).rglob("*.py"))
# Objects of libraries, and those of this module that `__init__` cannot know, with their attributes.
FOREIGN = {
    "api/forms.py": {"content_disposition"},  # Starlette's part of a form
    # Uvicorn's cycle of a request; tests/process/test_uvicorn.py names all that is relied on.
    "process/connection.py": {"keep_alive", "disconnected", "body", "scope"},
    "store/archive/file.py": {"size", "mode"},  # tarfile.TarInfo
    "telemetry/logs.py": {
        *("exc_info", "levelname", "levelno", "trace_id"),  # logging.LogRecord
        # The module's own switches for what records need not have (Python's logging HOWTO).
        *("_srcfile", "logThreads", "logProcesses", "logMultiprocessing"),
    },
}


def _targets(tree: ast.AST) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        else:
            continue
        for target in targets:
            for each in ast.walk(target):
                stored = isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)
                if stored and not each.attr.startswith("__"):
                    yield each


def _is_self(target: ast.Attribute) -> bool:
    return isinstance(target.value, ast.Name) and target.value.id in ("self", "cls")


def _made_in_constructor(kind: ast.ClassDef) -> set[str]:
    """Attributes of the class body, of `__init__`, and of the methods that `__init__` calls."""
    methods = {each.name: each for each in kind.body if isinstance(each, ast.FunctionDef)}
    made = {
        each.target.id
        for each in kind.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    if (constructor := methods.get("__init__")) is None:
        return made
    called = {
        node.func.attr
        for node in ast.walk(constructor)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "self"
    }
    for method in (constructor, *(methods[name] for name in called if name in methods)):
        made |= {target.attr for target in _targets(method) if _is_self(target)}
    return made


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SERVICE)))
def test_attributes_are_made_in_the_constructor(path: Path) -> None:
    for kind in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(kind, ast.ClassDef):
            set_somewhere = {target.attr for target in _targets(kind) if _is_self(target)}
            assert set_somewhere - _made_in_constructor(kind) <= _inherited(kind), kind.name


def _inherited(kind: ast.ClassDef) -> set[str]:
    """Attributes of uvicorn's classes that a subclass sets."""
    bases = {ast.unparse(base) for base in kind.bases}
    if "uvicorn.Server" in bases:
        return {"should_exit", "force_exit"}
    if "HttpToolsProtocol" in bases:
        return {"flow", "timeout_keep_alive_task", "scope", "headers", "url"}
    return set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SERVICE)))
def test_no_object_sets_an_attribute_of_another(path: Path) -> None:
    name = path.relative_to(SERVICE).as_posix()
    targets = _targets(ast.parse(path.read_text("utf-8")))
    found = {target.attr for target in targets if not _is_self(target)}
    assert found <= FOREIGN.get(name, set())
