"""The steps of `facette report`: read a tenant, cut its faces, draw, and write the page."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from service.app.settings import (
    BlobPlace,
    DatabasePlace,
    blob_place,
    database_place,
    decode_limits,
    first_model,
    rule_of,
)
from service.commands.extras import install_command
from service.commands.place import blobs_of, current_database, serving_embedding
from service.commands.replacing import replaced
from service.commands.tenant_report.contents import Contents, read_contents
from service.commands.tenant_report.crops import Crops, cut_faces
from service.config import Config, MatchConfig
from service.domain.errors import ConfigError
from service.domain.types import ModelSpace, TenantId
from service.runtime.catalogue import ModelSet
from service.vision.formats.base import DecodeLimits


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """The data of a report, and the settings that decide which of them are doubtful.

    first_model: the name of the models of a database that has none yet.
    min_quality: the lowest quality of a face that others are matched against.
    """

    database: DatabasePlace
    blobs: BlobPlace
    models_dir: Path
    first_model: str
    match: MatchConfig
    min_quality: float
    decoding: DecodeLimits

    @classmethod
    def of(cls, config: Config) -> ReportSettings:
        """The settings of a configuration."""
        return cls(
            database_place(config),
            blob_place(config),
            config.paths.models_dir,
            first_model(config),
            config.match,
            config.quality.min_for_matching,
            decode_limits(config),
        )


def run_tenant_report(settings: ReportSettings, tenant_id: TenantId, path: Path) -> int:
    """Write a report on a tenant; returns the exit status.

    Args:
        path: the HTML file, which is replaced where it exists; only its owner can read it.

    Raises:
        ConfigError: the extra is not installed, the database cannot be used, or the file not be
            written.
        ModelError: the models of the database are missing.
        NotFoundError: there is no such tenant.
        StoreUnavailableError: the database or the blob store went away.
    """
    try:
        from service.commands.tenant_report.page import PageFacts, render_page
    except ImportError as error:
        raise ConfigError(
            f"facette report needs the extra report, and {error.name} is missing: "
            f"{install_command('report')}"
        ) from None
    # The folder is looked for before the work, which may take a while.
    with replaced(path) as unfinished:
        models, contents, crops, unreadable = asyncio.run(_gather(settings, tenant_id))
        facts = PageFacts(
            tenant_id,
            datetime.now(UTC),
            models.name,
            models.space,
            settings.min_quality,
            unreadable,
        )
        unfinished.write_text(render_page(facts, contents, crops), encoding="utf-8")
    print(f"{path} has the report on tenant {tenant_id!r}")
    if crops.lost:
        print(
            f"facette: the page lacks {crops.lost} of its pictures: "
            + (unreadable or "their photos are missing or damaged, and facette doctor lists them"),
            file=sys.stderr,
        )
    return 0


async def _gather(
    settings: ReportSettings, tenant_id: TenantId
) -> tuple[ModelSet, Contents, Crops, str]:
    """Models, contents and pictures of a report, and why no photo can be read, if so."""
    async with current_database(settings.database) as connection:
        models, facts = await serving_embedding(
            connection, settings.models_dir, settings.first_model
        )
        rule = rule_of(settings.match, facts)
        contents = await read_contents(
            connection, tenant_id, ModelSpace(models.space), rule, settings.min_quality
        )
    blobs, unreadable = None, ""
    if any(each.blob_key for each in contents.places):
        try:
            blobs = await blobs_of(settings.blobs)
        except ConfigError as error:
            unreadable = error.message
    crops = await cut_faces(contents.places, blobs, tenant_id, settings.decoding)
    return models, contents, crops, unreadable
