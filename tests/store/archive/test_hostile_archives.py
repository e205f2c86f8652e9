"""An archive that was made to do harm: it reaches no other tenant, no file and little memory."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import struct
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.domain.errors import ArchiveError
from service.domain.names import MAX_NAME_LENGTH
from service.domain.people import MAX_LABEL_LENGTH, label_key
from service.domain.types import TenantId
from service.store.archive import format as archive_format
from service.store.archive import rows as archive_rows
from service.store.archive import values as archive_values
from service.store.archive.export import export_tenant
from service.store.archive.file import new_archive
from service.store.archive.format import (
    HEAD,
    MANIFEST,
    PARTS,
    Counts,
    Head,
    Part,
    parse_name,
    render_head,
    render_manifest,
)
from service.store.archive.imports import import_tenant
from service.store.database.statements import SQL
from tests.support.analysed import files_below
from tests.support.archive_house import OTHER, VICTIM, House, Untouched, entries, write
from tests.support.importing import Importer, open_importer

MIB = 2**20
LEFT_BY_ATTACK = "left-by-an-archive.txt"
Found = dict[str, bytes]
Edit = Callable[[Found], Found]


@pytest.fixture
def second(with_victim: House) -> House:
    """Another installation than that of the archive."""
    return with_victim


@pytest.fixture
def found(archive: Path) -> Found:
    """The entries of the archive of a tenant, which is at `path`."""
    return entries(archive)


def resealed(found: Found, head: dict[str, object] | None = None) -> Found:
    """The same with a manifest that fits: whoever makes an archive makes that, too."""
    fields = {**json.loads(found[HEAD]), **(head or {})}
    fields.pop("format")
    rendered = Head(**fields)
    counts = dict.fromkeys(PARTS, 0)
    parts = []
    for name, data in found.items():
        if name.startswith("rows/"):
            kind = parse_name(name).kind
            rows = data.count(b"\n")
            counts[kind] += rows
            parts.append(Part(name, rows, len(data), hashlib.sha256(data).hexdigest()))
    photos = sum(name.startswith("photos/") for name in found)
    manifest = render_manifest(rendered, Counts(photos=photos, **counts), parts)
    return {**found, HEAD: render_head(rendered), MANIFEST: manifest}


def part(kind: str) -> str:
    return f"rows/{kind}-000001.tsv"


def with_column(kind: str, column: str, value: bytes) -> Edit:
    """Another value in the first row of a kind."""

    def edit(found: Found) -> Found:
        first, _, others = found[part(kind)].partition(b"\n")
        columns = first.split(b"\t")
        columns[PARTS[kind].index(column)] = value
        return {**found, part(kind): b"\t".join(columns) + b"\n" + others}

    return edit


def with_row(kind: str, row: bytes) -> Edit:
    """One more row, before the others."""
    return lambda found: {**found, part(kind): row + b"\n" + found[part(kind)]}


async def refused(untouched: Untouched, path: Path, found: Found) -> str:
    """Import it; nothing may have changed. Returns the one line that is said."""
    refusal = await untouched.refuse(write(path.with_name("bad.tar"), found.items()))
    assert isinstance(refusal, ArchiveError)
    assert refusal.message.isprintable()
    assert len(refusal.message) < 400
    return refusal.message


async def test_an_archive_that_was_sealed_anew_comes_in(
    house: House, found: Found, second: House, path: Path
) -> None:
    """So that what is refused below is refused for what is wrong with it."""
    found = resealed(found)
    again = write(path.with_name("again.tar"), found.items())
    await second.bring_in(again)
    assert await second.rows() == await house.rows()


TIME = b"2024-02-29 23:59:59.999999+00"


def _smuggled(end: bytes) -> dict[str, Edit]:
    """Rows that hold another row behind what COPY's text format takes for an end of line."""
    image, cluster = str(uuid4()).encode(), str(uuid4()).encode()
    exif = b"\t".join((b"\\N", b"1", b"\\N", b"\\N"))
    facts = b"\t".join((b"jpeg", b"9", b"9", b"9", b"0" * 64, b"0" * 16, TIME, b"0", exif))
    person = b"\t".join((TIME, b"\\N", b"\\N", b"{}", b"f", b"1", TIME, b"\\N"))
    key = f"../../{LEFT_BY_ATTACK}".encode()
    theirs = b"\t".join((VICTIM.encode(), image, key, facts))
    return {
        "an image of another tenant": with_row(
            "images", b"\t".join((str(uuid4()).encode(), b"\\N", facts)) + end + theirs
        ),
        "a cluster of another tenant": with_row(
            "clusters",
            b"\t".join((str(uuid4()).encode(), person))
            + end
            + b"\t".join((VICTIM.encode(), cluster, person)),
        ),
        "a label of another tenant": with_column(
            "clusters",
            "label",
            b"x" + end + b"\t".join((VICTIM.encode(), cluster, person)),
        ),
    }


SMUGGLED = {
    f"{name} behind {end!r}": edit
    for end in (b"\r", b"\r\r", b"\\.\r")
    for name, edit in _smuggled(end).items()
}


@pytest.mark.parametrize("attack", SMUGGLED)
async def test_a_row_reaches_no_other_tenant(
    found: Found, untouched: Untouched, path: Path, attack: str
) -> None:
    found = resealed(SMUGGLED[attack](found))
    assert "damaged" in await refused(untouched, path, found)


async def test_rows_behind_an_end_of_data_do_not_vanish(
    found: Found, untouched: Untouched, path: Path
) -> None:
    await refused(untouched, path, resealed(with_row("reviews", b"\\.")(found)))


async def test_a_statement_that_names_another_tenant_stores_nothing(
    found: Found, second: House, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the reading of rows wrong some day, row-level security would still bind the import."""
    before = await second.rows(VICTIM)
    name = "store_clusters_of_archive"
    broken = SQL[name].replace("SELECT $1,", f"SELECT coalesce('{VICTIM}', $1),")
    assert broken != SQL[name]
    monkeypatch.setattr(archive_rows, "SQL", MappingProxyType({**SQL, name: broken}))
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await second.bring_in(path)
    assert await second.rows(VICTIM) == before


async def test_rows_that_are_lost_on_the_way_are_noticed(
    found: Found, untouched: Untouched, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "store_reviews_of_archive"
    broken = SQL[name].replace("ORDER BY nth", "ORDER BY nth LIMIT 1")
    assert broken != SQL[name]
    monkeypatch.setattr(archive_rows, "SQL", MappingProxyType({**SQL, name: broken}))
    assert "reviews could be stored" in await refused(untouched, path, found)


def _vector(numbers: list[float]) -> bytes:
    return base64.b64encode(struct.pack(f">{len(numbers)}e", *numbers))


def _id(number: int) -> bytes:
    return str(UUID(int=number)).encode()


def _cluster(number: int, **columns: bytes) -> bytes:
    """The row of a cluster without faces."""
    row = {
        **dict.fromkeys(PARTS["clusters"], b"\\N"),
        "cluster_id": _id(number),
        "created_at": TIME,
        "metadata": b"{}",
        "hidden": b"f",
        "version": b"1",
        "last_face_at": TIME,
    }
    return b"\t".join({**row, **columns}.values()) + b"\n"


def _merge(number: int, into: int) -> bytes:
    return b"\t".join((_id(number), _id(into), TIME))


def _face_of_another(found: Found) -> bytes:
    """A face of any cluster but the first."""
    first = found[part("clusters")][:36]
    rows = [row.split(b"\t") for row in found[part("faces")].splitlines()]
    at = PARTS["faces"].index("cluster_id")
    return next(row[0] for row in rows if row[at] != first)


FACTS = ("size", "sharpness", "brightness", "contrast", "yaw", "roll")


def _facts(**other: object) -> bytes:
    return json.dumps({**dict.fromkeys(FACTS, 1.0), "reasons": [], **other}).encode()


VALUES: dict[str, Edit] = {
    "an id in capitals": with_column("images", "image_id", str(uuid4()).upper().encode()),
    "a photo's suffix with a path": with_column("images", "photo_suffix", b"/../../x"),
    "a suffix of 17 letters": with_column("images", "photo_suffix", b"x" * 17),
    "a format of 100 kB": with_column("images", "format", b"x" * 100_000),
    "no width": with_column("images", "width", b"0"),
    "a width of 2^31": with_column("images", "width", b"2147483648"),
    "a photo turned by 45 degrees": with_column("images", "turned", b"45"),
    "infinite time": with_column("images", "created_at", b"infinity"),
    "a time before our era": with_column("clusters", "created_at", b"4713-01-01 00:00:00+00 BC"),
    "a time of the year 1": with_column("clusters", "created_at", b"0001-01-01 00:00:00+00"),
    "a time of the year 9999": with_column("clusters", "created_at", b"9999-12-31 00:00:00+00"),
    "a time of the year 294276": with_column("reviews", "created_at", b"294276-01-01 00:00:00+00"),
    "the 31st of February": with_column("reviews", "created_at", b"2024-02-31 00:00:00+00"),
    "now": with_column("reviews", "created_at", b"now"),
    "a box with NaN": with_column("faces", "box", b"{NaN,0,1,1}"),
    "a box with infinity": with_column("faces", "box", b"{0,0,Infinity,1}"),
    "a box of three": with_column("faces", "box", b"{0,0,1}"),
    "a box with null": with_column("faces", "box", b"{0,0,NULL,1}"),
    "a box beyond all photos": with_column("faces", "box", b"{0,0,1e30,1}"),
    "landmarks with infinity": with_column("faces", "landmarks", b"{-Infinity,1,2,3,4,5,6,7,8,9}"),
    "an area of two dimensions": with_column("faces", "area", b"{{0,1},{2,3}}"),
    "an area that begins at 0": with_column("faces", "area", b"[0:3]={0,1,2,3}"),
    "an area of 100,000 numbers": with_column("faces", "area", b"{%b}" % b",".join([b"1"] * 10**5)),
    "an area left of the photo": with_column("faces", "area", b"{-1,0,2,3}"),
    "an empty area": with_column("faces", "area", b"{0,0,0,3}"),
    "an area with null": with_column("faces", "area", b"{0,0,NULL,3}"),
    "a confidence of NaN": with_column("faces", "confidence", b"NaN"),
    "a confidence of 2": with_column("faces", "confidence", b"2"),
    "a distance of NaN": with_column("faces", "distance", b"NaN"),
    "an infinite distance": with_column("faces", "distance", b"1e999"),
    "perhaps": with_column("faces", "is_matchable", b"maybe"),
    "facts that are a list": with_column("faces", "quality_facts", b"[]"),
    "facts that lack one": with_column("faces", "quality_facts", b'{"reasons": []}'),
    "one fact more": with_column("faces", "quality_facts", _facts(more=1)),
    "a fact that is text": with_column("faces", "quality_facts", _facts(yaw="1")),
    "a fact that is true": with_column("faces", "quality_facts", _facts(yaw=True)),
    "an infinite fact": with_column("faces", "quality_facts", _facts().replace(b"1.0", b"1e999")),
    "a fact that is NaN": with_column("faces", "quality_facts", _facts().replace(b"1.0", b"NaN")),
    "reasons with markup": with_column("faces", "quality_facts", _facts(reasons=["<b>"])),
    "deep facts": with_column("faces", "quality_facts", b"[" * 4000),
    "facts of 1 MB": with_column("faces", "quality_facts", _facts(reasons=["x" * 10**6])),
    "a vector of 200,000 numbers": with_column("vectors", "embedding", _vector([1.0] * 200_000)),
    "a vector of 16,001 numbers": with_column("vectors", "embedding", _vector([1.0] * 16_001)),
    "an empty vector": with_column("vectors", "embedding", b""),
    "a vector of NaN": with_column("vectors", "embedding", _vector([float("nan")] * 512)),
    "a vector of infinity": with_column("vectors", "embedding", _vector([float("inf")] * 512)),
    "a vector without direction": with_column("vectors", "embedding", _vector([0.0] * 512)),
    "a vector of one byte and a half": with_column("vectors", "embedding", b"AAAA"),
    "a model without a name": with_column("vectors", "model_space", b""),
    "a model with a name of 100 kB": with_column("vectors", "model_space", b"x" * 100_000),
    "a model that is no text": with_column("vectors", "model_space", b"\xff\xfe"),
    "a negative review": with_column("reviews", "review_id", b"-5"),
    "a review without number": with_column("reviews", "review_id", b"0"),
    "a review beyond JavaScript": with_column("reviews", "review_id", str(2**53).encode()),
    "a review that comes twice": lambda found: {
        **found,
        part("reviews"): found[part("reviews")] + found[part("reviews")].split(b"\n")[-2] + b"\n",
    },
    "a face of an image that is not there": with_column("faces", "image_id", str(uuid4()).encode()),
    "an image that comes twice": lambda found: {
        **found,
        part("images"): found[part("images")] + found[part("images")].split(b"\n")[0] + b"\n",
    },
    "a photo taken before 1900": with_column("images", "taken_at", b"1899-12-31 23:59:59+00"),
    "a photo taken in infinity": with_column("images", "taken_at", b"-infinity"),
    "an orientation of 0": with_column("images", "orientation", b"0"),
    "an orientation of 9": with_column("images", "orientation", b"9"),
    "no orientation": with_column("images", "orientation", b"\\N"),
    "a latitude without longitude": with_column("images", "latitude", b"1"),
    "a latitude beyond the pole": with_column("images", "latitude", b"90.5"),
    "a longitude of NaN": with_column("images", "longitude", b"NaN"),
    "a label with a line end": with_column("clusters", "label", b"a\\nb"),
    "a label with a tab": with_column("clusters", "label", b"a\\tb"),
    "a label with NUL": with_column("clusters", "label", b"a\0b"),
    "a label with a control character of C1": with_column("clusters", "label", b"a\xc2\x9bb"),
    "a label with a separator of lines": with_column("clusters", "label", "a\u2028b".encode()),
    "a label with half a pair": with_column("clusters", "label", b"a\xed\xa0\x80b"),
    "a label that is no text": with_column("clusters", "label", b"\xff"),
    "a label in another normal form": with_column("clusters", "label", "Zoe\u0308".encode()),
    "a label with blanks around it": with_column("clusters", "label", b" Anna "),
    "a blank label": with_column("clusters", "label", b" "),
    "an empty label": with_column("clusters", "label", b""),
    "a label of 257 characters": with_column("clusters", "label", b"x" * 257),
    "a label of 1 MB": with_column("clusters", "label", b"x" * 10**6),
    "a label of 1 MB of escapes": with_column("clusters", "label", b"\\\\" * (10**6 // 2)),
    "an invisible external id": with_column("clusters", "external_id", "\u200b".encode()),
    "an external id with NUL": with_column("clusters", "external_id", b"a\0b"),
    "an external id of 129 characters": with_column("clusters", "external_id", b"x" * 129),
    "an external id in another normal form": with_column(
        "clusters", "external_id", "cafe\u0301".encode()
    ),
    "an empty external id": with_column("clusters", "external_id", b""),
    "an external id of two people": lambda found: {
        **found,
        part("clusters"): b"".join(_cluster(number, external_id=b"the same") for number in range(2))
        + found[part("clusters")],
    },
    "metadata that are null": with_column("clusters", "metadata", b"\\N"),
    "metadata that are a list": with_column("clusters", "metadata", b"[]"),
    "metadata that are cut off": with_column("clusters", "metadata", b'{"a": '),
    "metadata with NUL": with_column("clusters", "metadata", rb'{"a": "\\u0000"}'),
    "metadata with NUL in a key": with_column("clusters", "metadata", rb'{"\\u0000": 1}'),
    "metadata with a raw NUL": with_column("clusters", "metadata", b'{"a": "\0"}'),
    "metadata with half a pair": with_column("clusters", "metadata", rb'{"a": "\\ud800"}'),
    "metadata with NaN": with_column("clusters", "metadata", b'{"a": NaN}'),
    "metadata with infinity": with_column("clusters", "metadata", b'{"a": -Infinity}'),
    "metadata with 1e999": with_column("clusters", "metadata", b'{"a": 1e999}'),
    "metadata with a number of 70 bits": with_column("clusters", "metadata", b'{"a": %d}' % 3**45),
    "metadata with a number of 200,000 digits": with_column(
        "clusters", "metadata", b'{"a": %b}' % (b"9" * 200_000)
    ),
    "metadata of 5 kB": with_column("clusters", "metadata", b'{"a": "%b"}' % (b"x" * 5000)),
    "metadata of 1 MB": with_column("clusters", "metadata", b'{"a": "%b"}' % (b"x" * 10**6)),
    "metadata of many small numbers": with_column(
        "clusters", "metadata", b'{"a": [%b]}' % b",".join([b"1"] * 100_000)
    ),
    "metadata that are deep": with_column(
        "clusters", "metadata", b'{"a": %b}' % (b"[" * 2000 + b"]" * 2000)
    ),
    "metadata as deep as they are long": with_column("clusters", "metadata", b'{"a":' * 40_000),
    "somebody who may be hidden": with_column("clusters", "hidden", b"\\N"),
    "a version of 0": with_column("clusters", "version", b"0"),
    "a version beyond JavaScript": with_column("clusters", "version", str(2**53).encode()),
    "a newest photo before 1970": with_column(
        "clusters", "last_face_at", b"1969-12-31 23:59:59+00"
    ),
    "no newest photo": with_column("clusters", "last_face_at", b"\\N"),
    "a cover that is not there": with_column("clusters", "cover_face_id", str(uuid4()).encode()),
    "a cover of somebody else": lambda found: with_column(
        "clusters", "cover_face_id", _face_of_another(found)
    )(found),
    "a cover of somebody without faces": lambda found: {
        **found,
        part("clusters"): _cluster(1, cover_face_id=found[part("faces")][:36])
        + found[part("clusters")],
    },
    "a merge into somebody who is not there": with_column(
        "merges", "merged_into", str(uuid4()).encode()
    ),
    "a merge of somebody who is there": lambda found: with_column(
        "merges", "cluster_id", found[part("clusters")][:36]
    )(found),
    "a merge into oneself": lambda found: with_row(
        "merges", b"\t".join((found[part("clusters")][:36],) * 2 + (TIME,))
    )(found),
    "merges in a circle": lambda found: with_row("merges", _merge(1, 2))(
        with_row("merges", _merge(2, 1))(found)
    ),
    "merges in a chain": lambda found: with_row(
        "merges", b"\t".join((_id(1), found[part("merges")][:36], TIME))
    )(found),
    "a merge that comes twice": lambda found: {
        **found,
        part("merges"): found[part("merges")] + found[part("merges")].split(b"\n")[0] + b"\n",
    },
    "a merge of the year 9999": with_column("merges", "merged_at", b"9999-12-31 00:00:00+00"),
    "a question of no kind": with_column("reviews", "kind", b"who"),
    "a question in another script": with_column("reviews", "kind", b"\xff"),
    "a question about a face of nobody": with_column("reviews", "face_id", b"\\N\\N"),
    "a question who a face is": lambda found: with_column(
        "reviews", "face_id", found[part("faces")][:36]
    )(found),
    "a question about a face that is not there": lambda found: with_column(
        "reviews", "kind", b"odd_face"
    )(with_column("reviews", "face_id", str(uuid4()).encode())(found)),
    "a question about another who is not there": lambda found: with_column(
        "reviews", "kind", b"same_person"
    )(with_column("reviews", "other_cluster_id", str(uuid4()).encode())(found)),
    "a likeness of 2": with_column("reviews", "similarity", b"2"),
    "a chance of NaN": with_column("reviews", "chance", b"NaN"),
    "a question of -1 faces": with_column("reviews", "faces", b"-1"),
    "a decision of no kind": with_column("decisions", "kind", b"perhaps"),
    "a decision of the year 9999": with_column(
        "decisions", "decided_at", b"9999-12-31 00:00:00+00"
    ),
    "a decision about nothing": with_row("decisions", b"\t".join((_id(1), b"same", TIME))),
    "a decision about a face that is not there": with_column(
        "decision_faces", "face_id", str(uuid4()).encode()
    ),
    "a decision of three sides": with_column("decision_faces", "side", b"2"),
    "a decision with one side": lambda found: {
        **found,
        part("decision_faces"): found[part("decision_faces")].replace(b"\t1\t", b"\t0\t"),
    },
    "a face of a decision that is not there": with_column("decision_faces", "decision_id", _id(1)),
    "a face that comes twice in a decision": lambda found: with_row(
        "decision_faces", found[part("decision_faces")].split(b"\n")[0]
    )(found),
    "an empty photo": lambda found: {
        name: b"" if name.startswith("photos/") else data for name, data in found.items()
    },
    "models by the hundred": lambda found: {
        **found,
        part("vectors"): b"".join(
            b"\t".join((line.split(b"\t")[0], b"space %d" % nth, _vector([1.0]))) + b"\n"
            for nth, line in enumerate(found[part("vectors")].splitlines())
        ),
    },
}


@pytest.mark.parametrize("value", VALUES)
async def test_a_value_that_the_service_never_stores_is_refused(
    found: Found, untouched: Untouched, path: Path, value: str
) -> None:
    await refused(untouched, path, resealed(VALUES[value](found)))


LAST_VALUES: dict[str, Edit] = {
    "the first moment of 1900": with_column("images", "taken_at", b"1900-01-01 00:00:00+00"),
    "the south-western corner": lambda found: with_column("images", "latitude", b"-90")(
        with_column("images", "longitude", b"-180")(found)
    ),
    "a label of 256 characters of four bytes": with_column(
        "clusters", "label", ("🙂" * MAX_LABEL_LENGTH).encode()
    ),
    "a label with a joiner": with_column("clusters", "label", "नर\u200dक".encode()),
    "an external id of 128 characters": with_column(
        "clusters", "external_id", ("ü" * MAX_NAME_LENGTH).encode()
    ),
    "metadata of 250 levels": with_column(
        "clusters", "metadata", b'{"a": %b}' % (b"[" * 250 + b"]" * 250)
    ),
    "the last version": with_column("clusters", "version", str(2**53 - 1).encode()),
    "two people of one label": lambda found: with_row("clusters", _cluster(1, label=b"A")[:-1])(
        with_row("clusters", _cluster(2, label=b"A")[:-1])(found)
    ),
}


@pytest.mark.parametrize("value", LAST_VALUES)
async def test_the_last_value_that_the_service_stores_comes_in(
    found: Found, second: House, path: Path, value: str
) -> None:
    good = write(path.with_name("good.tar"), resealed(LAST_VALUES[value](found)).items())
    await second.bring_in(good)


async def test_the_key_of_a_label_is_computed_here(found: Found, second: House, path: Path) -> None:
    found = with_row("clusters", _cluster(1, label="\uff3a\uff2f\xcb".encode())[:-1])(found)
    await second.bring_in(write(path.with_name("good.tar"), resealed(found).items()))
    async with second.database.maintenance() as connection:
        key = await connection.fetchval(
            "SELECT label_key FROM cluster WHERE cluster_id = $1", UUID(int=1)
        )
    assert key == label_key("\uff3a\uff2f\xcb") == "zo\xeb"


HEADS: dict[str, dict[str, object]] = {
    "no tenant": {"tenant_id": ""},
    "a blank tenant": {"tenant_id": "  "},
    "a tenant of 100 kB": {"tenant_id": "x" * 100_000},
    "a tenant of 129 characters": {"tenant_id": "x" * 129},
    "a tenant with a line end": {"tenant_id": "a\nb"},
    "a tenant with a control character of C1": {"tenant_id": "a\x9bb"},
    "a tenant that is written from the right": {"tenant_id": "\u202eabc"},
    "a tenant with something of no width": {"tenant_id": "a\u200bb"},
    "a tenant in another normal form": {"tenant_id": "cafe\u0301"},
    "a tenant of infinite time": {"created_at": "infinity"},
    "a tenant of the stone age": {"created_at": "4713-01-01 00:00:00+00 BC"},
    "a tenant of the year 9999": {"created_at": "9999-01-01 00:00:00+00"},
}


@pytest.mark.parametrize("head", HEADS)
async def test_a_head_that_the_service_never_stores_is_refused(
    found: Found, untouched: Untouched, path: Path, head: str
) -> None:
    await refused(untouched, path, resealed(found, HEADS[head]))


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 16_000,
        b'{"format":' * 1600,
        b'{"format": "facette-tenant", "version": 2, "tenant_id": "\\ud800", "created_at": "'
        + TIME
        + b'", "schema": 1}',
        b'{"format": "facette-tenant", "version": true, "tenant_id": "t", "schema": 1}',
        b'{"format": "facette-tenant", "version": 2, "schema": %s}' % (b"9" * 10_000),
        b"\xff\xfe{}",
        b"{}" + b" " * MIB,
    ],
    ids=["deep list", "deep object", "half a pair", "true", "a long number", "no UTF-8", "large"],
)
async def test_a_head_that_no_reader_likes_is_refused(
    found: Found, untouched: Untouched, path: Path, data: bytes
) -> None:
    await refused(untouched, path, {**found, HEAD: data})


async def test_a_tenant_whose_name_is_not_allowed_may_get_another(
    found: Found, second: House, path: Path
) -> None:
    found = resealed(found, {"tenant_id": "a\x9bb"})
    bad = write(path.with_name("bad.tar"), found.items())
    with pytest.raises(ArchiveError, match="--as"):
        await second.bring_in(bad)
    assert (await second.bring_in(bad, rename=OTHER))[0] == OTHER


async def test_a_photo_that_comes_twice_is_refused(found: Found, second: House, path: Path) -> None:
    bad = path.with_name("bad.tar")
    before = files_below(second.uploads)
    for suffix in ("jpg", "png"):
        listed = list(found.items())
        nth, name = next(
            (k, name) for k, (name, _) in enumerate(listed) if name.startswith("photos/")
        )
        listed.insert(nth, (name.rpartition(".")[0] + "." + suffix, b"another"))
        write(bad, listed)
        with pytest.raises(ArchiveError, match="photo"):
            await second.bring_in(bad)
        assert files_below(second.uploads) == before


async def test_numbers_of_reviews_in_an_archive_mean_nothing_here(
    house: House, found: Found, second: House, path: Path
) -> None:
    lines = found[part("reviews")].splitlines()
    far = [
        b"%d\t%b" % (2**53 - 10 + nth, line.partition(b"\t")[2]) for nth, line in enumerate(lines)
    ]
    found = resealed({**found, part("reviews"): b"\n".join(far) + b"\n"})
    await second.bring_in(write(path.with_name("far.tar"), found.items()))
    async with second.database.maintenance() as connection:
        (cluster_id,) = await connection.fetchrow(
            "SELECT cluster_id FROM cluster WHERE tenant_id = $1 LIMIT 1", VICTIM
        )
        number = await connection.fetchval(
            "INSERT INTO review (tenant_id, cluster_id) VALUES ($1, $2) RETURNING review_id",
            VICTIM,
            cluster_id,
        )
        largest = await connection.fetchval("SELECT max(review_id) FROM review")
    assert number == largest < 100
    assert await second.rows() == await house.rows()  # in their order


async def test_pieces_by_the_million_are_refused(
    found: Found, untouched: Untouched, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.archive.imports.MOST_PARTS", 4)
    assert "pieces" in await refused(untouched, path, found)


async def test_photo_that_is_larger_than_the_service_takes_is_refused(
    found: Found, second: House, path: Path
) -> None:
    async with second.database.maintenance() as connection:
        with pytest.raises(ArchiveError, match="too large"):
            await import_tenant(connection, path, second.blobs, largest_photo_bytes=1000)


async def test_a_photo_of_another_tenant_does_not_go_into_an_archive(
    second: House, path: Path, tmp_path: Path
) -> None:
    """A row of before keys were checked may name one."""
    async with second.database.maintenance() as connection:
        await connection.execute("ALTER TABLE image DROP CONSTRAINT image_blob_key_check")
        await connection.execute("INSERT INTO tenant (tenant_id) VALUES ('thief')")
        await connection.execute(
            "INSERT INTO image SELECT 'thief', image_id, blob_key, format, width, height,"
            " size_bytes, sha256, phash, created_at, turned FROM image WHERE tenant_id = $1",
            VICTIM,
        )
        with new_archive(path) as archive:
            done = await export_tenant(connection, archive, TenantId("thief"), second.blobs)
    assert (done.counts.photos, done.lost_photos) == (0, 15)
    assert not any(name.startswith("photos/") for name in entries(path))


# Archives of less than some MB that others would make gigabytes of.


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.USTAR_FORMAT)


def _head() -> bytes:
    data = render_head(Head("bomb", TIME.decode(), 1))
    return _header(HEAD, len(data)) + data + bytes(-len(data) % 512)


def _rows(kind: str, row: bytes, size: int) -> Iterator[bytes]:
    count = size // len(row)
    yield _header(part(kind), count * len(row))
    at_once = MIB // len(row)
    for start in range(0, count, at_once):
        yield row * min(at_once, count - start)


def _filled(
    name: str, size: int, kind: bytes = tarfile.REGTYPE, by: bytes = b"a"
) -> Iterator[bytes]:
    yield _header(name, size, kind)
    yield from [(by * MIB)[:MIB]] * (size // MIB)


def _long_row(by: bytes, begin: bytes = b"") -> Iterator[bytes]:
    yield _header(part("faces"), 4 * MIB)
    yield begin + by * (MIB - len(begin))
    yield from [by * MIB] * 2
    yield by * (MIB - 1) + b"\n"


def _tiny_photos(count: int) -> Iterator[bytes]:
    for nth in range(count):
        yield _header(f"photos/{UUID(int=nth)}.jpg", 0)


def _rows_of_metadata(count: int, metadata: bytes) -> Iterator[bytes]:
    rows = b"".join(_cluster(number, metadata=metadata) for number in range(count))
    assert len(rows) > 4 * MIB
    rows = rows[: rows.rindex(b"\n", 0, 5 * MIB) + 1]
    yield _header(part("clusters"), len(rows))
    yield rows + bytes(-len(rows) % 512)


def _long_clusters(by: bytes) -> Iterator[bytes]:
    row = _cluster(1, label=by * (2 * MIB))
    yield _header(part("clusters"), len(row))
    yield row + bytes(-len(row) % 512)


def _ordered_rows(count: int) -> Iterator[bytes]:
    rows = b"".join(map(_cluster, range(count)))
    yield _header(part("clusters"), len(rows))
    yield rows + bytes(-len(rows) % 512)


BOMBS: dict[str, Callable[[], Iterator[bytes]]] = {
    "a long name": lambda: _filled("././@LongLink", 256 * MIB, tarfile.GNUTYPE_LONGNAME),
    "a long link": lambda: _filled("././@LongLink", 256 * MIB, tarfile.GNUTYPE_LONGLINK),
    "properties": lambda: _filled("pax", 256 * MIB, tarfile.XHDTYPE),
    "properties of all": lambda: _filled("pax", 256 * MIB, tarfile.XGLTYPE),
    "a sparse file": lambda: _filled("photos/x.jpg", 256 * MIB, tarfile.GNUTYPE_SPARSE),
    "a large head": lambda: _filled(HEAD, 256 * MIB, by=b"["),
    "a large manifest": lambda: _filled(MANIFEST, 256 * MIB, by=b"["),
    "a manifest of lists": lambda: _filled(MANIFEST, 8 * MIB, by=b"[],"),
    "a large photo": lambda: _filled(f"photos/{uuid4()}.jpg", 256 * MIB),
    "the largest photos": lambda: (
        chunk for _ in range(4) for chunk in _filled(f"photos/{uuid4()}.jpg", 25 * MIB)
    ),
    "line ends": lambda: _filled(part("clusters"), 256 * MIB, by=b"\n"),
    "a piece of line ends": lambda: _filled(part("clusters"), 4 * MIB, by=b"\n"),
    "a row of tabs": lambda: _long_row(b"\t"),
    "a row of commas": lambda: _long_row(b",", b"\t".join([*[str(uuid4()).encode()] * 3, b"{"])),
    "metadata by the thousand": lambda: _rows_of_metadata(40, b'{"a":[%b1]}' % (b"1," * 100_000)),
    "deep metadata by the thousand": lambda: _rows_of_metadata(40, b'{"a":' * 40_000),
    "labels in one row": lambda: _long_clusters(b"\\a"),
    "a piece of one row": lambda: _rows("clusters", _cluster(1), 4 * MIB),
    "tiny rows": lambda: _ordered_rows(35_000),
    "empty photos": lambda: _tiny_photos(20_000),
    "zeros behind the end": lambda: iter([bytes(MIB)] * 256),
}

# What unpacks without bounds takes 256 MiB at least.
LARGEST_GROWTH_MB = 150


@pytest.fixture(scope="module")
def importer() -> Iterator[Importer]:
    with open_importer() as found:
        yield found


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_small_archive_takes_little_memory(
    importer: Importer, untouched: Untouched, tmp_path: Path, bomb: str
) -> None:
    path, folder = tmp_path / "bomb.tar.gz", tmp_path / "uploads"
    # Behind the head, and in its place: both come before anything else is known.
    with path.open("wb") as file:
        first = b"" if bomb == "a large head" else _head()
        for chunk in (first, *_members(BOMBS[bomb]()), bytes(1024)):
            file.write(chunk if isinstance(chunk, _Packed) else gzip.compress(chunk, 6))
    assert path.stat().st_size < 4 * MIB
    settings = untouched.house.database._settings
    async with untouched.unchanged():
        refusal = await asyncio.to_thread(importer.refused, path, settings, folder)
    assert refusal.said
    assert refusal.growth_mb < LARGEST_GROWTH_MB, refusal.said
    assert files_below(folder) == []


class _Packed(bytes):
    """A member of a gzip file."""


def _members(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Chunks as members of a gzip file, each packed once: the bombs repeat themselves."""
    last, packed = b"", _Packed()
    small: list[bytes] = []
    for chunk in chunks:
        if len(chunk) < MIB:
            small.append(chunk)
            continue
        if small:
            yield _Packed(gzip.compress(b"".join(small), 6))
            small = []
        if chunk != last:
            last, packed = chunk, _Packed(gzip.compress(chunk, 9))
        yield packed
    if small:
        yield _Packed(gzip.compress(b"".join(small), 6))


def test_the_caps_leave_room_for_what_is_exported() -> None:
    """The longest rows stay within the room that a piece has beyond its size."""
    vector = archive_values._LONGEST_VECTOR + archive_values._LONGEST_SPACE * 8 + 40
    names = (MAX_LABEL_LENGTH + MAX_NAME_LENGTH) * 8
    cluster = archive_values._LONGEST_METADATA + names + 300
    room = archive_format._LARGEST_PART - archive_format.PART_BYTES
    assert max(vector, cluster) < room
