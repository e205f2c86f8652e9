"""The doctor's checks of the database: schema, isolation of tenants, indexes, rows and sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import asyncpg

from service.commands.report import Report, Verdict
from service.domain.errors import ModelError
from service.domain.types import ModelSpace, TenantId
from service.runtime.manifest import load_manifest
from service.store.database.active_model import active_model
from service.store.database.role import SERVICE_ROLE
from service.store.database.schemas import use_schemas
from service.store.face import health
from service.store.face.indexer import vector_indexes, vector_sets

_MOST_NAMED = 3
_RESTART = "restart the service, which repairs it"
_DANGLING = {
    "images_without_tenant": "images whose tenant is missing",
    "clusters_without_tenant": "clusters whose tenant is missing",
    "clusters_without_face": "clusters without faces",
    "faces_without_image": "faces whose image is missing",
    "faces_without_cluster": "faces whose cluster is missing",
    "reviews_without_cluster": "reviews whose cluster is missing",
    "vectors_without_face": "vectors whose face is missing",
    "sums_without_cluster": "sums of vectors whose cluster is missing",
    "merges_without_cluster": "merged clusters whose target is missing",
    "changes_without_tenant": "changes whose tenant is missing",
    "answers_without_tenant": "kept answers whose tenant is missing",
}
_NAME_AGAIN = "PATCH /v1/tenants/{tenant_id}/people/{person_id} gives them others"
_OUT_OF_BOUNDS = {
    "labels": ("labels have control characters, or blanks around them", _NAME_AGAIN),
    "external_ids": ("external ids are blank, or have invisible characters", _NAME_AGAIN),
    "times": (
        "clusters have a time of the newest photo, or a version, that is out of bounds",
        "as the owner: UPDATE cluster SET last_face_at = created_at, version = 1 WHERE ...",
    ),
    "merges": (
        "merged clusters exist, or were merged at a time that is out of bounds",
        "as the owner of the tables: DELETE FROM merged_cluster WHERE ...",
    ),
}
_SUMS = {
    "missing": "clusters lack the sum of their vectors",
    "of_nothing": "clusters have a sum for a model without vectors of it",
    "wrong": "clusters have another sum than that of their vectors",
    "tenants": "tenants have a wrong count of clusters, images or faces",
    "clusters": "clusters have a wrong count of faces or images, or a cover that is not theirs",
    "vectors": "vectors differ from their faces in is_matchable",
}


async def check_schema(report: Report, connection: asyncpg.Connection) -> bool:
    """Check versions and migrations; returns whether the schema is that of this release."""
    postgresql, pgvector = await health.versions(connection)
    schemas = await use_schemas(connection)
    having = f"pgvector {pgvector} in schema {schemas.vector}" if pgvector else "no pgvector"
    report.ok(
        "database",
        f"PostgreSQL {postgresql} with {having} answers; the tables are in schema {schemas.home}",
    )
    if schemas.missing_privilege:
        report.wrong(
            "database",
            f"the login {schemas.login} may not create tables and indexes there",
            schemas.missing_privilege,
        )
    state = await health.migration_state(connection)
    if state.is_current:
        report.ok("migrations", f"all {state.newest} are applied")
    if state.unknown:
        report.wrong(
            "migrations",
            f"{_numbers(state.unknown)} in the database are unknown to this release",
            "use the release that made them, or a newer one",
        )
    if state.edited:
        report.wrong(
            "migrations",
            f"{_numbers(state.edited)} in the database differ from this release's",
            "use the release that made them; migrations never change once they are released",
        )
    if state.missing:
        report.wrong("migrations", f"{_numbers(state.missing)} are missing", "facette migrate")
    return state.is_current


async def check_isolation(report: Report, connection: asyncpg.Connection) -> None:
    """Check that row-level security limits the service's role to one tenant."""
    before = len(report.findings)
    found = await health.isolation(connection)
    if not found.role_exists:
        report.wrong("isolation", f"there is no database role {SERVICE_ROLE}", _RESTART)
    elif not found.can_become:
        report.wrong(
            "isolation", f"the login cannot become the role {SERVICE_ROLE}", f"grant it: {_RESTART}"
        )
    if found.role_bypasses:
        report.wrong(
            "isolation",
            f"row-level security does not apply to {SERVICE_ROLE}",
            "revoke SUPERUSER, BYPASSRLS and the ownership of tables from it",
        )
    for tables, says, advice in (
        (found.lacking, f"{SERVICE_ROLE} lacks privileges on", _RESTART),
        (
            found.unprotected,
            "row-level security is off for",
            "ALTER TABLE ... ENABLE ROW LEVEL SECURITY",
        ),
        (
            found.other_policies,
            "the policies differ from the migrations for",
            "compare with docs/schema.sql, which has one policy own_tenant for each table",
        ),
        (
            found.hidden and (found.hidden,),
            "row-level security hides from the login rows of",
            "make the login the owner of the tables, without FORCE ROW LEVEL SECURITY",
        ),
        (
            found.shows_rows,
            "a tenant that does not exist sees rows of",
            "compare the policies with docs/schema.sql",
        ),
    ):
        if tables:
            report.wrong("isolation", f"{says} {', '.join(tables)}", advice)
    report.ok_unless_found("isolation", before, "row-level security separates the tenants")


async def check_indexes(
    report: Report,
    connection: asyncpg.Connection,
    tenant_id: TenantId | None,
    *,
    largest_exact: int,
    check_interval_s: float,
) -> None:
    """Check that each large tenant has a valid vector index, and no other tenant has one.

    Args:
        tenant_id: the tenant to check; None for all.
        largest_exact: number of faces up to which searches are exact, without an index.
        check_interval_s: time between two rounds of the service's indexer.
    """
    before = len(report.findings)
    checked = f"a running service checks it every {check_interval_s:g} s"
    sets = {each.index_name: each for each in await vector_sets(connection, largest_exact // 2)}
    indexes = {each.name: each for each in await vector_indexes(connection)}
    building = await health.indexes_being_built(connection)
    if tenant_id is not None:
        sets = {name: each for name, each in sets.items() if each.tenant_id == tenant_id}
        own = await health.indexes_of_tenant(connection, tenant_id)
        indexes = {name: each for name, each in indexes.items() if name in own}
    for name, vectors in sets.items():
        if name in indexes or vectors.indexed + vectors.waiting <= largest_exact:
            continue
        text = (
            f"tenant {vectors.tenant_id!r} has {vectors.indexed + vectors.waiting} faces of "
            f"{vectors.space} and no index: searches compare all of them"
        )
        report.wrong("indexes", text, f"{checked}; its log has the reason why it is not built")
    for name, index in indexes.items():
        of = f"of tenant {sets[name].tenant_id!r} " if name in sets else ""
        if name in building:
            report.note("indexes", f"{name} {of}is being built; searches are exact until then")
        elif not index.is_valid:
            text = f"{name} {of}is invalid, and not being built"
            report.wrong("indexes", text, f"{checked}, and rebuilds it")
        elif name not in sets:
            text = f"{name} belongs to a tenant that is deleted or small"
            report.wrong("indexes", text, f"{checked}, and drops it")
    report.ok_unless_found(
        "indexes", before, f"{len(indexes)} vector indexes, all valid and needed"
    )


async def check_rows(
    report: Report, connection: asyncpg.Connection, tenant_id: TenantId | None, models_dir: Path
) -> None:
    """Check that every row has its parent, every face its vector, and the models are complete."""
    before = len(report.findings)
    for kind, count in (await health.dangling_rows(connection, tenant_id)).items():
        if count:
            report.wrong("rows", f"{count} {_DANGLING[kind]}", "restore the database from a backup")
    for kind, count in (await health.people_out_of_bounds(connection, tenant_id)).items():
        if count:
            text, advice = _OUT_OF_BOUNDS[kind]
            report.wrong("rows", f"{count} {text}", advice)
    if strange := await health.tenants_with_strange_ids(connection, tenant_id):
        report.wrong(
            "rows",
            f"{len(strange)} tenants have ids that are not valid: "
            f"{', '.join(map(repr, strange[:3]))}",
            "as the owner of the tables: DELETE FROM tenant WHERE tenant_id = ...",
        )
    try:
        load_manifest(models_dir)
    except ModelError as error:
        report.wrong("models", error.message, "facette export")
    model = await active_model(connection)
    space = model.space if model else ModelSpace("")
    without_any, without_this = await health.faces_without_vector(connection, tenant_id, space)
    if without_any:
        report.wrong(
            "rows",
            f"{without_any} faces have no vector: no photo will match them",
            "restore the database from a backup, or delete their photos and insert them again",
        )
    if model and without_this > without_any:
        report.note(
            "rows",
            f"{without_this - without_any} faces have no vector of the model that is served "
            f"({space}), only of others: no photo will match them",
            f"facette reembed --model {model.name}",
        )
    report.ok_unless_found("rows", before, "every row has its parent, and every face its vector")


async def check_decisions(
    report: Report, connection: asyncpg.Connection, tenant_id: TenantId | None
) -> None:
    """Check decisions against the faces, and that the history speaks of nothing erased."""
    before = len(report.findings)
    found = await health.decided(connection, tenant_id)
    if found.elsewhere:
        report.wrong(
            "decisions",
            f"{found.elsewhere} faces of decisions are in other clusters than it says there",
            "as the owner of the tables: UPDATE decision_face SET cluster_id = face.cluster_id "
            "FROM face WHERE face.tenant_id = decision_face.tenant_id "
            "AND face.face_id = decision_face.face_id",
        )
    if found.empty:
        report.wrong(
            "decisions",
            f"{len(found.empty)} decisions say nothing, since they lack faces: "
            f"{_some(found.empty)}",
            "as the owner of the tables: DELETE FROM decision WHERE decision_id = ...",
        )
    if found.contradicted:
        report.wrong(
            "decisions",
            f"the faces of {len(found.contradicted)} decisions are together or apart against "
            f"them: {_some(found.contradicted)}",
            "move the faces, or DELETE /v1/tenants/{tenant_id}/decisions/{decision_id}",
        )
    if found.traces:
        some = [f"{number} of tenant {tenant!r:.80}" for tenant, number in found.traces[:4]]
        report.wrong(
            "decisions",
            f"{len(found.traces)} changes speak of what was erased: {_some(some)}",
            "as the owner of the tables: DELETE FROM change WHERE tenant_id = ... AND change = ...",
        )
    report.ok_unless_found(
        "decisions",
        before,
        "decisions fit the faces, and the history has nothing of what was erased",
    )


async def check_sums(
    report: Report, connection: asyncpg.Connection, tenant_id: TenantId | None
) -> None:
    """Check the sums and counts that faces are matched by against the vectors."""
    if any(each.check == "rows" and each.verdict is Verdict.WRONG for each in report.findings):
        report.note("sums", "not checked, since rows are missing")
        return
    before = len(report.findings)
    of_whom = await health.quoted(connection, tenant_id)
    for kind, count in asdict(await health.sums(connection, tenant_id)).items():
        if count:
            report.wrong(
                "sums",
                f"{count} {_SUMS[kind]}",
                f"as the owner of the tables: SELECT recount_clusters({of_whom}), which "
                "recomputes all of them while inserts wait",
            )
    report.ok_unless_found("sums", before, "sums and counts equal those of the vectors")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")


def _numbers(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
