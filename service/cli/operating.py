"""Arguments of the commands for operators: the installation, its database and its data."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import LimitedChoice, Number

from service.cli.naming import shell_name
from service.cli.settings import logged_config, quiet_config
from service.cli.values import ConfigPath, PassedOn, TenantName

_DOING = Group("Changes (none without one of these)", sort_key=1, validator=LimitedChoice(0, 1))


def init(*, config: ConfigPath) -> int:
    """Create the configuration file if there is none, and say what is left to do."""
    from service.commands.init import run_init

    return run_init(config, shell_name(config))


def token(*, config: ConfigPath) -> int:
    """Print the configured token."""
    from service.config import load_config

    print(load_config(config).auth.token)
    return 0


def migrate(*, config: ConfigPath) -> int:
    """Bring the database to the newest schema."""
    from service.app.settings import database_settings
    from service.store.database.database import Database

    loaded = logged_config(config)

    async def run() -> None:
        async with AsyncExitStack() as stack:
            database = await Database.open(database_settings(loaded, stack))
            await database.close()

    asyncio.run(run())
    print("the database has the newest schema")
    return 0


def doctor(*, tenant: TenantName | None = None, json: bool = False, config: ConfigPath) -> int:
    """Check the installation, and advise on faults.

    Args:
        tenant: check the data of this tenant alone
        json: print one JSON object
    """
    from service.commands.doctor import DoctorSettings, run_doctor
    from service.domain.types import TenantId

    settings = DoctorSettings.of(quiet_config(config))
    tenant_id = None if tenant is None else TenantId(tenant)
    return run_doctor(settings, tenant_id=tenant_id, as_json=json)


def export_tenant(
    tenant: TenantName, file: Path, /, *, images: bool = False, config: ConfigPath
) -> int:
    """Export a tenant to one file.

    Args:
        tenant: the tenant's id
        file: a new tar file; gzipped if it ends with .gz
        images: include the photos
    """
    from service.app.settings import blob_place, database_place
    from service.commands.archives import run_export
    from service.domain.types import TenantId

    loaded = quiet_config(config)
    blobs = blob_place(loaded) if images else None
    return run_export(database_place(loaded), blobs, TenantId(tenant), file)


def import_tenant(
    file: Path,
    /,
    *,
    rename: Annotated[TenantName | None, Parameter(name="--as")] = None,
    config: ConfigPath,
) -> int:
    """Import the tenant of a file.

    Args:
        file: a file that export-tenant wrote
        rename: id of the tenant here, instead of its own
    """
    from service.app.settings import blob_place, database_place
    from service.commands.archives import run_import
    from service.domain.types import TenantId

    loaded = quiet_config(config)
    return run_import(
        database_place(loaded),
        blob_place(loaded),
        file,
        None if rename is None else TenantId(rename),
        keep_photos=loaded.blobs.store_images,
        keep_locations=loaded.images.keep_location,
        largest_photo_bytes=loaded.server.max_body_bytes,
    )


def reembed(
    *,
    model: str,
    leave_lost_faces: bool = False,
    keep_old: bool = False,
    json: bool = False,
    config: ConfigPath,
) -> int:
    """Embed all stored faces by another model, then search by it.

    The service may run meanwhile. The model is activated in one transaction at the end. After an
    interruption, run it again: it continues where it stopped.

    Args:
        model: a folder of paths.models_dir, or 'default' for the models directly in it
        leave_lost_faces: activate the model although some faces have no usable image: these stay
            in their clusters, and no new face is matched with them
        keep_old: keep the vectors of the former model, so that you can go back to it
        json: print progress as JSON lines
    """
    from service.app.settings import (
        blob_place,
        database_place,
        decode_limits,
        index_settings,
        session_settings,
    )
    from service.commands import reembed as command

    loaded = logged_config(config)
    return command.reembed(
        command.ReembedPlaces(
            loaded.paths.models_dir,
            database_place(loaded),
            blob_place(loaded),
            session_settings(loaded),
            decode_limits(loaded),
            index_settings(loaded.match, loaded.vector_index),
        ),
        command.ReembedOptions(model, leave_lost_faces, keep_old, json),
    )


def report(
    *,
    tenant: TenantName,
    output: Path = Path("facette-report.html"),
    config: ConfigPath,
) -> int:
    """Describe a tenant on a page of HTML.

    Args:
        tenant: the tenant's id
        output: the page, which is replaced where it exists
    """
    from service.commands.tenant_report import ReportSettings, run_tenant_report
    from service.domain.types import TenantId

    return run_tenant_report(ReportSettings.of(quiet_config(config)), TenantId(tenant), output)


def calibrate(
    *,
    tenant: TenantName,
    sure: Annotated[float, Parameter(validator=Number(gte=0.5, lte=0.999))] = 0.95,
    apply: Annotated[bool, Parameter(group=_DOING)] = False,
    reset: Annotated[bool, Parameter(group=_DOING)] = False,
    json: bool = False,
    config: ConfigPath,
) -> int:
    """Learn the limit of a match in a tenant from what people said there.

    Nothing is changed without --apply. What was joined before stays as it is.

    Args:
        tenant: the tenant's id
        sure: how likely a pair just at the limit should be one person
        apply: give the tenant the limit that was learned, which inserts and searches obey
        reset: take it back: give the tenant the limit of the model and the settings
        json: print one JSON object
    """
    from service.commands.calibrate import (
        CalibrationOptions,
        CalibrationSettings,
        run_calibrate,
    )
    from service.domain.types import TenantId

    return run_calibrate(
        CalibrationSettings.of(quiet_config(config)),
        CalibrationOptions(TenantId(tenant), sure, apply, reset, json),
    )


def export(*arguments: PassedOn, config: ConfigPath) -> int:
    """Export the models to ONNX; its own --help lists the options."""
    try:
        # The exporter is no dependency of the service.
        from export.__main__ import main as export_main
    except ImportError:
        print("facette: the export program is not part of this installation", file=sys.stderr)
        return 2

    from service.commands.init import models_folder

    return export_main(arguments, models_dir=models_folder(config))
