"""What keeps pages safe in a browser: strict headers, and forms that only our own pages may send.

There are no CSRF tokens. Session cookies are SameSite=Strict, and every POST must say where it comes from: browsers
send `Sec-Fetch-Site` (Fetch Metadata) to https and to this machine, and `Origin` with every POST.
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
"""No inline script or style anywhere, so text that slips through as markup still cannot run."""

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
    """Headers of every page and of every file that is somebody's: none is kept by the browser."""
    return {**_SHELL, "Cache-Control": "no-store"}


def static_headers(cache_control: str) -> dict[str, str]:
    """Headers of a file of the program."""
    return {**_SHELL, "Cache-Control": cache_control}


async def check_same_origin(request: Request) -> None:
    """A dependency for routers of pages. Raises CrossSite for a POST that did not come from a page of ours."""
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
    """Scheme and host of our own pages: of `public_url` where it is set, else as this request names them."""
    settings: Settings = request.app.state.settings
    return _origin(settings.public_url or f"{request.url.scheme}://{request.headers.get('host', '')}")


def _origin(url: str) -> str | None:
    """The origin of a URL in one spelling, without the scheme's own port; None where there is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    own = port is None or port == {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{parts.hostname}" + ("" if own else f":{port}")
