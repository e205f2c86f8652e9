"""Names in the blob store: its place, keys `<tenant's folder>/<image>.<format>`, the mark."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from service.domain.types import ImageId, TenantId

# Begins the name of what is being written, or was when the process died.
UNFINISHED: Final = ".part-"

# The object that says which database's photos these are; it lies beside the tenants' folders.
OWNER_MARK: Final = "facette-database.txt"

_FOLDER = re.compile("[0-9a-f]{32}")
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_IMAGE = re.compile(rf"({_FOLDER.pattern})/({_UUID})\.[a-z0-9]{{1,16}}")
_UNFINISHED_KEY = re.compile(rf"(?:{_FOLDER.pattern}/)?{re.escape(UNFINISHED)}\w+")


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How to reach a bucket.

    url: s3://bucket or s3://bucket/prefix. endpoint: http(s)://host[:port]; empty for AWS.
    access_key_id, secret_access_key: empty for what the environment or the machine's role gives.
    """

    url: str
    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    allow_http: bool
    connect_timeout_s: float
    timeout_s: float


class ImageName(NamedTuple):
    """What a key says of its image: the folder of its tenant, and its id."""

    folder: str
    image_id: ImageId


def folder_of(tenant_id: TenantId) -> str:
    """The folder of a tenant: a hash, since a tenant's id may hold any character.

    `tenants_of_folders` in sql/sweep.sql computes the same.
    """
    return hashlib.sha256(tenant_id.encode()).hexdigest()[:32]


def image_key(tenant_id: TenantId, image_id: ImageId, suffix: str) -> str:
    """Where the bytes of an image lie; the suffix is that of its format."""
    return f"{folder_of(tenant_id)}/{image_id}.{suffix}"


def image_name(key: str) -> ImageName | None:
    """What a key says of its image; None where it is not the key of one."""
    match = _IMAGE.fullmatch(key)
    return ImageName(match[1], ImageId(match[2])) if match else None


def belongs_to(key: str, tenant_id: TenantId) -> bool:
    """Whether a key is that of an image of this tenant, in the tenant's own folder."""
    name = image_name(key)
    return name is not None and name.folder == folder_of(tenant_id)


def is_ours(key: str) -> bool:
    """Whether a blob store gives such names: nothing else in its place is ever touched."""
    return bool(_IMAGE.fullmatch(key) or _UNFINISHED_KEY.fullmatch(key))


def check_key(key: str) -> None:
    """Let nothing pass that `is_ours` does not know.

    Raises:
        ValueError: the key is no blob's.
    """
    if not is_ours(key):
        raise ValueError("the key is no blob's")


def is_folder(name: str) -> bool:
    """Whether a folder may be a tenant's."""
    return _FOLDER.fullmatch(name) is not None


def owner_mark(database_id: str) -> bytes:
    """What the mark says: the id of the database in the first line, and why it is there."""
    return (
        f"{database_id}\n"
        "The photos here belong to the Facette database with this id. A service on another\n"
        "database does not remove any of them. Remove this file, and the next database that\n"
        "sweeps here becomes their owner.\n"
    ).encode()


def marked_owner(mark: bytes) -> str:
    """The id in a mark."""
    return mark.decode(errors="replace").partition("\n")[0].strip()
