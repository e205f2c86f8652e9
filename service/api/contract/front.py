"""The front page: what this is, and how to send a first photo."""

from __future__ import annotations

import re
from html import escape
from typing import Final

from service.api.contract.style import page

# The host is what the client sent: only one that needs no quotes in a shell is shown.
_PLAIN: Final = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+")
_PLACEHOLDER: Final = "http://127.0.0.1:8000"


def front_page(base_url: str) -> str:
    """The page as HTML.

    Args:
        base_url: where the client reached the service, as it says itself.
    """
    base_url = base_url if _PLAIN.fullmatch(base_url) else _PLACEHOLDER
    command = (
        'curl -H "Authorization: Bearer $TOKEN" --data-binary @photo.jpg \\\n'
        '     -H "Content-Type: image/jpeg" '
        f"{base_url}/v1/tenants/demo/images"
    )
    return page(
        "Facette",
        f"""<h1>Facette</h1>
<p>Face recognition that you host yourself: photos go in, and people come out.</p>
<nav><a href="/console">Console</a><a href="/docs">Operations and errors</a>
<a href="/openapi.json">Contract (OpenAPI)</a></nav>
<h2>The first photo</h2>
<p>Set <code>TOKEN</code> to the token of the service, which <code>facette token</code> prints, or
to an access key, and send a photo:</p>
<pre>{escape(command)}</pre>
<p>The answer has the faces of the photo, each with its person. Send another photo of the same
person, and its face has the same <code>person_id</code>. This lists the people:</p>
<pre>{escape(f'curl -H "Authorization: Bearer $TOKEN" {base_url}/v1/tenants/demo/people')}</pre>""",
    )
