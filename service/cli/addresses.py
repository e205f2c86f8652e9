"""Which service a user's command speaks to: options, environment, or the configuration here."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from cyclopts import Group, Parameter

from service.domain.errors import ConfigError

if TYPE_CHECKING:
    from service.commands.asking import Place
    from service.config import Config

_SERVICE = Group("The service (without, the one of the configuration here)", sort_key=8)
_DEFAULT_URL = "http://127.0.0.1:8000"


def _check_url(_: Any, url: str | None) -> None:
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise ValueError("it must begin with http:// or https://, and name a host")


@Parameter(name="*", group=_SERVICE)
@dataclass(frozen=True, slots=True)
class Named:
    """What a user says of the service.

    Args:
        url: its address
        key: an access key, or its token
    """

    url: Annotated[
        str | None, Parameter(env_var="FACETTE_URL", help="its address", validator=_check_url)
    ] = None
    key: Annotated[
        str | None, Parameter(env_var="FACETTE_KEY", help="an access key, or its token")
    ] = None


def place_of(named: Named | None, config_path: Path) -> Place:
    """The service that is meant.

    Without an address it is the one that the configuration starts, by its token. The token of the
    configuration goes to no other machine.

    Raises:
        ConfigError: nothing names a service, or the configuration cannot be used.
    """
    from service.commands.asking import Place

    named = named or Named()
    if named.url:
        key = named.key
        if not key and _is_here(named.url) and config_path.is_file():
            key = _config(config_path).auth.token
        return Place(named.url.rstrip("/"), key, "--url or FACETTE_URL")
    if not config_path.is_file() and named.key:
        return Place(_DEFAULT_URL, named.key, "nothing: it is the usual address")
    try:
        config = _config(config_path)
    except ConfigError as error:
        if config_path.is_file():
            raise
        raise ConfigError(
            f"no service is named: give --url and --key (or FACETTE_URL and FACETTE_KEY), or go to "
            f"the folder of the service's configuration, since {error.message}"
        ) from None
    host = config.server.host
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{config.server.port}"
    return Place(url, named.key or config.auth.token, str(config_path))


def _config(path: Path) -> Config:
    from service.config import load_config

    return load_config(path)


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
