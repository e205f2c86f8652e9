"""The meaning of a SIGHUP: reload the configuration, or stop because the terminal closed."""

from __future__ import annotations

import os
import signal


class Hangup:
    """Distinguishes a SIGHUP of an operator from that of a closed terminal.

    A service that was started in a terminal stops when the terminal closes. A service without a
    terminal, or started with nohup, reloads on every SIGHUP.
    """

    def __init__(self) -> None:
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._ends_with_terminal = not ignored and _has_terminal()

    def means_stop(self) -> bool:
        """Whether the terminal of the start has closed."""
        return self._ends_with_terminal and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
