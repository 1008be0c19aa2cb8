"""The path below which people reach this service: that of `REFUND_LEDGER_PUBLIC_URL`.

A proxy may serve the ledger below a prefix (https://example.com/risk/ledger) and take the prefix off before it passes
a request on. So no route knows the prefix, and every address that is sent to a browser begins with it: links, forms,
redirects, cookies. Headers of the request (`X-Forwarded-Prefix` and its kin) are not looked at, because every client
can send them.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import Scope

from ledger.protocol.urls import path_prefix
from ledger.server.settings import Settings


def base_path(settings: Settings) -> str:
    """The prefix, such as `/risk/ledger`; empty where there is none. Raises ConfigurationError."""
    return "" if settings.public_url is None else path_prefix(settings.public_url)


def base_of(request: Request) -> str:
    """The prefix of the service that answers `request`."""
    return base_path(request.app.state.settings)


def base_of_scope(scope: Scope) -> str:
    """As `base_of`; empty for a scope that no application has seen."""
    app = scope.get("app")
    return "" if app is None else base_path(app.state.settings)
