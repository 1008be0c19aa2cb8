"""The rows of webhook events: what a message may hold, and that docs, vectors and the SDK's types say the same."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import fields

from ledger import client
from ledger.client import WebhookEvent, verify_webhook
from ledger.client.models.webhook_events import EVENT_CLASSES
from ledger.protocol.encoding import parse_time
from ledger.protocol.public_ids import decode_id
from ledger.rules.appeals import ACTORS, TRANSITIONS, Action, Actor, CaseState
from ledger.rules.webhooks import (
    EVENTS,
    ID_HEADER,
    MAX_INTEGER,
    RETRY_SCHEDULE,
    SUBSCRIBABLE,
    TOLERANCE_SECONDS,
    PayloadMember,
    Recipient,
    WebhookType,
    check_payload,
    format_secret,
    message_body,
    signature_header,
    subscriptions_to,
)
from ledger.server.webhooks import attempt, emit, endpoints
from tests.counts import trials
from tests.rules import webhook_vectors as made
from tests.support import ROOT

PAGE = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
VECTORS: dict[str, Any] = json.loads((ROOT / "docs" / "vectors" / "webhooks.json").read_text(encoding="utf-8"))
ROWS = [(type_, recipient, members) for type_, spec in EVENTS.items() for recipient, members in spec.payloads.items()]
NAMES = [f"{type_}-{recipient}" for type_, recipient, _ in ROWS]
PERSONAL = {"report", "party", "reason"}


def payload(members: tuple[PayloadMember, ...]) -> dict[str, str | int]:
    return {member.name: member.example for member in members}


# --- the rows ------------------------------------------------------------------------------------------------------


def test_every_type_has_a_row_and_every_example_is_one_that_may_be_sent() -> None:
    assert list(EVENTS) == list(WebhookType)
    for type_, recipient, members in ROWS:
        check_payload(type_, recipient, payload(members))
        for member in members:
            assert member.pattern is not None or not member.values
            assert all(member.accepts(value) for value in member.values)
            if member.form.startswith("id "):
                prefix: Any = member.form[4:6]
                decode_id(prefix, str(member.example), made.SOURCE.service)


def test_the_filer_is_told_neither_the_report_nor_why_it_was_voided() -> None:
    for type_, recipient, members in ROWS:
        names = {member.name for member in members}
        if recipient is Recipient.FILER:
            assert names <= {"appeal", "state", "party"}, type_
        if recipient is Recipient.MEMBER:
            assert names.isdisjoint({"appeal", *PERSONAL}), type_


def test_states_of_the_rows_are_those_that_the_rules_lead_to() -> None:
    """What an appeal's state is after the actions that each event is sent for."""
    led_to: dict[WebhookType, set[CaseState]] = {
        WebhookType.APPEAL_OPENED: {after(Action.REOPEN), after(Action.GRANT_REOPENING), CaseState.SUBMITTED},
        WebhookType.APPEAL_QUESTION_ASKED: {after(Action.ASK_REPORTER), after(Action.ASK_SUBJECT)},
        WebhookType.APPEAL_DECIDED: {after(Action.DECIDE), after(Action.SIGN), after(Action.REPORTER_SILENT)},
        WebhookType.APPEAL_ENDED: {after(Action.WITHDRAW), after(Action.REPORT_GONE)},
    }
    for type_, states in led_to.items():
        said = {
            value
            for members in EVENTS[type_].payloads.values()
            for member in members
            if member.name == "state"
            for value in member.values
        }
        assert said == {state.value for state in states}, type_
    assert ACTORS[Action.WITHDRAW] == {Actor.SUBJECT}, "the page says who takes an appeal back"


def after(action: Action) -> CaseState:
    """The one state that `action` leads to."""
    (state,) = {row[action] for row in TRANSITIONS.values() if action in row}
    return state


@pytest.mark.parametrize(("type_", "recipient", "members"), ROWS, ids=NAMES)
def test_a_message_is_exactly_its_row(
    type_: WebhookType, recipient: Recipient, members: tuple[PayloadMember, ...]
) -> None:
    good = payload(members)
    body = json.loads(message_body(type_, recipient, made.SOURCE, made.AT, dict(reversed(list(good.items())))))
    assert list(body) == ["type", "timestamp", "service", "environment", "recipient", "data"]
    assert (body["service"], body["environment"], body["recipient"]) == ("ledger.example", "live", recipient.value)
    assert list(body["data"].items()) == list(good.items())
    bad: list[dict[str, Any]] = [{**good, "identifier": "+8613800138000"}, {**good, "": ""}]
    for member in members:
        bad.append({name: value for name, value in good.items() if name != member.name})
        others: list[Any] = [
            "",
            "no such",
            "ap_",
            f"{member.example}\n",
            f" {member.example}",
            None,
            True,
            1.5,
            ["x"],
            {},
        ]
        others += [-1, MAX_INTEGER + 1, str(member.example)] if member.pattern is None else [7]
        bad += [{**good, member.name: other} for other in others]
    for data in bad:
        with pytest.raises(ValueError, match=re.escape(str(type_))) as caught:
            message_body(type_, recipient, made.SOURCE, made.AT, data)
        assert "138" not in str(caught.value)


@settings(max_examples=trials(18, 1000))
@given(st.sampled_from(ROWS), st.sampled_from(ROWS), st.sampled_from(list(Recipient)))
def test_the_payload_of_another_row_is_refused(row: Any, other: Any, recipient: Recipient) -> None:
    type_, own, members = row
    data = payload(other[2])
    if data.keys() == {member.name for member in members} and all(
        member.accepts(data[member.name]) for member in members
    ):
        check_payload(type_, own, data)
    else:
        with pytest.raises(ValueError, match=r"has the members|must be"):
            check_payload(type_, own, data)
    if recipient not in EVENTS[type_].payloads:
        with pytest.raises(ValueError, match="is not sent"):
            check_payload(type_, recipient, payload(members))


def test_an_event_that_was_part_of_another_reaches_its_subscribers() -> None:
    assert subscriptions_to(WebhookType.APPEAL_ENDED) == {"appeal.ended", "appeal.decided"}
    assert subscriptions_to(WebhookType.APPEAL_DECIDED) == {"appeal.decided"}
    assert set(WebhookType) - set(SUBSCRIBABLE) == {"webhook.test"}


# --- the page and the vectors ---------------------------------------------------------------------------------------


def test_the_tables_of_the_page_are_the_rows() -> None:
    assert f"|---|---|---|---|\n{made.events_table()}\n" in PAGE
    assert f"|---|---|---|---|\n{made.members_table()}\n" in PAGE


def test_the_example_of_the_page_is_a_message_byte_for_byte() -> None:
    (shown,) = re.findall(r"```http\n(.*?)```", PAGE, re.DOTALL)
    assert shown == made.example()
    head, body = shown.rstrip("\n").split("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    secret = re.findall(r"`(whsec_[^`.]+)`", PAGE)[0]
    event = verify_webhook(secret, headers, body.encode(), made.AT)
    assert isinstance(event, client.AppealOpened)
    assert (event.id, event.sent_at, event.occurred_at) == (headers[ID_HEADER], made.AT, made.AT)


def test_the_vectors_are_made_by_the_code() -> None:
    assert made.vectors() == VECTORS
    assert [(message["type"], message["recipient"]) for message in VECTORS["messages"]] == [(t, r) for t, r, _ in ROWS]
    assert len({message["headers"][ID_HEADER] for message in VECTORS["messages"]}) == len(ROWS)


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=NAMES)
def test_a_vector_verifies_as_the_class_of_its_type(vector: dict[str, Any]) -> None:
    at = parse_time(VECTORS["sent_at"])
    event = verify_webhook(VECTORS["secret"], vector["headers"], vector["body"].encode(), at)
    assert type(event) is EVENT_CLASSES[vector["type"]]
    assert (event.type, event.recipient) == (vector["type"], vector["recipient"])
    assert (event.service, event.environment) == ("ledger.example", "live")
    assert {name: getattr(event, name) for name in event.data} == event.data
    optional = {field.name for field in fields(event)} - {field.name for field in fields(WebhookEvent)}
    assert all(getattr(event, name) is None for name in optional - event.data.keys())


def test_numbers_of_the_page_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    rungs = re.findall(r"\| time after the previous attempt \| (.*?) \|\n", PAGE)[0].split(" | ")
    units = {"s": 1, "min": 60, "h": 3600}
    waits = [0 if rung == "at once" else int(rung.split()[0]) * units[rung.split()[1]] for rung in rungs]
    assert [timedelta(seconds=wait) for wait in waits] == list(RETRY_SCHEDULE)
    assert len(RETRY_SCHEDULE) == 10
    assert "The delivery is tried ten times" in text
    assert timedelta(days=3) < sum(RETRY_SCHEDULE, timedelta()) < timedelta(days=3, hours=6)
    assert "a little more than three days" in text
    assert f"2xx within {attempt.TIMEOUT_SECONDS:g} seconds" in text
    assert f"no answer in {attempt.TIMEOUT_SECONDS:g} seconds" in text
    assert f"At most {attempt.MAX_ANSWER_BYTES // 1024} KiB" in text
    assert f"deleted after {emit.KEPT_DAYS} days" in text
    assert f"For {endpoints.OVERLAP_HOURS} hours every message has two signatures" in text
    assert TOLERANCE_SECONDS == 300
    assert "more than five minutes away" in text
    assert endpoints.MAX_ENDPOINTS == 5
    assert "at most five endpoints" in text
    first_cells = re.findall(r"^\| (`.*?) \|", PAGE.split("`last_error`")[1], re.MULTILINE)
    codes = re.findall(r"`([a-z_]+)`", " ".join(first_cells))
    assert sorted(codes) == sorted(attempt.DeliveryFailure)


# --- the SDK's types ------------------------------------------------------------------------------------------------


def test_the_classes_of_the_sdk_have_the_members_of_the_rows() -> None:
    assert list(EVENT_CLASSES) == list(EVENTS)
    for type_, cls in EVENT_CLASSES.items():
        assert getattr(client, cls.__name__) is cls
        assert f"`{cls.__name__}`" in PAGE
        payloads = EVENTS[WebhookType(type_)].payloads.values()
        everywhere = set.intersection(*[{member.name for member in members} for members in payloads])
        kinds = {member.name: int if member.pattern is None else str for members in payloads for member in members}
        own = [field for field in fields(cls) if field.name not in {common.name for common in fields(WebhookEvent)}]
        assert {item.name for item in own} == kinds.keys()
        for item in own:
            assert item.type in (kinds[item.name], kinds[item.name] | None)
            if item.required:
                assert item.name in everywhere


def received(document: object) -> WebhookEvent:
    """What `verify_webhook` makes of a signed message with this JSON."""
    body = json.dumps(document).encode()
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    stamp = int(now.timestamp())
    headers = {
        "webhook-id": "wm_abcdefgh",
        "webhook-timestamp": str(stamp),
        "webhook-signature": signature_header([made.SECRET], "wm_abcdefgh", stamp, body),
    }
    return verify_webhook(format_secret(made.SECRET), headers, body, now)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=trials(36, 2000))
@given(
    st.sampled_from(VECTORS["messages"]),
    st.dictionaries(st.sampled_from(["recipient", "service", "environment", "specversion"]), _JSON, max_size=3),
    st.dictionaries(st.sampled_from(["appeal", "report", "state", "epoch", "cut", "new"]), _JSON, max_size=3),
    st.sampled_from(["", ".later"]),
)
def test_messages_of_another_version_are_never_an_error(
    vector: dict[str, Any], around: dict[str, Any], inside: dict[str, Any], later: str
) -> None:
    """Members of any value, known or not, and unknown types: an event, of the class of its type where it fits."""
    document = json.loads(vector["body"])
    data = {**document["data"], **inside}
    event = received({**document, "type": document["type"] + later, **around, "data": data})
    assert event.type == document["type"] + later
    assert event.data == data
    if later:
        assert type(event) is WebhookEvent
    elif type(event) is not WebhookEvent:
        assert type(event) is EVENT_CLASSES[event.type]
        for field in fields(event):
            value = getattr(event, field.name)
            if field.name in data and field.name not in {common.name for common in fields(WebhookEvent)}:
                assert value == data[field.name] or value is None
    for name in ("service", "environment", "recipient"):
        assert getattr(event, name) is None or isinstance(getattr(event, name), str)


def test_messages_of_the_version_before_are_typed_too() -> None:
    """Without service, environment, recipient and the members that came later."""
    old = {"type": "appeal.opened", "timestamp": "2026-01-31T12:00:00Z"}
    event = received({**old, "data": {"appeal": "ap_abcdefgh", "state": "submitted"}})
    assert isinstance(event, client.AppealOpened)
    assert (event.appeal, event.state, event.report, event.service) == ("ap_abcdefgh", "submitted", None, None)
    asked = received({**old, "type": "appeal.question_asked", "data": {"appeal": "ap_abcdefgh", "party": "subject"}})
    assert isinstance(asked, client.AppealQuestionAsked)
    assert (asked.party, asked.state) == ("subject", None)
    withdrawn = received({**old, "type": "appeal.decided", "data": {"appeal": "ap_abcdefgh", "state": "withdrawn"}})
    assert isinstance(withdrawn, client.AppealDecided)
    assert withdrawn.state == "withdrawn"
    assert type(received({**old, "data": {"appeal": 7}})) is WebhookEvent


def test_the_python_of_the_page_runs() -> None:
    """The receiver of the page takes a message once, and of the live ledger only."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    taken: list[WebhookEvent] = []
    answered: list[str] = []
    noted: list[tuple[str, str | None]] = []
    place: dict[str, Any] = {
        "SECRET": format_secret(made.SECRET),
        "seen_before": lambda message_id: message_id in {event.id for event in taken},
        "enqueue": taken.append,
        "answer_within_seven_days": answered.append,
        "note": lambda *facts: noted.append(facts),
    }
    for block in blocks:
        exec(compile(block, "webhooks.md", "exec"), place)
    stamp = int(datetime.now(UTC).timestamp())
    for vector in VECTORS["messages"]:
        for environment in ("live", "test", "live"):
            body = vector["body"].replace('"environment":"live"', f'"environment":"{environment}"').encode()
            signature = signature_header([made.SECRET], vector["headers"][ID_HEADER], stamp, body)
            headers = {**vector["headers"], "webhook-timestamp": str(stamp), "webhook-signature": signature}
            assert place["receive"](headers, body) == 204
            assert place["receive"](headers, body + b" ") == 400
    assert [event.type for event in taken] == [vector["type"] for vector in VECTORS["messages"]]
    for event in taken:
        place["handle"](event)
    (appeal,) = {event.data["appeal"] for event in taken if "appeal" in event.data}
    (report,) = {event.data["report"] for event in taken if "report" in event.data}
    assert answered == [appeal], "the question to the person is not the reporter's to answer"
    assert noted == [(appeal, report), (appeal, None)]
