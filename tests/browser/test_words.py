"""What pages of the console refer to is there: words, and the modules that are loaded at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.browser.console import Console
from tests.support.folders import ROOT

STATIC = ROOT / "service" / "api" / "console" / "static"
_USED = re.compile(r"\bwords((?:\.[a-zA-Z_]+)+)")
# What is called on a text or a list, and is no word.
_METHODS = {"map"}
_IMPORT = re.compile(r'(?:\bfrom|\bimport)\s*"(\.[^"]+)"')
_MISSING = """async (paths) => {
    const { words } = await import("/console/static/words.js");
    const find = (path) => path.split(".").reduce((at, name) => at?.[name], words);
    return paths.filter((path) => find(path) === undefined);
}"""


def test_no_page_asks_for_a_word_that_the_table_does_not_have(
    open_console: Callable[..., Console],
) -> None:
    sources = [each for each in STATIC.rglob("*.js") if each.parent.name != "vendor"]
    used = set()
    for each in sources:
        for found in _USED.findall(each.read_text(encoding="utf-8")):
            used.add(".".join(part for part in found[1:].split(".") if part not in _METHODS))
    used.discard("js")
    assert len(used) > 100
    assert open_console().page.evaluate(_MISSING, sorted(used)) == []


def test_the_page_that_opens_first_loads_its_modules_at_once() -> None:
    """None of them has to arrive before the browser knows of another one."""
    needed: set[Path] = set()
    waiting = [STATIC / "app.js", STATIC / "pages" / "people.js"]
    while waiting:
        module = waiting.pop()
        if module not in needed:
            needed.add(module)
            found = _IMPORT.findall(module.read_text(encoding="utf-8"))
            waiting += [(module.parent / each).resolve() for each in found]
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'(?:modulepreload" href|type="module" src)="/console/static/([^"]+)"', page)
    assert sorted(named) == sorted(str(each.relative_to(STATIC)) for each in needed)
