"""Every word that a page of the console shows is in the table of words."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.browser.console import Console
from tests.support.folders import ROOT

STATIC = ROOT / "service" / "api" / "console" / "static"
_USED = re.compile(r"\bwords((?:\.[a-zA-Z_]+)+)")
# What is called on a text or a list, and is no word.
_METHODS = {"map"}
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
