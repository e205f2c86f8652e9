"""What users' commands print: tables on terminals and for pipes, and JSON."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from datetime import datetime
from typing import Any

# Nothing that a terminal shows is wider; a pipe's lines are not broken.
_PIPE_COLUMNS = 10_000
_WHOLE = ("id", "newest")


def printable(text: str) -> str:
    """A text without characters that would do something to a terminal, such as a file's name."""
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def tell(text: str, *, indent: str = "", error: bool = False) -> None:
    """Print a line for people; a terminal gets it broken between words.

    Args:
        indent: before further lines of it.
        error: print it to standard error.
    """
    stream = sys.stderr if error else sys.stdout
    text = printable(text)
    if stream.isatty():
        columns = shutil.get_terminal_size().columns
        text = textwrap.fill(
            text, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
    print(text, file=stream, flush=True)


def print_json(value: object) -> None:
    """Print one JSON object on a line; a dataclass is the object of its fields."""
    print(json.dumps(value, ensure_ascii=False, default=_as_json), flush=True)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 0) -> None:
    """Print a table, in which the last columns may hold numbers.

    Text that a terminal has no room for is cut off at its end; in a pipe all of it stays.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_COLUMNS)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for position, name in enumerate(head):
        is_number = position >= len(head) - numbers
        # Ids and numbers are of no use in part: only other columns become narrower.
        table.add_column(
            name, justify="right" if is_number else "left", no_wrap=is_number or name in _WHOLE
        )
    for row in rows:
        cells = (Text(printable(cell), no_wrap=True, overflow="ellipsis") for cell in row)
        table.add_row(*cells)
    console.print(table)


def day(time: datetime) -> str:
    """A time in a table: its day, here."""
    return f"{time.astimezone():%Y-%m-%d}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _as_json(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    raise TypeError(f"{type(value).__name__} has no JSON")
