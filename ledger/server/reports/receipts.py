"""Receipts: proof that the log holds a report (C2SP tlog-proof, with the opening of the commitment as extra data)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import InvalidRequest, NotFound, ReceiptPending
from ledger.protocol.public_ids import decode_id
from ledger.server.db.engine import reading
from ledger.server.log import queries as log_store
from ledger.server.log.writer import tile_reader
from ledger.server.platforms.members import Member
from ledger.server.records import queries as report_store
from ledger.tlog.merkle import inclusion_proof
from ledger.tlog.proof import format_receipt

if TYPE_CHECKING:
    from ledger.server.runtime import Runtime


def receipt(rt: Runtime, member: Member, report_id: str) -> str:
    """The receipt of a report of this platform, under the newest checkpoint.

    Raises ReceiptPending before a checkpoint covers it, NotFound for others' reports and after erasure.
    """
    try:
        number = decode_id("rp", report_id, rt.settings.service)
    except InvalidRequest as error:
        raise NotFound("You have no report of this id.") from error
    with reading(rt.engine) as connection:
        row = report_store.reports_by_id(connection, [number]).get(number)
        if row is None or row.platform != member.platform:
            raise NotFound("You have no report of this id.")
        opening = log_store.read_body(connection, number)
        if opening is None:
            raise NotFound("This report was erased; its entry stays in the log, its content is gone.")
        published = log_store.latest_checkpoint(connection)
        if published is None or published.size <= number:
            raise ReceiptPending("No checkpoint covers this report yet. Ask again.", retry_after_seconds=1)
        hour, salt, body = opening
        hashes = inclusion_proof(number, published.size, tile_reader(connection))
    return format_receipt(
        index=number, hashes=hashes, checkpoint_note=published.note, body=bytes(body), hour=hour, salt=bytes(salt)
    )
