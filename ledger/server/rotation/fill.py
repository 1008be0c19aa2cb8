"""Turning what is recorded under one epoch into rows under the next, and proving the pairs."""

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
from ledger.server.rotation.convert import Progress, RotationStage, Turn
from ledger.server.rotation.queries import START, EpochSubjectRow, FilledRow, PairRow, Place
from ledger.tlog.key_rotation import rotate_elements

FILL_CHUNK = 1_000
"""Subjects that one transaction of the fill writes: it holds the log's head for some 20 milliseconds."""
PROOF_BATCH = 16_384
"""Subjects under one proof. More would be allowed; so many fit well into memory, and progress shows."""


def fill(
    engine: Engine, turn: Turn, clock: Callable[[], datetime], beside: Executor, workers: int, progress: Progress
) -> None:
    """Write the missing rows under the new epoch until none is missing (or what is has come in since).

    Multiplications need no transaction; the next piece's go on `beside` while the last one is written.
    Raises LogFrozen, DatabaseUnavailable; what was written stays.
    """
    old, new = turn.old.epoch, turn.new.epoch
    with reading(engine) as connection:
        total, done = (store.count_rows(connection, Subject, epoch) for epoch in (old, new))
    progress(RotationStage.FILL, done, max(done, total))

    def following(after: Place) -> tuple[list[EpochSubjectRow], Future[list[bytes]] | None]:
        with reading(engine) as connection:
            rows = store.unfilled(connection, old, new, after, FILL_CHUNK)
        elements = [row.element for row in rows]
        return rows, beside.submit(rotate_elements, turn.factor, elements, workers=workers) if rows else None

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
    engine: Engine, turn: Turn, prover: Prover, stage: RotationStage, total: int, progress: Progress
) -> None:
    """Prove every pair beyond the prover's last one. The next batch is read while one is proved."""
    progress(stage, prover.elements, max(prover.elements, total))

    def following(after: Place) -> list[PairRow]:
        with reading(engine) as connection:
            return store.pairs(connection, turn.old.epoch, turn.new.epoch, after, PROOF_BATCH)

    rows = following(prover.last)
    while rows:
        begun = prover.begin(rows)
        rows = following(prover.last)
        prover.finish(begun)
        progress(stage, prover.elements, max(prover.elements, total))


def turn_tail(connection: Connection, turn: Turn, prover: Prover, limit: int, workers: int) -> None:
    """Fill and prove the at most `limit` subjects beyond the prover's last one. The caller holds the head."""
    rows = store.unfilled(connection, turn.old.epoch, turn.new.epoch, prover.last, limit)
    elements = rotate_elements(turn.factor, [row.element for row in rows], workers=workers) if rows else []
    store.fill(connection, turn.old.epoch, turn.new.epoch, _filled(rows, elements))
    pairs = store.pairs(connection, turn.old.epoch, turn.new.epoch, prover.last, limit)
    if pairs:
        prover.finish(prover.begin(pairs))


def _filled(rows: Sequence[EpochSubjectRow], elements: Sequence[bytes]) -> list[FilledRow]:
    fresh = os.urandom(SALT_BYTES * len(rows))
    salts = [fresh[at : at + SALT_BYTES] for at in range(0, len(fresh), SALT_BYTES)]
    return [
        FilledRow(row.report_id, row.slot, element, salt, tag(row.kind, element))
        for row, element, salt in zip(rows, elements, salts, strict=True)
    ]
