"""Names in the blob store: keys of images and of their thumbnails, and the owner mark.

An image is `<folder of the tenant>/<image>.<format>`, its thumbnails are
`<folder of the tenant>/<image>.thumbnail-<size>.jpg`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from service.domain.types import THUMBNAIL_SIZES, ImageId, TenantId

# Prefix of unfinished files: a write is under way, or its process died.
UNFINISHED: Final = ".part-"

# The object with the id of the owning database, beside the folders of the tenants.
OWNER_MARK: Final = "facette-database.txt"

_FOLDER = re.compile("[0-9a-f]{32}")
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_IMAGE = re.compile(rf"({_FOLDER.pattern})/({_UUID})\.[a-z0-9]{{1,16}}")
_THUMBNAIL = re.compile(
    rf"({_FOLDER.pattern})/({_UUID})\.thumbnail-(?:{'|'.join(map(str, THUMBNAIL_SIZES))})\.jpg"
)
_UNFINISHED_KEY = re.compile(rf"(?:{_FOLDER.pattern}/)?{re.escape(UNFINISHED)}\w+")


@dataclass(frozen=True, slots=True)
class S3Settings:
    """The settings of a bucket.

    url: s3://bucket or s3://bucket/prefix. endpoint: http(s)://host[:port]; empty for AWS.
    access_key_id, secret_access_key: empty for the credentials of the environment or the machine.
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
    """The parts of a key: the folder of the tenant, and the id of the image."""

    folder: str
    image_id: ImageId


@lru_cache(maxsize=1024)  # each look at a photo asks for the one of its tenant
def folder_of(tenant_id: TenantId) -> str:
    """The folder of a tenant: a hash, since a tenant id may have any character.

    `tenants_of_folders` in sql/sweep.sql computes the same.
    """
    return hashlib.sha256(tenant_id.encode()).hexdigest()[:32]


def image_key(tenant_id: TenantId, image_id: ImageId, suffix: str) -> str:
    """The key of an image; `suffix` is that of its format."""
    return f"{folder_of(tenant_id)}/{image_id}.{suffix}"


def image_name(key: str) -> ImageName | None:
    """The parts of a key; None where it is no key of an image."""
    match = _IMAGE.fullmatch(key)
    return ImageName(match[1], ImageId(match[2])) if match else None


def thumbnail_key(tenant_id: TenantId, image_id: ImageId, size: int) -> str:
    """The key of a thumbnail of an image; `size` is one of `THUMBNAIL_SIZES`."""
    return image_key(tenant_id, image_id, f"thumbnail-{size}.jpg")


def thumbnail_name(key: str) -> ImageName | None:
    """The folder and the image of a thumbnail's key; None where it is no key of a thumbnail."""
    match = _THUMBNAIL.fullmatch(key)
    return ImageName(match[1], ImageId(match[2])) if match else None


def with_thumbnails(key: str) -> tuple[str, ...]:
    """A key, and where it is that of an image, the keys that its thumbnails have."""
    name = image_name(key)
    if name is None:
        return (key,)
    whole = f"{name.folder}/{name.image_id}"
    return (key, *(f"{whole}.thumbnail-{size}.jpg" for size in THUMBNAIL_SIZES))


def belongs_to(key: str, tenant_id: TenantId) -> bool:
    """Whether a key is that of an image in the folder of this tenant."""
    name = image_name(key)
    return name is not None and name.folder == folder_of(tenant_id)


def is_ours(key: str) -> bool:
    """Whether a key is valid: that of a blob or an unfinished file. Others are never touched."""
    return any(each.fullmatch(key) for each in (_IMAGE, _THUMBNAIL, _UNFINISHED_KEY))


def check_key(key: str) -> None:
    """Return when a key is valid.

    Raises:
        ValueError: the key is invalid.
    """
    if not is_ours(key):
        raise ValueError("the key is not valid in a blob store")


def is_folder(name: str) -> bool:
    """Whether a name may be that of a tenant's folder."""
    return _FOLDER.fullmatch(name) is not None


def owner_mark(database_id: str) -> bytes:
    """The content of a mark: the id of the database, then an explanation for people."""
    return (
        f"{database_id}\n"
        "The photos here belong to the Facette database with this id. A service on another\n"
        "database does not remove any of them. Remove this file, and the next database that\n"
        "sweeps here becomes their owner.\n"
    ).encode()


def marked_owner(mark: bytes) -> str:
    """The id in a mark."""
    return mark.decode(errors="replace").partition("\n")[0].strip()
