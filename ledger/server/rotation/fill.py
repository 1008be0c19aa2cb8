"""Converts the rows of one epoch to rows of the next, and proves the pairs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from datetime import datetime

from sqlalchemy import Connection, Engine

from ledger.protocol.tags import SALT_BYTES, tag
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.reports import Subject
from ledger.server.log.writer import open_head
from ledger.server.rotation import queries as store
from ledger.server.rotation.audit import Prover
from ledger.server.rotation.convert import Conversion, Progress, RotationStage
from ledger.server.rotation.queries import START, EpochSubjectRow, FilledRow, PairRow, Place
from ledger.tlog.key_rotation import rotate_elements

FILL_CHUNK = 1_000
"""Subjects that one transaction of the fill writes. It holds the log's head for some 20 milliseconds."""
PROOF_BATCH = 16_384
"""Subjects in one proof. The format allows more; this number needs little memory and updates the progress often."""


def fill(
    engine: Engine,
    conversion: Conversion,
    clock: Callable[[], datetime],
    executor: Executor,
    workers: int,
    progress: Progress,
) -> None:
    """Write rows under the new epoch until none is missing, except of reports that were recorded since.

    Multiplications need no transaction: those of the next chunk run on `executor` while the last chunk is written.
    Raises LogFrozen, DatabaseUnavailable; rows that were written stay.
    """
    old, new = conversion.old.epoch, conversion.new.epoch
    with reading(engine) as connection:
        total, done = (store.count_rows(connection, Subject, epoch) for epoch in (old, new))
    progress(RotationStage.FILL, done, max(done, total))

    def following(after: Place) -> tuple[list[EpochSubjectRow], Future[list[bytes]] | None]:
        with reading(engine) as connection:
            rows = store.unfilled(connection, old, new, after, FILL_CHUNK)
        elements = [row.element for row in rows]
        return rows, executor.submit(rotate_elements, conversion.factor, elements, workers=workers) if rows else None

    rows, multiplying = following(START)
    while multiplying is not None:
        ahead = following((rows[-1].report_id, rows[-1].slot))
        filled = _filled(rows, multiplying.result())
        with writing(engine) as connection:
            open_head(connection, clock())
            store.fill(connection, old, new, filled)
        done += len(rows)
        progress(RotationStage.FILL, done, max(done, total))
        rows, multiplying = ahead


def prove_pairs(
    engine: Engine, conversion: Conversion, prover: Prover, stage: RotationStage, total: int, progress: Progress
) -> None:
    """Prove every pair after the prover's last one. The next batch is read while one is proved. Raises
    ConfigurationError (the audit folder cannot be written), DatabaseUnavailable."""
    progress(stage, prover.elements, max(prover.elements, total))

    def following(after: Place) -> list[PairRow]:
        with reading(engine) as connection:
            return store.pairs(connection, conversion.old.epoch, conversion.new.epoch, after, PROOF_BATCH)

    rows = following(prover.last)
    while rows:
        begun = prover.begin(rows)
        rows = following(prover.last)
        prover.finish(begun)
        progress(stage, prover.elements, max(prover.elements, total))


def convert_tail(connection: Connection, conversion: Conversion, prover: Prover, limit: int, workers: int) -> None:
    """Fill and prove the subjects after the prover's last one, at most `limit`. The caller holds the head. Raises
    ConfigurationError if the audit folder cannot be written."""
    rows = store.unfilled(connection, conversion.old.epoch, conversion.new.epoch, prover.last, limit)
    elements = rotate_elements(conversion.factor, [row.element for row in rows], workers=workers) if rows else []
    store.fill(connection, conversion.old.epoch, conversion.new.epoch, _filled(rows, elements))
    pairs = store.pairs(connection, conversion.old.epoch, conversion.new.epoch, prover.last, limit)
    if pairs:
        prover.finish(prover.begin(pairs))


def _filled(rows: Sequence[EpochSubjectRow], elements: Sequence[bytes]) -> list[FilledRow]:
    fresh = os.urandom(SALT_BYTES * len(rows))
    salts = [fresh[at : at + SALT_BYTES] for at in range(0, len(fresh), SALT_BYTES)]
    return [
        FilledRow(row.report_id, row.slot, element, salt, tag(row.kind, element))
        for row, element, salt in zip(rows, elements, salts, strict=True)
    ]
