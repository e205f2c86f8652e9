"""The program `facette`: its help, its examples, what it imports, and how it refuses."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli import addresses
from service.cli.addresses import Named, place_of
from service.cli.program import examples, program
from service.commands.statuses import MEANINGS, Status
from service.domain.errors import ConfigError
from tests.support.command import facette
from tests.support.folders import ROOT

TOKEN = "a-token-for-this-test"


@pytest.mark.parametrize("example", examples())
def test_an_example_is_understood_and_shown_where_it_helps(example: str, tmp_path: Path) -> None:
    name, *words = shlex.split(example)
    assert name == "facette"
    command, _, missing = program.parse_args(words, exit_on_error=False, print_error=False)
    assert command.__module__.startswith("service.cli.")
    assert set(missing) <= {"config", "program"}
    if words[0] != "export":  # which is another program
        shown = facette(tmp_path, *words[: 2 if words[0] in ("people", "keys") else 1], "--help")
        assert f"Example: {example}" in shown.stdout
        assert shown.returncode == 0


def test_all_commands_are_shown_at_once_and_fit_a_terminal(tmp_path: Path) -> None:
    shown = facette(tmp_path, "--help")
    first_words = {shlex.split(example)[1] for example in examples()}
    assert first_words <= set(re.findall(r"│ (\S+)", shown.stdout))
    assert "serve-process" not in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    alone = facette(tmp_path)
    assert (alone.returncode, alone.stdout) == (Status.NOT_RUN, shown.stdout)


def test_the_help_and_the_hidden_command_import_nothing_large() -> None:
    code = (
        "import sys\n"
        "from service.cli.program import program\n"
        "program.parse_args(['serve-process', '3', '4', '5'])\n"
        "print(*{'numpy', 'pydantic', 'rich', 'httpx2', 'starlette'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ingst", "photos"], 'Did you mean "ingest"'),
        (["ingest", "photos"], "`facette ingest` needs --tenant, with"),
        (["ingest", "--tenant", "t"], "`facette ingest` needs FOLDERS"),
        (["ingest", "photos", "--tenant", "a\u202eb"], "an id must have"),
        (["search", "x.jpg", "--tenant", "t", "--url", "host:80"], "must begin with http"),
        (["serve", "--port", "70000"], "65535"),
        (["people", "list", "--tenant", "t", "--labelled", "--unlabelled"], "exclusive"),
        (["keys", "create", "--name", "x", "--scope", "read"], "--all-tenants"),
        (["ingest", "no-such-folder", "--tenant", "t", "--url", "http://x"], "there is no no-such"),
        (["compare", "no.jpg", "no.jpg", "--url", "http://127.0.0.1:9"], "no.jpg cannot be read"),
        (["people", "list", "--tenant", "t"], "give --url and --key"),
    ],
)
def test_what_cannot_be_run_is_refused_with_a_way_out(
    words: list[str], said: str, tmp_path: Path
) -> None:
    done = facette(tmp_path, *words)
    assert done.returncode == Status.NOT_RUN
    assert said in done.stderr
    assert done.stdout == ""


def test_a_service_is_named_by_options_then_by_the_configuration(tmp_path: Path) -> None:
    here = tmp_path / "config.toml"
    here.write_text(f'[auth]\ntoken = "{TOKEN}"\n[server]\nhost = "::"\nport = 8123\n')
    nowhere = tmp_path / "nothing.toml"
    for named, config, url, key in (
        (None, here, "http://127.0.0.1:8123", TOKEN),
        (Named(key="k"), here, "http://127.0.0.1:8123", "k"),
        (Named(url="https://host/"), here, "https://host", None),
        (Named(url="http://127.0.0.1:9"), here, "http://127.0.0.1:9", TOKEN),
        (Named(url="http://127.0.0.1:9", key="k"), here, "http://127.0.0.1:9", "k"),
        (Named(url="http://127.0.0.1:9"), nowhere, "http://127.0.0.1:9", None),
        (Named(key="k"), nowhere, addresses._DEFAULT_URL, "k"),
    ):
        place = place_of(named, config)
        assert (place.url, place.key) == (url, key)
        assert TOKEN not in repr(place)
    with pytest.raises(ConfigError, match="FACETTE_URL"):
        place_of(None, nowhere)


def test_the_page_has_the_exit_statuses_of_the_code() -> None:
    page = (ROOT / "docs" / "commandline.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\d+) \| (.+?) \|$", page, re.MULTILINE)
    assert [(int(number), text) for number, text in shown] == list(MEANINGS.items())
    assert set(MEANINGS) == set(Status)


# zsh gets no file for its dump: it moves a new one to its place, and as root any file goes there.
_ASK = {
    "bash": (
        'source "$1"; COMP_WORDS=(facette peo); COMP_CWORD=1; _facette; echo "${COMPREPLY[@]}"; '
        "COMP_WORDS=(facette people show --ten); COMP_CWORD=3; COMPREPLY=(); _facette; "
        'echo "${COMPREPLY[@]}"'
    ),
    "fish": 'source "$argv[1]"; complete -C "facette peo"; complete -C "facette people show --ten"',
    "zsh": (
        'autoload -U compinit; compinit -u -D; source "$1"; '
        "print ${_comps[facette]:-none} people --tenant"
    ),
}


@pytest.mark.parametrize("shell", _ASK)
def test_a_shell_completes_commands_and_options(shell: str, tmp_path: Path) -> None:
    done = facette(tmp_path, "completion", shell)
    assert done.returncode == 0
    script = tmp_path / f"completion.{shell}"
    script.write_text(done.stdout)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    words = {"bash": ["-c", _ASK[shell], "bash"], "zsh": ["-fc", _ASK[shell], "zsh"]}
    asked = subprocess.run(
        [shell, *words.get(shell, ["-c", _ASK[shell]]), str(script)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"people", "--tenant"} <= set(asked.stdout.split()), asked.stderr
    assert "none" not in asked.stdout


@pytest.mark.parametrize("shell", _ASK)
def test_completion_is_installed_for_a_shell(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    done = facette(tmp_path, "--install-completion")
    assert done.returncode == 0, done.stderr
    (written,) = (path for path in tmp_path.rglob("*facette*") if "people" in path.read_text())
    assert str(written) in done.stdout
    if shell == "zsh" and shutil.which("zsh"):
        loaded = subprocess.run(
            ["zsh", "-ic", "print ${_comps[facette]}"],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "dumb"},
            capture_output=True,
            text=True,
        )
        assert "_cyclopts_facette" in loaded.stdout
    monkeypatch.setenv("SHELL", "/usr/bin/unknown")
    unknown = facette(tmp_path, "--install-completion")
    assert (unknown.returncode, "--shell" in unknown.stderr) == (Status.NOT_RUN, True)
