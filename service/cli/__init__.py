"""The `facette` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from service.machine.descriptors import raise_descriptor_limit
from service.machine.inherited import end_output, mend_inherited

# PostgreSQL needs 58, the service as many for its libraries, models and connections.
_FEWEST_DESCRIPTORS = 128


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        The exit status, one of `service.commands.statuses`; standard error has the reason.
    """
    mend_inherited()
    descriptors = raise_descriptor_limit()
    if descriptors < _FEWEST_DESCRIPTORS:
        print(
            f"facette: the limit of open files is {descriptors}, and Facette needs at least "
            f"{_FEWEST_DESCRIPTORS}: raise it (ulimit -n)",
            file=sys.stderr,
        )
        return 2
    # Imports of large libraries open files, which would take the place of a closed standard stream.
    from service.cli.program import run_command

    try:
        status = run_command(argv)
    finally:
        if error := end_output():
            print(f"facette: standard output cannot be written: {error}", file=sys.stderr)
    return status or (2 if error else 0)
