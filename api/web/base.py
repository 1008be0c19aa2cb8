"""The path prefix of this service's public address, `REFUND_LEDGER_PUBLIC_URL`.

A proxy may serve the ledger below a prefix (https://example.com/risk/ledger) and remove the prefix before it forwards a
request. So no route knows the prefix, and every address that is sent to a browser begins with it: links, forms,
redirects, cookies. Headers of the request (such as `X-Forwarded-Prefix`) are ignored, because every client can send
them.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import Scope

from ledger.protocol.urls import path_prefix
from ledger.server.settings import Settings


def base_path(settings: Settings) -> str:
    """Return the prefix, such as `/risk/ledger`; empty if there is none. Raises ConfigurationError."""
    return "" if settings.public_url is None else path_prefix(settings.public_url)


def base_of(request: Request) -> str:
    """Return the prefix of the service that answers `request`."""
    return base_path(request.app.state.settings)


def base_of_scope(scope: Scope) -> str:
    """Return `base_of` for an ASGI scope; empty for a scope without an application."""
    app = scope.get("app")
    return "" if app is None else base_path(app.state.settings)
