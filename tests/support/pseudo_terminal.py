"""A program on a terminal: what it shows is read, keys are pressed, and its questions answered."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.folders import ROOT

_LIMIT_S = 60.0
_COLUMNS, _ROWS = 80, 40
# What a program asks a terminal, and where the answer goes in this table.
_KITTY, _NAME, _ATTRIBUTES = b"\x1b_Gi=31,", b"\x1b[>q", b"\x1b[c"


class PseudoTerminal:
    """`facette` on a terminal of 80 columns, in a process of its own.

    Args:
        folder: the working folder. environment: all of it but TERM.
        is_kitty: it shows pictures by kitty's protocol. name: what it calls itself.
    """

    def __init__(
        self,
        folder: Path,
        words: Sequence[str],
        environment: Mapping[str, str],
        *,
        is_kitty: bool = False,
        name: str = "",
    ) -> None:
        self._answers = {_ATTRIBUTES: b"\x1b[?62;c"}
        if is_kitty:
            self._answers[_KITTY] = b"\x1b_Gi=31;OK\x1b\\"
        if name:
            self._answers[_NAME] = b"\x1bP>|%s\x1b\\" % name.encode()
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        self._slave = slave
        self._modes = termios.tcgetattr(slave)
        path = f"{ROOT}:{ROOT / 'clients' / 'python'}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", *words],
            cwd=folder,
            env={"TERM": "xterm-256color", "PYTHONPATH": path, **environment},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        self._seen = b""
        self._read_to = 0
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        if not self._is_closed:
            os.close(self._master)
        os.close(self._slave)

    def shows(self, text: str) -> str:
        """Wait until a text is shown behind what was waited for before; returns all up to it."""
        wanted = text.encode()
        until = time.monotonic() + _LIMIT_S
        while (place := self._seen.find(wanted, self._read_to)) < 0:
            assert time.monotonic() < until, self._text()
            assert self._read(until), f"the program ended:\n{self._text()}"
        shown = self._seen[self._read_to : place + len(wanted)].decode()
        self._read_to = place + len(wanted)
        return shown.replace("\r\n", "\n")

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def close(self) -> int:
        """Close the terminal, as a window is closed; returns the status."""
        os.close(self._master)
        self._is_closed = True
        return self._process.wait(_LIMIT_S)

    def ends(self) -> tuple[int, str]:
        """Wait for the end; returns the status, and what was shown since."""
        until = time.monotonic() + _LIMIT_S
        while self._process.poll() is None:
            assert time.monotonic() < until, self._text()
            self._read(time.monotonic() + 0.05)
        while self._read(time.monotonic()):
            pass
        assert termios.tcgetattr(self._slave) == self._modes, "the terminal is not as it was"
        return self._process.returncode, self._seen[self._read_to :].decode().replace("\r\n", "\n")

    def _read(self, until: float) -> bool:
        left = max(0.0, until - time.monotonic())
        if not select.select([self._master], [], [], left)[0]:
            return False
        read = os.read(self._master, 65_536)
        before = len(self._seen)
        self._seen += read
        asked = re.finditer(rb"\x1b_Gi=31,|\x1b\[>q|\x1b\[c", self._seen)
        for each in asked:
            if each.end() > before and each[0] in self._answers:
                os.write(self._master, self._answers[each[0]])
        return bool(read)

    def _text(self) -> str:
        return self._seen.decode(errors="replace")


def _take_terminal() -> None:
    """Let Ctrl-C reach the process, also where it is ignored here, as in a shell's background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
