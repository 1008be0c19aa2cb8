"""Security of pages in a browser: strict headers, and forms that only pages of this service may send.

There are no CSRF tokens. Session cookies are SameSite=Strict, and every POST must name its origin: browsers send
`Sec-Fetch-Site` (Fetch Metadata) to https and to this machine, and `Origin` with every POST.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from ledger.errors import CrossSite
from ledger.server.settings import Settings

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
"""No inline script or style, so markup that was injected by mistake cannot run."""

_DENIED = ("camera", "display-capture", "geolocation", "microphone", "payment", "usb")

_SHELL = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in _DENIED),
}


def page_headers() -> dict[str, str]:
    """Return the headers of every page and of every personal file: browsers do not cache them."""
    return {**_SHELL, "Cache-Control": "no-store"}


def static_headers(cache_control: str) -> dict[str, str]:
    """Return the headers of a file of the program."""
    return {**_SHELL, "Cache-Control": cache_control}


async def check_same_origin(request: Request) -> None:
    """Check that a form was sent from a page of this service (a dependency of routers). Raises CrossSite."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        good = site == "same-origin"
    else:
        good = origin is not None and _origin(origin) == own_origin(request)
    if not good:
        raise CrossSite("This form was not sent from a page of this service.")


def own_origin(request: Request) -> str | None:
    """Return scheme and host of this service's pages: those of `public_url` if it is set, else those of the request."""
    settings: Settings = request.app.state.settings
    return _origin(settings.public_url or f"{request.url.scheme}://{request.headers.get('host', '')}")


def _origin(url: str) -> str | None:
    """Return the origin of a URL in one spelling, without the scheme's default port; None if it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    own = port is None or port == {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{parts.hostname}" + ("" if own else f":{port}")
