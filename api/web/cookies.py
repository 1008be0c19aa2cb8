"""Session cookies: HttpOnly, SameSite=Strict, for one path below the service's prefix, and Secure with a prefixed name
behind https.

A name with `__Host-` or `__Secure-` cannot be set by another site of the same domain or over plain http (RFC 6265bis
section 4.1.3), so nobody can plant a session.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from api.web.base import base_of
from ledger.server.settings import Settings


def cookie_name(settings: Settings, name: str, path: str) -> str:
    """The name that the cookie `name` for `path` really has."""
    if not is_secure(settings):
        return name
    return f"__Host-{name}" if path == "/" else f"__Secure-{name}"


def is_secure(settings: Settings) -> bool:
    """Whether people reach this service over https."""
    return settings.public_url is not None and settings.public_url.lower().startswith("https://")


def read_cookie(request: Request, name: str, path: str) -> str | None:
    """The cookie's value."""
    return request.cookies.get(cookie_name(request.app.state.settings, name, path))


def set_cookie(
    request: Request, response: Response, name: str, path: str, value: str, *, seconds: int | None = None
) -> None:
    """Set it for so many seconds, by default until the browser closes; the server decides when its session ends."""
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
    """Make the browser forget it."""
    settings: Settings = request.app.state.settings
    response.delete_cookie(
        cookie_name(settings, name, path),
        path=base_of(request) + path,
        secure=is_secure(settings),
        httponly=True,
        samesite="strict",
    )
