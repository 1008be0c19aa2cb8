"""Webhooks by the Standard Webhooks specification (version 1.0.0): events, messages, signatures, when to try again.

A message is thin: its type, its time, ids and states. The recipient reads their content through the API, so a copy
of a message contains nothing about a person.

`EVENTS` has one row for each event. Messages, the OpenAPI description, the tables of docs/webhooks.md and the SDK's
types are made from it or tested against it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum

from ledger.errors import ConfigurationError, InvalidSignature, WebhookInvalid
from ledger.protocol.encoding import format_time
from ledger.rules.appeals import EFFECTS, CaseState
from ledger.tlog.entries import LEDGER_REASONS

SECRET_PREFIX = "whsec_"
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE_SECONDS = 300
"""The greatest difference between the time of sending and a receiver's own clock that it accepts."""

RETRY_SCHEDULE = tuple(
    timedelta(seconds=seconds)
    for seconds in (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
)
"""The pauses before each further attempt; after the last one the delivery has failed (75.6 hours in all)."""

JITTER_SHARE = 0.1
"""A wait is longer by up to this share, so that deliveries that failed together are not retried together."""

_SIGNATURE_BYTES = hashlib.sha256().digest_size
_TIMESTAMP = re.compile(r"[0-9]{1,12}\Z", re.ASCII)


class WebhookType(StrEnum):
    """Types of events. `EVENTS` has what is known of each."""

    APPEAL_OPENED = "appeal.opened"
    APPEAL_QUESTION_ASKED = "appeal.question_asked"
    APPEAL_DECIDED = "appeal.decided"
    APPEAL_ENDED = "appeal.ended"
    REPORT_VOIDED = "report.voided"
    SNAPSHOT_PUBLISHED = "snapshot.published"
    KEY_ROTATED = "key.rotated"
    TEST = "webhook.test"


class DeliveryState(StrEnum):
    """The state of a delivery. It is tried again only while it is pending."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


# --- events -----------------------------------------------------------------------------------------------------


class Recipient(StrEnum):
    """In which role a platform gets a message: as the reporter of the report, as the platform through which the person
    appealed (`filer`), or as any member of the ledger. A platform that is both reporter and filer gets one message, the
    reporter's; a question to the person goes to it as the filer."""

    REPORTER = "reporter"
    FILER = "filer"
    MEMBER = "member"


MAX_INTEGER = 2**53 - 1
"""Largest integer of a message: the largest that every JSON reader keeps exactly."""


@dataclass(frozen=True, slots=True)
class PayloadMember:
    """One member of a message's `data`: its name, its form and what it means.

    With a `pattern` (a regular expression for the whole text) it is a string, without one an integer from 0 to
    `MAX_INTEGER`. `values` are the strings that this version sends, none: any of the pattern. A later version may send
    others, so readers take every string. `form` describes the same for people, `example` is one value.
    """

    name: str
    meaning: str
    form: str
    example: str | int
    pattern: str | None = None
    values: tuple[str, ...] = ()

    def accepts(self, value: object) -> bool:
        """True if this version may send `value`."""
        if self.pattern is None:
            return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INTEGER
        if not isinstance(value, str) or re.fullmatch(self.pattern, value, re.ASCII) is None:
            return False
        return not self.values or value in self.values


def _id(name: str, prefix: str, example: str, meaning: str) -> PayloadMember:
    return PayloadMember(name, meaning, f"id `{prefix}_...`", example, pattern=prefix + "_[A-Za-z0-9]{8,29}")


def _code(name: str, values: Iterable[str], meaning: str) -> PayloadMember:
    """Return a member with known values, the first of which is the example."""
    known = tuple(values)
    form = ", ".join(f"`{value}`" for value in known)
    return PayloadMember(name, meaning, form, known[0], pattern="[a-z_]{1,64}", values=known)


def _integer(name: str, example: int, meaning: str) -> PayloadMember:
    return PayloadMember(name, meaning, "integer", example)


@dataclass(frozen=True, slots=True)
class EventSpec:
    """The definition of an event: when it happens, and the members of `data` for each recipient.

    `subscribable` is false for what is sent on request only. Endpoints that subscribe to one of `also_to` get the event
    without subscribing to it: it was part of those events in an earlier version.
    """

    when: str
    payloads: Mapping[Recipient, tuple[PayloadMember, ...]]
    subscribable: bool = True
    also_to: tuple[WebhookType, ...] = ()


VOIDING_REASONS = (
    *sorted(outcome.value for outcome, effect in EFFECTS.items() if effect.reverses),
    *sorted(reason.value for reason in LEDGER_REASONS),
)
"""The reasons why a report is voided: the outcomes of appeals that reverse one, and the ledger's own reasons for a
withdrawal."""

_APPEAL = _id("appeal", "ap", "ap_gkYdbREp", "the appeal; read it by `GET /v1/appeals/{appeal_id}`")
_REPORT = _id("report", "rp", "rp_QqNvkEq6", "your report; read it by `GET /v1/reports/{report_id}`")


def _to_parties(*members: PayloadMember) -> dict[Recipient, tuple[PayloadMember, ...]]:
    """Return the members of `data` for the platforms of both parties; only the reporter's message names the report."""
    return {Recipient.REPORTER: (_APPEAL, _REPORT, *members), Recipient.FILER: (_APPEAL, *members)}


def _asked(state: CaseState, party: str) -> tuple[PayloadMember, ...]:
    return (
        _code("state", [state.value], "state of the appeal: it waits for the answer"),
        _code("party", [party], "the party that is asked: you, or the person who appealed through you"),
    )


def _epoch(meaning: str, example: int) -> PayloadMember:
    return _integer("epoch", example, meaning)


EVENTS: dict[WebhookType, EventSpec] = {
    WebhookType.APPEAL_OPENED: EventSpec(
        "an appeal against a report was opened, or opened again",
        _to_parties(_code("state", [CaseState.SUBMITTED.value], "state of the appeal")),
    ),
    WebhookType.APPEAL_QUESTION_ASKED: EventSpec(
        "the reviewers ask a question",
        {
            Recipient.REPORTER: (_APPEAL, _REPORT, *_asked(CaseState.AWAITING_REPORTER, "reporter")),
            Recipient.FILER: (_APPEAL, *_asked(CaseState.AWAITING_SUBJECT, "subject")),
        },
    ),
    WebhookType.APPEAL_DECIDED: EventSpec(
        "the appeal is decided",
        _to_parties(_code("state", [CaseState.DECIDED.value], "state of the appeal")),
    ),
    WebhookType.APPEAL_ENDED: EventSpec(
        "the appeal is over without a decision, or without a further one",
        _to_parties(
            _code(
                "state",
                [CaseState.WITHDRAWN.value, CaseState.CLOSED.value],
                "`withdrawn`: the person took the appeal back; `closed`: the report was taken back, or decided in "
                "another appeal",
            )
        ),
        also_to=(WebhookType.APPEAL_DECIDED,),
    ),
    WebhookType.REPORT_VOIDED: EventSpec(
        "a report was voided by a decision or by the ledger and never counts again",
        {
            Recipient.REPORTER: (
                _REPORT,
                _code(
                    "reason",
                    VOIDING_REASONS,
                    "the outcome of the appeal, or why the ledger took the report back by itself",
                ),
            )
        },
    ),
    WebhookType.SNAPSHOT_PUBLISHED: EventSpec(
        "a new snapshot can be fetched",
        {
            Recipient.MEMBER: (
                PayloadMember(
                    "version",
                    "the snapshot's version, as in its paths",
                    "16 bytes, base64url",
                    "AAECAwQFBgcICQoLDA0ODw",
                    pattern="[A-Za-z0-9_-]{21}[AQgw]",
                ),
                _integer("cut", 4711, "size of the log that the snapshot was cut at"),
                _epoch("key epoch of the snapshot", 1),
                _integer("entry_index", 4712, "index of the log entry that publishes it"),
            )
        },
    ),
    WebhookType.KEY_ROTATED: EventSpec(
        "a key rotation has reached its next stage",
        {
            Recipient.MEMBER: (
                _epoch("key epoch that the stage is about", 2),
                _code(
                    "state",
                    ["announced", "switched", "retired", "refreshed", "reshared"],
                    "`announced` and `switched`: `epoch` will be, or is, the current one; `retired`: `epoch` is over; "
                    "`refreshed` and `reshared`: its key and all tags stay, its holders have new shares",
                ),
                _integer("entry_index", 4713, "index of the log entry that records it"),
            )
        },
    ),
    WebhookType.TEST: EventSpec(
        "you asked for a test message",
        {Recipient.MEMBER: (_id("webhook", "we", "we_6LgZXD0J", "the endpoint that is tested"),)},
        subscribable=False,
    ),
}
"""The events, each with its payloads."""

SUBSCRIBABLE = tuple(type_ for type_, spec in EVENTS.items() if spec.subscribable)
"""Types that an endpoint can subscribe to, in their order of declaration."""


@dataclass(frozen=True, slots=True)
class MessageSource:
    """The ledger that sends a message: its service id, and `live` or `test`."""

    service: str
    environment: str


def check_payload(type_: WebhookType, recipient: Recipient, data: Mapping[str, object]) -> None:
    """Check that `data` has exactly the members that the row of `type_` gives for `recipient`, each of its form.

    Raises ValueError, without a value in its text: the caller is wrong, not a request.
    """
    members = EVENTS[type_].payloads.get(recipient)
    if members is None:
        raise ValueError(f"{type_} is not sent to a {recipient}.")
    names = {member.name for member in members}
    if data.keys() != names:
        raise ValueError(f"{type_} to a {recipient} has the members {sorted(names)}, not {sorted(data)}.")
    for member in members:
        if not member.accepts(data[member.name]):
            raise ValueError(f"{member.name} of {type_} to a {recipient} must be: {member.form}.")


def message_body(
    type_: WebhookType, recipient: Recipient, source: MessageSource, now: datetime, data: Mapping[str, str | int]
) -> str:
    """Return the JSON text of a message, as it is signed and sent at every attempt. `now` is when the event happened.

    Raises ValueError unless `data` is what the event's row says (`check_payload`).
    """
    check_payload(type_, recipient, data)
    document = {
        "type": type_.value,
        "timestamp": format_time(now),
        "service": source.service,
        "environment": source.environment,
        "recipient": recipient.value,
        "data": {member.name: data[member.name] for member in EVENTS[type_].payloads[recipient]},
    }
    return json.dumps(document, ensure_ascii=True, separators=(",", ":"))


def parse_types(names: Iterable[str]) -> tuple[WebhookType, ...]:
    """Return the subscribed types in their order of declaration. Raises WebhookInvalid for none, a doubled or an
    unknown one.

    `webhook.test` is not subscribed to: it is sent on request.
    """
    requested = list(names)
    if not requested or len(set(requested)) != len(requested) or not set(requested) <= set(SUBSCRIBABLE):
        raise WebhookInvalid(f"Events are one or more, each once, of: {', '.join(SUBSCRIBABLE)}.")
    return tuple(event_type for event_type in SUBSCRIBABLE if event_type in requested)


def subscriptions_to(type_: WebhookType) -> frozenset[WebhookType]:
    """Return the subscriptions under which an endpoint gets `type_`."""
    return frozenset((type_, *EVENTS[type_].also_to))


# --- signatures -------------------------------------------------------------------------------------------------


def format_secret(secret: bytes) -> str:
    """Return a secret as people see it: `whsec_` and base64."""
    return SECRET_PREFIX + base64.b64encode(secret).decode("ascii")


def parse_secret(text: str) -> bytes:
    """Return the bytes of a secret, the inverse of `format_secret`. Raises ConfigurationError; its message has no part
    of the secret."""
    try:
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not text.startswith(SECRET_PREFIX) or not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise ConfigurationError("A webhook secret is whsec_ and the base64 of 24 to 64 bytes.")
    return secret


def _mac(secret: bytes, message_id: str, timestamp: int, body: bytes) -> bytes:
    return hmac.digest(secret, b"%s.%d.%s" % (message_id.encode(), timestamp, body), hashlib.sha256)


def signature_header(secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: one signature for each secret. `timestamp` is the time of the
    attempt, in Unix seconds."""
    macs = (_mac(secret, message_id, timestamp, body) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(mac).decode('ascii')}" for mac in macs)


def check_signature(
    secrets: Sequence[bytes],
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    tolerance_seconds: int = TOLERANCE_SECONDS,
) -> tuple[str, int]:
    """Return the message's id and the time of sending (Unix seconds), if one of the signatures is by one of `secrets`.

    Every signature is compared with every secret in constant time. Signatures of versions other than v1 are passed
    over. Raises InvalidSignature: a header is missing or malformed, the time is too far off, or nothing matches.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    message_id, stamp = lower.get(ID_HEADER, ""), lower.get(TIMESTAMP_HEADER, "")
    if not message_id or not _TIMESTAMP.match(stamp):
        raise InvalidSignature("The webhook headers are missing or malformed.")
    timestamp = int(stamp)
    if abs(now.timestamp() - timestamp) > tolerance_seconds:
        raise InvalidSignature("The webhook was sent at another time than now: an old message, or a wrong clock.")
    expected = [_mac(secret, message_id, timestamp, body) for secret in secrets]
    given = [_signature(part) for part in lower.get(SIGNATURE_HEADER, "").split(" ")]
    matches = [hmac.compare_digest(mac, item) for mac in expected for item in given]
    if not any(matches):
        raise InvalidSignature("No signature of the webhook is by this secret.")
    return message_id, timestamp


def _signature(part: str) -> bytes:
    """Return the bytes of one signature; none that could match for another version or a malformed one."""
    version, _, encoded = part.partition(",")
    if version != "v1":
        return b""
    try:
        mac = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return mac if len(mac) == _SIGNATURE_BYTES else b""


# --- attempts ---------------------------------------------------------------------------------------------------


def next_wait(
    attempts: int,
    jitter: float,
    retry_after: timedelta | None = None,
    schedule: Sequence[timedelta] = RETRY_SCHEDULE,
) -> timedelta | None:
    """Return how long to wait after `attempts` failed attempts, None if there is no further one. `jitter` is in [0, 1).

    The receiver's `retry_after` makes the wait longer, up to the next step of the retry schedule.
    """
    if attempts >= len(schedule):
        return None
    wait = schedule[attempts]
    if retry_after is not None:
        longest = schedule[min(attempts + 1, len(schedule) - 1)]
        wait = max(wait, min(retry_after, longest))
    return wait * (1 + JITTER_SHARE * jitter)


def parse_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Return the time of a `Retry-After` header (RFC 9110 section 10.2.3): seconds or an HTTP date. None for a missing
    or malformed value, and for the past."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=int(text[:9]))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    wait = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now
    return wait if wait > timedelta(0) else None
