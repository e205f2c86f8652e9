"""A terminal that is asked for keys, lines and what pictures it can show, and that shows them."""

from __future__ import annotations

import os
import re
import select
import struct
import sys
import termios
import time
import tty
from base64 import b64encode
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import Final, Self

# The last of these questions is one that nearly every terminal answers. So no answer to the first
# ones, once that came, is an answer as well.
_ASK_KITTY: Final = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"
_ASK_NAME: Final = "\x1b[>q"
_ASK_ATTRIBUTES: Final = "\x1b[c"
_ATTRIBUTES: Final = re.compile(rb"\x1b\[\?[0-9;]*c")
_ANSWER_S: Final = 3.0
# Arrows, function keys and late answers of the terminal; and Escape alone.
_NO_KEYS: Final = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O.|[P_][^\x1b]*\x1b\\)?")
_WITHOUT_ANSWERS: Final = ("dumb", "linux", "")
_ROWS: Final = 9
_CHUNK: Final = 4096
# Cells are about twice as high as they are wide.
_CELL_RATIO: Final = 2.0


class Graphics(Enum):
    """How a terminal shows pictures."""

    KITTY = "kitty"
    ITERM2 = "iterm2"
    NONE = "none"


class Terminal:
    """The terminal of standard input and output, in a mode that gives single keys.

    What is typed is not shown. Use it as a context manager: it leaves the terminal as it was.
    """

    def __init__(self) -> None:
        self._in = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._in)
        self._keys = ""

    def __enter__(self) -> Self:
        tty.setcbreak(self._in)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(termios.error):  # the terminal was closed
            termios.tcsetattr(self._in, termios.TCSAFLUSH, self._before)

    @property
    def name(self) -> str:
        """The name of its device."""
        return os.ttyname(self._in)

    def key(self) -> str:
        """The next key, in lower case; "" when the terminal is gone. Arrows are left out."""
        while not self._keys:
            read = self._read()
            if not read:
                return ""
            self._keys = _NO_KEYS.sub("", read).lower()
        key, self._keys = self._keys[0], self._keys[1:]
        return key

    def forget_keys(self) -> None:
        """Leave out what was typed up to now."""
        self._keys = ""
        termios.tcflush(self._in, termios.TCIFLUSH)

    def line(self, prompt: str) -> str:
        """A line that is typed after a prompt, without blanks around it; "" for none."""
        self.forget_keys()
        termios.tcsetattr(self._in, termios.TCSADRAIN, self._before)
        try:
            print(prompt, end="", flush=True)
            return self._read().strip()
        finally:
            with suppress(termios.error):  # the terminal was closed
                tty.setcbreak(self._in)

    def _read(self) -> str:
        try:
            return os.read(self._in, 4096).decode(errors="ignore")
        except OSError:  # the terminal was closed
            return ""

    def graphics(self) -> Graphics:
        """How it shows pictures, as it says itself."""
        if os.environ.get("TERM", "") in _WITHOUT_ANSWERS:
            return Graphics.NONE
        print(_ASK_KITTY + _ASK_NAME + _ASK_ATTRIBUTES, end="", flush=True)
        said = b""
        until = time.monotonic() + _ANSWER_S
        while not _ATTRIBUTES.search(said):
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._in], [], [], left)[0]:
                break
            read = os.read(self._in, 4096)
            if not read:
                break
            said += read
        if b"_Gi=31;OK" in said:
            return Graphics.KITTY
        return Graphics.ITERM2 if b">|iTerm2" in said else Graphics.NONE


def picture(graphics: Graphics, png: bytes, columns: int) -> str:
    """The control sequence that shows a PNG file at the cursor, and a line break.

    Args:
        columns: of the terminal; a wide picture is made smaller.
    """
    width, height = struct.unpack(">II", png[16:24])  # of the head that every PNG file begins with
    wide = min(columns, round(width / height * _ROWS * _CELL_RATIO))
    rows = max(1, min(_ROWS, round(wide * height / width / _CELL_RATIO)))
    data = b64encode(png).decode("ascii")
    if graphics is Graphics.ITERM2:
        facts = f"inline=1;size={len(png)};width={wide};height={rows};preserveAspectRatio=1"
        return f"\x1b]1337;File={facts}:{data}\x07\n"
    pieces = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    shown = []
    for number, piece in enumerate(pieces, 1):
        facts = f"a=T,f=100,q=2,c={wide},r={rows}," if number == 1 else ""
        shown.append(f"\x1b_G{facts}m={int(number < len(pieces))};{piece}\x1b\\")
    return "".join(shown) + "\n"
