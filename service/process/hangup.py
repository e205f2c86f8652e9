"""What a SIGHUP means: read the configuration again, or that the terminal was closed."""

from __future__ import annotations

import os
import signal


class Hangup:
    """Tells an operator's SIGHUP from the one of a closed terminal.

    A service that was started in a terminal ends with it, as any program does; one without a
    terminal, or started under nohup, takes every SIGHUP for the wish to reload.
    """

    def __init__(self) -> None:
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._ends_with_terminal = not ignored and _has_terminal()

    def means_stop(self) -> bool:
        """Whether the terminal that was there at the start is gone."""
        return self._ends_with_terminal and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
