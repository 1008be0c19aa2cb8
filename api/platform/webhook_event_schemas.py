"""The `webhooks` section of the OpenAPI description, made from `ledger.rules.webhooks.EVENTS`: one operation for
each event, one schema for each event and recipient."""

from __future__ import annotations

from typing import Any

from ledger.protocol.encoding import format_time, parse_time
from ledger.protocol.public_ids import id_pattern
from ledger.rules.webhooks import (
    EVENTS,
    ID_HEADER,
    MAX_INTEGER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    PayloadMember,
    Recipient,
    WebhookType,
)

REF = "#/components/schemas/{name}"
EXAMPLE_TIME = format_time(parse_time("2026-01-31T12:00:00Z"))

_HEADERS = (
    (ID_HEADER, f"^{id_pattern('wm')}$", "The message's id, the same at every attempt: drop what you have had."),
    (TIMESTAMP_HEADER, "^[0-9]{1,12}$", "Unix time of this attempt, in seconds."),
    (SIGNATURE_HEADER, "^v1,\\S+( v1,\\S+)*$", "HMAC-SHA256 of id, timestamp and body, by each valid secret."),
)
_TOLERANT = "Later versions may add members and values: ignore what you do not know."


def schema_name(type_: WebhookType, recipient: Recipient) -> str:
    """Return the name of the schema of a message, e.g. `AppealOpenedReporterMessage`."""
    words = [*type_.value.replace(".", "_").split("_"), recipient.value, "message"]
    return "".join(word.capitalize() for word in words)


def webhook_section() -> dict[str, Any]:
    """Return the value of `webhooks`: by type of event, the request that the ledger sends."""
    return {type_.value: {"post": _operation(type_)} for type_ in EVENTS}


def webhook_schemas() -> dict[str, Any]:
    """Return, by name, the schemas to which `webhook_section` refers."""
    return {
        schema_name(type_, recipient): _message(type_, recipient, members)
        for type_, spec in EVENTS.items()
        for recipient, members in spec.payloads.items()
    }


def _operation(type_: WebhookType) -> dict[str, Any]:
    spec = EVENTS[type_]
    references = {recipient.value: REF.format(name=schema_name(type_, recipient)) for recipient in spec.payloads}
    first = next(iter(references.values()))
    schema: dict[str, Any] = {"$ref": first}
    if len(references) > 1:
        schema = {
            "oneOf": [{"$ref": reference} for reference in references.values()],
            "discriminator": {"propertyName": "recipient", "mapping": references},
        }
    sent = "" if spec.subscribable else " It is sent on request and cannot be subscribed to."
    also = "".join(f" Endpoints that subscribe to `{other}` get it too." for other in spec.also_to)
    recipients = ", ".join(f"`{recipient}`" for recipient in references)
    return {
        "operationId": "on_" + type_.value.replace(".", "_"),
        "summary": spec.when[0].upper() + spec.when[1:],
        "description": f"Sent to platforms as: {recipients}.{sent}{also} {_TOLERANT}",
        "tags": ["webhooks"],
        "security": [],
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "description": text,
                "schema": {"type": "string", "pattern": form},
            }
            for name, form, text in _HEADERS
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "2XX": {"description": "The message arrived. Answer before any work, within 15 seconds."},
            "410": {"description": "Nothing more is wanted: the endpoint is disabled."},
            "default": {"description": "The message is sent again later, ten times at most."},
        },
    }


def _message(type_: WebhookType, recipient: Recipient, members: tuple[PayloadMember, ...]) -> dict[str, Any]:
    properties = {
        "type": {"const": type_.value},
        "timestamp": {
            "type": "string",
            "format": "date-time",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
            "description": "When it happened.",
        },
        "service": {"type": "string", "description": "Service id of the ledger that sends the message."},
        "environment": {"type": "string", "description": "`live` or `test`."},
        "recipient": {"const": recipient.value, "description": "The part in which your platform gets the message."},
        "data": {
            "type": "object",
            "properties": {member.name: _member(member) for member in members},
            "required": [member.name for member in members],
            "additionalProperties": True,
        },
    }
    example = {
        "type": type_.value,
        "timestamp": EXAMPLE_TIME,
        "service": "ledger.example",
        "environment": "live",
        "recipient": recipient.value,
        "data": {member.name: member.example for member in members},
    }
    return {
        "type": "object",
        "description": f"`{type_}` to a platform as `{recipient}`: {EVENTS[type_].when}. {_TOLERANT}",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": True,
        "examples": [example],
    }


def _member(member: PayloadMember) -> dict[str, Any]:
    """Return the schema of a member. Known values are in the description and not an `enum`, because later versions add
    values."""
    text = member.meaning[0].upper() + member.meaning[1:] + "."
    if member.pattern is None:
        return {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER, "description": text}
    known = f" Sent today: {', '.join(f'`{value}`' for value in member.values)}." if member.values else ""
    return {"type": "string", "pattern": f"^{member.pattern}$", "description": text + known}
