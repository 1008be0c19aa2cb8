"""Webhooks on the platform's side: verify messages, and manage endpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from ledger.client.inputs import check_id, check_text, check_time
from ledger.client.models.decoding import about
from ledger.client.models.webhook_events import WebhookEvent, read_event
from ledger.client.models.webhooks import (
    DeliveryPage,
    EndpointWithSecret,
    WebhookDelivery,
    WebhookEndpoint,
    parse_deliveries,
    parse_delivery,
    parse_endpoint,
    parse_endpoint_with_secret,
    parse_endpoints,
)
from ledger.client.session import ATTEMPT_SECONDS, Session
from ledger.errors import ConfigurationError, InvalidInput, InvalidRequest, InvalidSignature
from ledger.protocol.encoding import parse_time
from ledger.rules.webhooks import (
    ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    TOLERANCE_SECONDS,
    check_signature,
    parse_secret,
)

T = TypeVar("T")


def verify_webhook(
    secrets: str | Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    tolerance_seconds: int = TOLERANCE_SECONDS,
) -> WebhookEvent:
    """Return the event, if one of the signatures over `body`, exactly the bytes that arrived, is by one of `secrets`
    (`whsec_...`: one, or during a rotation both), and it was sent at most `tolerance_seconds` away from `now`.

    It is of the class of its type (`AppealOpened` and so on); one of a type that this version does not know is a plain
    `WebhookEvent`.

    Raises InvalidSignature: answer with 400 and do nothing; ConfigurationError for a malformed secret, InvalidRequest
    or InvalidTime for another argument of the wrong type.
    """
    keys = [parse_secret(secret) for secret in _secrets(secrets)]
    _check_message(headers, body)
    check_time("now", now)
    if isinstance(tolerance_seconds, bool) or not isinstance(tolerance_seconds, int | float) or tolerance_seconds < 0:
        raise InvalidRequest("tolerance_seconds must be a number from 0.", field="tolerance_seconds")
    body = bytes(body)
    message_id, timestamp = check_signature(keys, headers, body, now, tolerance_seconds)
    try:
        document = json.loads(body)
        occurred_at = parse_time(document["timestamp"])
        if not isinstance(document["type"], str) or not isinstance(document["data"], dict):
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError, InvalidInput) as error:
        raise InvalidSignature("The webhook is signed, but is not a message of a refund ledger.") from error
    return read_event(message_id, datetime.fromtimestamp(timestamp, UTC), occurred_at, document)


def _secrets(given: object) -> list[str]:
    """Return one secret or several as a list. Raises ConfigurationError."""
    secrets = [given] if isinstance(given, str) else given
    if isinstance(secrets, Sequence) and not isinstance(secrets, bytes) and secrets:
        texts = [secret for secret in secrets if isinstance(secret, str)]
        if len(texts) == len(secrets):
            return texts
    raise ConfigurationError(
        "secrets must be the text whsec_... that webhooks.create returned, or a list of such texts."
    )


def _check_message(headers: object, body: object) -> None:
    """Check the types of headers and body. Raises InvalidRequest for types that no message can have, InvalidSignature
    for headers that a sender may have left out or doubled: None or a list in place of text."""
    if not isinstance(headers, Mapping):
        raise InvalidRequest(
            "headers must be a mapping of names to texts; of ASGI's pairs: {name.decode(): value.decode('latin-1') "
            "for name, value in scope['headers']}.",
            field="headers",
        )
    if not isinstance(body, bytes | bytearray | memoryview):
        raise InvalidRequest("body must be the bytes that arrived, before anything decodes them.", field="body")
    for name, value in headers.items():
        if not isinstance(name, str):
            raise InvalidRequest("headers must have text as names: name.decode().", field="headers")
        if name.lower() in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER):
            try:
                check_text(name.lower(), value)
            except InvalidRequest:
                raise InvalidSignature(f"The webhook header {name.lower()} is missing or is not one text.") from None


WebhookEndpoints = list[WebhookEndpoint]


class Webhooks:
    """`ledger.webhooks`: endpoints and deliveries. A request that changes something is sent once and not retried: list
    the endpoints, then repeat.

    Each method raises InvalidRequest for an unfit argument, Unauthenticated or Forbidden (and their leaves) where the
    platform has no access, UnexpectedAnswer or AnswerMismatch for a wrong answer, Unavailable in an outage, and what
    `RefundLedger.connect` raises; its docstring names the other errors.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def create(self, url: str, events: Sequence[str]) -> EndpointWithSecret:
        """Register an endpoint for these types of events; its `secret` is returned this once. Raises WebhookInvalid,
        UnexpectedAnswer, Unavailable."""
        parse = about(parse_endpoint_with_secret, url=url)
        return self._once("POST", "/v1/webhooks", parse, {"url": url, "events": list(events)})

    def list(self) -> WebhookEndpoints:
        """Return your endpoints, oldest first."""
        return self._session.get("/v1/webhooks", lambda value: [*parse_endpoints(value)])

    def get(self, endpoint: str) -> WebhookEndpoint:
        """Return an endpoint of yours. Raises NotFound, InvalidRequest, Unavailable."""
        return self._session.get(_path(endpoint), about(parse_endpoint, id=endpoint))

    def delete(self, endpoint: str) -> None:
        """Delete an endpoint with its deliveries. Raises NotFound, InvalidRequest, Unavailable."""
        self._once("DELETE", _path(endpoint), lambda _: None)

    def rotate_secret(self, endpoint: str) -> EndpointWithSecret:
        """Make a new `secret` for an endpoint, and return the endpoint with it; the previous secret stays valid for 24
        hours. Raises NotFound."""
        return self._once("POST", f"{_path(endpoint)}/rotate", about(parse_endpoint_with_secret, id=endpoint))

    def enable(self, endpoint: str) -> WebhookEndpoint:
        """Make an endpoint active again that was disabled because it answered 410. Raises NotFound, InvalidRequest,
        Unavailable."""
        return self._once("POST", f"{_path(endpoint)}/enable", about(parse_endpoint, id=endpoint))

    def send_test(self, endpoint: str) -> WebhookDelivery:
        """Have the ledger send a `webhook.test` message, and return its delivery. Raises NotFound, WebhookInvalid for a
        disabled endpoint, InvalidRequest, Unavailable."""
        return self._once("POST", f"{_path(endpoint)}/test", about(parse_delivery, type="webhook.test"))

    def list_deliveries(self, endpoint: str, *, limit: int = 50, starting_after: str | None = None) -> DeliveryPage:
        """Return the deliveries to an endpoint in the last 30 days, newest first. Raises NotFound, InvalidRequest,
        Unavailable."""
        query = {"limit": str(limit)}
        if starting_after is not None:
            query["starting_after"] = starting_after
        return self._session.get(f"{_path(endpoint)}/deliveries", parse_deliveries, query)

    def redeliver(self, endpoint: str, message: str) -> WebhookDelivery:
        """Have the ledger send a message again now, under the same id, and return its delivery. Raises NotFound,
        WebhookInvalid, InvalidRequest, Unavailable."""
        path = f"{_path(endpoint)}/deliveries/{check_id('wm', message)}/replay"
        return self._once("POST", path, about(parse_delivery, message=message))

    def _once(self, method: str, path: str, parse: Callable[[Any], T], body: Mapping[str, Any] | None = None) -> T:
        """Return one attempt: made twice, an endpoint or a secret would be there twice, or gone."""
        self._session.ready()
        content = None if body is None else json.dumps(body).encode()
        answer = self._session.transport.within(
            ATTEMPT_SECONDS, lambda limit: self._session.transport.send(method, path, limit, content=content)
        )
        return parse(None) if answer.status == 204 else answer.read(parse)


def _path(endpoint: str) -> str:
    return f"/v1/webhooks/{check_id('we', endpoint)}"
