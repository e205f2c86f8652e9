"""What a process inherits from its caller does no harm, or ends it with one line."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.folders import ROOT


def run(
    code: str, *, before: Callable[[], object] | None = None, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process that inherits what `before` leaves."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        preexec_fn=before,
        check=False,
        **{"capture_output": True, "text": True, **options},
    )


def facette(
    *arguments: str, before: Callable[[], object] | None = None, **options: object
) -> subprocess.CompletedProcess[str]:
    code = f"import sys; from service.cli import main; sys.exit(main({list(arguments)}))"
    return run(code, before=before, **options)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_no_file_takes_the_place_of_a_closed_stream(
    tmp_path: Path, closed: tuple[int, ...]
) -> None:
    code = f"""
from service.machine.inherited import mend_inherited
mend_inherited()
import os, subprocess, sys
with open({str(tmp_path / "file")!r}, "w") as stream:
    print("to output", flush=True)
    print("to error", file=sys.stderr, flush=True)
    subprocess.run(["echo", "of a child"])
    sys.stdin.read()
    stream.write(str(stream.fileno() > 2))
"""

    def close() -> None:
        for number in closed:
            os.close(number)

    assert run(code, before=close, stdin=subprocess.DEVNULL).returncode == 0
    assert (tmp_path / "file").read_text() == "True"


@pytest.mark.parametrize(
    ("inherited", "corrected"), [(0o777, 0o077), (0o000, 0o022), (0o077, 0o077), (0o027, 0o027)]
)
def test_files_are_accessible_to_their_owner_and_writable_by_no_other(
    inherited: int, corrected: int
) -> None:
    code = (
        "from service.machine.inherited import mend_inherited; import os; mend_inherited(); "
        "print(os.umask(0))"
    )
    found = run(code, before=lambda: os.umask(inherited))
    assert int(found.stdout) == corrected


@pytest.mark.parametrize("encoding", ["ascii", "cp037", "utf-16", ""])
def test_text_that_the_output_cannot_encode_is_no_error(encoding: str) -> None:
    code = (
        "from service.machine.inherited import mend_inherited; mend_inherited(); "
        "print('\\u00e4\\u30c7\\udcff')"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0"}
    assert run(code, env=environment, text=False).returncode == 0


def test_output_that_cannot_be_written_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        found = facette(
            "token",
            capture_output=False,
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "FACETTE_AUTH_TOKEN": "a-token-for-tests"},
        )
    assert found.returncode == 2
    assert "No space left on device" in found.stderr
    assert found.stderr.count("\n") == 1


def test_too_few_descriptors_are_one_line() -> None:
    found = facette("token", before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    assert found.returncode == 2
    assert "the limit of open files is 64" in found.stderr
    assert found.stderr.count("\n") == 1
