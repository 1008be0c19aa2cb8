"""Webhook messages as typed values: one class for each event of `ledger.rules.webhooks.EVENTS`.

A reader of this version goes on with messages of other versions: a message of a type that it does not know, or without
a member that the class of its type needs, is a plain `WebhookEvent`; members that it does not know are in `data` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from ledger.client.models.decoding import Model
from ledger.rules.webhooks import WebhookType


class WebhookEvent(Model, frozen=True):
    """A verified message. `id` is the same at every attempt: ignore a message that you have already processed.
    `sent_at` is the time of the attempt, `data` the members as they came.

    `service` and `environment` (`live` or `test`) name the ledger, `recipient` your part: `reporter`, `filer` or
    `member`. They are None in a message of a ledger that did not send them yet. `type` may be unknown to this version.
    """

    id: str
    type: str
    occurred_at: datetime
    sent_at: datetime
    data: Mapping[str, Any]
    service: str | None = None
    environment: str | None = None
    recipient: str | None = None


class AppealOpened(WebhookEvent, frozen=True, kw_only=True):
    """`appeal.opened`: an appeal was opened, or opened again. `report` is None unless the report is yours."""

    appeal: str
    state: str
    report: str | None = None


class AppealQuestionAsked(WebhookEvent, frozen=True, kw_only=True):
    """`appeal.question_asked`: the reviewers ask `party`: `reporter` (you) or `subject` (your customer). `report` is
    None unless you are asked as the reporter. `state` is None in messages of earlier versions."""

    appeal: str
    party: str
    state: str | None = None
    report: str | None = None


class AppealDecided(WebhookEvent, frozen=True, kw_only=True):
    """`appeal.decided`: the appeal is decided. `report` is None unless the report is yours.

    Ledgers of earlier versions send it with another `state` than `decided` for an appeal that ended without a decision.
    """

    appeal: str
    state: str
    report: str | None = None


class AppealEnded(WebhookEvent, frozen=True, kw_only=True):
    """`appeal.ended`: the appeal is over without a decision, or without a further one. `state` is `withdrawn` (by the
    person) or `closed` (the report was taken back, or decided in another appeal). `report` is None unless the report is
    yours."""

    appeal: str
    state: str
    report: str | None = None


class ReportVoided(WebhookEvent, frozen=True, kw_only=True):
    """`report.voided`: a report of yours never counts again, for `reason`."""

    report: str
    reason: str


class SnapshotPublished(WebhookEvent, frozen=True, kw_only=True):
    """`snapshot.published`: a snapshot of the first `cut` entries of the log can be fetched."""

    version: str
    cut: int
    epoch: int
    entry_index: int


class KeyRotated(WebhookEvent, frozen=True, kw_only=True):
    """`key.rotated`: key epoch `epoch` is `announced`, `switched` or `retired`."""

    epoch: int
    state: str
    entry_index: int


class WebhookTest(WebhookEvent, frozen=True, kw_only=True):
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


def read_event(message_id: str, sent_at: datetime, occurred_at: datetime, document: Mapping[str, Any]) -> WebhookEvent:
    """Return the event of a verified message, `document` being its JSON with a text `type` and an object `data`.

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
    cls = EVENT_CLASSES.get(type_, WebhookEvent)
    members = {field.name: data[field.name] for field in msgspec.structs.fields(cls) if _is_usable(field, data)}
    try:
        return msgspec.convert({**members, **common}, cls)
    except msgspec.ValidationError:
        return WebhookEvent(**common)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _is_usable(field: msgspec.structs.FieldInfo, data: Mapping[str, Any]) -> bool:
    """True if `data` has the field's member. One that the class does not need, all of which are texts, is left out
    where it is of another type."""
    return field.name in data and (field.required or isinstance(data[field.name], str))
