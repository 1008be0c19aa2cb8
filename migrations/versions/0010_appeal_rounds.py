"""Rounds of an appeal by the way of filing, and failed attempts to file.

A report may have several cases now: one for the person's own access, one for each control group that files. The single
case of an earlier ledger is assigned to the way by which it was filed. A withdrawn round does not count against a limit
any longer, so such rounds are subtracted.

Revision: 0010
After: 0009
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
REOPEN_DAYS = 60
CONTESTABLE = ("upheld", "amended", "unconfirmed", "unlinked")
DECIDING = ("decide", "sign", "reporter_silent")

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("appeal_case") as table:
        table.drop_constraint(op.f("uq_appeal_case_report_id"), type_="unique")
        table.add_column(sa.Column("filing_group", sa.String(length=32), nullable=True))
        table.add_column(sa.Column("suspends", sa.Boolean(), nullable=False, server_default=sa.true()))
        table.add_column(sa.Column("withdrawals", sa.SmallInteger(), nullable=False, server_default="0"))
    with op.batch_alter_table("appeal_case") as table:
        table.alter_column("suspends", existing_type=sa.Boolean(), existing_nullable=False, server_default=None)
        table.alter_column("withdrawals", existing_type=sa.SmallInteger(), existing_nullable=False, server_default=None)
    op.create_index("ix_appeal_case_report_id", "appeal_case", ["report_id"], unique=False)
    op.create_table(
        "case_round",
        sa.Column("case_id", BIG, autoincrement=False, nullable=False),
        sa.Column("round", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("due_at", TIME, nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("amended_conduct", sa.String(length=32), nullable=True),
        sa.Column("unlinked_slots", sa.String(length=32), nullable=True),
        sa.Column("reasons", sa.Text(), nullable=True),
        sa.Column("decided_at", TIME, nullable=False),
        sa.Column("reopen_until", TIME, nullable=True),
        sa.Column("expires_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("case_id", "round", name=op.f("pk_case_round")),
    )
    op.create_table(
        "filing_use",
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("platform", "day", name=op.f("pk_filing_use")),
    )
    connection = op.get_bind()
    connection.execute(
        sa.text(
            "UPDATE appeal_case SET filing_group = "
            "(SELECT control_group FROM platform WHERE platform.name = appeal_case.filed_via) "
            "WHERE NOT filed_by_subject"
        )
    )
    # A platform that is not enrolled any longer has no group: its name is used instead.
    connection.execute(
        sa.text("UPDATE appeal_case SET filing_group = filed_via WHERE NOT filed_by_subject AND filing_group IS NULL")
    )
    _count_withdrawals(connection)
    _give_back_rounds(connection)
    _keep_rounds(connection)


def _count_withdrawals(connection: sa.Connection) -> None:
    connection.execute(
        sa.text(
            "UPDATE appeal_case SET withdrawals = (SELECT count(*) FROM case_event "
            "WHERE case_event.case_id = appeal_case.id AND case_event.action = 'withdraw')"
        )
    )


_case = sa.table(
    "appeal_case",
    *[sa.column(name) for name in ("id", "report_id", "round", "state", "outcome", "previous_outcome")],
    sa.column("opened_at", TIME), sa.column("decided_at", TIME), sa.column("reopen_until", TIME),
    sa.column("closed_at", TIME),
    sa.column("amended_conduct"), sa.column("unlinked_slots"),
)  # fmt: skip
_event = sa.table(
    "case_event", *[sa.column(name) for name in ("id", "case_id", "round", "action", "outcome", "text")],
    sa.column("at", TIME),
)  # fmt: skip
_handler = sa.table("case_handler", *[sa.column(name) for name in ("case_id", "round", "staff_id")])
_report = sa.table("report", sa.column("id"), sa.column("live"))
_round = sa.table(
    "case_round",
    *[sa.column(name) for name in ("case_id", "round", "outcome", "amended_conduct", "unlinked_slots", "reasons")],
    sa.column("opened_at", TIME), sa.column("decided_at", TIME),
)  # fmt: skip


def _give_back_rounds(connection: sa.Connection) -> None:
    """Subtract withdrawn rounds. A case whose first round was withdrawn and then reopened is still in its first
    round. A case that was decided in a round that counted as its last, or whose reopened round was withdrawn, may be
    reopened."""
    now = datetime.now(UTC)
    second = sa.select(_case).where(_case.c.round == 2)
    for row in connection.execute(second).all():
        if row.previous_outcome is None:
            _renumber(connection, row.id)
        live = connection.execute(sa.select(_report.c.live).where(_report.c.id == row.report_id)).scalar_one_or_none()
        if not live or row.state not in ("decided", "withdrawn", "closed"):
            continue
        if row.previous_outcome is None and row.outcome in CONTESTABLE and row.decided_at is not None:
            since, state = row.decided_at, "decided"
        elif row.previous_outcome is not None and row.outcome is None:
            withdrawn = _last(connection, row.id, ("withdraw",), None)
            if withdrawn is None:
                continue
            since, state = withdrawn.at, "withdrawn"
        else:
            continue
        until = _aware(since) + timedelta(days=REOPEN_DAYS)
        if until > now:
            connection.execute(
                sa.update(_case)
                .where(_case.c.id == row.id)
                .values(state=state, reopen_until=sa.bindparam("until", until, TIME), closed_at=None)
            )


def _renumber(connection: sa.Connection, case_id: int) -> None:
    connection.execute(sa.update(_case).where(_case.c.id == case_id).values(round=1))
    connection.execute(sa.update(_event).where(_event.c.case_id == case_id).values(round=1))
    first = sa.select(_handler.c.staff_id).where(_handler.c.case_id == case_id, _handler.c.round == 1)
    again = (_handler.c.case_id == case_id, _handler.c.round == 2)
    known = list(connection.scalars(first))
    connection.execute(sa.delete(_handler).where(*again, _handler.c.staff_id.in_(known)))
    connection.execute(sa.update(_handler).where(*again).values(round=1))


def _keep_rounds(connection: sa.Connection) -> None:
    """Insert the decided first rounds of reopened cases from the timeline, so that their decision letters stay
    readable."""
    for row in connection.execute(sa.select(_case).where(_case.c.round == 2)).all():
        decided = _last(connection, row.id, DECIDING, 1)
        if decided is None or row.previous_outcome is None:
            continue
        outcome = row.previous_outcome
        connection.execute(
            sa.insert(_round).values(
                case_id=row.id,
                round=1,
                opened_at=row.opened_at,
                outcome=outcome,
                amended_conduct=row.amended_conduct if outcome == "amended" else None,
                unlinked_slots=row.unlinked_slots if outcome == "unlinked" else None,
                reasons=decided.text,
                decided_at=decided.at,
            )
        )


def _last(
    connection: sa.Connection, case_id: int, actions: tuple[str, ...], number: int | None
) -> sa.Row[tuple[object, ...]] | None:
    """Return the newest event of the case with one of these actions, in round `number` if it is given."""
    conditions = [_event.c.case_id == case_id, _event.c.action.in_(actions)]
    if number is not None:
        conditions.append(_event.c.round == number)
    return connection.execute(sa.select(_event).where(*conditions).order_by(_event.c.id.desc()).limit(1)).one_or_none()


def _aware(moment: datetime) -> datetime:
    """Return a time with its offset: SQLite returns times without it; they are in UTC."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def downgrade() -> None:
    """Downgrade. Fails if a report has more than one case, which an earlier version cannot store."""
    op.drop_table("filing_use")
    op.drop_table("case_round")
    op.drop_index("ix_appeal_case_report_id", table_name="appeal_case")
    with op.batch_alter_table("appeal_case") as table:
        table.drop_column("withdrawals")
        table.drop_column("suspends")
        table.drop_column("filing_group")
        table.create_unique_constraint(op.f("uq_appeal_case_report_id"), ["report_id"])
