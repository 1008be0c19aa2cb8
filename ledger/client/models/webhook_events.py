"""What a platform is told by webhook, as types: one class for each event of `ledger.rules.webhooks.EVENTS`.

A reader of this version goes on with messages of other versions: a message of a type that it does not know, or without
a member that the class of its type needs, is a plain `WebhookEvent`; members that it does not know are in `data` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from typing import Any

from ledger.rules.webhooks import WebhookType


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """A verified message. `id` is the same at every attempt: drop what you have had. `sent_at` is the time of the
    attempt, `data` the members as they came.

    `service` and `environment` (`live` or `test`) name the ledger, `recipient` your part: `reporter`, `filer` or
    `member`. They are None in a message of a ledger that did not send them yet. `type` may be unknown to this version.
    """

    id: str
    type: str
    occurred_at: datetime
    sent_at: datetime
    data: Mapping[str, Any]
    service: str | None = field(default=None, kw_only=True)
    environment: str | None = field(default=None, kw_only=True)
    recipient: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppealOpened(WebhookEvent):
    """`appeal.opened`: an appeal was opened, or opened again. `report` is None unless the report is yours."""

    appeal: str
    state: str
    report: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppealQuestionAsked(WebhookEvent):
    """`appeal.question_asked`: the reviewers ask `party`: `reporter` (you) or `subject` (your customer). `report` is
    None unless you are asked as the reporter. `state` is None in messages of earlier versions."""

    appeal: str
    party: str
    state: str | None = None
    report: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppealDecided(WebhookEvent):
    """`appeal.decided`: the appeal is decided. `report` is None unless the report is yours.

    Ledgers of earlier versions send it with another `state` than `decided` for an appeal that ended without a decision.
    """

    appeal: str
    state: str
    report: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppealEnded(WebhookEvent):
    """`appeal.ended`: the appeal is over without a decision, or without a further one. `state` is `withdrawn` (by the
    person) or `closed` (the report was taken back, or decided in another appeal). `report` is None unless the report is
    yours."""

    appeal: str
    state: str
    report: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportVoided(WebhookEvent):
    """`report.voided`: a report of yours never counts again, for `reason`."""

    report: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPublished(WebhookEvent):
    """`snapshot.published`: a snapshot of the first `cut` entries of the log can be fetched."""

    version: str
    cut: int
    epoch: int
    entry_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRotated(WebhookEvent):
    """`key.rotated`: key epoch `epoch` is `announced`, `switched` or `retired`."""

    epoch: int
    state: str
    entry_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTest(WebhookEvent):
    """`webhook.test`: the message that you asked for, to the endpoint `webhook`."""

    webhook: str


EVENT_CLASSES: dict[str, type[WebhookEvent]] = {
    WebhookType.APPEAL_OPENED: AppealOpened,
    WebhookType.APPEAL_QUESTION_ASKED: AppealQuestionAsked,
    WebhookType.APPEAL_DECIDED: AppealDecided,
    WebhookType.APPEAL_ENDED: AppealEnded,
    WebhookType.REPORT_VOIDED: ReportVoided,
    WebhookType.SNAPSHOT_PUBLISHED: SnapshotPublished,
    WebhookType.KEY_ROTATED: KeyRotated,
    WebhookType.TEST: WebhookTest,
}

_COMMON = frozenset(one.name for one in fields(WebhookEvent))
_TYPES = {"str": str, "str | None": str, "int": int}
_MEMBERS = {
    type_: [(one.name, _TYPES[str(one.type)], one.default is MISSING) for one in fields(cls) if one.name not in _COMMON]
    for type_, cls in EVENT_CLASSES.items()
}
"""By type of event: (name, type, whether it must be there) of each member of `data` that its class has."""


def read_event(message_id: str, sent_at: datetime, occurred_at: datetime, document: Mapping[str, Any]) -> WebhookEvent:
    """The event of a verified message, `document` being its JSON with a text `type` and an object `data`.

    It is of the class of its type, or a plain `WebhookEvent` where the type is unknown or a member that the class needs
    is missing or of another JSON type.
    """
    type_, data = document["type"], document["data"]
    common: dict[str, Any] = {
        "id": message_id,
        "type": type_,
        "occurred_at": occurred_at,
        "sent_at": sent_at,
        "data": data,
        **{name: _text(document.get(name)) for name in ("service", "environment", "recipient")},
    }
    cls = EVENT_CLASSES.get(type_)
    members = None if cls is None else _members(type_, data)
    return WebhookEvent(**common) if cls is None or members is None else cls(**common, **members)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _members(type_: str, data: Mapping[str, Any]) -> dict[str, Any] | None:
    """The members that the class of `type_` takes; None where one that it needs is not there."""
    found = {}
    for name, kind, needed in _MEMBERS[type_]:
        value = data.get(name)
        if isinstance(value, kind) and not isinstance(value, bool):
            found[name] = value
        elif needed:
            return None
    return found
