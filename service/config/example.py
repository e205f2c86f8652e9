"""Writes the configuration file that documents every setting."""

from __future__ import annotations

from pathlib import Path

from service.config.sections import SECTIONS

_EXAMPLE_HEAD = """\
# Facette's settings. A line like "#port = 8000" shows a default: uncomment it to change it.
# The environment overrides the file: FACETTE_SERVER_PORT=8080 is [server] port.
"""


def render_example(token: str, *, models_dir: Path | None = None) -> str:
    """A configuration file that documents every setting; only what is given is set.

    Args:
        models_dir: the folder of the models, if it is not the usual one.
    """
    given: dict[tuple[str, str], object] = {("auth", "token"): token}
    if models_dir is not None:
        given["paths", "models_dir"] = models_dir
    blocks = [_EXAMPLE_HEAD]
    for name, section in SECTIONS.items():
        # An active [database] section would mean an external server.
        lines = [f"# {section.__doc__}", f"#[{name}]" if name == "database" else f"[{name}]"]
        for key, info in section.model_fields.items():
            is_given = (name, key) in given
            setting = f"{key} = {_toml(given[name, key] if is_given else info.default)}"
            lines += [f"# {info.description}", setting if is_given else f"#{setting}"]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return f"{value:_}" if isinstance(value, int) and value >= 100_000 else str(value)
