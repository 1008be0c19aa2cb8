"""One transaction of the sequencer: decide every command of a batch against the database, then write all at once.

The batch is loaded with a few queries, decided in memory in the order of arrival (a later command sees what an
earlier one of the same batch did), and written with one statement a table. A command that is refused leaves no
trace and does not touch the others. Only what succeeded is remembered under its idempotency key: a refusal changed
nothing, so asking again is safe and may succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import orjson
from sqlalchemy import Connection

from ledger.errors import (
    LedgerError,
    LinkedReportInvalid,
    NotFound,
    ReplacementInvalid,
    RestitutionInvalid,
)
from ledger.protocol.encoding import day_floor, from_day, from_hour, hour_floor
from ledger.protocol.public_ids import encode_id
from ledger.rules.acts import ListedReport, act_to_join, is_duplicate
from ledger.rules.order_lines import (
    HELD_DAYS,
    Act,
    Bound,
    Held,
    Recorded,
    Refused,
    Repaid,
    Withdrawn,
    bound_intake,
    judge,
)
from ledger.rules.pictures import searchable
from ledger.rules.reports import check_intake
from ledger.server.appeals.case_changes import report_gone
from ledger.server.context import Context
from ledger.server.db.engine import writing
from ledger.server.db.tables.appeals import CaseTag
from ledger.server.db.tables.orders import HeldReport
from ledger.server.db.tables.pictures import PictureHash
from ledger.server.db.tables.reports import Listing, Report, ReportLink, Restitution, Subject
from ledger.server.keys.epochs import read_epochs
from ledger.server.keys.server_keys import ServerKeys
from ledger.server.log.queries import Head
from ledger.server.log.writer import open_head
from ledger.server.lookups.listed_tags import ListedTag
from ledger.server.pictures.queries import picture_id
from ledger.server.records import case_queries as appeal_store
from ledger.server.records import former_label_queries as former_labels
from ledger.server.records import order_line_queries as line_store
from ledger.server.records import queries as store
from ledger.server.records.case_queries import StatementRow
from ledger.server.records.commands import Command, RestituteReport, SubmitReport, WithdrawReport
from ledger.server.records.idempotency import ResponseStore, StoredResponse
from ledger.server.records.order_line_queries import HeldRow
from ledger.server.records.order_lines import Lines, matter_of, refuse
from ledger.server.records.queries import ReportRow, RestitutionRow
from ledger.server.records.rows import (
    Answering,
    ConvertedSubjects,
    convert_report,
    held_rows,
    listing_rows,
    report_row,
    subject_rows,
)
from ledger.server.records.transaction import EntryBatch, fields_of
from ledger.server.records.views import accepted_json, report_view
from ledger.tlog.entries import EventType, WithdrawalReason, report_entry, restitution_entry, statement_entry


def apply(
    context: Context,
    keys: ServerKeys,
    commands: Sequence[Command],
    *,
    listed: Callable[[list[ListedTag]], object] = lambda _tags: None,
) -> list[StoredResponse | LedgerError]:
    """Carry out `commands` in one transaction; return one outcome for each. Raises LogFrozen, PolicyUnreadable,
    DatabaseUnavailable: then none was carried out.

    `listed` is called with the tags of new listings once they are committed, before any outcome is returned. The key
    epochs are read under the head's lock: all of a batch is before a rotation's switch or all of it is after.
    """
    with writing(context.engine) as connection:
        head, now = open_head(connection, context.now())
        batch = _Batch(context, keys, connection, head, now)
        batch.load(commands)
        outcomes = [batch.decide(command) for command in commands]
        batch.finish()
    listed(batch.listed_tags())
    return outcomes


class _Batch(EntryBatch):
    """What the batch has read (overlaid by its own decisions) and what it will write."""

    def __init__(self, context: Context, keys: ServerKeys, connection: Connection, head: Head, now: datetime) -> None:
        super().__init__(context, connection, head, now, report_gone)
        self._keys = keys
        self._answering = Answering.of(read_epochs(connection))

    # --- loading ---------------------------------------------------------------------------------------------

    def load(self, commands: Sequence[Command]) -> None:
        connection = self.connection
        self._responses = ResponseStore(self, [command.request for command in commands])
        submits = [command for command in commands if isinstance(command, SubmitReport)]
        reversing = [command.report_id for command in commands if isinstance(command, WithdrawReport)]
        reversing += [command.replaces for command in submits if command.replaces is not None]
        links = {link for command in submits for link in command.links}
        named = {command.report_id for command in commands if isinstance(command, RestituteReport)}
        self.load_reports(named | links, reversing)
        tags = [subject.tag for command in submits for subject in command.subjects]
        self._listed: dict[bytes, list[ListedReport]] = {}
        for listed in store.listed_reports(connection, tags):
            self._listed.setdefault(bytes(listed.tag), []).append(listed)
        self._tags = store.tags_of(connection, links) if links else {}
        orders = [(command.request.control_group, command.body.order_ref) for command in submits]
        orders += [(row.control_group, row.order_ref) for row in self.reports.values()]
        self._lines = Lines(connection)
        self._lines.load(orders, tags)
        self._held = line_store.held_reports(connection, self.reports) if self.reports else {}

    # --- deciding --------------------------------------------------------------------------------------------

    def decide(self, command: Command) -> StoredResponse | LedgerError:
        try:
            stored = self._responses.recall(command.request)
            if stored is not None:
                return stored
            if isinstance(command, SubmitReport):
                status, report_id, body = 201, *self._submit(command)
            elif isinstance(command, WithdrawReport):
                status, report_id, body = 200, *self._withdraw(command)
            else:
                status, report_id, body = 200, *self._restitute(command)
        except LedgerError as error:
            return error
        return self._responses.remember(command.request, report_id, status, body)

    def _submit(self, command: SubmitReport) -> tuple[int, str]:
        body, request = command.body, command.request
        if command.policy != self.policy.version:  # another one came into effect while the report waited
            command = replace(command, intake=check_intake(body, command.profile, self.policy, self.now))
        under_epochs = convert_report(self._keys, self._answering, command)
        order = (request.control_group, body.order_ref)
        replaced = self._replaced(command)
        verdict = judge(
            self._lines.line(order),
            Act.REPORT if replaced is None else Act.REPLACE,
            self.now,
            report_id=command.replaces,
            matter=matter_of(command),
            contested=self._lines.contested(
                request.control_group, [subject.tag for subject in command.subjects], day_floor(self.now)
            ),
        )
        if isinstance(verdict, Refused):
            refuse(verdict, self.service)
        intake = replace(command.intake, effective_hour=max(command.intake.effective_hour, hour_floor(self.now)))
        command = replace(command, intake=bound_intake(intake, body.notice_sent_at, verdict.bound))
        self._check_links(command)
        held = verdict if isinstance(verdict, Held) else None

        report_id = self.next_index
        joined = self._act_of(command) if held is None else None
        row = report_row(
            command,
            report_id=report_id,
            act_id=report_id if joined is None else joined,
            recorded_at=self.now,
            effective_hour=command.intake.effective_hour,
        )
        self.draft(
            EventType.REPORT,
            report_entry(
                report_id=self.public(report_id),
                platform=request.platform,
                control_group=request.control_group,
                recorded_at=self.now,
                effective_from=from_hour(row.effective_hour),
                expires_at=from_day(row.expires_day),
                policy_version=self.policy.version,
                body=command.canonical,
                signature=command.signature,
                held_for=None if held is None else encode_id("ap", held.like.case_id, self.service),
            ),
        )
        if replaced is not None:
            self.replaced_by[replaced.id] = report_id
            if replaced.live:
                self.reverse(replaced, report_id, "replacement", WithdrawalReason.WRONG_FACTS.value)
        self._lines.happened(order, Recorded(report_id, self.now, row.expires_day, held=held is not None))
        self.reports[report_id] = row
        self.add(Report, **fields_of(row))
        self._list(command, row, under_epochs, held)
        self._keep(row, verdict.bound, under_epochs)
        for link in command.links:
            self.add(ReportLink, report_id=report_id, linked_id=link)
            self.dependants.setdefault(link, []).append(row)
        for place, pdq in enumerate(searchable(body.conduct, body.evidence)):
            self.add(PictureHash, id=picture_id(report_id, place), report_id=report_id, pdq=pdq)
        accepted = accepted_json(
            row, self.service, self.policy, self.now, canonical=command.canonical, held=held is not None
        )
        return report_id, accepted

    def _keep(self, row: ReportRow, bound: Bound, under_epochs: Sequence[ConvertedSubjects]) -> None:
        """Copy from an earlier report of the order that the money was paid back, and the person's statement, if the new
        report is about the same person."""
        if bound.repaid_at is not None:
            self._repay(row, bound.repaid_at)
        if not bound.earlier:
            return
        tags = {tag for converted in under_epochs for tag in converted.tags}
        statements = appeal_store.statements(self.connection, bound.earlier).values()
        for before in sorted(statements, key=lambda statement: statement.entry_index, reverse=True):
            if tags.isdisjoint(line_store.subject_tags(self.connection, before.report_id)):
                continue
            body = statement_entry(
                report_id=self.public(row.id),
                revision=before.revision,
                text=before.text,
                locale=before.locale,
                recorded_at=self.now,
            )
            index = self.draft(EventType.STATEMENT, body)
            entry = {"entry_index": index, "report_id": row.id, "type": EventType.STATEMENT.value, "outcome": None}
            appeal_store.add_entries(self.connection, [{**entry, "recorded_at": self.now}])
            kept = StatementRow(row.id, before.revision, before.text, before.locale, before.made_at, index)
            appeal_store.put_statement(self.connection, kept)
            self.stated.append(row.id)
            return

    def _list(
        self, command: SubmitReport, row: ReportRow, under_epochs: Sequence[ConvertedSubjects], held: Held | None
    ) -> None:
        """Write the subjects, and the listings under every epoch in use. A held report is not listed, but its person
        can find it."""
        own = command.body.epoch
        if held is not None:
            self._hold(command, row, under_epochs, held)
        for converted in under_epochs:
            if converted.epoch == own:
                self.rows.setdefault(Subject, []).extend(
                    subject_rows(command, row.id, converted, [subject.salt for subject in command.subjects])
                )
            elif converted.epoch == self._answering.current:
                salts = [self.fresh_salt() for _ in command.subjects]
                self.rows.setdefault(Subject, []).extend(subject_rows(command, row.id, converted, salts))
            if held is not None:
                self.rows.setdefault(CaseTag, []).extend(held_rows(row.id, converted))
                continue
            self.rows.setdefault(Listing, []).extend(listing_rows(command, row, converted))
            group, money = row.control_group, (row.amount_minor, row.currency)
            for tag in converted.tags:
                listed = ListedReport(tag, row.id, row.act_id, group, *money, command.intake.act_day)
                self._listed.setdefault(tag, []).append(listed)
        self._tags[row.id] = {tag for converted in under_epochs for tag in converted.tags}

    def _hold(
        self, command: SubmitReport, row: ReportRow, under_epochs: Sequence[ConvertedSubjects], held: Held
    ) -> None:
        kept = HeldRow(
            report_id=row.id,
            control_group=row.control_group,
            case_id=held.like.case_id,
            like_id=held.like.like_id,
            void_at=self.now + timedelta(days=HELD_DAYS),
            explanation=None,
            explained_at=None,
            revision=0,
            proposer_id=None,
            signer_id=None,
            reasons=None,
            released_at=None,
            released_index=None,
            refused_at=None,
        )
        self.add(HeldReport, **{name: getattr(kept, name) for name in kept.__dataclass_fields__})
        self._held[row.id] = kept
        tags = [tag for converted in under_epochs for tag in converted.tags]
        self._lines.held(row, held.like, tags, matter_of(command).evidence)

    def _replaced(self, command: SubmitReport) -> ReportRow | None:
        if command.replaces is None:
            return None
        row = self.reports.get(command.replaces)
        if row is None or row.platform != command.request.platform:
            raise ReplacementInvalid("`replaces` names no report of yours.")
        if row.id in self.replaced_by:
            raise ReplacementInvalid("The report that `replaces` names was replaced before.")
        return row

    def _check_links(self, command: SubmitReport) -> None:
        """Check that an `account_farm` report depends on counting reports of the same platform about different
        accounts."""
        seen: set[bytes] = set()
        hour = hour_floor(self.now)
        for link in command.links:
            row = self.reports.get(link)
            if row is None or row.platform != command.request.platform or not row.live or link == command.replaces:
                raise LinkedReportInvalid("A `report_id` of a linked account names no report of yours that stays live.")
            verdict = judge(self._lines.line((row.control_group, row.order_ref)), Act.LINK, self.now, report_id=link)
            if isinstance(verdict, Refused):
                refuse(verdict, self.service)
            if row.effective_hour > hour or from_day(row.expires_day) <= self.now:
                raise LinkedReportInvalid("A linked account's report must be counting: not cooling, not expired.")
            tags = self._tags.get(link, set())
            if seen & tags:
                raise LinkedReportInvalid("The linked reports must be about different accounts.")
            seen |= tags

    def _act_of(self, command: SubmitReport) -> int | None:
        return act_to_join(
            [listed for subject in command.subjects for listed in self._listed.get(subject.tag, ())],
            control_group=command.request.control_group,
            amount_minor=command.body.amount_minor,
            currency=command.body.currency,
            act_day=command.intake.act_day,
            window_days=self.policy.intake.act_window_days,
            replaces=command.replaces,
        )

    def _withdraw(self, command: WithdrawReport) -> tuple[int, str]:
        row = self._own(command.report_id, command.request.platform)
        duplicate = command.reason is WithdrawalReason.DUPLICATE and self._is_duplicate(row)
        line = self._lines.line((row.control_group, row.order_ref))
        verdict = judge(line, Act.WITHDRAW, self.now, report_id=row.id, duplicate=duplicate)
        if isinstance(verdict, Refused):
            refuse(verdict, self.service)
        self.withdraw(row, command.reason, costs=not duplicate)
        return row.id, self._view(row.id)

    def _is_duplicate(self, row: ReportRow) -> bool:
        """True if an older live report of the group states the same about the same person."""
        mine = store.tags_of(self.connection, [row.id]).get(row.id, set())
        return is_duplicate(store.listed_reports(self.connection, mine), row.id)

    def forget_report(self, row: ReportRow) -> None:
        self._lines.happened((row.control_group, row.order_ref), Withdrawn(row.id))
        for listed in self._listed.values():
            listed[:] = [listing for listing in listed if listing.report_id != row.id]
        self._tags.pop(row.id, None)

    def _restitute(self, command: RestituteReport) -> tuple[int, str]:
        row = self._own(command.report_id, command.request.platform)
        line = self._lines.line((row.control_group, row.order_ref))
        verdict = judge(line, Act.RESTITUTE, self.now, report_id=row.id)
        if isinstance(verdict, Refused):
            refuse(verdict, self.service)
        if (command.amount_minor, command.currency) != (row.amount_minor, row.currency):
            raise RestitutionInvalid("Restitution is of the full amount, in the currency of the report.")
        if not row.act_ended_at <= command.received_at <= self.now + timedelta(minutes=5):
            raise RestitutionInvalid("`received_at` must lie between the act and now.")
        self._repay(row, command.received_at)
        return row.id, self._view(row.id)

    def _repay(self, row: ReportRow, received_at: datetime) -> None:
        """Append that the money of this report came back, which halves its points."""
        body = restitution_entry(
            report_id=self.public(row.id), platform=row.platform, received_at=received_at, recorded_at=self.now
        )
        restitution = RestitutionRow(row.id, self.draft(EventType.RESTITUTION, body), received_at, self.now)
        self.restitutions[row.id] = restitution
        self.add(Restitution, **fields_of(restitution))
        self.restituted.append(row.id)
        self._lines.happened((row.control_group, row.order_ref), Repaid(row.id, received_at))

    def _own(self, report_id: int, platform: str) -> ReportRow:
        row = self.reports.get(report_id)
        if row is None or row.platform != platform:
            raise NotFound("You have no report of this id.")
        return row

    def _view(self, report_id: int) -> str:
        view = report_view(
            self.reports[report_id],
            reversal=self.reversals.get(report_id),
            restitution=self.restitutions.get(report_id),
            replaced_by=self.replaced_by.get(report_id),
            case=self.cases.get(report_id),
            held=self._held.get(report_id),
            service=self.service,
            policy=self.policy,
            now=self.now,
            former_label=report_id in former_labels.among(self.connection, [report_id]),
        )
        return orjson.dumps(view).decode()

    def listed_tags(self) -> list[ListedTag]:
        """The tags of what was listed, once it is written."""
        return [ListedTag(row["tag"], row["effective_hour"]) for row in self.rows.get(Listing, ())]
