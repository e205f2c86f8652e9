"""Authentication by one token, compared in constant time."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers

from service.domain.errors import MissingTokenError, WrongTokenError


class TokenGuard:
    """Checks the token in the head of a request, before its body is read."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def check(self, headers: Headers) -> None:
        """Return when the request has the right token.

        Raises:
            MissingTokenError: the request has no token.
            WrongTokenError: the request has another token.
        """
        sent = _token_of(headers)
        if not sent:
            raise MissingTokenError
        if not hmac.compare_digest(sent.encode("latin-1"), self._token):
            raise WrongTokenError


def _token_of(headers: Headers) -> str:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return headers.get("token", "").strip()
