"""What the API tests share: calls, photos as bytes, raw sockets, and what an error looks like."""

from __future__ import annotations

import io
import json
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
from PIL import Image

from bench.common.server import TOKEN, ServiceProcess
from service.store.blob.names import OWNER_MARK

# Every route that names something of a tenant by its id, with the parameters that do.
BY_ID = (
    ("GET", "/image", ("image_id",)),
    ("DELETE", "/image", ("image_id",)),
    ("GET", "/face", ("face_id",)),
    ("DELETE", "/face", ("face_id",)),
    ("GET", "/faces", ("image_id",)),
    ("GET", "/cluster", ("cluster_id",)),
    ("DELETE", "/cluster", ("cluster_id",)),
    ("GET", "/review-pending", ("review_id",)),
    ("DELETE", "/review-pending", ("review_id",)),
    ("POST", "/update-face-cluster", ("face_id", "to_cluster_id")),
    ("POST", "/v1/merge-clusters", ("from_cluster_id", "into_cluster_id")),
)
# Every route that needs a tenant.
OF_TENANTS = (
    *BY_ID,
    ("POST", "/insert-image", ()),
    ("GET", "/review-pending-list", ()),
    ("DELETE", "/tenant", ()),
)
# Every route that stores nothing.
STATELESS = (("POST", "/v1/embed", ()), ("POST", "/v1/detect", ()))
# Every route that asks for a token.
GUARDED = (*OF_TENANTS, *STATELESS)
_PRIVATE = ("Traceback", ".py", "asyncpg", "PIL", "0x", tempfile.gettempdir(), str(Path.cwd()))


@dataclass(frozen=True)
class Photos:
    """Small JPEG photos; `twins` shows the astronaut twice, `crowd` twelve times."""

    astronaut: bytes
    hopper: bytes
    both: bytes
    twins: bytes
    crowd: bytes
    nobody: bytes


def receipt(
    *, images: int = 0, faces: int = 0, clusters: int = 0, reviews: int = 0, files: int = 0
) -> dict[str, object]:
    """What a deleting route answers."""
    deleted = {
        "images": images,
        "faces": faces,
        "clusters": clusters,
        "reviews": reviews,
        "files": files,
    }
    return {"status": "success", "deleted": deleted}


def encode(image: Image.Image, name: str = "JPEG", **options: object) -> bytes:
    """The image as a file of that format."""
    stream = io.BytesIO()
    image.save(stream, name, **({"quality": 92} if name == "JPEG" else {}), **options)
    return stream.getvalue()


def decode(photo: bytes) -> Image.Image:
    return Image.open(io.BytesIO(photo))


def send(client: httpx.Client, tenant: str, photo: bytes) -> httpx.Response:
    """POST /insert-image, whatever comes of it."""
    return client.post("/insert-image", data={"tenant_id": tenant}, files={"image": photo})


def send_raw(
    client: httpx.Client,
    path: str,
    image: bytes,
    kind: str = "image/jpeg",
    headers: Mapping[str, str] | None = None,
    **parameters: object,
) -> httpx.Response:
    """POST the image as the body, whatever comes of it."""
    sent = {"Content-Type": kind, **(headers or {})}
    return client.post(path, params=parameters, content=image, headers=sent)


def insert(client: httpx.Client, tenant: str, photo: bytes) -> dict[str, Any]:
    """POST /insert-image, which must succeed."""
    answer = send(client, tenant, photo)
    assert answer.status_code == 200, answer.text
    return answer.json()


def call(client: httpx.Client, method: str, path: str, **parameters: object) -> httpx.Response:
    """A request with its parameters in the query string."""
    return client.request(method, path, params=parameters)


def read(client: httpx.Client, path: str, **parameters: object) -> Any:
    """A GET that must succeed."""
    answer = call(client, "GET", path, **parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def change(client: httpx.Client, method: str, path: str, **parameters: object) -> Any:
    """A request that must succeed."""
    answer = call(client, method, path, **parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def reviews(client: httpx.Client, tenant: str) -> list[dict[str, Any]]:
    """All pending reviews."""
    return read(client, "/review-pending-list", tenant_id=tenant, limit=1000)


def only_cluster(answer: Mapping[str, Any]) -> str:
    """The cluster of the one face of an inserted photo."""
    (cluster,) = answer["face_ids"].values()
    return cluster


def only_face(answer: Mapping[str, Any]) -> str:
    """The one face of an inserted photo."""
    (face,) = answer["face_ids"]
    return face


def is_gone(client: httpx.Client, path: str, **parameters: object) -> bool:
    """Whether a GET says that there is no such thing."""
    answer = call(client, "GET", path, **parameters)
    assert answer.status_code in (200, 404), answer.text
    return answer.status_code == 404


def state_of(client: httpx.Client, tenant: str, *images: str) -> dict[str, Any]:
    """Everything the API tells of a tenant's images."""
    described = {
        image: read(client, "/image", tenant_id=tenant, image_id=image) for image in images
    }
    clusters = {cluster for image in described.values() for cluster in image["cluster_ids"]}
    return {
        "images": described,
        "faces": {i: read(client, "/faces", tenant_id=tenant, image_id=i) for i in images},
        "clusters": {c: read(client, "/cluster", tenant_id=tenant, cluster_id=c) for c in clusters},
        "reviews": reviews(client, tenant),
    }


def uploads(service: ServiceProcess) -> Path:
    return service.data_dir / "uploads"


def stored(service: ServiceProcess) -> set[Path]:
    """Every file and folder of stored photos."""
    return set(uploads(service).rglob("*")) - {uploads(service) / OWNER_MARK}


def stored_file(service: ServiceProcess, image_id: str) -> Path | None:
    """The file of an image; None when there is none."""
    found = list(uploads(service).rglob(f"{image_id}*"))
    assert len(found) <= 1
    return found[0] if found else None


def metric(client: httpx.Client, name: str, **labels: object) -> float:
    """The sum of a metric's samples that have these labels, 0 when there is none yet."""
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    samples = (
        re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        for line in client.get("/metrics").text.splitlines()
    )
    return sum(float(s[2]) for s in samples if s and wanted <= set((s[1] or "").split(",")))


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def log_lines_of(service: ServiceProcess, answer: httpx.Response) -> list[str]:
    """The log's lines about a request; they are written once its answer is on its way."""
    name = f"request_id={answer.headers['x-request-id']} "
    wait_until(lambda: name in service.log)
    return [line for line in service.log.splitlines() if name in line]


def assert_error(answer: httpx.Response, status: int, code: str | None = None) -> None:
    """The answer is an error of that status, in the form of its route, and tells no secrets."""
    assert answer.status_code == status, answer.text
    is_problem = answer.headers["content-type"] == "application/problem+json"
    assert is_problem == answer.url.path.startswith("/v1/")
    assert_error_body(answer.text, code)


def assert_error_body(text: str, code: str | None = None) -> None:
    """An error in one of the two forms; the legacy one says its message twice."""
    body = json.loads(text)
    if "error" in body:
        assert body["error"]["message"] == body["detail"]
        found = body["error"]["code"]
    else:
        assert set(body) >= {"type", "title", "status", "detail", "code", "request_id"}
        found = body["code"]
    assert isinstance(found, str)
    assert isinstance(body["detail"], str)
    assert body["detail"]
    if code is not None:
        assert found == code
    assert not [word for word in _PRIVATE if word in text]


def multipart(*parts: tuple[str | bytes, bytes], charset: str = "") -> dict[str, Any]:
    """A hand-made form: pairs of what follows `form-data; ` and a body."""
    body = b"".join(
        b"--limit\r\nContent-Disposition: form-data; "
        + (head.encode() if isinstance(head, str) else head)
        + b"\r\n\r\n"
        + data
        + b"\r\n"
        for head, data in parts
    )
    kind = "multipart/form-data; boundary=limit" + (f"; charset={charset}" if charset else "")
    return {"content": body + b"--limit--\r\n", "headers": {"content-type": kind}}


@contextmanager
def started_request(
    service: ServiceProcess,
    method: str,
    path: str,
    headers: Mapping[str, str],
    encoding: str = "utf-8",
) -> Iterator[socket.socket]:
    """A connection on which the head of a request was sent, and nothing of its body."""
    address = urlsplit(service.url)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address.netloc}", f"Token: {TOKEN}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode(encoding))
        yield connection


def read_answer(connection: socket.socket) -> tuple[int, Mapping[str, str], str]:
    """Status, head and body of the answer that comes on a connection."""
    answer = HTTPResponse(connection, method="POST")
    try:
        answer.begin()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        answer.close()


def small_photos(portraits: list[Path]) -> Photos:
    """The two portraits, cut to the head and made small, alone and side by side."""
    with Image.open(portraits[0]) as file:
        astronaut = file.convert("RGB").crop((120, 0, 350, 300)).resize((192, 250))
    with Image.open(portraits[1]) as file:
        hopper = file.convert("RGB").resize((213, 250))
    return Photos(
        astronaut=encode(astronaut),
        hopper=encode(hopper),
        both=encode(_grid([astronaut, hopper], columns=2)),
        twins=encode(_grid([astronaut, astronaut], columns=2)),
        crowd=encode(_grid([astronaut.resize((108, 140))] * 12, columns=4)),
        nobody=encode(Image.new("RGB", (96, 64), "white")),
    )


def _grid(tiles: list[Image.Image], columns: int) -> Image.Image:
    width, height = max(tile.width for tile in tiles), tiles[0].height
    sheet = Image.new("RGB", (columns * width, len(tiles) // columns * height), "gray")
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (place % columns * width, place // columns * height))
    return sheet
