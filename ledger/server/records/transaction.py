"""What one transaction that holds the log's head appends and writes: entries, rows, and reports taken back.

The sequencer (`reports.intake`) and the appeals build on it. A report is taken back in one place only, because three
things follow: its order may be reported again, `account_farm` reports that rest on it fall with it, and an appeal
against it is over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from ledger.protocol.public_ids import encode_id
from ledger.rules.webhooks import MessageSource, Recipient, WebhookType, check_payload
from ledger.server.context import Context
from ledger.server.db.bulk import insert_rows
from ledger.server.db.tables.appeals import CaseTag
from ledger.server.db.tables.orders import HeldReport
from ledger.server.db.tables.pictures import PictureHash
from ledger.server.db.tables.reports import Idempotency, Listing, Report, ReportLink, Restitution, Reversal, Subject
from ledger.server.log.queries import Head
from ledger.server.log.writer import Draft, EventDraft, append
from ledger.server.records import appeal_effects as effects
from ledger.server.records import case_queries as appeal_store
from ledger.server.records import order_line_queries as line_store
from ledger.server.records import queries as store
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.queries import ReportRow, RestitutionRow, ReversalRow
from ledger.server.webhooks.emit import emit
from ledger.tlog.entries import LEDGER_REASONS, EventType, WithdrawalReason, withdrawal_entry


@dataclass(frozen=True, slots=True)
class Notice:
    """A message to a platform by webhook, with the payload that the event's row gives for `recipient`."""

    platform: str
    type: WebhookType
    recipient: Recipient
    data: Mapping[str, str]


CaseCloser = Callable[["EntryBatch", CaseRow, ReversalRow], CaseRow]
"""Closes the case of a report that was taken back (`server.appeals.case_service.report_gone`)."""


class EntryBatch:
    """The entries and rows of one transaction under the head's lock; `finish` appends and writes them."""

    def __init__(
        self,
        context: Context,
        connection: Connection,
        head: Head,
        now: datetime,
        close_case: CaseCloser,
    ) -> None:
        """`head` is the log's head, locked by `connection`'s transaction, and `now` the time of its entries. Raises
        PolicyUnreadable."""
        self.connection = connection
        self.now = now
        self.policy = context.policies.at(now)
        self.service = context.service
        self.source = MessageSource(context.service, context.environment)
        self.drafts: list[Draft] = []
        self.notices: list[Notice] = []
        self.reports: dict[int, ReportRow] = {}
        self.reversals: dict[int, ReversalRow] = {}
        self.restitutions: dict[int, RestitutionRow] = {}
        self.replaced_by: dict[int, int] = {}
        self.dependants: dict[int, list[ReportRow]] = {}
        self.rows: dict[type[Any], list[dict[str, Any]]] = {}
        self.restituted: list[int] = []
        self._head = head
        self._new_salt = context.new_salt
        self._close_case = close_case
        self.cases: dict[int, CaseRow] = {}
        """By report, the case that determines its state (`server.records.case_queries.leading`)."""
        self.all_cases: dict[int, list[CaseRow]] = {}
        self.disputes: dict[int, list[int]] = {}
        """Open cases by report, all of them."""
        self.stated: list[int] = []
        """New reports that a statement of the person goes with."""
        self._costs = False
        self._free: int | None = None
        self._reversing = False
        self._charged: set[int] = set()
        self._unlisted: dict[int, bool] = {}
        """Reports that are not live any longer, and whether their listings are deleted."""

    # --- loading ---------------------------------------------------------------------------------------------

    def load_reports(self, named: Iterable[int], reversing: Iterable[int]) -> None:
        """Load the reports `named`, and for those that may be taken back, whatever falls with them."""
        level = list(reversing)
        self.reports.update(store.reports_by_id(self.connection, {*named, *level}))
        while level:
            dependants = store.live_dependants(self.connection, level)
            self.dependants.update(dependants)
            new = [row for rows in dependants.values() for row in rows if row.id not in self.reports]
            self.reports.update({row.id: row for row in new})
            level = [row.id for row in new]
        self.reversals.update(store.reversals(self.connection, self.reports))
        self.restitutions.update(store.restitutions(self.connection, self.reports))
        self.replaced_by.update(store.replacements(self.connection, self.reports))
        self.all_cases.update(appeal_store.all_cases_of_reports(self.connection, self.reports))
        self.cases.update({report_id: appeal_store.leading(rows) for report_id, rows in self.all_cases.items()})
        self.disputes.update(line_store.open_cases(self.connection, self.reports))

    # --- deciding --------------------------------------------------------------------------------------------

    @property
    def next_index(self) -> int:
        """The index of the next entry."""
        return self._head.size + len(self.drafts)

    def draft(self, type_: EventType, body: bytes) -> int:
        """Append an entry and return its index."""
        index = self.next_index
        self.drafts.append(EventDraft(type_, body, self._new_salt()))
        return index

    def fresh_salt(self) -> bytes:
        """Return 32 random bytes."""
        return self._new_salt()

    def add(self, table: type[Any], **row: Any) -> None:
        """Add a row to `table`, written by `finish`."""
        self.rows.setdefault(table, []).append(row)

    def public(self, report_id: int) -> str:
        """The report's public id."""
        return encode_id("rp", report_id, self.service)

    def notify(self, platform: str, type_: WebhookType, recipient: Recipient, **data: str) -> None:
        """Send `platform` a webhook with this transaction, if it subscribes to the event.

        Raises ValueError unless `data` is the event's payload for `recipient`.
        """
        check_payload(type_, recipient, data)
        self.notices.append(Notice(platform, type_, recipient, data))

    def withdraw(self, row: ReportRow, reason: WithdrawalReason, *, costs: bool = True) -> None:
        """Append a withdrawal and take the report back. Of the contested reports that fall by it one counts as
        overturned; this one does not unless it `costs`. For one of the ledger's own reasons its reporter gets a
        `report.voided`."""
        body = withdrawal_entry(
            report_id=self.public(row.id), platform=row.platform, reason=reason, recorded_at=self.now
        )
        self.reverse(row, self.draft(EventType.WITHDRAWAL, body), "withdrawal", reason.value, costs=costs)
        if reason in LEDGER_REASONS:
            self.notify_voided(row, reason.value)

    def notify_voided(self, row: ReportRow, reason: str) -> None:
        """Send the reporter of `row` a `report.voided`. `reason` is one of `VOIDING_REASONS`."""
        self.notify(
            row.platform, WebhookType.REPORT_VOIDED, Recipient.REPORTER, report=self.public(row.id), reason=reason
        )

    def reverse(
        self,
        row: ReportRow,
        entry_index: int,
        kind: str,
        reason: str,
        *,
        keep_listed: bool = False,
        decided_case: int | None = None,
        costs: bool = True,
    ) -> None:
        """Take the report back, because of the entry at `entry_index`; `kind` is withdrawal, replacement,
        overturned or victim. `keep_listed` leaves its listings (the caller makes them protect the person). Its cases
        are closed, but for `decided_case`, the one whose decision this is. `costs` as for `withdraw`; a decision of a
        case counts by itself, and what the ledger does of its own costs nothing."""
        if self._reversing:
            self._reverse(row, entry_index, kind, reason, keep_listed, decided_case)
            return
        # A malformed subject is its reporter's fault, so a contested report that the ledger takes back for it costs.
        own = {own_reason.value for own_reason in LEDGER_REASONS - {WithdrawalReason.MALFORMED_SUBJECT}}
        self._reversing, self._costs = True, kind in ("withdrawal", "replacement") and reason not in own
        self._free, self._charged = None if costs else row.id, set()
        try:
            self._reverse(row, entry_index, kind, reason, keep_listed, decided_case)
        finally:
            self._reversing = False

    def _reverse(
        self, row: ReportRow, entry_index: int, kind: str, reason: str, keep_listed: bool, decided_case: int | None
    ) -> None:
        reversal = ReversalRow(row.id, entry_index, kind, reason, self.now)
        self.reversals[row.id] = reversal
        self.add(Reversal, **fields_of(reversal))
        self._unlisted[row.id] = not keep_listed
        self.reports[row.id] = dataclasses.replace(row, live=False)
        self._close_line(row, kind, reason)
        if kind == "replacement":
            self._remember_tags(row.id)
        self.forget_report(row)
        cases = self.all_cases.get(row.id)
        if cases:
            self.all_cases[row.id] = cases = [
                case if case.id == decided_case else self._close_case(self, case, reversal) for case in cases
            ]
            self.cases[row.id] = appeal_store.leading(cases)
        for dependant in self.dependants.get(row.id, ()):
            if dependant.id not in self.reversals:
                self.withdraw(dependant, WithdrawalReason.LINKED_REPORT_VOID)

    def charge(self, report_id: int) -> str | None:
        """Return the effect on its reporter's weight of reversing this contested report now: "overturned" or "nothing";
        None where another case about it decided that already. Of all reports that are reversed by one act of their
        reporter, one counts as overturned."""
        if report_id in self._charged:
            return None
        self._charged.add(report_id)
        if report_id == self._free:
            return "nothing"
        charged, self._costs = self._costs, False
        return "overturned" if charged else "nothing"

    def _close_line(self, row: ReportRow, kind: str, reason: str) -> None:
        """Close the order's line if the report is withdrawn while a case about it is open. A held report that was not
        released closes no line: its reporter did not withdraw it."""
        disputed = self.disputes.pop(row.id, [])
        if disputed and kind == "withdrawal" and reason != WithdrawalReason.NOT_RELEASED:
            line_store.close(self.connection, (row.control_group, row.order_ref), disputed[0])

    def _remember_tags(self, report_id: int) -> None:
        """Store the tags by which the person can find a report that was replaced."""
        appeal_store.copy_tags(self.connection, report_id)
        fresh = [row for row in self.rows.get(Listing, ()) if row["report_id"] == report_id]
        names = ("tag", "report_id", "slot", "epoch")
        line_store.remember_tags(self.connection, [{name: row[name] for name in names} for row in fresh])

    def forget_report(self, row: ReportRow) -> None:
        """Forget what the batch has read of a report that is not live any longer. `reports.intake` forgets more."""

    # --- writing ---------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Append the entries and write the rows. Replaced reports are unlisted first, because a replacement has the
        same order."""
        connection = self.connection
        append(connection, self._head, self.drafts, self.now)
        new_reports = self.rows.get(Report, [])
        for row in new_reports:
            row["live"] = row["id"] not in self._unlisted
        self.rows[Listing] = [row for row in self.rows.get(Listing, ()) if row["report_id"] not in self._unlisted]
        fresh = {row["id"] for row in new_reports}
        if self._unlisted:
            gone = [number for number, unlisted in self._unlisted.items() if unlisted and number not in fresh]
            kept = [number for number, unlisted in self._unlisted.items() if not unlisted]
            store.unlist(connection, sorted(gone))
            store.unlist(connection, sorted(kept), keep_listings=True)
        for table in WRITE_ORDER:
            rows = self.rows.get(table)
            if rows:
                insert_rows(connection, table, rows)
        store.mark_restituted(connection, self.restituted)
        if self.stated:
            effects.set_statement_mark(connection, self.stated)
        for notice in self.notices:
            emit(connection, self.now, self.source, notice.platform, notice.type, notice.recipient, notice.data)


WRITE_ORDER: tuple[type[Any], ...] = (
    Report, Subject, Listing, ReportLink, PictureHash, Reversal, Restitution, HeldReport, CaseTag, Idempotency,
)  # fmt: skip


def fields_of(row: ReportRow | ReversalRow | RestitutionRow) -> dict[str, Any]:
    """Return the fields of a row as `dataclasses.asdict` does, without its deep copies, which are many times slower."""
    return {name: getattr(row, name) for name in row.__dataclass_fields__}
