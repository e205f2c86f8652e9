"""Authentication: the configured token, or an access key, in the head of a request."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable

from starlette.datastructures import Headers

from service.api.cookies import check_same_origin, session_of
from service.domain.errors import (
    ConflictingTokensError,
    MissingTokenError,
    WrongTokenError,
)
from service.domain.keys import OPERATOR, KeyFault, KeyText, Principal
from service.telemetry import Metrics
from service.usecases.ports import KeyFinder
from service.usecases.sessions import ConsoleSessions

_logger = logging.getLogger("facette.access")

TOKEN_HEADERS = ("token", "x-api-key")
"""Headers that hold the token alone, beside Authorization."""


class Guard:
    """Tells who sent a request by the token in its head, before its body is read.

    The configured token is compared first, in constant time and without the database.

    Args:
        token: the configured token, whose holder is an admin of all tenants.
        keys: finds access keys.
        sessions: finds sessions of the console.
        clock: Unix time.
    """

    def __init__(
        self,
        token: str,
        keys: KeyFinder,
        metrics: Metrics,
        sessions: ConsoleSessions,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._token = token.encode()
        self._keys = keys
        self._metrics = metrics
        self._sessions = sessions
        self._clock = clock

    async def authenticate(
        self, headers: Headers, address: str, *, method: str | None = None
    ) -> Principal:
        """The caller who sent these headers.

        Args:
            address: the client's network address, for the log.
            method: of a request that may come with the cookie of a session instead of a token, and
                then must come from a page of the console if it changes something; None where only a
                token is believed.

        Raises:
            MissingTokenError: the request has no token.
            ConflictingTokensError: the request has several, and they differ. A gateway might check
                one, and the service another.
            WrongTokenError: the token is neither the configured one nor a valid key; or the session
                is over.
            ForbiddenError: the page of another site sent the cookie.
            KeysUnavailableError: it is a key, and the service has no master secret to check it.
            StoreUnavailableError: it is a key, and the database does not answer.
        """
        sent = _tokens_of(headers)
        if not sent and method is not None and (secret := session_of(headers)) is not None:
            check_same_origin(method, headers)
            return (await self._sessions.find(secret)).principal
        if not sent:
            raise MissingTokenError
        if len(sent) > 1:
            raise ConflictingTokensError
        token = sent.pop().encode("latin-1")
        if hmac.compare_digest(token, self._token):
            return OPERATOR
        text = KeyText.parse(token)
        if text is None:
            raise self._refusal(KeyFault.NO_KEY, address)
        known = await self._keys.find(text.key_id)
        if known is None:
            raise self._refusal(KeyFault.UNKNOWN, address, text)
        if fault := known.fault(text.secret, self._clock()):
            raise self._refusal(fault, address, text)
        self._keys.note_use(known)
        return known.principal

    def _refusal(
        self, fault: KeyFault, address: str, text: KeyText | None = None
    ) -> WrongTokenError:
        """Count and log a failed attempt. Of a key, only its id is logged, which is no secret."""
        self._metrics.refused_tokens.labels(fault.value).inc()
        fields = {"reason": fault.value, "address": address}
        if text is not None:
            fields["key_id"] = text.key_id
        _logger.info("a token was refused", extra={"fields": fields})
        return WrongTokenError()


def token_headers(token: str) -> Headers:
    """The headers of a request with a token."""
    return Headers({TOKEN_HEADERS[0]: token})


def _tokens_of(headers: Headers) -> set[str]:
    found = {value.strip() for name in TOKEN_HEADERS for value in headers.getlist(name)}
    for value in headers.getlist("authorization"):
        scheme, _, credentials = value.partition(" ")
        if scheme.lower() == "bearer":
            found.add(credentials.strip())
    return found - {""}
