"""The description's `webhooks` section: a schema for each event and recipient, which real messages satisfy."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from api.app import create_app
from api.platform.webhook_event_schemas import schema_name
from ledger.rules.webhooks import EVENTS, RETRY_SCHEDULE, SUBSCRIBABLE, Recipient, WebhookType
from ledger.server.settings import Settings
from ledger.server.webhooks.attempt import TIMEOUT_SECONDS
from tests.rules.webhook_vectors import vectors

MESSAGES = [(each["type"], each["recipient"], json.loads(each["body"])) for each in vectors()["messages"]]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The OpenAPI description; no server is needed for it."""
    return create_app(Settings()).openapi()


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """A validator of `schema`, which may refer to the schemas of messages."""
    messages = {name: value for name, value in document["components"]["schemas"].items() if name.endswith("Message")}
    return jsonschema_rs.Draft202012Validator({**schema, "components": {"schemas": messages}})


def test_there_is_one_operation_for_each_event(document: dict[str, Any]) -> None:
    assert list(document["webhooks"]) == [type_.value for type_ in EVENTS]
    ids = [webhook["post"]["operationId"] for webhook in document["webhooks"].values()]
    assert len(ids) == len(set(ids))
    for type_, item in document["webhooks"].items():
        assert item["post"]["tags"] == ["webhooks"]
        assert {parameter["name"] for parameter in item["post"]["parameters"]} == {
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
        }
        said = "cannot be subscribed to" in item["post"]["description"]
        assert said == (type_ not in SUBSCRIBABLE)
        assert f"within {TIMEOUT_SECONDS:g} seconds" in item["post"]["responses"]["2XX"]["description"]
    assert len(RETRY_SCHEDULE) == 10, "the description says ten times"
    events = document["components"]["schemas"]["EndpointRequest"]["properties"]["events"]
    assert events["items"]["enum"] == [each.value for each in SUBSCRIBABLE]


def test_a_message_satisfies_the_schema_of_its_event_and_recipient_only(document: dict[str, Any]) -> None:
    every = {
        (type_.value, recipient.value): validator(
            document, {"$ref": f"#/components/schemas/{schema_name(type_, recipient)}"}
        )
        for type_, spec in EVENTS.items()
        for recipient in spec.payloads
    }
    for type_, recipient, message in MESSAGES:
        assert [pair for pair, schema in every.items() if schema.is_valid(message)] == [(type_, recipient)]
        content = document["webhooks"][type_]["post"]["requestBody"]["content"]["application/json"]
        validator(document, content["schema"]).validate(message)


def test_schemas_allow_what_later_versions_add_and_nothing_less(document: dict[str, Any]) -> None:
    for type_, recipient, message in MESSAGES:
        name = schema_name(WebhookType(type_), Recipient(recipient))
        schema = validator(document, {"$ref": f"#/components/schemas/{name}"})
        schema.validate({**message, "new": 1, "data": {**message["data"], "new": {"x": [1]}}})
        for member in message:
            assert not schema.is_valid({content: value for content, value in message.items() if content != member})
        for member, value in message["data"].items():
            less = {item: other for item, other in message["data"].items() if item != member}
            assert not schema.is_valid({**message, "data": less})
            assert not schema.is_valid({**message, "data": {**less, member: None}})
            if isinstance(value, str) and "_" in value and not value.startswith(("ap_", "rp_", "we_")):
                schema.validate({**message, "data": {**less, member: "a_new_value"}})
