"""Tables of appeals: cases, their events, files, the consumer's statements and sessions.

The log's entries of disputes and resolutions are the record; these rows are the case file that people work with. All
rows of a case are erased with its report, except `case_outcome`, which names no person and keeps a control group's
weight correct for as long as the policy looks back.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, CheckConstraint, Index, Integer, SmallInteger, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ledger.rules.appeals import CaseState
from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime

_STATES = ", ".join(f"'{state.value}'" for state in CaseState)


class AppealCase(Base):
    """One appeal against one report. It changes only under the log's head lock, by the table in `rules.appeals`. A
    report may have several cases, one for each route by which appeals arrived (`rules.rounds`).

    Filing: `filing_group` is the control group whose platform filed the case for the person, empty if the person filed
    it through their own access (`filed_by_subject`). `group_id` is the id of the first of the cases filed together.
    `withdrawals` counts the appeals against the report that the same side withdrew.

    State: `suspends` is whether the report does not count while the case is open. `reviewer_id` is assigned to the
    case; `proposer_id` requested a second signature. `question_due_at` is set while an answer is awaited. `overdue` is
    a recorded state, not computed from the clock. `information_at` is when the person last added information. `round`
    is 2 after a decision was contested again. `reporter_round` is the round that the reporter was granted
    (`ReopeningRequest`), None without one.

    Decision: `conduct` is the reported one, `amended_conduct` the one that a decision replaced it with, `severity` that
    of the conduct in force. `previous_outcome` is the decision about the report that was in force when this round
    began. `unlinked_slots` are the detached subjects (numbers, separated by spaces), `reasons` the text shown to the
    parties.
    """

    __tablename__ = "appeal_case"
    __table_args__ = (
        CheckConstraint(f"state IN ({_STATES})", name="state"),
        CheckConstraint("round BETWEEN 1 AND 3", name="round"),
        Index("ix_appeal_case_state_due_at", "state", "due_at"),
        Index("ix_appeal_case_filed_via_id", "filed_via", "id"),
        Index("ix_appeal_case_platform_id", "platform", "id"),
        Index("ix_appeal_case_group_id", "group_id"),
        Index("ix_appeal_case_report_id", "report_id"),
    )

    id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    group_id: Mapped[int] = mapped_column(BigInt)
    report_id: Mapped[int] = mapped_column(BigInt)
    round: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[str] = mapped_column(String(20))
    outcome: Mapped[str | None] = mapped_column(String(16))
    previous_outcome: Mapped[str | None] = mapped_column(String(16))
    amended_conduct: Mapped[str | None] = mapped_column(String(32))
    grounds: Mapped[str] = mapped_column(String(16))
    profile: Mapped[str] = mapped_column(String(2))
    locale: Mapped[str] = mapped_column(String(8))
    filed_via: Mapped[str] = mapped_column(String(32))
    filed_by_subject: Mapped[bool] = mapped_column(Boolean)
    filing_group: Mapped[str | None] = mapped_column(String(32))
    suspends: Mapped[bool] = mapped_column(Boolean)
    withdrawals: Mapped[int] = mapped_column(SmallInteger)
    platform: Mapped[str] = mapped_column(String(32))
    control_group: Mapped[str] = mapped_column(String(32))
    conduct: Mapped[str] = mapped_column(String(32))
    severity: Mapped[int] = mapped_column(SmallInteger)
    opened_at: Mapped[datetime] = mapped_column(UtcDateTime)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    extended: Mapped[bool] = mapped_column(Boolean)
    overdue: Mapped[bool] = mapped_column(Boolean)
    information_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    question_due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reviewer_id: Mapped[int | None] = mapped_column(BigInt)
    proposer_id: Mapped[int | None] = mapped_column(BigInt)
    proposed: Mapped[str | None] = mapped_column(String(16))
    proposed_conduct: Mapped[str | None] = mapped_column(String(32))
    unlinked_slots: Mapped[str | None] = mapped_column(String(32))
    reasons: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reopen_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reporter_round: Mapped[int | None] = mapped_column(SmallInteger)


class CaseRound(Base):
    """A decided round of a case that was reopened, as its letters report it. Never updated.

    `opened_at` is when the round began. `due_at` is empty for rounds of ledgers of earlier versions, which did not keep
    it: for those only the decision letter exists. `expires_at` is when the data that remained after the decision
    expires.
    """

    __tablename__ = "case_round"

    case_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    round: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    opened_at: Mapped[datetime] = mapped_column(UtcDateTime)
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    outcome: Mapped[str] = mapped_column(String(16))
    amended_conduct: Mapped[str | None] = mapped_column(String(32))
    unlinked_slots: Mapped[str | None] = mapped_column(String(32))
    reasons: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[datetime] = mapped_column(UtcDateTime)
    reopen_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class FilingUse(Base):
    """The number of a platform's attempts to file appeals in a UTC day, successful or not. Each is counted before its
    request is read."""

    __tablename__ = "filing_use"

    platform: Mapped[str] = mapped_column(String(32), primary_key=True)
    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    attempts: Mapped[int] = mapped_column(Integer)


class CaseHandler(Base):
    """Staff who worked on a case in a round. None of them may give the second signature, or decide the case again."""

    __tablename__ = "case_handler"

    case_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    round: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    staff_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)


class CaseEvent(Base):
    """One event of a case's timeline, in order of `id`. Never updated.

    `text` is what a person wrote. `visible_to` is the audience: `all` parties, `reporter` and staff, `subject` and
    staff, or `staff`. `entry_index` is set if the log has an entry for the event.
    """

    __tablename__ = "case_event"
    __table_args__ = (Index("ix_case_event_case_id", "case_id", "id"),)

    id: Mapped[int] = mapped_column(BigInt, primary_key=True)
    case_id: Mapped[int] = mapped_column(BigInt)
    round: Mapped[int] = mapped_column(SmallInteger)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    action: Mapped[str] = mapped_column(String(20))
    actor: Mapped[str] = mapped_column(String(10))
    staff_id: Mapped[int | None] = mapped_column(BigInt)
    platform: Mapped[str | None] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(20))
    outcome: Mapped[str | None] = mapped_column(String(16))
    text: Mapped[str | None] = mapped_column(Text)
    visible_to: Mapped[str] = mapped_column(String(8))
    entry_index: Mapped[int | None] = mapped_column(BigInt)


class CaseAttachment(Base):
    """A file that a party sent. It is stored in the attachments folder under `file`, a random name; `name` is the
    sender's name for it, shown to people only. `evidence_index` is the reported item (0 is the first) with the same
    digest."""

    __tablename__ = "case_attachment"
    __table_args__ = (UniqueConstraint("file"), Index("ix_case_attachment_case_id", "case_id", "id"))

    id: Mapped[int] = mapped_column(BigInt, primary_key=True)
    case_id: Mapped[int] = mapped_column(BigInt)
    party: Mapped[str] = mapped_column(String(8))
    platform: Mapped[str | None] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(200))
    media_type: Mapped[str] = mapped_column(String(32))
    size_bytes: Mapped[int] = mapped_column(Integer)
    width_px: Mapped[int | None] = mapped_column(Integer)
    height_px: Mapped[int | None] = mapped_column(Integer)
    sha256: Mapped[bytes] = mapped_column(Bytes32)
    file: Mapped[str] = mapped_column(String(64))
    evidence_index: Mapped[int | None] = mapped_column(SmallInteger)
    added_at: Mapped[datetime] = mapped_column(UtcDateTime)


class CaseTag(Base):
    """The tags by which a person can find a report that is not listed (any longer): one that was contested, replaced,
    or is held."""

    __tablename__ = "case_tag"
    __table_args__ = (Index("ix_case_tag_report_id", "report_id"),)

    tag: Mapped[bytes] = mapped_column(Bytes32, primary_key=True)
    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    slot: Mapped[int] = mapped_column(SmallInteger)
    epoch: Mapped[int] = mapped_column(Integer)


class CaseSkip(Base):
    """A reviewer skipped a case: the queue offers it to other reviewers first."""

    __tablename__ = "case_skip"

    case_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    staff_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class CaseOutcome(Base):
    """The newest decision about a report, from which a control group's weight is computed. It names no person.

    `counts_as` is upheld, amended, overturned or nothing (docs/supervision.md, how a weight follows). `previous_...` is
    the decision that this one replaced, as of the UTC midnight before `decided_at`; None if there was none.
    """

    __tablename__ = "case_outcome"
    __table_args__ = (
        Index("ix_case_outcome_control_group_decided_at", "control_group", "decided_at"),
        Index("ix_case_outcome_previous_decided_at", "previous_decided_at"),
    )

    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    platform: Mapped[str] = mapped_column(String(32))
    control_group: Mapped[str] = mapped_column(String(32))
    counts_as: Mapped[str] = mapped_column(String(10))
    decided_at: Mapped[datetime] = mapped_column(UtcDateTime)
    previous_counts_as: Mapped[str | None] = mapped_column(String(10))
    previous_decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Statement(Base):
    """The person's own statement on a report, shown with it. A new statement replaces the old one; both are log
    entries."""

    __tablename__ = "statement"

    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(SmallInteger)
    text: Mapped[str] = mapped_column(Text)
    locale: Mapped[str] = mapped_column(String(8))
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    entry_index: Mapped[int] = mapped_column(BigInt)


class CaseEntry(Base):
    """Log entries about a report that its appeal caused. Erased with the report."""

    __tablename__ = "case_entry"
    __table_args__ = (Index("ix_case_entry_report_id", "report_id"),)

    entry_index: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    report_id: Mapped[int] = mapped_column(BigInt)
    type: Mapped[str] = mapped_column(String(16))
    outcome: Mapped[str | None] = mapped_column(String(16))
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SubjectSession(Base):
    """A consumer's session, opened for them by a platform. Only hashes of its two secrets are kept: of the single-use
    code in the link, and of the token that it was exchanged for. `subjects` is a JSON list of [kind, tag]."""

    __tablename__ = "subject_session"
    __table_args__ = (
        UniqueConstraint("code_hash"),
        UniqueConstraint("token_hash"),
        Index("ix_subject_session_platform_created_at", "platform", "created_at"),
    )

    id: Mapped[int] = mapped_column(BigInt, primary_key=True)
    platform: Mapped[str] = mapped_column(String(32))
    control_group: Mapped[str] = mapped_column(String(32))
    profile: Mapped[str] = mapped_column(String(2))
    locale: Mapped[str] = mapped_column(String(8))
    epoch: Mapped[int] = mapped_column(Integer)
    subjects: Mapped[str] = mapped_column(Text)
    code_hash: Mapped[bytes] = mapped_column(Bytes32)
    code_expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    token_hash: Mapped[bytes | None] = mapped_column(Bytes32)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
