"""Queries on reports whose label identified its file by the rules of their time only."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, delete, func, select

from ledger.server.db.bulk import chunks
from ledger.server.db.tables.reports import FormerLabel, Report


def among(connection: Connection, ids: Iterable[int]) -> set[int]:
    """Return the `ids` of the reports that have such a label."""
    labelled: set[int] = set()
    for some in chunks(ids):
        labelled.update(connection.scalars(select(FormerLabel.report_id).where(FormerLabel.report_id.in_(some))))
    return labelled


def page(connection: Connection, platform: str, *, limit: int, before_id: int | None = None) -> list[int]:
    """Return the live reports of a platform that have such a label, newest first, older than `before_id`."""
    statement = (
        select(FormerLabel.report_id)
        .join(Report, Report.id == FormerLabel.report_id)
        .where(FormerLabel.platform == platform, Report.live)
    )
    if before_id is not None:
        statement = statement.where(FormerLabel.report_id < before_id)
    return list(connection.scalars(statement.order_by(FormerLabel.report_id.desc()).limit(limit)))


def counts(connection: Connection) -> dict[str, int]:
    """Return the number of live reports with such a label, by platform."""
    rows = connection.execute(
        select(FormerLabel.platform, func.count())
        .join(Report, Report.id == FormerLabel.report_id)
        .where(Report.live)
        .group_by(FormerLabel.platform)
    )
    return {str(platform): int(number) for platform, number in rows}


def erase(connection: Connection, ids: Iterable[int]) -> None:
    """Forget these reports."""
    connection.execute(delete(FormerLabel).where(FormerLabel.report_id.in_(list(ids))))
