"""Schemas of webhook endpoints and their deliveries."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from api.common_schemas import Time, Wire
from ledger.protocol.public_ids import id_pattern
from ledger.rules.webhook_urls import MAX_URL_CHARS
from ledger.rules.webhooks import SUBSCRIBABLE, DeliveryState, WebhookType

PAGE_LIMIT = 100
PAGE_DEFAULT = 50

EndpointId = Annotated[str, StringConstraints(pattern=f"^{id_pattern('we')}$"), Field(examples=["we_Xk3mPq9a"])]
MessageId = Annotated[
    str,
    StringConstraints(pattern=f"^{id_pattern('wm')}$"),
    Field(description="The message's id: `webhook-id` of every attempt.", examples=["wm_Xk3mPq9a"]),
]
Url = Annotated[
    str,
    StringConstraints(pattern=r"^https?://[!-~]+$", max_length=MAX_URL_CHARS),
    Field(description="https, port 443 or 8443, no user name; every address of the host must be public."),
]
Event = Annotated[
    str,
    Field(
        description="A type of event. What is sent for each: `webhooks` in this description.",
        json_schema_extra={"enum": [type_.value for type_ in SUBSCRIBABLE]},
    ),
]
Secret = Annotated[
    str,
    StringConstraints(pattern=r"^whsec_[A-Za-z0-9+/]+={0,2}$"),
    Field(description="What you verify signatures with. It is never shown again."),
]

_ENDPOINT: dict[str, Any] = {
    "id": "we_Xk3mPq9a",
    "url": "https://hooks.acme.example/refund-ledger",
    "events": ["appeal.opened", "appeal.decided"],
    "status": "active",
    "disabled_reason": None,
    "created_at": "2026-01-31T12:00:00Z",
    "previous_secret_until": None,
}
_SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


class EndpointRequest(Wire):
    """A new endpoint."""

    url: Url
    events: Annotated[list[Event], Field(min_length=1, max_length=len(SUBSCRIBABLE))]


class Endpoint(Wire):
    """An endpoint as its platform sees it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ENDPOINT]})

    id: EndpointId
    url: Url
    events: list[Event]
    status: Literal["active", "disabled"]
    disabled_reason: Annotated[
        Literal["gone"] | None, Field(description="`gone`: it answered 410. Enable it to be told again.")
    ]
    created_at: Time
    previous_secret_until: Annotated[
        Time | None, Field(description="Until then the secret before the last rotation signs as well.")
    ]


class EndpointWithSecret(Endpoint):
    """An endpoint with its new secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_ENDPOINT, "secret": _SECRET}]})

    secret: Secret


class EndpointList(Wire):
    """All endpoints of your platform, oldest first: at most five."""

    data: list[Endpoint]


class DeliveryView(Wire):
    """One message on its way to one endpoint."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "message": "wm_Xk3mPq9a",
                    "type": "appeal.opened",
                    "created_at": "2026-01-31T12:00:00Z",
                    "state": "pending",
                    "attempts": 2,
                    "next_attempt_at": "2026-01-31T12:05:11Z",
                    "last_attempt_at": "2026-01-31T12:00:06Z",
                    "last_status": 503,
                    "last_error": "status",
                }
            ]
        }
    )

    message: MessageId
    type: Annotated[str, Field(json_schema_extra={"enum": [type_.value for type_ in WebhookType]})]
    created_at: Time
    state: DeliveryState
    attempts: Annotated[int, Field(ge=0)]
    next_attempt_at: Annotated[Time | None, Field(description="While it is pending.")]
    last_attempt_at: Time | None
    last_status: Annotated[int | None, Field(description="HTTP status of the last answer, if there was one.")]
    last_error: Annotated[
        str | None, Field(pattern=r"^[a-z_]{1,64}$", description="Why the last attempt failed (docs/webhooks.md).")
    ]


class DeliveryPage(Wire):
    """Newest messages first. Get the next page with `starting_after` = the last message's id while `has_more`."""

    data: list[DeliveryView]
    has_more: bool
