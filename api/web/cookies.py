"""Session cookies: HttpOnly, SameSite=Strict, for one path below the service's prefix, and Secure with a prefixed name
behind https.

A name with `__Host-` or `__Secure-` cannot be set by another site of the same domain or over plain http (RFC 6265bis
section 4.1.3), so another site cannot set a session's cookie.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from api.web.base import base_of
from ledger.server.settings import Settings


def cookie_name(settings: Settings, name: str, path: str) -> str:
    """Return the full name of the cookie `name` for `path`."""
    if not is_secure(settings):
        return name
    return f"__Host-{name}" if path == "/" else f"__Secure-{name}"


def is_secure(settings: Settings) -> bool:
    """True if the public address of this service is https."""
    return settings.public_url is not None and settings.public_url.lower().startswith("https://")


def read_cookie(request: Request, name: str, path: str) -> str | None:
    """Return the cookie's value."""
    return request.cookies.get(cookie_name(request.app.state.settings, name, path))


def set_cookie(
    request: Request, response: Response, name: str, path: str, value: str, *, seconds: int | None = None
) -> None:
    """Set a cookie for `seconds`, by default until the browser closes. The server decides when its session ends."""
    settings: Settings = request.app.state.settings
    response.set_cookie(
        cookie_name(settings, name, path),
        value,
        max_age=seconds,
        path=base_of(request) + path,
        secure=is_secure(settings),
        httponly=True,
        samesite="strict",
    )


def drop_cookie(request: Request, response: Response, name: str, path: str) -> None:
    """Delete a cookie from the browser."""
    settings: Settings = request.app.state.settings
    response.delete_cookie(
        cookie_name(settings, name, path),
        path=base_of(request) + path,
        secure=is_secure(settings),
        httponly=True,
        samesite="strict",
    )
