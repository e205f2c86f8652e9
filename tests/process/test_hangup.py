"""A SIGHUP from an operator, and the one that comes when the terminal is closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Opening a terminal makes it that of a session's leader; each SIGHUP is answered in one line.
_PROGRAM = """
import os, signal, sys
if len(sys.argv) > 1:
    os.open(sys.argv[1], os.O_RDWR)
from service.process.hangup import Hangup
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may themselves run under nohup
hangup = Hangup()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
print("ready", flush=True)
while signal.sigwait({signal.SIGHUP}):
    print(hangup.means_stop(), flush=True)
"""


@contextmanager
def _started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        try:
            assert _line(program) == "ready"
            yield program
        finally:
            program.kill()


def _line(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


def test_without_a_terminal_every_hangup_means_to_reload() -> None:
    with _started() as program:
        for _ in range(2):
            program.send_signal(signal.SIGHUP)
            assert _line(program) == "False"


def test_closing_the_terminal_means_to_stop_and_a_signal_before_it_to_reload() -> None:
    terminal, its_end = os.openpty()
    with _started(os.ttyname(its_end)) as program:
        os.close(its_end)
        program.send_signal(signal.SIGHUP)
        assert _line(program) == "False"
        os.close(terminal)
        assert _line(program) == "True"
