"""The use cases over a real database, driven by several clients at once and held to a model."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from unittest import mock

import asyncpg

from bench.common.photos import source
from service.batching import free_ticket
from service.domain.errors import NotFoundError, ParameterError
from service.domain.matching import fixed_rule
from service.domain.types import (
    ClusterId,
    FaceId,
    ImageId,
    IngestedPhoto,
    ModelSpace,
    Receipt,
    Review,
    ReviewId,
    StoredFace,
    TenantId,
)
from service.store.blob.folder import FolderBlobStore
from service.store.database.database import Database, DatabaseSettings
from service.store.database.statements import SQL
from service.store.face.code_cache import CodeCache
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.telemetry import StageClock
from service.usecases.curate import Curate
from service.usecases.ingest import IngestPhoto
from tests.interleavings import model
from tests.interleavings.history import Call, explain, kept, overlap
from tests.interleavings.model import Answer, Ingested, Kept, Refused, State, thousandths
from tests.interleavings.turns import TurnBlobs, TurnConnection, Turns, turn
from tests.support.analysed import MadeUpAnalyzer, files_below

_STORED_FACES = """
SELECT tenant_id, face_id, image_id, cluster_id, is_auto_matched, distance
FROM face WHERE tenant_id = ANY($1) ORDER BY seq
"""
_SPACE = ModelSpace("made-up/1")
_ROWS = "SELECT {columns} FROM {table} WHERE tenant_id = ANY($1) ORDER BY 1, 2"


class Violation(AssertionError):  # noqa: N818
    """The service did what the model does not allow."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything in database and blob store."""

    tenants: Mapping[TenantId, Kept]
    clusters: Mapping[TenantId, set[ClusterId]]
    reviews: Mapping[TenantId, Mapping[ReviewId, ClusterId]]
    blobs: frozenset[str]
    files: frozenset[str]

    def faults(self) -> list[str]:
        """What must never be, whatever was called before."""
        faults = []
        for tenant_id, tenant in self.tenants.items():
            clusters = self.clusters.get(tenant_id, set())
            used = {cluster for _, _, cluster, _ in tenant.faces}
            matched = [(image, cluster) for _, image, cluster, m in tenant.faces if m is not None]
            checks = {
                "a cluster without faces": clusters - used,
                "a face without cluster": used - clusters,
                "a face without image": {image for _, image, _, _ in tenant.faces} - tenant.images,
                "a review without cluster": set(tenant.reviews) - clusters,
                "two faces of one photo together": {p for p in matched if matched.count(p) > 1},
            }
            faults += [f"{what}: {found}" for what, found in checks.items() if found]
        if self.files != self.blobs:
            faults.append(f"files and rows differ by {self.files ^ self.blobs}")
        return faults


@dataclass(slots=True)
class World:
    """One service, and what it was seen to do.

    seen: the interleavings in which calls overlapped, each once.
    done: the kinds of operation that were not refused.
    """

    store: Repository
    ingest: IngestPhoto
    curate: Curate
    analyzer: MadeUpAnalyzer
    observer: asyncpg.Connection
    uploads: Path
    codes: CodeCache
    paths: set[str]
    seen: set[tuple[object, ...]] = field(default_factory=set)
    done: set[type[model.Operation]] = field(default_factory=set)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: DatabaseSettings,
        uploads: Path,
    ) -> AsyncIterator[World]:
        """The service, as the application puts it together, but with clients that take turns."""
        pool_of_turns = partial(asyncpg.create_pool, connection_class=TurnConnection)
        with mock.patch.object(asyncpg, "create_pool", pool_of_turns):
            database = await Database.open(settings)
        observer = await asyncpg.connect(
            host=settings.host, port=settings.port, user=settings.user, database=settings.dbname
        )
        codes, paths = CodeCache(database), set[str]()
        store = Repository(database, SearchSettings(200), codes=codes, on_search=paths.add)
        blobs = TurnBlobs(FolderBlobStore(uploads))
        analyzer = MadeUpAnalyzer()
        ingest = IngestPhoto(
            analyzer,
            store,
            blobs,
            space=_SPACE,
            rule=fixed_rule(0.5),
            on_face=lambda matched: None,
        )
        try:
            yield cls(
                store,
                ingest,
                Curate(store, blobs, on_orphans=lambda n: None),
                analyzer,
                observer,
                uploads,
                codes,
                paths,
            )
        finally:
            await observer.close()
            await database.close()

    async def run(
        self, before: State, programs: Sequence[Sequence[Call]], picks: Sequence[int]
    ) -> tuple[State, Stored]:
        """Let clients run their calls, interleaved by picks; returns the state afterwards.

        Raises:
            Violation: no order of the calls explains what came of them, or something is stored
                that must never be.
        """
        turns, ticks = Turns(self.observer, picks), count()
        calls = [call for program in programs for call in program]
        tenants = sorted({*before, *(call.tenant_id for call in calls)})
        for tenant_id in tenants:  # some are searched by codes, which know nothing of what follows
            if sum(picks) % 2:
                await self.codes.refresh(tenant_id, _SPACE)
            else:
                self.codes.forget(tenant_id)
        await turns.run([partial(self._live, program, ticks.__next__) for program in programs])
        stored = await self.stored(tenants)
        faults = stored.faults()
        after = explain(calls, before, stored.tenants)
        if faults or after is None:
            raise Violation(_report(faults, before, calls, turns, stored.tenants))
        await self._check_sizes(after)
        self.done |= {type(c.operation) for c in calls if not isinstance(c.answer, Refused)}
        if overlap(calls):
            shape = (tuple(type(call.operation) for call in program) for program in programs)
            self.seen.add((*shape, *turns.trace))
        return after, stored

    async def stored(self, tenants: Sequence[TenantId]) -> Stored:
        """What is stored of some tenants, and all files."""

        async def rows(table: str, columns: str) -> list[asyncpg.Record]:
            statement = _ROWS.format(table=table, columns=columns)
            return await self.observer.fetch(statement, tenants)

        known = [row["tenant_id"] for row in await rows("tenant", "tenant_id, created_at")]
        images = await rows("image", "tenant_id, image_id, blob_key")
        clusters = await rows("cluster", "tenant_id, cluster_id")
        reviews = await rows("review", "tenant_id, review_id, cluster_id")
        faces = await self.observer.fetch(_STORED_FACES, tenants)
        for face in faces:
            assert face["is_auto_matched"] == (face["distance"] is not None)
        return Stored(
            {
                tenant_id: Kept(
                    frozenset(str(i["image_id"]) for i in images if i["tenant_id"] == tenant_id),
                    tuple(
                        (
                            str(face["face_id"]),
                            str(face["image_id"]),
                            str(face["cluster_id"]),
                            thousandths(face["distance"]),
                        )
                        for face in faces
                        if face["tenant_id"] == tenant_id
                    ),
                    tuple(str(r["cluster_id"]) for r in reviews if r["tenant_id"] == tenant_id),
                )
                for tenant_id in known
            },
            {t: {str(c["cluster_id"]) for c in clusters if c["tenant_id"] == t} for t in known},
            {
                t: {r["review_id"]: str(r["cluster_id"]) for r in reviews if r["tenant_id"] == t}
                for t in known
            },
            frozenset(image["blob_key"] for image in images),
            frozenset(files_below(self.uploads)),
        )

    async def clear(self) -> None:
        """Remove everything behind the service's back, whatever state it is in."""
        await self.observer.execute("DELETE FROM tenant")
        for folder in self.uploads.iterdir():
            shutil.rmtree(folder)

    async def _live(self, program: Sequence[Call], tick: Callable[[], int]) -> None:
        for call in program:
            await turn(type(call.operation).__name__)
            call.began = tick()
            try:
                call.answer = await self._answer(call.tenant_id, call.operation)
            except NotFoundError as error:
                call.answer = Refused(error.kind)
            except ParameterError as error:
                call.answer = Refused(error.parameter)
            except Exception as error:  # an answer, too, but none that the model ever gives
                call.answer = error
            call.ended = tick()

    async def _answer(self, tenant_id: TenantId, operation: model.Operation) -> Answer:
        curate = self.curate
        match operation:
            case model.Insert(shots):
                photo = self.analyzer.add(*(shot.embedding for shot in shots))
                ingested = await self.ingest(tenant_id, source(photo), StageClock(), free_ticket())
                return _ingested(ingested)
            case model.DeleteFace(face_id):
                return _counted(await curate.delete_face(tenant_id, face_id))
            case model.DeleteImage(image_id):
                return _counted(await curate.delete_image(tenant_id, image_id))
            case model.DeleteCluster(cluster_id):
                return _counted(await curate.delete_cluster(tenant_id, cluster_id))
            case model.DeleteTenant():
                return _counted(await curate.delete_tenant(tenant_id))
            case model.DeleteReview(review_id):
                return await curate.delete_review(tenant_id, review_id)
            case model.MoveFace(face_id, cluster_id):
                return await curate.move_face(tenant_id, face_id, cluster_id)
            case model.MergeClusters(from_cluster, into_cluster):
                return await curate.merge_clusters(tenant_id, from_cluster, into_cluster)
            case model.ReadFace(face_id):
                return _told(await curate.face(tenant_id, face_id))
            case model.ReadFaces(image_id):
                faces = await curate.faces_of_image(tenant_id, image_id, 0, 100)
                return tuple(_told(face) for face in faces)
            case model.ReadImage(image_id):
                image = await curate.image(tenant_id, image_id)
                return image.face_ids, image.cluster_ids
            case model.ReadCluster(cluster_id):
                return await curate.cluster_size(tenant_id, cluster_id)
            case model.ReadReview(review_id):
                return _shown(await curate.review(tenant_id, review_id))
            case model.ReadReviews():
                return tuple(map(_shown, await curate.reviews(tenant_id, 0, 100)))
        raise AssertionError(f"nobody knows how to call {operation}")

    async def _check_sizes(self, state: State) -> None:
        for tenant_id, tenant in state.items():
            for counts in ("tenants_counted_wrongly", "clusters_counted_wrongly"):
                if wrong := await self.observer.fetchval(SQL[counts], tenant_id):
                    raise Violation(f"{wrong} {counts}")
            async with self.store.reading(tenant_id) as reader:
                for cluster_id in tenant.clusters:
                    _, expected = model.ReadCluster(cluster_id)(tenant, None)
                    size = await reader.cluster_size(cluster_id)
                    if size != expected:
                        raise Violation(f"cluster {cluster_id} has {expected}, not {size}")


def _ingested(photo: IngestedPhoto) -> Ingested:
    return Ingested(
        photo.image_id,
        tuple((face.face_id, face.cluster_id, thousandths(face.distance)) for face in photo.faces),
    )


def _counted(receipt: Receipt) -> Receipt:
    """A receipt without decisions and changes, which the model does not count."""
    return replace(receipt, decisions=0, changes=0)


def _told(face: StoredFace) -> tuple[FaceId, ClusterId, ImageId, bool]:
    return face.face_id, face.cluster_id, face.image_id, face.is_auto_matched


def _shown(review: Review) -> tuple[ClusterId, ImageId]:
    return review.cluster_id, review.image_id


def _report(
    faults: Sequence[str],
    before: State,
    calls: Sequence[Call],
    turns: Turns,
    stored: Mapping[TenantId, Kept],
) -> str:
    return "\n".join(
        [
            *(faults or ["no order of the calls explains their answers and what is stored"]),
            *(f"before: {tenant_id}: {tenant}" for tenant_id, tenant in kept(before).items()),
            *(f"call: {call}" for call in calls),
            *(f"turn: client {client}: {step}" for client, step in turns.trace),
            *(f"stored: {tenant_id}: {tenant}" for tenant_id, tenant in stored.items()),
        ]
    )
