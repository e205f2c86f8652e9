"""An archive that was made to do harm: it reaches no other tenant, no file and little memory."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.domain.errors import ArchiveError
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
from service.store.database.database import Database, DatabaseSettings
from service.store.database.statements import SQL
from tests.support.analysed import files_below
from tests.support.archive_house import OTHER, House, entries, fill, fill_house, write
from tests.support.databases import Databases
from tests.support.folders import ROOT

MIB = 2**20
VICTIM = TenantId("victim")
LEFT_BY_ATTACK = "left-by-an-archive.txt"
Found = dict[str, bytes]
Edit = Callable[[Found], Found]


async def _fill_second(database: Database, uploads: Path) -> None:
    await fill(House.of(database, uploads), VICTIM, seed=5)


@pytest.fixture
async def house(databases: Databases, uploads: Path) -> House:
    return House.of(await databases.filled(fill_house, uploads), uploads)


@pytest.fixture
async def second(databases: Databases, tmp_path: Path) -> House:
    """Another database of the same server, with a folder of its own and a tenant."""
    uploads = tmp_path / "second"
    return House.of(await databases.filled(_fill_second, uploads), uploads)


@pytest.fixture(scope="session")
def _archives() -> list[Found]:
    """The archive of the installation's tenant, once it was written."""
    return []


@pytest.fixture
async def found(databases: Databases, path: Path, tmp_path: Path, _archives: list[Found]) -> Found:
    """The entries of the archive of a tenant, which is at `path`."""
    if not _archives:
        uploads = tmp_path / "exported"
        await House.of(await databases.filled(fill_house, uploads), uploads).export(path)
        _archives.append(entries(path))
    write(path, _archives[0].items())
    return dict(_archives[0])


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


async def refused(second: House, path: Path, found: Found) -> str:
    """Import it; nothing may have changed. Returns the one line that is said."""
    bad = write(path.with_name("bad.tar"), found.items())
    before, files = await second.rows(VICTIM), files_below(second.uploads)
    with pytest.raises(ArchiveError) as caught:
        await second.bring_in(bad)
    assert await second.rows(VICTIM) == before
    assert not any((await second.rows()).values())
    assert files_below(second.uploads) == files
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400
    return caught.value.message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tenant.tar"


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
    facts = b"\t".join((b"jpeg", b"9", b"9", b"9", b"0" * 64, b"0" * 16, TIME, b"0"))
    key = f"../../{LEFT_BY_ATTACK}".encode()
    theirs = b"\t".join((VICTIM.encode(), image, key, facts))
    return {
        "an image of another tenant": with_row(
            "images", b"\t".join((str(uuid4()).encode(), b"\\N", facts)) + end + theirs
        ),
        "a cluster of another tenant": with_row(
            "clusters",
            b"\t".join((str(uuid4()).encode(), TIME))
            + end
            + b"\t".join((VICTIM.encode(), cluster, TIME)),
        ),
    }


SMUGGLED = {
    f"{name} behind {end!r}": edit
    for end in (b"\r", b"\r\r", b"\\.\r")
    for name, edit in _smuggled(end).items()
}


@pytest.mark.parametrize("attack", SMUGGLED)
async def test_a_row_reaches_no_other_tenant(
    found: Found, second: House, path: Path, attack: str
) -> None:
    found = resealed(SMUGGLED[attack](found))
    assert "damaged" in await refused(second, path, found)


async def test_rows_behind_an_end_of_data_do_not_vanish(
    found: Found, second: House, path: Path
) -> None:
    await refused(second, path, resealed(with_row("reviews", b"\\.")(found)))


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
    found: Found, second: House, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "store_reviews_of_archive"
    broken = SQL[name].replace("ORDER BY nth", "ORDER BY nth LIMIT 1")
    assert broken != SQL[name]
    monkeypatch.setattr(archive_rows, "SQL", MappingProxyType({**SQL, name: broken}))
    assert "reviews could be stored" in await refused(second, path, found)


def _vector(numbers: list[float]) -> bytes:
    return base64.b64encode(struct.pack(f">{len(numbers)}e", *numbers))


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
    found: Found, second: House, path: Path, value: str
) -> None:
    await refused(second, path, resealed(VALUES[value](found)))


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
    found: Found, second: House, path: Path, head: str
) -> None:
    await refused(second, path, resealed(found, HEADS[head]))


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
    found: Found, second: House, path: Path, data: bytes
) -> None:
    await refused(second, path, {**found, HEAD: data})


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
    found: Found, second: House, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.archive.imports.MOST_PARTS", 4)
    assert "pieces" in await refused(second, path, found)


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


def _cluster(number: int) -> bytes:
    return b"%s\t%s\n" % (str(UUID(int=number)).encode(), TIME)


def _ordered_rows(count: int) -> Iterator[bytes]:
    rows = b"".join(map(_cluster, range(count)))
    yield _header(part("clusters"), len(rows))
    yield rows + bytes(-len(rows) % 512)


BOMBS: dict[str, Callable[[], Iterator[bytes]]] = {
    "a long name": lambda: _filled("././@LongLink", 512 * MIB, tarfile.GNUTYPE_LONGNAME),
    "a long link": lambda: _filled("././@LongLink", 512 * MIB, tarfile.GNUTYPE_LONGLINK),
    "properties": lambda: _filled("pax", 512 * MIB, tarfile.XHDTYPE),
    "properties of all": lambda: _filled("pax", 512 * MIB, tarfile.XGLTYPE),
    "a sparse file": lambda: _filled("photos/x.jpg", 512 * MIB, tarfile.GNUTYPE_SPARSE),
    "a large head": lambda: _filled(HEAD, 1024 * MIB, by=b"["),
    "a large manifest": lambda: _filled(MANIFEST, 1024 * MIB, by=b"["),
    "a manifest of lists": lambda: _filled(MANIFEST, 8 * MIB, by=b"[],"),
    "a large photo": lambda: _filled(f"photos/{uuid4()}.jpg", 512 * MIB),
    "the largest photos": lambda: (
        chunk for _ in range(4) for chunk in _filled(f"photos/{uuid4()}.jpg", 25 * MIB)
    ),
    "line ends": lambda: _filled(part("clusters"), 512 * MIB, by=b"\n"),
    "a piece of line ends": lambda: _filled(part("clusters"), 4 * MIB, by=b"\n"),
    "a row of tabs": lambda: _long_row(b"\t"),
    "a row of commas": lambda: _long_row(b",", b"\t".join([*[str(uuid4()).encode()] * 3, b"{"])),
    "a piece of one row": lambda: _rows("clusters", _cluster(1), 4 * MIB),
    "tiny rows": lambda: _ordered_rows(60_000),
    "empty photos": lambda: _tiny_photos(20_000),
    "zeros behind the end": lambda: iter([bytes(MIB)] * 512),
}

LARGEST_MB = 300
IMPORT = """
import asyncio, sys
import service.cli.arguments  # as the command has loaded it by then
from pathlib import Path
from service.domain.errors import ArchiveError
from service.store.archive.imports import import_tenant
from service.store.blob.folder import FolderBlobStore
from service.store.database.database import Database, DatabaseSettings

async def main(host, port, dbname, user, path, folder):
    settings = DatabaseSettings(host, int(port), dbname, user, "", 2, 10.0, 30.0)
    database = await Database.open(settings)
    async with database.maintenance() as connection:
        try:
            await import_tenant(connection, Path(path), FolderBlobStore(Path(folder)))
        except ArchiveError as error:
            print(error.message)
    await database.close()

asyncio.run(main(*sys.argv[1:]))
# Not of getrusage: that counts what the parent had before it started this.
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak.split()[1]) // 1024)
"""


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_small_archive_takes_little_memory(
    empty_database: DatabaseSettings, tmp_path: Path, bomb: str
) -> None:
    path, folder = tmp_path / "bomb.tar.gz", tmp_path / "uploads"
    # Behind the head, and in its place: both come before anything else is known.
    with path.open("wb") as file:
        first = b"" if bomb == "a large head" else _head()
        for chunk in (first, *_members(BOMBS[bomb]()), bytes(1024)):
            file.write(chunk if isinstance(chunk, _Packed) else gzip.compress(chunk, 6))
    assert path.stat().st_size < 4 * MIB
    at = (empty_database.host, str(empty_database.port), empty_database.dbname, empty_database.user)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", IMPORT, *at, str(path), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said, peak_mb = done.stdout.splitlines()
    assert said
    assert int(peak_mb) < LARGEST_MB, said
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
    """The longest row, a vector, stays within the room that a piece has beyond its size."""
    longest = archive_values._LONGEST_VECTOR + archive_values._LONGEST_SPACE * 8 + 40
    assert longest < archive_format._LARGEST_PART - archive_format.PART_BYTES
