"""Standard streams and file mode mask: what a process inherits from its caller."""

from __future__ import annotations

import io
import os
import sys

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
_OWNER = 0o700
_WRITABLE_BY_OTHERS = 0o022


def mend_inherited() -> None:
    """Replace closed standard streams by /dev/null, and correct the file mode mask.

    A file or a socket that is opened later would otherwise take the descriptor of a closed stream,
    and receive what is written to that stream. Standard output escapes characters that its encoding
    lacks, as standard error does. New files are accessible to their owner and writable by no other
    account.
    """
    for number, (name, mode) in enumerate(_STREAMS):
        if _is_closed(number):
            opened = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(opened, True)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    output = sys.stdout
    # In UTF-8, `surrogateescape` writes the bytes of any file name.
    if isinstance(output, io.TextIOWrapper) and (
        output.errors == "strict" or output.encoding.lower() != "utf-8"
    ):
        output.reconfigure(errors="backslashreplace")
    mask = os.umask(0o077)
    os.umask(mask & ~_OWNER | _WRITABLE_BY_OTHERS)


def end_output() -> str:
    """Write what standard output and error have buffered; returns why output cannot be written.

    A stream that cannot be written is replaced by /dev/null: Python would otherwise try again when
    it ends, and end with another exit status. A pipe without a reader is no error.
    """
    problem = ""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            opened = os.open(os.devnull, os.O_WRONLY)
            os.dup2(opened, stream.fileno())
            os.close(opened)
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                problem = error.strerror or str(error)
    return problem


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False
