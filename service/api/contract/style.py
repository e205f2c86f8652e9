"""The style sheet of the pages, and what all of them share."""

from __future__ import annotations

import re
from html import escape
from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --text: light-dark(#1d2430, #dfe5ee);
  --faint: light-dark(#5a6575, #98a4b5);
  --ground: light-dark(#ffffff, #14181f);
  --raised: light-dark(#f4f6f9, #1d232d);
  --line: light-dark(#d8dee7, #313a48);
  --link: light-dark(#0b5cad, #7db8f5);
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 58rem; padding: 1.5rem 1rem 4rem;
  font: 1rem/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground);
}
h1 { font-size: 1.7rem; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
a { color: var(--link); }
nav { margin: 1rem 0; }
nav a { display: inline-block; margin-right: 1rem; }
code, pre { font: .875rem/1.45 ui-monospace, monospace; }
pre {
  overflow-x: auto; padding: .75rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--raised); user-select: all;
}
details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; }
details > :not(summary) { margin-left: .9rem; margin-right: .9rem; }
summary { cursor: pointer; padding: .5rem .9rem; background: var(--raised); border-radius: 6px; }
details:target > summary, tr:target { outline: 2px solid var(--link); }
.method { display: inline-block; min-width: 4.2rem; font-weight: 700; }
.faint { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .4rem 0 1rem; }
th, td {
  text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0;
  border-bottom: 1px solid var(--line);
}
""".strip()

_CODE: Final = re.compile(r"`([^`]+)`")


def prose(text: str) -> str:
    """Text as HTML: what stands between backticks becomes code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def page(title: str, body: str) -> str:
    """A whole page."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )
