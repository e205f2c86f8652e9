"""Authentication by one token, compared in constant time."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers

from service.domain.errors import (
    ConflictingTokensError,
    MissingTokenError,
    WrongTokenError,
)

TOKEN_HEADERS = ("token", "x-api-key")
"""Headers that hold the token alone, beside Authorization."""


class TokenGuard:
    """Checks the token in the head of a request, before its body is read."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def check(self, headers: Headers) -> None:
        """Return when the request has the right token.

        Raises:
            MissingTokenError: the request has no token.
            ConflictingTokensError: the request has several, and they differ. A gateway might check
                one, and the service another.
            WrongTokenError: the request has another token.
        """
        sent = _tokens_of(headers)
        if not sent:
            raise MissingTokenError
        if len(sent) > 1:
            raise ConflictingTokensError
        if not hmac.compare_digest(sent.pop().encode("latin-1"), self._token):
            raise WrongTokenError


def _tokens_of(headers: Headers) -> set[str]:
    found = {value.strip() for name in TOKEN_HEADERS for value in headers.getlist(name)}
    for value in headers.getlist("authorization"):
        scheme, _, credentials = value.partition(" ")
        if scheme.lower() == "bearer":
            found.add(credentials.strip())
    return found - {""}
