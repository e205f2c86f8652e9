"""The command `facette`: all its commands in their groups, and how one of them is run.

Cyclopts reads the arguments. It completes shells without starting this program, and loads what
draws the help only when the help is asked for. The modules of this room import nothing else that
is large before a command runs.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import App, CycloptsError, Group, MissingArgumentError, Parameter

from service import __version__
from service.cli import completing, keys, operating, people, serving, using
from service.cli.values import PassedOn
from service.commands.statuses import Status
from service.domain.errors import FacetteError

_EXPORT: Final = "export"
_CONFIG_VARIABLE: Final = "FACETTE_CONFIG"
_USE = Group("Use a service", sort_key=1)
_RUN = Group("Run a service", sort_key=2)
_DATA = Group("Its data", sort_key=3)
_KEYS = Group("Its access keys", sort_key=4)
_SHELL = Group("This program", sort_key=5)
_COMMANDS_OF_ONE = Group("Commands", sort_key=0)
_EVERYWHERE = Group("For every command", sort_key=9)
_DEFAULTS = Parameter(negative=(), show_default=lambda value: value if value else None)


def _app(name: str, help_text: str, **more: Any) -> App:
    return App(
        name=name,
        help=help_text,
        help_format="plaintext",
        version=f"facette {__version__}",
        default_parameter=_DEFAULTS,
        result_action="return_value",
        **more,
    )


program: Final = _app(
    "facette",
    "Self-hosted face recognition: photos go in, people come out.",
    help_epilogue="`facette COMMAND --help` has the options and an example of a command; "
    "docs/commandline.md has the exit statuses.",
    group_commands=_SHELL,
)
_people = _app(
    "people",
    "List, show, rename and merge the people of a tenant. A person is named by the id, or by a "
    "label that nobody else has.",
    group=_USE,
    group_commands=_COMMANDS_OF_ONE,
    sort_key=4,
)
_keys = _app(
    "keys",
    "Make, list, rotate and revoke access keys.",
    group=_KEYS,
    group_commands=_COMMANDS_OF_ONE,
)

# The commands: group or parent (None: of this program itself), name, function of this room, and an
# example, which `--help` shows.
_COMMANDS: Final[Sequence[tuple[Group | App | None, str, Callable[..., int], str]]] = (
    (_USE, "ingest", using.ingest, "facette ingest ~/Photos --tenant family"),
    (_USE, "search", using.search, "facette search photo.jpg --tenant family"),
    (_USE, "compare", using.compare, "facette compare one.jpg other.jpg"),
    (_people, "list", people.list_people, "facette people list --tenant family --labelled"),
    (_people, "show", people.show, "facette people show Anna --tenant family"),
    (_people, "rename", people.rename, "facette people rename Anna 'Anna B.' --tenant family"),
    (_people, "merge", people.merge, "facette people merge Annie Anna --tenant family"),
    (_USE, "review", using.review, "facette review --tenant family"),
    (_RUN, "init", operating.init, "facette init"),
    (_RUN, "serve", serving.serve, "facette serve --port 8080"),
    (_RUN, "token", operating.token, "facette token"),
    (_RUN, "doctor", operating.doctor, "facette doctor"),
    (_RUN, "migrate", operating.migrate, "facette migrate"),
    (_DATA, "export-tenant", operating.export_tenant, "facette export-tenant family family.tar.gz"),
    (_DATA, "import-tenant", operating.import_tenant, "facette import-tenant family.tar.gz"),
    (_DATA, "report", operating.report, "facette report --tenant family"),
    (_DATA, "calibrate", operating.calibrate, "facette calibrate --tenant family"),
    (_DATA, "reembed", operating.reembed, "facette reembed --model sface"),
    (_DATA, _EXPORT, operating.export, "facette export --weights sface"),
    (_keys, "create", keys.create, "facette keys create --name app --scope write --tenant family"),
    (_keys, "list", keys.list_keys, "facette keys list"),
    (_keys, "rotate", keys.rotate, "facette keys rotate h3k8w2m5r7t9x4c6 --keep-hours 24"),
    (_keys, "revoke", keys.revoke, "facette keys revoke h3k8w2m5r7t9x4c6"),
    (_keys, "rotate-master", keys.rotate_master, "facette keys rotate-master --keep-days 7"),
    (None, "completion", completing.completion, "facette completion bash"),
    (None, "--install-completion", completing.install, "facette --install-completion"),
)

program.command(_people)
program.command(_keys)
program.command(serving.serve_process, name="serve-process", show=False)


def _register(
    position: int, place: Group | App | None, name: str, work: Callable[..., int], example: str
) -> None:
    parent, group = (place, None) if isinstance(place, App) else (program, place)
    parent.command(
        work,
        name=name,
        group=group,
        help=_help(work),
        help_epilogue=f"Example: {example}",
        sort_key=position,
    )


def _help(work: Callable[..., int]) -> str:
    """The docstring of a command up to its arguments, without line breaks in a paragraph."""
    text, _, _ = inspect.cleandoc(work.__doc__ or "").partition("\n\nArgs:")
    return "\n\n".join(each.replace("\n", " ") for each in text.split("\n\n"))


for number, described in enumerate(_COMMANDS):
    _register(number, *described)
_people.default(people.list_people)


@program.meta.default
def _launch(
    *words: PassedOn,
    config: Annotated[
        Path,
        Parameter(
            group=_EVERYWHERE,
            env_var=_CONFIG_VARIABLE,
            help="configuration file of the service here",
        ),
    ] = Path("config.toml"),
) -> int:
    command, bound, missing = program.parse_args(words, exit_on_error=False, print_error=False)
    for name, value in (("config", config), ("program", program)):
        if name in missing:
            bound.arguments[name] = value
    status = command(*bound.args, **bound.kwargs)
    return status if isinstance(status, int) else Status.DONE  # help and version return nothing


def _refuse(error: CycloptsError) -> None:
    """Say what is wrong with the arguments, and where the right ones are."""
    from service.commands.display import tell

    command = " ".join(["facette", *(error.command_chain or ())])
    text = str(error)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = error.argument.name
        value = ", with a value" if name.startswith("-") else ""
        text = f"`{command}` needs {name}{value}"
    tell(f"facette: {text}", indent="  ", error=True)
    tell(f"  -> `{command} --help` says more", error=True)


def examples() -> list[str]:
    """The examples of all commands."""
    return [example for *_, example in _COMMANDS]


def run_command(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] == [_EXPORT]:  # with its own --help
            path = os.environ.get(_CONFIG_VARIABLE, "config.toml")
            return operating.export(*words[1:], config=Path(path))
        status: int = program.meta(words, exit_on_error=False, print_error=False)
        return status if words else Status.NOT_RUN
    except CycloptsError as error:
        _refuse(error)
    except FacetteError as error:
        print(f"facette: {error.message}", file=sys.stderr)
    except BrokenPipeError:  # the reader of standard output has seen enough
        return Status.INCOMPLETE
    except OSError as error:
        print(f"facette: {error}", file=sys.stderr)
    return Status.NOT_RUN
