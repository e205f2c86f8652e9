"""Records sessions at a terminal for docs/terminal/: `python -m tests.support.terminal_sessions`.

Needs tmux. Every session is recorded at 80 and at 120 columns, with colours (the escapes are in the
file: `cat` shows them) and without (NO_COLOR).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.common.photos import load
from bench.common.server import TOKEN
from tests.support.folders import ROOT, open_folder
from tests.support.service import SHARED_FOLDER, ServiceProcess

_FOLDER_OF_A_SESSION = re.compile(r"/\S*/facette-test-\w+")
FOLDER = ROOT / "docs" / "terminal"
_PROMPT = "$ "
_LINES = 60
_WAIT_S = 120.0
_POLL_S = 0.05
_PHOTOS = 40


class Terminal:
    """A shell in a terminal of a size, without a history and a configuration.

    Args:
        folder: the working folder; its `.venv/bin` is where programs are looked for first.
        environment: variables beside those that a shell needs.
    """

    def __init__(self, folder: Path, columns: int, environment: dict[str, str]) -> None:
        self._socket = f"facette-{os.getpid()}-{columns}-{'NO_COLOR' in environment}"
        variables = {
            "PATH": f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}",
            "HOME": str(folder),
            "PS1": _PROMPT,
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            **environment,
        }
        size = ["-x", str(columns), "-y", str(_LINES)]
        shell = ["bash", "--norc", "--noprofile"]
        words = [f"{name}={value}" for name, value in variables.items()]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", str(folder), "env", "-i",
                   *words, *shell)  # fmt: skip
        self._colours = "NO_COLOR" not in environment
        self._wait(lambda text: text.rstrip().endswith(_PROMPT.strip()))

    def close(self) -> None:
        """End the shell and the server of this terminal."""
        self._tmux("kill-server")

    def run(self, line: str, *, also_when: str = "", stop: bool = False) -> str:
        """Run a line; returns what the terminal shows of it.

        Args:
            also_when: also return what was shown when this text appeared.
            stop: press Ctrl-C then.
        """
        self._tmux("send-keys", "-R", "clear", "Enter")
        self._wait(lambda text: text.strip() == _PROMPT.strip())
        self._tmux("clear-history")
        self._tmux("send-keys", "-l", line)
        self._tmux("send-keys", "Enter")
        shown = ""
        if also_when:
            self._wait(lambda text: also_when in text)
        if stop:
            self._tmux("send-keys", "C-c")
        elif also_when:
            shown = self._text(colours=self._colours).rstrip() + "\n\n"
        self._wait(lambda text: len(text.splitlines()) > 1 and text.splitlines()[-1] == "$")
        return shown + self._text(colours=self._colours).rstrip().removesuffix("$").rstrip() + "\n"

    def _wait(self, condition: object) -> None:
        assert callable(condition)
        deadline = time.monotonic() + _WAIT_S
        while not condition(self._text(colours=False).rstrip()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the terminal shows:\n{self._text(colours=False)}")
            time.sleep(_POLL_S)

    def _text(self, *, colours: bool) -> str:
        return self._tmux("capture-pane", "-p", "-S", "-", *(["-e"] if colours else []))

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-L", self._socket, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout


def record(columns: int, *, colours: bool) -> str:
    """All sessions in one terminal."""
    with _service() as service, open_folder() as folder:
        _furnish(folder)
        environment = {} if colours else {"NO_COLOR": "1"}
        user = {"FACETTE_URL": service.url, "FACETTE_KEY": TOKEN}
        terminal = Terminal(folder, columns, environment)
        try:
            shown = [
                terminal.run("facette --help"),
                terminal.run("facette ingest --help"),
                terminal.run("facette init"),
                terminal.run("facette serve --port 0", also_when="photos --tenant", stop=True),
                *_faults(terminal),
            ]
            for name, value in user.items():
                terminal.run(f"export {name}={shlex.quote(value)}")
            shown += _uses(terminal)
        finally:
            terminal.close()
    return ("-" * columns + "\n").join(shown)


def _faults(terminal: Terminal) -> Iterator[str]:
    for line in (
        "facette ingest photos",
        "facette ingst photos --tenant family",
        "facette people --tenant family --url http://127.0.0.1:9; echo status $?",
    ):
        yield terminal.run(line)


def _uses(terminal: Terminal) -> Iterator[str]:
    ingest = "facette ingest photos --tenant family --report report.jsonl"
    yield terminal.run(ingest, also_when="left")
    yield terminal.run(f"{ingest}; echo status $?")
    yield terminal.run("facette people --tenant family --limit 5")
    yield terminal.run("facette search one.jpg --tenant family --limit 1")
    yield terminal.run("facette compare one.jpg other.jpg")
    yield terminal.run("facette people show Nobody --tenant family; echo status $?")
    yield terminal.run("facette people --tenant family --key wrong; echo status $?")


@contextmanager
def _service() -> Iterator[ServiceProcess]:
    with open_folder() as folder:
        service = ServiceProcess(folder, ROOT / "models").start()
        try:
            yield service
        finally:
            service.stop()


def _furnish(folder: Path) -> None:
    """Photos of several people, one broken, and the program itself."""
    program = folder / ".venv" / "bin" / "facette"
    program.parent.mkdir(parents=True)
    roots = [str(ROOT), str(ROOT / "clients" / "python")]
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path[:0] = {roots}\n"
        "from service.cli import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    (folder / "models").symlink_to(ROOT / "models")
    photos = folder / "photos"
    photos.mkdir()
    for number, photo in enumerate(load(1024, _PHOTOS)):
        (photos / f"{number:02}.jpg").write_bytes(photo.jpeg)
    shutil.copy(photos / "00.jpg", folder / "one.jpg")
    shutil.copy(photos / "01.jpg", folder / "other.jpg")
    (photos / "torn.jpg").write_bytes((photos / "00.jpg").read_bytes()[:4000])
    (photos / "notes.txt").write_text("no photo")


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as shared:
        os.environ[SHARED_FOLDER] = shared
        for columns in (80, 120):
            for colours in (True, False):
                name = f"{columns}-columns{'-in-colour' if colours else ''}.txt"
                text = _FOLDER_OF_A_SESSION.sub(
                    "/home/you/facette", record(columns, colours=colours)
                )
                (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
