"""The tables of docs/configuration.md, written from the sections of the configuration.

Run as a module to write the page anew: `python -m tests.support.settings_page`.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic_core import PydanticUndefined

from service.config import SECTIONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
_MARKED = re.compile(r"(<!-- settings: .*? -->\n).*(<!-- end of settings -->)", re.DOTALL)


def tables() -> str:
    """One table a section, in the order of the configuration: setting, default, meaning."""
    parts = []
    for name, section in SECTIONS.items():
        rows = [
            f"| `{name}.{key}` | {_default(info.default)} | {_cell(info.description or '')} |"
            for key, info in section.model_fields.items()
        ]
        head = "| setting | default | meaning |\n| --- | --- | --- |"
        parts.append(f"### `[{name}]`\n\n{section.__doc__}\n\n{head}\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def render(page: str) -> str:
    """The page with its marked part written anew."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{tables()}\n{found[2]}", page)


def _default(value: object) -> str:
    """A default as TOML."""
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_default, value))}]"
    return f'"{value}"' if isinstance(value, str | Path) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
