"""The image and the unit of systemd are made of files that exist, and run commands that exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from configparser import RawConfigParser
from pathlib import Path

import pytest

from service import __version__
from service.cli import serving
from service.cli.program import program as facette_program
from service.config.sections import ServerConfig
from tests.support.folders import ROOT

UNIT = ROOT / "deploy" / "systemd" / "facette.service"
# Of 100: what systemd calls OK ends at 50.
_MOST_EXPOSED = 20
# systemd-analyze looks for the program, which is not installed here.
_NOT_INSTALLED = re.compile(r"Command \S+ is not executable: No such file or directory")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def settings_of(section: str) -> dict[str, str]:
    """The settings of a section of the unit; of a repeated one the last."""
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return dict(parser[section])


def test_documents_name_the_wheel_of_this_version() -> None:
    named = re.findall(r"facette-([\d.]+)-py3-none-any\.whl", text_of("docs/operations.md"))
    assert named
    assert set(named) == {__version__}


def test_unit_runs_a_command_that_exists() -> None:
    program, *rest = shlex.split(settings_of("Service")["ExecStart"])
    assert Path(program).name == "facette"
    command, _, _ = facette_program.parse_args(rest, exit_on_error=False)
    assert command is serving.serve


def test_unit_waits_until_requests_are_finished_and_gives_up_on_bad_settings() -> None:
    server = ServerConfig()
    settings = settings_of("Service")
    longest = server.shutdown_delay_s + server.shutdown_timeout_s
    assert float(settings["TimeoutStopSec"]) > longest
    assert settings["KillMode"] == "mixed"
    assert settings["RestartPreventExitStatus"] == "2"


def test_unit_writes_where_it_may() -> None:
    settings = settings_of("Service")
    assert settings["ProtectSystem"] == "strict"
    own = {f"/var/lib/{settings['StateDirectory']}", f"/var/cache/{settings['CacheDirectory']}"}
    assert settings["WorkingDirectory"] in own
    written = dict(each.split("=") for each in settings["Environment"].split())
    assert written.keys() == {"NUMBA_CACHE_DIR", "TMPDIR"}
    assert set(written.values()) <= own


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit_and_finds_it_hardened() -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", UNIT], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if not _NOT_INSTALLED.search(line)]
    assert said == []
    judged = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--no-pager"),
            *(f"--threshold={_MOST_EXPOSED}", UNIT),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-300:] + judged.stderr


def test_image_is_made_of_files_that_are_there_and_not_ignored() -> None:
    kept = set(re.findall(r"^!(\S+)$", text_of(".dockerignore"), re.MULTILINE))
    assert [name for name in kept if not (ROOT / name).exists()] == []
    stages = set(re.findall(r"^FROM \S+ AS (\w+)$", text_of("Dockerfile"), re.MULTILINE))
    copied = re.findall(r"^COPY (?:--from=(\w+) )?(\S+) \S+$", text_of("Dockerfile"), re.MULTILINE)
    assert len(copied) >= 5
    for stage, source in copied:
        assert stage in stages if stage else source in kept | {"."}
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    assert {"pyproject.toml", project["readme"], *project["license-files"]} <= kept


def test_image_installs_the_wheel_and_exports_where_it_copies_from() -> None:
    text = text_of("Dockerfile")
    assert len(re.findall(r"pip install --no-deps --no-index /dist/\*\.whl", text)) == 2
    (folder,) = re.findall(r"facette export --models-dir (\S+)$", text, re.MULTILINE)
    (target,) = re.findall(rf"^COPY --from=models {folder} (\S+)$", text, re.MULTILINE)
    assert f"FACETTE_PATHS_MODELS_DIR={target} " in text
    for found in re.findall(r"/requirements/install (.*?)(?: &&|$)", text, re.MULTILINE):
        python, which, how = found.split()
        assert python.rpartition("/")[2] == "python"
        assert (ROOT / "requirements" / f"{which}.txt").is_file()
        assert f"!= {how}" in text_of("requirements/install")
