"""Webhook endpoints and deliveries, as typed values."""

from __future__ import annotations

from datetime import datetime

import msgspec

from ledger.client.models.decoding import Count, Model, decode


class WebhookEndpoint(Model, frozen=True, kw_only=True):
    """An endpoint of yours. `secret` is None except in an EndpointWithSecret, and is kept out of `repr`."""

    id: str
    url: str
    events: tuple[str, ...]
    status: str
    disabled_reason: str | None = None
    created_at: datetime
    previous_secret_until: datetime | None = None
    secret: str | None = None

    _secret = frozenset({"secret"})


class EndpointWithSecret(WebhookEndpoint, frozen=True, kw_only=True):
    """An endpoint whose `secret` was made now; the ledger returns it this once."""

    secret: str


class WebhookDelivery(Model, frozen=True):
    """One message on its way to one endpoint."""

    message: str
    type: str
    state: str
    attempts: Count
    created_at: datetime
    next_attempt_at: datetime | None = None
    last_attempt_at: datetime | None = None
    last_status: int | None = None
    last_error: str | None = None


class DeliveryPage(Model, frozen=True):
    """A page of deliveries, newest messages first."""

    deliveries: tuple[WebhookDelivery, ...] = msgspec.field(name="data")
    has_more: bool


class _Endpoints(Model, frozen=True):
    data: tuple[WebhookEndpoint, ...]


def parse_endpoint(value: object) -> WebhookEndpoint:
    """Return the WebhookEndpoint in the service's answer. Raises UnexpectedAnswer."""
    return decode(value, WebhookEndpoint)


def parse_endpoint_with_secret(value: object) -> EndpointWithSecret:
    """Return the EndpointWithSecret in the service's answer. Raises UnexpectedAnswer."""
    return decode(value, EndpointWithSecret)


def parse_endpoints(value: object) -> tuple[WebhookEndpoint, ...]:
    """Return the endpoints in the service's answer. Raises UnexpectedAnswer."""
    return decode(value, _Endpoints).data


def parse_delivery(value: object) -> WebhookDelivery:
    """Return the WebhookDelivery in the service's answer. Raises UnexpectedAnswer."""
    return decode(value, WebhookDelivery)


def parse_deliveries(value: object) -> DeliveryPage:
    """Return the DeliveryPage in the service's answer. Raises UnexpectedAnswer."""
    return decode(value, DeliveryPage)
