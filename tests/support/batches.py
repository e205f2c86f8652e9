"""Forms of many photos, as clients send them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

import httpx2 as httpx

BOUNDARY = "the-limit-of-a-part"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
END = f"--{BOUNDARY}--\r\n".encode()


def part(data: bytes, disposition: str = 'name="photo"; filename="x.jpg"', more: str = "") -> bytes:
    """A part of a form, with the boundary before it.

    Args:
        disposition: what follows `form-data; `.
        more: further header lines, each with its end.
    """
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\n"
    return head.encode() + data + b"\r\n"


def files(*named: tuple[str, bytes]) -> list[bytes]:
    """The pieces of a form of files with these names."""
    parts = [
        part(data, f'name="photo{nth}"; filename="{name}"')
        for nth, (name, data) in enumerate(named)
    ]
    return [*parts, END]


def send_batch(
    client: httpx.Client,
    tenant: str,
    pieces: Iterable[bytes],
    headers: dict[str, str] | None = None,
    **query: str,
) -> httpx.Response:
    """POST a batch, whatever comes of it; its length is not announced."""
    return client.post(
        f"/v1/tenants/{tenant}/images/batch",
        content=iter(pieces),
        params=query,
        headers={"Content-Type": CONTENT_TYPE, **(headers or {})},
    )


def marked_copies(photo: bytes, count: int) -> Iterator[bytes]:
    """So many files of one photo, no two of the same bytes."""
    return (photo + uuid4().bytes for _ in range(count))


def statuses(answer: httpx.Response) -> list[int]:
    """The statuses of the results of a batch."""
    return [item["status"] for item in _answered(answer)["items"]]


def codes(answer: httpx.Response) -> list[str | None]:
    """The codes of the problems of the results of a batch; None for a photo that was stored."""
    return [item["problem"] and item["problem"]["code"] for item in _answered(answer)["items"]]


def ended_by(answer: httpx.Response) -> str | None:
    """The code of the problem that ended a batch early."""
    found = _answered(answer)["problem"]
    return None if found is None else str(found["code"])


def _answered(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
