"""The ledger's answers are decoded strictly in what is known, and tolerantly in what a later version adds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from ledger.client.models import appeals, lookups, pictures, reports, webhooks
from ledger.client.models.decoding import Model, decode, decode_json
from ledger.client.models.webhook_events import AppealOpened, WebhookEvent, read_event
from ledger.errors import AnswerMismatch, UnexpectedAnswer

TIME = "2026-01-31T23:59:59Z"
MOMENT = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
LOOKUP = {
    "tier": "watch", "credit": 80, "points": 1.5, "events": 1, "reporters": 1, "disputed": False, "protected": True,
    "has_statement": False, "reasons": ["one_reporter_only"], "guidance": ["approve"], "matched_kinds": ["phone"],
    "id": "lk_1", "policy": "2", "as_of_index": 7, "as_of": TIME, "expires_at": TIME,
}  # fmt: skip
VIEW = {
    "id": "rp_1", "entry_index": 3, "status": "counting", "conduct": "empty_parcel", "order_ref": "abc",
    "amount_minor": 1, "currency": "CNY", "outcome": "refund_refused", "act_ended_at": TIME, "notice_sent_at": TIME,
    "recorded_at": TIME, "effective_from": TIME, "expires_at": TIME, "receipt_url": "/r",
}  # fmt: skip
STATE = {"id": "ap_1", "state": "under_review", "opened_at": TIME, "due_at": TIME, "overdue": False}
CASE = {
    **STATE, "party": "reporter", "report": "rp_1", "group": ["ap_1"], "round": 1, "grounds": "not_me",
    "conduct": "empty_parcel", "profile": "CN", "extended": False, "timeline": [], "attachments": [],
}  # fmt: skip
ENDPOINT = {"id": "we_1", "url": "https://a.example", "events": ["appeal.opened"], "status": "active",
            "created_at": TIME}  # fmt: skip
ANSWERS: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "lookup": (lookups.parse_lookup, LOOKUP),
    "report": (reports.parse_view, VIEW),
    "page of reports": (reports.parse_page, {"data": [VIEW], "has_more": False}),
    "state of a case": (appeals.parse_appeal, STATE),
    "case": (appeals.parse_appeal, CASE),
    "pictures": (
        pictures.parse_reuses,
        {"results": [{"reports": 1, "platforms": 1, "own_reports": 0, "more": False, "common": False}]},
    ),
    "endpoint": (webhooks.parse_endpoint, ENDPOINT),
    "endpoint with its secret": (webhooks.parse_endpoint_with_secret, {**ENDPOINT, "secret": "whsec_abc"}),
    "link": (appeals.parse_link, {"id": "ss_1", "expires_at": TIME, "url": "https://a.example/secret"}),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all members of a JSON object, at any depth."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        if isinstance(value, dict):
            yield (*path, name)
        yield from places(member, (*path, name))


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy of `value` in which `change` was applied to the object that holds the member at `path`."""
    copied = copy.deepcopy(value)
    holder = copied
    for name in path[:-1]:
        holder = holder[name]
    change(holder, path[-1])
    return copied


PLACES = [(name, path) for name, (_, answer) in ANSWERS.items() for path in places(answer)]


@pytest.mark.parametrize("name", ANSWERS)
def test_members_of_a_later_version_are_ignored(name: str) -> None:
    parse, answer = ANSWERS[name]
    for path in [(), *[path[:-1] for path in places(answer)]]:
        added = changed(answer, (*path, "x_added"), lambda holder, member: holder.update({member: {"any": [1]}}))
        assert parse(added) == parse(answer)


@pytest.mark.parametrize(("name", "path"), PLACES, ids=str)
def test_a_member_that_is_missing_or_of_another_type_is_an_error(name: str, path: tuple[Any, ...]) -> None:
    parse, answer = ANSWERS[name]
    if (name, path) != ("case", ("party",)):  # without it the answer is the state alone
        with pytest.raises(UnexpectedAnswer):
            parse(changed(answer, path, lambda holder, member: holder.pop(member)))
    with pytest.raises(UnexpectedAnswer) as caught:
        parse(changed(answer, path, lambda holder, member: holder.update({member: {"secret": "+86 138 0013 8000"}})))
    assert "138" not in str(caught.value), "no value is repeated"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("credit", 101), ("credit", -1), ("credit", True), ("credit", 80.0), ("credit", "80"), ("events", -1),
        ("points", -0.5), ("points", float("nan")), ("points", True), ("tier", "unavailable"), ("tier", "Clear!"),
        ("reasons", ["not a code"]), ("reasons", [1]), ("policy", True), ("as_of_index", 1.5),
        ("as_of", "2026-01-31T23:59:59+01:00"), ("as_of", "2026-01-31T23:59:59.5Z"), ("as_of", "2026-01-31T23:59:59"),
        ("as_of", "2026-02-31T23:59:59Z"), ("as_of", 1769903999), ("disputed", 1), ("disputed", None),
    ],
)  # fmt: skip
def test_a_lookup_with_a_value_that_cannot_be_is_an_error(member: str, value: object) -> None:
    with pytest.raises(UnexpectedAnswer):
        lookups.parse_lookup({**LOOKUP, member: value})


@pytest.mark.parametrize("value", [None, [], "text", 1])
def test_an_answer_that_is_no_object_is_an_error(value: object) -> None:
    for parse, _ in ANSWERS.values():
        with pytest.raises(UnexpectedAnswer):
            parse(value)


def test_times_are_aware_and_in_utc() -> None:
    assert lookups.parse_lookup(LOOKUP).as_of == MOMENT
    assert reports.parse_view(VIEW).expires_at.utcoffset() == timedelta(0)
    (attached,) = appeals.parse_appeal(
        {**CASE, "attachments": [{"id": "at_1", "party": "reporter", "name": "a", "media_type": "text/plain",
                                  "size_bytes": 1, "sha256": "x", "added_at": TIME}]}
    ).attachments  # fmt: skip
    assert (attached.added_at, attached.evidence_index) == (MOMENT, None)


def test_corrections_of_a_report_are_its_own_members() -> None:
    answer = {**VIEW, "restitution": {"received_at": TIME}, "withdrawal": {"reason": "duplicate"}}
    view = reports.parse_view(answer)
    assert (view.restituted_at, view.withdrawal_reason) == (MOMENT, "duplicate")
    plain = reports.parse_view({**VIEW, "restitution": None, "restituted_at": TIME, "withdrawal_reason": "other"})
    assert (plain.restituted_at, plain.withdrawal_reason) == (None, None), "only the ledger's own members say so"
    with pytest.raises(AnswerMismatch):
        reports.parse_page({"data": [VIEW], "has_more": False}, order_ref="another")


def test_the_signature_of_an_accepted_report_is_not_the_ledgers_to_say() -> None:
    answer = {name: VIEW[name] for name in ("id", "entry_index", "status", "effective_from", "expires_at")}
    assert reports.parse_accepted({**answer, "receipt_url": "/r", "signature": "forged"}).signature == ""


def test_secrets_are_left_out_of_repr_and_are_compared() -> None:
    endpoint = webhooks.parse_endpoint_with_secret({**ENDPOINT, "secret": "whsec_abc"})
    link = appeals.parse_link(ANSWERS["link"][1])
    assert "whsec_" not in repr(endpoint)
    assert "secret" not in repr(link)
    assert "id='ss_1'" in repr(link)
    assert endpoint == webhooks.parse_endpoint_with_secret({**ENDPOINT, "secret": "whsec_abc"})
    assert endpoint != webhooks.parse_endpoint_with_secret({**ENDPOINT, "secret": "whsec_abd"})
    assert endpoint.secret == "whsec_abc"


def test_results_are_immutable_and_can_be_copied_with_changes() -> None:
    view = reports.parse_view(VIEW)
    with pytest.raises(AttributeError):
        view.status = "void"  # type: ignore[misc]
    assert msgspec.structs.replace(view, status="disputed").status == "disputed"
    assert hash(view) == hash(reports.parse_view(VIEW))


def test_a_json_document_is_decoded_as_the_standard_library_does() -> None:
    class Sample(Model, frozen=True):
        number: int

    assert decode_json(b'{"number": 123456789012345678901234567890}', Sample).number == 123456789012345678901234567890
    for data in (b"", b"[", b'{"number": 1', b"\xff", b"[" * 100_000):
        with pytest.raises(UnexpectedAnswer):
            decode_json(data, Sample)
    assert decode({"number": 1}, Sample) == Sample(1)


def test_a_webhook_message_never_takes_its_identity_from_its_data() -> None:
    data = {"appeal": "ap_1", "state": "submitted", "id": "forged", "type": "forged", "report": 7, "recipient": "x"}
    event = read_event("wm_1", MOMENT, MOMENT, {"type": "appeal.opened", "data": data})
    assert isinstance(event, AppealOpened)
    assert (event.id, event.type, event.recipient, event.report, event.data) == (
        "wm_1", "appeal.opened", None, None, data,
    )  # fmt: skip
    for wrong in ({"appeal": "ap_1"}, {"appeal": 1, "state": "submitted"}, {}):
        assert type(read_event("wm_1", MOMENT, MOMENT, {"type": "appeal.opened", "data": wrong})) is WebhookEvent
    switched = {"epoch": True, "state": "switched", "entry_index": 1}
    assert type(read_event("wm_1", MOMENT, MOMENT, {"type": "key.rotated", "data": switched})) is WebhookEvent
