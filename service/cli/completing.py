"""Completion of commands and options in shells."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

Shell = Literal["bash", "zsh", "fish"]
Program = Annotated[App, Parameter(parse=False)]
"""Whose commands are completed."""

# Cyclopts writes a file that zsh loads by itself; one that is read by `source` says what it is for.
_FOR_ZSH = "compdef _cyclopts_facette facette\n"
_LOADS_ZSH = "autoload -Uz compinit && compinit\n"


def completion(shell: Shell, /, *, program: Program) -> int:
    """Print the completion script of a shell, for `source`.

    Args:
        shell: the shell that is to read it
    """
    script = program.generate_completion(shell=shell)
    print(script + (_FOR_ZSH if shell == "zsh" else ""))
    return 0


def install(*, shell: Shell | None = None, program: Program) -> int:
    """Let your shell complete commands and options from now on.

    Args:
        shell: the shell, instead of the one that this runs in
    """
    chosen = shell or _shell_here()
    if chosen is None:
        print("facette: no known shell runs this: add --shell bash, zsh or fish", file=sys.stderr)
        return 2
    path = program.install_completion(shell=chosen)
    if chosen == "zsh":
        _let_zsh_complete(Path.home() / ".zshrc")
    print(f"{path} was written: open a new terminal, and press Tab after `facette `")
    return 0


def _shell_here() -> Shell | None:
    name = Path(os.environ.get("SHELL", "")).name
    return name if name in ("bash", "zsh", "fish") else None  # type: ignore[return-value]


def _let_zsh_complete(settings: Path) -> None:
    """zsh completes nothing until it is told to, which most settings do."""
    text = settings.read_text(encoding="utf-8") if settings.is_file() else ""
    if "compinit" not in text:
        settings.write_text(text + _LOADS_ZSH, encoding="utf-8")
