"""Questions with their pictures on one page of HTML, which needs nothing else."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from facette_client import Review
from service.commands.replacing import replaced
from service.commands.reviewing.crops import Crops, Side
from service.commands.reviewing.wording import asks, evidence
from service.domain.reviews import ANSWERS, ReviewKind

_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
section { border-top: 1px solid color-mix(in srgb, currentColor 25%, transparent); }
section { padding: 1rem 0; }
section:target { background: color-mix(in srgb, Highlight 15%, transparent); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 0; } p { margin: 0.25rem 0; }
.sides { display: flex; flex-wrap: wrap; gap: 0.5rem 2rem; } figure { margin: 0.5rem 0; }
img, .missing { border-radius: 6px; display: inline-block; height: 112px; width: 112px; }
.missing { background: color-mix(in srgb, currentColor 15%, transparent); }
figcaption, .quiet { font-size: 0.875rem; opacity: 0.8; overflow-wrap: anywhere; }
"""


def write_page(path: Path, tenant: str, questions: Sequence[Review], crops: Crops) -> None:
    """Write a page with questions; only its owner can read it.

    Raises:
        ConfigError: the file cannot be written.
    """
    with replaced(path) as unfinished:
        shown = "\n".join(_section(each, crops.sides(each), tenant) for each in questions)
        unfinished.write_text(_page(tenant, shown or "<p>There is nothing to ask.</p>"), "utf-8")


def _page(tenant: str, shown: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>Facette: questions about {escape(tenant)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Questions about {escape(tenant)}</h1>
<p class="quiet">Pictures of faces are biometric data: keep this file as you keep the photos.</p>
{shown}
</body>
</html>
"""


def _section(question: Review, sides: Sequence[Side], tenant: str) -> str:
    answers = ", ".join(f"<code>{each}</code>" for each in ANSWERS[ReviewKind(question.kind)])
    return f"""<section id="{escape(question.id)}">
<h2>{escape(question.id)}: {escape(asks(question))}</h2>
<p>{escape(evidence(question))}</p>
<div class="sides">{"".join(map(_figure, sides))}</div>
<p class="quiet">{answers}</p>
</section>"""


def _figure(side: Side) -> str:
    faces = "".join(
        '<span class="missing" role="img" aria-label="no picture"></span> '
        if face is None
        else f'<img alt="" src="data:image/jpeg;base64,{b64encode(face).decode("ascii")}"> '
        for face in side.faces
    )
    return f"<figure>{faces}<figcaption>{escape(side.title)}</figcaption></figure>"
