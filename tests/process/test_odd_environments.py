"""A first start with an environment that suits neither PostgreSQL nor its clients nor Numba."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.live import end, insert
from tests.support.service import ServiceProcess

ODD = {
    "LC_ALL": "no_SUCH.locale",
    "LANGUAGE": "xx",
    "TZ": "Nowhere/City",
    "HOME": "/dev/null",
    "TMPDIR": "/nowhere",
    "XDG_RUNTIME_DIR": "nowhere",
    "XDG_CACHE_HOME": "/dev/null",
    "NUMBA_CACHE_DIR": "/dev/null",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PGDATA": "/nowhere",
    "PGHOST": "/nowhere",
    "PGPORT": "none",
    "PGUSER": "nobody",
    "PGOPTIONS": "-c no_such_parameter=1",
    "PGSERVICE": "none",
    "PGSSLMODE": "rubbish",
    "PGTARGETSESSIONATTRS": "standby",
    "PGPASSFILE": "/dev/null/none",
    "POSTGRES_INITDB_ARGS": "--no-such-argument",
    "FACETTE_AUTH_TOKEN": "a-token-for-tests\n",
    "FACETTE_INFERENCE_PRECISION": "fp32",
}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_first_start_works_in_an_odd_environment(
    service_folder: Path, models_dir: Path, portraits: list[Path], processes: int
) -> None:
    environment = {**ODD, "FACETTE_SERVER_PROCESSES": str(processes)}
    service = ServiceProcess(service_folder, models_dir, environment, first_start=True)
    try:
        with service.start().client() as client:
            assert insert(client, portraits[1].read_bytes()).status_code == 200
        assert service.stop() == 0
    finally:
        end(service)
