"""One transaction of the appender: decide every command of a batch against the database, then write all at once.

The batch is loaded with a few queries, decided in memory in the order of arrival (a later command sees what an
earlier one of the same batch did), and written with one statement a table. A command that is refused leaves no
trace and does not touch the others. Only what succeeded is remembered under its idempotency key: a refusal changed
nothing, so asking again is safe and may succeed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Engine

from ledger.core.acts import ListedReport, act_to_join
from ledger.core.encoding import from_day, from_hour, hour_floor
from ledger.core.entries import EventType, WithdrawalReason, report_entry, restitution_entry, withdrawal_entry
from ledger.core.ids import encode_id
from ledger.core.policy import Policy
from ledger.errors import (
    AlreadyRestituted,
    AlreadyReversed,
    IdempotencyMismatch,
    LedgerError,
    LinkedReportInvalid,
    NotFound,
    OrderAlreadyReported,
    ReplacementInvalid,
    RestitutionInvalid,
)
from ledger.service.commands import Command, RestituteReport, Stored, SubmitReport, WithdrawReport
from ledger.service.intake_rows import Answering, Turned, listing_rows, report_row, subject_rows, turn
from ledger.service.keys import ServerKeys
from ledger.service.log_writer import Draft, EventDraft, append, open_head
from ledger.service.report_views import accepted_json, report_view
from ledger.store import reports as store
from ledger.store.bulk import insert_rows
from ledger.store.engine import writing
from ledger.store.epochs import read_epochs
from ledger.store.reports import ReportRow, RestitutionRow, ReversalRow, StoredAnswer
from ledger.store.tables import Idempotency, Listing, Report, ReportLink, Restitution, Reversal, Subject

IDEMPOTENCY_HOURS = 24
"""How long the answer to an idempotency key is remembered."""


def apply(
    commands: Sequence[Command],
    *,
    engine: Engine,
    keys: ServerKeys,
    policy: Policy,
    service: str,
    clock: Callable[[], datetime],
    new_salt: Callable[[], bytes],
    listed: Callable[[list[bytes]], object] = lambda _tags: None,
) -> list[Stored | LedgerError]:
    """Carry out `commands` in one transaction; one outcome each. Raises LogFrozen, DatabaseUnavailable for all.

    `listed` is told the tags of new listings once they are committed, before anybody is told of a report.
    The key epochs are read under the head's lock: a batch lies entirely before or entirely after a rotation's switch.
    """
    with writing(engine) as connection:
        head, now = open_head(connection, clock())
        answering = Answering.of(read_epochs(connection))
        batch = _Batch(connection, head.size, now, keys, answering, policy, service, new_salt)
        batch.load(commands)
        outcomes = [batch.decide(command) for command in commands]
        append(connection, head, batch.drafts, now)
        batch.write()
    listed(batch.listed_tags())
    return outcomes


class _Batch:
    """What the batch knows (loaded, then overlaid by its own decisions) and what it will write."""

    def __init__(
        self,
        connection: Connection,
        size: int,
        now: datetime,
        keys: ServerKeys,
        answering: Answering,
        policy: Policy,
        service: str,
        new_salt: Callable[[], bytes],
    ) -> None:
        self._connection = connection
        self._size = size
        self._now = now
        self._keys = keys
        self._answering = answering
        self._policy = policy
        self._service = service
        self._new_salt = new_salt
        self.drafts: list[Draft] = []
        self._rows: dict[type[Any], list[dict[str, Any]]] = {}
        self._unlisted: list[int] = []
        self._restituted: list[int] = []
        self._outdated_keys: list[tuple[str, str]] = []

    # --- loading ---------------------------------------------------------------------------------------------

    def load(self, commands: Sequence[Command]) -> None:
        connection = self._connection
        self._answers: dict[tuple[str, str], StoredAnswer] = store.stored_answers(
            connection, [(command.asked.platform, command.asked.key) for command in commands]
        )
        submits = [command for command in commands if isinstance(command, SubmitReport)]
        self._live_orders = store.live_orders(connection, [command.body.order_ref for command in submits])
        reversing = [command.report_id for command in commands if isinstance(command, WithdrawReport)]
        reversing += [command.replaces for command in submits if command.replaces is not None]
        named = set(reversing)
        named |= {command.report_id for command in commands if isinstance(command, RestituteReport)}
        named |= {link for command in submits for link in command.links}
        self._reports = store.reports_by_id(connection, named)
        self._dependants: dict[int, list[ReportRow]] = {}
        while reversing:
            level = store.live_dependants(connection, reversing)
            self._dependants.update(level)
            new = [row for rows in level.values() for row in rows if row.id not in self._reports]
            self._reports.update({row.id: row for row in new})
            reversing = [row.id for row in new]
        self._reversals = store.reversals(connection, self._reports)
        self._restitutions = store.restitutions(connection, self._reports)
        self._replaced_by = store.replacements(connection, self._reports)
        tags = [subject.tag for command in submits for subject in command.subjects]
        self._listed: dict[bytes, list[ListedReport]] = {}
        for listed in store.listed_reports(connection, tags):
            self._listed.setdefault(bytes(listed.tag), []).append(listed)
        links = {link for command in submits for link in command.links}
        self._tags = store.tags_of(connection, links) if links else {}

    # --- deciding --------------------------------------------------------------------------------------------

    def decide(self, command: Command) -> Stored | LedgerError:
        asked = command.asked
        answer = self._answers.get((asked.platform, asked.key))
        if answer is not None:
            if answer.created_at > self._now - timedelta(hours=IDEMPOTENCY_HOURS):
                if bytes(answer.request_mac) != asked.request_mac:
                    return IdempotencyMismatch("This idempotency key was used for a different request.")
                return Stored(answer.status, answer.body, replayed=True)
            self._outdated_keys.append((asked.platform, asked.key))
        try:
            if isinstance(command, SubmitReport):
                status, report_id, body = 201, *self._submit(command)
            elif isinstance(command, WithdrawReport):
                status, report_id, body = 200, *self._withdraw(command)
            else:
                status, report_id, body = 200, *self._restitute(command)
        except LedgerError as error:
            return error
        self._answers[(asked.platform, asked.key)] = StoredAnswer(asked.request_mac, status, body, self._now)
        self._add(
            Idempotency,
            platform=asked.platform,
            key=asked.key,
            request_mac=asked.request_mac,
            report_id=report_id,
            status=status,
            body=body,
            created_at=self._now,
        )
        return Stored(status, body, replayed=False)

    def _submit(self, command: SubmitReport) -> tuple[int, str]:
        body, asked = command.body, command.asked
        turned = turn(self._keys, self._answering, command)
        order = (asked.control_group, body.order_ref)
        replaced = self._replaced(command)
        existing = self._live_orders.get(order)
        if existing is not None and (replaced is None or existing != replaced.id):
            raise OrderAlreadyReported(
                "Your control group already has a live report for this order. Withdraw it, or send a report that "
                "replaces it.",
                report=self._public(existing),
            )
        self._check_links(command)

        report_id = self._size + len(self.drafts)
        effective_hour = max(command.intake.effective_hour, hour_floor(self._now))
        joined = self._act_of(command)
        row = report_row(
            command,
            report_id=report_id,
            act_id=report_id if joined is None else joined,
            recorded_at=self._now,
            effective_hour=effective_hour,
        )
        self._draft(
            EventType.REPORT,
            report_entry(
                report_id=self._public(report_id),
                platform=asked.platform,
                control_group=asked.control_group,
                recorded_at=self._now,
                effective_from=from_hour(effective_hour),
                expires_at=from_day(row.expires_day),
                policy_version=self._policy.version,
                body=command.signed,
                signature=command.signature,
            ),
        )
        if replaced is not None:
            self._replaced_by[replaced.id] = report_id
            if replaced.live:
                self._reverse(replaced, report_id, "replacement", WithdrawalReason.WRONG_FACTS.value)
        self._live_orders[order] = report_id
        self._reports[report_id] = row
        self._add(Report, **_fields(row))
        self._list(command, row, turned)
        for link in command.links:
            self._add(ReportLink, report_id=report_id, linked_id=link)
            self._dependants.setdefault(link, []).append(row)
        return report_id, accepted_json(row, self._service, self._policy, self._now)

    def _list(self, command: SubmitReport, row: ReportRow, turned: Sequence[Turned]) -> None:
        own = command.body.epoch
        for one in turned:
            if one.epoch == own:
                self._rows.setdefault(Subject, []).extend(
                    subject_rows(command, row.id, one, [subject.salt for subject in command.subjects])
                )
            elif one.epoch == self._answering.current:
                salts = [self._new_salt() for _ in command.subjects]
                self._rows.setdefault(Subject, []).extend(subject_rows(command, row.id, one, salts))
            self._rows.setdefault(Listing, []).extend(listing_rows(command, row, one))
            group, money = row.control_group, (row.amount_minor, row.currency)
            for tag in one.tags:
                listed = ListedReport(tag, row.id, row.act_id, group, *money, command.intake.act_day)
                self._listed.setdefault(tag, []).append(listed)
        self._tags[row.id] = {tag for one in turned for tag in one.tags}

    def _replaced(self, command: SubmitReport) -> ReportRow | None:
        if command.replaces is None:
            return None
        row = self._reports.get(command.replaces)
        if row is None or row.platform != command.asked.platform:
            raise ReplacementInvalid("`replaces` names no report of yours.")
        if row.id in self._replaced_by:
            raise ReplacementInvalid("The report that `replaces` names was replaced before.")
        return row

    def _check_links(self, command: SubmitReport) -> None:
        """An `account_farm` report rests on counting reports of the same platform about different accounts."""
        seen: set[bytes] = set()
        hour = hour_floor(self._now)
        for link in command.links:
            row = self._reports.get(link)
            if row is None or row.platform != command.asked.platform or not row.live or link == command.replaces:
                raise LinkedReportInvalid("A `report_id` of a linked account names no report of yours that stays live.")
            if row.effective_hour > hour or from_day(row.expires_day) <= self._now:
                raise LinkedReportInvalid("A linked account's report must be counting: not cooling, not expired.")
            tags = self._tags.get(link, set())
            if seen & tags:
                raise LinkedReportInvalid("The linked reports must be about different accounts.")
            seen |= tags

    def _act_of(self, command: SubmitReport) -> int | None:
        return act_to_join(
            [listed for subject in command.subjects for listed in self._listed.get(subject.tag, ())],
            control_group=command.asked.control_group,
            amount_minor=command.body.amount_minor,
            currency=command.body.currency,
            act_day=command.intake.act_day,
            window_days=self._policy.intake.act_window_days,
            replaces=command.replaces,
        )

    def _withdraw(self, command: WithdrawReport) -> tuple[int, str]:
        row = self._own(command.report_id, command.asked.platform)
        if row.id in self._reversals:
            raise AlreadyReversed("This report was taken back before. Nothing is reversed twice.")
        self._withdrawn(row, command.reason)
        return row.id, self._view(row.id)

    def _withdrawn(self, row: ReportRow, reason: WithdrawalReason) -> None:
        index = self._size + len(self.drafts)
        self._draft(
            EventType.WITHDRAWAL,
            withdrawal_entry(
                report_id=self._public(row.id), platform=row.platform, reason=reason, recorded_at=self._now
            ),
        )
        self._reverse(row, index, "withdrawal", reason.value)

    def _reverse(self, row: ReportRow, entry_index: int, kind: str, reason: str) -> None:
        reversal = ReversalRow(row.id, entry_index, kind, reason, self._now)
        self._reversals[row.id] = reversal
        self._add(Reversal, **_fields(reversal))
        self._unlisted.append(row.id)
        self._live_orders.pop((row.control_group, row.order_ref), None)
        for listed in self._listed.values():
            listed[:] = [one for one in listed if one.report_id != row.id]
        self._tags.pop(row.id, None)
        self._reports[row.id] = dataclasses.replace(row, live=False)
        for dependant in self._dependants.get(row.id, ()):
            if dependant.id not in self._reversals:
                self._withdrawn(dependant, WithdrawalReason.LINKED_REPORT_VOID)

    def _restitute(self, command: RestituteReport) -> tuple[int, str]:
        row = self._own(command.report_id, command.asked.platform)
        if row.id in self._reversals:
            raise AlreadyReversed("This report was taken back; there is nothing to halve.")
        if row.id in self._restitutions:
            raise AlreadyRestituted("Restitution was recorded for this report before.")
        if (command.amount_minor, command.currency) != (row.amount_minor, row.currency):
            raise RestitutionInvalid("Restitution is of the full amount, in the currency of the report.")
        if not row.act_ended_at <= command.received_at <= self._now + timedelta(minutes=5):
            raise RestitutionInvalid("`received_at` must lie between the act and now.")
        index = self._size + len(self.drafts)
        self._draft(
            EventType.RESTITUTION,
            restitution_entry(
                report_id=self._public(row.id),
                platform=row.platform,
                received_at=command.received_at,
                recorded_at=self._now,
            ),
        )
        restitution = RestitutionRow(row.id, index, command.received_at, self._now)
        self._restitutions[row.id] = restitution
        self._add(Restitution, **_fields(restitution))
        self._restituted.append(row.id)
        return row.id, self._view(row.id)

    def _own(self, report_id: int, platform: str) -> ReportRow:
        row = self._reports.get(report_id)
        if row is None or row.platform != platform:
            raise NotFound("You have no report of this id.")
        return row

    def _view(self, report_id: int) -> str:
        view = report_view(
            self._reports[report_id],
            reversal=self._reversals.get(report_id),
            restitution=self._restitutions.get(report_id),
            replaced_by=self._replaced_by.get(report_id),
            service=self._service,
            policy=self._policy,
            now=self._now,
        )
        return orjson.dumps(view).decode()

    def _public(self, report_id: int) -> str:
        return encode_id("rp", report_id, self._service)

    def _draft(self, type_: EventType, body: bytes) -> None:
        self.drafts.append(EventDraft(type_, body, self._new_salt()))

    def _add(self, table: type[Any], **row: Any) -> None:
        self._rows.setdefault(table, []).append(row)

    # --- writing ---------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Write the projections. Reports are unlisted first: a replacement takes over its order."""
        connection = self._connection
        dead = set(self._unlisted)
        new_reports = self._rows.get(Report, [])
        for row in new_reports:
            row["live"] = row["id"] not in dead
        self._rows[Listing] = [row for row in self._rows.get(Listing, ()) if row["report_id"] not in dead]
        store.unlist(connection, sorted(dead - {row["id"] for row in new_reports}))
        store.drop_answers(connection, self._outdated_keys)
        for table in _WRITE_ORDER:
            insert_rows(connection, table, self._rows.get(table, ()))
        store.mark_restituted(connection, self._restituted)

    def listed_tags(self) -> list[bytes]:
        """The tags of what was listed, once it is written."""
        return [row["tag"] for row in self._rows.get(Listing, ())]


_WRITE_ORDER: tuple[type[Any], ...] = (Report, Subject, Listing, ReportLink, Reversal, Restitution, Idempotency)


def _fields(row: ReportRow | ReversalRow | RestitutionRow) -> dict[str, Any]:
    """As `dataclasses.asdict`, which copies deeply and is many times slower."""
    return {name: getattr(row, name) for name in row.__dataclass_fields__}
