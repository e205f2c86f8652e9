"""The cookie of the console's sessions, which is believed from the console's own pages alone."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response

from service.domain.errors import ForbiddenError
from service.domain.sessions import SESSION_LASTS, SessionSecret

COOKIE: Final = "facette_session"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def session_of(headers: Headers) -> SessionSecret | None:
    """The secret in the cookie of a request; None without one, or with several."""
    found = []
    for header in headers.getlist("cookie"):
        try:
            morsels = SimpleCookie(header)
        except CookieError:
            return None
        if COOKIE in morsels:
            found.append(morsels[COOKIE].value)
    return SessionSecret.parse(found[0]) if len(found) == 1 else None


def check_same_origin(method: str, headers: Headers) -> None:
    """Return where a request with a cookie reads, or comes from a page of this very origin.

    Raises:
        ForbiddenError: it changes something, and the browser says that another site's page sent
            it, or does not say whose.
    """
    if method in _SAFE:
        return
    site = headers.get("sec-fetch-site")
    if site is None:  # of older browsers, and of pages that are not served by HTTPS
        origin = urlsplit(headers.get("origin", ""))
        if origin.netloc and origin.netloc == headers.get("host"):
            return
    elif site == "same-origin":
        return
    raise ForbiddenError("A session is for pages of the console; other callers send a key.")


def give(response: Response, secret: SessionSecret, *, is_https: bool) -> None:
    """Let the browser keep the secret of a session, out of reach of scripts."""
    response.set_cookie(
        COOKIE,
        secret.text,
        max_age=int(SESSION_LASTS.total_seconds()),
        path="/",
        secure=is_https,
        httponly=True,
        samesite="strict",
    )


def take_back(response: Response, *, is_https: bool) -> None:
    """Let the browser forget the secret."""
    response.delete_cookie(COOKIE, path="/", secure=is_https, httponly=True, samesite="strict")
