"""Access keys of a running service, made as an operator makes them."""

from __future__ import annotations

import subprocess

import httpx2 as httpx

from bench.common.server import NO_AUTHORITIES, ServiceProcess
from tests.support.command import facette
from tests.support.service import TOKEN


def keys(service: ServiceProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `facette keys` in the folder of a service."""
    environment = {
        "FACETTE_AUTH_TOKEN": TOKEN,
        **{k: v for k, v in service.environment.items() if k.startswith("FACETTE_")},
    }
    return facette(service.folder, "keys", *arguments, environment=environment)


def make_key(service: ServiceProcess, *scopes: str, tenant: str | None = None) -> str:
    """A new key of a tenant, or of all."""
    reach = ["--all-tenants"] if tenant is None else ["--tenant", tenant]
    options = [word for scope in scopes for word in ("--scope", scope)]
    made = keys(service, "create", "--name", "of a test", *options, *reach)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def client_with(service: ServiceProcess, key: str) -> httpx.Client:
    """A client that shows a key."""
    return httpx.Client(
        base_url=service.url,
        headers={"Authorization": f"Bearer {key}"},
        timeout=60.0,
        verify=NO_AUTHORITIES,
    )
