"""The lines of orders in one batch of the sequencer: read from the database once, then updated by what the batch
decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

from sqlalchemy import Connection

from ledger.protocol.encoding import day_floor
from ledger.protocol.public_ids import encode_id
from ledger.rules.order_lines import Contested, LineEvent, LineState, Refused, ReportMatter, replay
from ledger.server.records import order_line_queries as store
from ledger.server.records.commands import SubmitReport
from ledger.server.records.order_line_queries import MetRow, Order
from ledger.server.records.queries import ReportRow


class Lines:
    """The lines of a batch's orders. Call `load` first, under the log's head lock; `happened` and `held` add what the
    batch decides."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._histories: dict[Order, list[LineEvent]] = {}
        self._met: dict[bytes, list[MetRow]] = {}
        self._evidence: dict[int, frozenset[bytes]] = {}

    def load(self, orders: Iterable[Order], tags: Iterable[bytes]) -> None:
        """Read these lines, and the contested reports that have any of `tags` with their lines."""
        for row in store.met(self._connection, tags):
            self._met.setdefault(row.tag, []).append(row)
        met = {row.report_id: row for rows in self._met.values() for row in rows}
        if met:
            self._evidence = store.evidence_of(self._connection, met)
        theirs = [(row.control_group, row.like_ref) for row in met.values() if row.like_ref is not None]
        self._histories = store.histories(self._connection, [*orders, *theirs])

    def line(self, order: Order) -> LineState:
        """Return the line as it is now."""
        return replay(self._histories.get(order, ()))

    def happened(self, order: Order, event: LineEvent) -> None:
        """Add an event that the batch has decided."""
        self._histories.setdefault(order, []).append(event)

    def held(self, row: ReportRow, like: Contested, tags: Iterable[bytes], evidence: frozenset[bytes]) -> None:
        """Add a report that the batch holds: a later one of the batch may be about the same matter."""
        self._evidence[row.id] = evidence
        roots = {row_met.like_id: row_met.like_ref for rows in self._met.values() for row_met in rows}
        for tag in tags:
            met = MetRow(
                tag=tag,
                report_id=row.id,
                like_id=like.like_id,
                like_ref=roots.get(like.like_id),
                case_id=like.case_id,
                control_group=row.control_group,
                order_ref=row.order_ref,
                act_ended_at=row.act_ended_at,
                currency=row.currency,
                amount_minor=row.amount_minor,
                held=True,
            )
            self._met.setdefault(tag, []).append(met)

    def contested(self, control_group: str, tags: Sequence[bytes], today: int) -> list[Contested]:
        """Return the contested and held reports of this control group that have any of `tags`."""
        contested: dict[int, Contested] = {}
        for row in [row for tag in tags for row in self._met.get(tag, ())]:
            if row.control_group != control_group or row.report_id in contested:
                continue
            root = None if row.like_ref is None else self.line((control_group, row.like_ref))
            contested[row.report_id] = Contested(
                report_id=row.report_id,
                like_id=row.like_id,
                case_id=row.case_id,
                order_ref=row.order_ref,
                act_day=day_floor(row.act_ended_at),
                currency=row.currency,
                amount_minor=row.amount_minor,
                evidence=self._evidence.get(row.report_id, frozenset()),
                held=row.held,
                stands=root is not None and root.stands(today),
            )
        return list(contested.values())


def matter_of(command: SubmitReport) -> ReportMatter:
    """Return the facts by which a new report is compared with the matters of other reports."""
    body = command.body
    return ReportMatter(
        order_ref=body.order_ref,
        act_day=command.intake.act_day,
        currency=body.currency,
        amount_minor=body.amount_minor,
        evidence=frozenset([item.sha256 for item in body.evidence]),
        severity=command.intake.severity,
    )


def refuse(refused: Refused, service: str) -> NoReturn:
    """Raise the error of a refusal, with the public id of what stands against the act."""
    details: dict[str, str] = {}
    if refused.case_id is not None:
        details["case"] = encode_id("ap", refused.case_id, service)
    if refused.report_id is not None:
        details["report"] = encode_id("rp", refused.report_id, service)
    raise refused.error(refused.message, **details)
