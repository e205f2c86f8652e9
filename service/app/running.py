"""The parts that run from startup to shutdown, and the services of the current generation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from time import time

from service.api.auth import Guard
from service.api.limiter import InFlightLimiter
from service.api.rates import TenantRates
from service.api.services import ApiServices
from service.api.shared_call import SharedCall
from service.api.tickets import CostClass
from service.app.background import BackgroundTasks
from service.app.engines import Engine, Engines, ModelWatch
from service.app.generations import Generations, Kept, Shared
from service.app.keys import prepare_keys
from service.app.settings import (
    blob_place,
    code_memory_bytes,
    index_settings,
    master_secret_place,
    rule_of,
    share,
)
from service.batching import Admission, AdmissionLimits, Deference
from service.config import Config
from service.domain.asking import AskingCounts
from service.domain.types import Swept
from service.store.access.cache import KeyCache
from service.store.access.keys import AccessKeys
from service.store.access.sessions import SessionRows
from service.store.blob.index import DatabaseSweepTurns
from service.store.blob.opening import open_blob_store
from service.store.database.database import Database
from service.store.face.asking import DatabaseAskingTurns
from service.store.face.changes import DatabaseChangeFeed
from service.store.face.code_cache import CodeCache
from service.store.face.files import StoredFiles
from service.store.face.indexer import Indexer
from service.store.face.pruning import Pruning
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.telemetry import Metrics, open_audit
from service.usecases.asking import AskingSchedule, AskQuestions
from service.usecases.curate import Curate
from service.usecases.history import History
from service.usecases.ingest import IngestPhoto
from service.usecases.keys import ManageKeys
from service.usecases.people import People
from service.usecases.pictures import Pictures
from service.usecases.ports import BlobStore, MasterSecretSource
from service.usecases.recognize import Recognize
from service.usecases.reviews import Reviews
from service.usecases.search import SearchPeople
from service.usecases.sessions import ConsoleSessions
from service.usecases.sweep import SweepBlobs, SweepSchedule
from service.usecases.tenants import Tenants

# The cost of a request until the first one of its class was measured, in worker seconds.
_FIRST_COST_GUESSES_S: Mapping[str, float] = {
    CostClass.PHOTO: 0.04,
    CostClass.CROP: 0.006,
    CostClass.PICTURE: 0.01,
    CostClass.COMPARISON: 0.08,
}

# One in work, and one that arrives meanwhile; by default there are five for each worker.
_FEWEST_PHOTOS_OF_A_BATCH = 2


class Running:
    """Composes the services of each generation, and runs the background tasks.

    Args:
        config: of the first generation.
        engine: of the first generation, held for this object.
        blobs: of the first generation.
        generations: receives the services of each generation.
        exposition: renders the metrics.
        check_serving: raises a StoppingError once the service is stopping.
        follow_models: loads the models of the active space; returns whether that succeeded.
    """

    def __init__(
        self,
        config: Config,
        database: Database,
        engines: Engines,
        engine: Shared[Engine],
        blobs: BlobStore,
        *,
        metrics: Metrics,
        generations: Generations[ApiServices],
        exposition: Callable[[], Awaitable[bytes]],
        check_serving: Callable[[], None],
        follow_models: Callable[[], Awaitable[bool]],
    ) -> None:
        self._database = database
        self._engines = engines
        self._engine = engine
        self._metrics = metrics
        self._generations = generations
        self._exposition = exposition
        self._check_serving = check_serving
        self._limiters: Kept[InFlightLimiter] = Kept()
        self._rates: Kept[TenantRates] = Kept()
        self._admissions: Kept[Admission] = Kept()
        self._indexer = Indexer(
            database,
            index_settings(config.match, config.vector_index),
            on_built=lambda built: metrics.index_builds.labels("ok" if built else "failed").inc(),
            on_taken=metrics.indexed_vectors.inc,
        )
        self._access_keys = AccessKeys(database.common)
        self._keys = KeyCache(self._access_keys, master_secret_place(config))
        self._changes = DatabaseChangeFeed(database)
        self._codes = CodeCache(database, on_size=metrics.code_bytes.set)
        self._sweeps = SweepSchedule(
            on_swept=self._count_swept, on_failure=metrics.sweep_failures.inc
        )
        self._pruning = Pruning(database)
        self._questions = AskingSchedule(
            on_asked=self._count_asked, on_failure=metrics.asking_failures.inc
        )
        self._model_watch = ModelWatch(
            database.active_space, lambda: self._engine.value.space, follow_models
        )
        self._background = BackgroundTasks(
            on_failure=lambda task: metrics.background_failures.labels(task).inc()
        )
        # Without the shared call, every probe of /readyz would take a connection of the pool.
        self._ping = SharedCall(database.ping)
        self._serve(config, engine, blobs)

    def start_background(self) -> None:
        """Start the background tasks."""
        for name, run in (
            ("indexer", self._indexer.run),
            ("codes", self._codes.run),
            ("sweeps", self._sweeps.run),
            ("questions", self._questions.run),
            ("model_watch", self._model_watch.run),
            ("key_uses", self._keys.write_uses),
            ("changes", self._changes.run),
            ("pruning", self._pruning.run),
        ):
            self._background.start(name, run)

    def end_streams(self) -> None:
        """End the answers that would go on for as long as their clients listen."""
        self._changes.stop()

    async def stop_background(self) -> None:
        """Cancel the background tasks, and return when they have ended."""
        await self._background.aclose()
        await self._keys.write_noted_uses()

    async def exchange(self, config: Config) -> bool:
        """Serve with another configuration; returns whether the models are others.

        Raises:
            ConfigError, ModelError: the configuration or its models cannot be used. The current
                generation goes on.
            StoppingError: the service began to stop meanwhile.
        """
        former = self._engine
        engine = await self._engines.following(config, former)
        try:
            blobs = await open_blob_store(blob_place(config))
            await prepare_keys(self._database, master_secret_place(config))
            self._check_serving()
            self._serve(config, engine, blobs)
        except BaseException:
            await engine.release()
            raise
        # Their tokens were checked by the former configuration.
        self._changes.end_followers()
        if engine is former:
            return False
        for labels in former.value.analyzer.placements - engine.value.analyzer.placements:
            self._metrics.model.labels(*labels).set(0)
        return True

    def free_closed_models(self) -> None:
        """Free the memory of closed models now."""
        self._engines.free_closed()

    def _serve(self, config: Config, engine: Shared[Engine], blobs: BlobStore) -> None:
        """Compose the services of a generation, and serve requests with them from now on."""
        secrets = master_secret_place(config)
        services = self._compose(config, engine.value, blobs, secrets)
        self._generations.replace(services, engine.release)
        self._indexer.follow(index_settings(config.match, config.vector_index))
        self._keys.use(secrets)
        self._pruning.follow(config.history.days)
        self._codes.limit_memory(code_memory_bytes(config))
        self._engine = engine
        turns, grace_s = DatabaseSweepTurns(self._database), config.blobs.orphan_grace_s
        self._sweeps.follow(
            SweepBlobs(blobs, turns, grace_s=grace_s), config.blobs.sweep_interval_s
        )

    def _compose(
        self, config: Config, engine: Engine, blobs: BlobStore, secrets: MasterSecretSource
    ) -> ApiServices:
        analyzer, metrics = engine.analyzer, self._metrics
        match, server = config.match, config.server
        repository = Repository(
            self._database,
            SearchSettings(),
            makes_tenants=config.tenants.create_on_first_photo,
            codes=self._codes,
            on_search=lambda path: metrics.searches.labels(path).inc(),
            on_insert=self._indexer.note_insert,
            on_delete=self._indexer.note_deletion,
            on_replaced=self._model_watch.look,
        )
        facts = analyzer.embedding
        space, rule = engine.space, rule_of(match, facts)
        self._questions.follow(
            AskQuestions(
                repository,
                DatabaseAskingTurns(self._database),
                space=space,
                rule=rule,
                joins=match.rejoin == "auto",
                deference=Deference(self._admission(config, engine)),
            ),
            match.ask_interval_s,
        )
        sessions = ConsoleSessions(
            SessionRows(self._database.common), self._keys, config.auth.token
        )
        return ApiServices(
            ingest=IngestPhoto(
                analyzer,
                repository,
                blobs if config.blobs.store_images else None,
                space=space,
                rule=rule,
                min_quality=config.quality.min_for_matching,
                retry_s=config.database_pool.retry_s,
                orphan_grace_s=config.blobs.orphan_grace_s,
                on_face=lambda matched: metrics.faces.labels("matched" if matched else "new").inc(),
            ),
            recognize=Recognize(
                analyzer,
                space=space,
                dimension=facts.dimension,
                rule=rule,
                min_quality=config.quality.min_for_matching,
            ),
            search=SearchPeople(
                analyzer,
                repository,
                space=space,
                rule=rule,
                min_quality=config.quality.min_for_matching,
            ),
            curate=Curate(repository, blobs, on_orphans=metrics.orphan_blobs.inc),
            people=People(repository),
            history=History(repository),
            reviews=Reviews(repository),
            tenants=Tenants(repository),
            pictures=Pictures(StoredFiles(self._database), blobs, analyzer),
            changes=self._changes,
            rates=self._rates.of(
                (server.processes, repository.makes_tenants),
                lambda: TenantRates(
                    Tenants(repository).find,
                    processes=server.processes,
                    missing_is_limited=not repository.makes_tenants,
                ),
            ),
            guard=Guard(config.auth.token, self._keys, metrics, sessions),
            sessions=sessions,
            keys=ManageKeys(self._access_keys, secrets, on_change=self._keys.forget),
            audit=open_audit(config.audit.destination),
            limiter=self._limiter(config),
            admission=self._admission(config, engine),
            metrics=metrics,
            max_body_bytes=server.max_body_bytes,
            upload_timeout_s=server.upload_timeout_s,
            request_timeout_s=server.request_timeout_ms / 1e3,
            batch_photos=max(_FEWEST_PHOTOS_OF_A_BATCH, engine.made_of[0].max_photos),
            check_serving=self._check_serving,
            ready=self._ready,
            exposition=self._exposition,
        )

    def _count_swept(self, swept: Swept) -> None:
        self._metrics.swept_blobs.inc(swept.removed)
        self._metrics.last_sweep.set(time())

    def _count_asked(self, counts: AskingCounts) -> None:
        self._metrics.questions.inc(counts.questions)
        self._metrics.rejoined_people.inc(counts.joined)
        self._metrics.asking_failures.inc(counts.failures)

    def _limiter(self, config: Config) -> InFlightLimiter:
        server = config.server
        # The limiter has room for one body of the largest size, whatever the share of a process is.
        numbers = (
            share(server.max_requests_in_flight, config),
            share(server.max_bytes_in_flight, config),
            server.max_body_bytes,
        )
        requests, in_flight, body = numbers
        return self._limiters.of(
            numbers,
            lambda: InFlightLimiter(
                max_requests=requests,
                max_bytes=in_flight,
                max_body_bytes=body,
                metrics=self._metrics,
            ),
        )

    def _admission(self, config: Config, engine: Engine) -> Admission:
        server, metrics = config.server, self._metrics
        limits = AdmissionLimits(
            max_wait_s=server.max_wait_ms / 1e3,
            standing_wait_s=server.standing_wait_ms / 1e3,
            bulk_wait_s=server.bulk_wait_ms / 1e3,
        )
        return self._admissions.of(
            (limits, engine),
            lambda: Admission(
                limits,
                first_guesses_s=_FIRST_COST_GUESSES_S,
                workers=engine.made_of[0].workers,
                fair=engine.fair,
                on_refusal=lambda reason: metrics.refusals.labels(reason).inc(),
                on_backlog=metrics.backlog_seconds.set,
            ),
        )

    async def _ready(self) -> None:
        self._check_serving()
        self._background.check()
        await self._ping()
