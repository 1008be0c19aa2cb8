"""The rows that a report makes, under every key epoch that answers lookups.

While a rotation's grace runs there are two such epochs. A report is listed under both, whichever it was made under;
its element under the other one follows from its own (T' = (k'/k) T). A report that was still made under the previous
epoch gets a subject under the current one too, because that is what remains of it when the previous one is retired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.errors import StaleEpoch
from ledger.protocol.encoding import day_floor
from ledger.protocol.tags import tag
from ledger.server.keys.epochs import EpochRow, current_of
from ledger.server.keys.files import LOOKUP_STATES
from ledger.server.keys.server_keys import ServerKeys
from ledger.server.records.commands import SubmitReport
from ledger.server.records.queries import ReportRow
from ledger.tlog.key_rotation import rotate_elements


@dataclass(frozen=True, slots=True)
class Answering:
    """The epochs that answer lookups, as read by the transaction that holds the log's head."""

    rows: Mapping[int, EpochRow]
    current: int

    @classmethod
    def of(cls, rows: Sequence[EpochRow]) -> Answering:
        """Make it from all epochs. Raises ConfigurationError when none is current."""
        return cls({row.epoch: row for row in rows if row.state in LOOKUP_STATES}, current_of(rows).epoch)


@dataclass(frozen=True, slots=True)
class ConvertedSubjects:
    """The elements and tags of a report's subjects under one epoch, in their order."""

    epoch: int
    elements: tuple[bytes, ...]
    tags: tuple[bytes, ...]


def convert(keys: ServerKeys, answering: Answering, epoch: int, elements: Sequence[bytes]) -> dict[int, list[bytes]]:
    """Return elements of `epoch` under each other answering epoch. Raises Unavailable if a key or factor is not on
    this machine."""
    others = [row for number, row in answering.rows.items() if number != epoch]
    if not others or epoch not in answering.rows:
        return {}
    own = answering.rows[epoch]
    return {row.epoch: rotate_elements(keys.factor(own, row), elements) for row in others}


def convert_report(keys: ServerKeys, answering: Answering, command: SubmitReport) -> list[ConvertedSubjects]:
    """Return the report's subjects under every answering epoch, its own first. Raises StaleEpoch, Unavailable.

    The command holds elements that were converted before the head was locked; only those that a switch has made
    necessary since are converted here.
    """
    epoch, subjects = command.body.epoch, command.subjects
    if epoch not in answering.rows:
        raise StaleEpoch("The report was blinded under another key epoch.", epoch=answering.current)
    own = ConvertedSubjects(
        epoch, tuple([subject.element for subject in subjects]), tuple([subject.tag for subject in subjects])
    )
    missing = answering.rows.keys() - {epoch} - command.converted.keys()
    converted = {**command.converted, **(convert(keys, answering, epoch, own.elements) if missing else {})}
    under_epochs = [own]
    for number in sorted(answering.rows.keys() - {epoch}):
        elements = tuple(converted[number])
        tags = [tag(subject.kind, element) for subject, element in zip(subjects, elements, strict=True)]
        under_epochs.append(ConvertedSubjects(number, elements, tuple(tags)))
    return under_epochs


def subject_rows(
    command: SubmitReport, report_id: int, converted: ConvertedSubjects, salts: Sequence[bytes]
) -> Iterator[Any]:
    """Return rows of `subject` under one epoch, with the 32-byte salts of their commitments."""
    for slot, (subject, element, salt) in enumerate(zip(command.subjects, converted.elements, salts, strict=True)):
        yield {
            "report_id": report_id,
            "slot": slot,
            "epoch": converted.epoch,
            "kind": subject.kind,
            "element": element,
            "salt": salt,
        }


def listing_rows(command: SubmitReport, row: ReportRow, converted: ConvertedSubjects) -> Iterator[dict[str, Any]]:
    """Return rows of `listing` under one epoch."""
    values = listing_values(row)
    for slot, (subject, listed_tag) in enumerate(zip(command.subjects, converted.tags, strict=True)):
        yield {
            "tag": listed_tag,
            "report_id": row.id,
            "slot": slot,
            "epoch": converted.epoch,
            "kind": subject.kind,
            **values,
        }


def listing_values(row: ReportRow) -> dict[str, Any]:
    """Return the columns that every new listing of a report has in common, whatever its identifier and key epoch."""
    return {
        "act_id": row.act_id,
        "control_group": row.control_group,
        "conduct": row.conduct,
        "amount_minor": row.amount_minor,
        "currency": row.currency,
        "act_day": day_floor(row.act_ended_at),
        "effective_hour": row.effective_hour,
        "expires_day": row.expires_day,
        "disputed": False,
        "unconfirmed": False,
        "restituted": False,
        "has_statement": False,
    }


def held_rows(report_id: int, converted: ConvertedSubjects) -> Iterator[dict[str, Any]]:
    """Return rows of `case_tag` under one epoch: a held report is not listed, but its person can find it."""
    for slot, case_tag in enumerate(converted.tags):
        yield {"tag": case_tag, "report_id": report_id, "slot": slot, "epoch": converted.epoch}


def report_row(
    command: SubmitReport, *, report_id: int, act_id: int, recorded_at: datetime, effective_hour: int
) -> ReportRow:
    """Return the row of `report`; `effective_hour` counts from the Unix epoch."""
    request, body = command.request, command.body
    return ReportRow(
        id=report_id,
        platform=request.platform,
        control_group=request.control_group,
        order_ref=body.order_ref,
        conduct=body.conduct.value,
        amount_minor=body.amount_minor,
        currency=body.currency,
        outcome=body.outcome,
        act_ended_at=body.act_ended_at,
        notice_sent_at=body.notice_sent_at,
        recorded_at=recorded_at,
        effective_hour=effective_hour,
        expires_day=command.intake.expires_day,
        act_id=act_id,
        live=True,
        replaces=command.replaces,
    )
