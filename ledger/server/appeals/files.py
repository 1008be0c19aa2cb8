"""Files of a case: what a party hands in, checked against what was reported, and read back by either party.

A reporter hands in evidence only: a file whose SHA-256 its report named. So nothing new is brought against the person
in an appeal, and what the reviewer sees is what the reporter had when it reported. The one other file is the new
evidence for which a case was opened again for its reporter, in the round that was granted for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ledger.errors import AppealInvalid, DatabaseUnavailable
from ledger.protocol.encoding import b64url
from ledger.server.appeals import attachment_queries as store
from ledger.server.appeals.attachment_queries import AttachmentRow, NewAttachment
from ledger.server.appeals.attachments import CheckedFile, check_room, delete_many, save
from ledger.server.appeals.file_types import refused
from ledger.server.appeals.own_record import reported_evidence
from ledger.server.appeals.parties import Party, Speaker, check_party, note_file
from ledger.server.records import order_line_queries as order_lines
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.transaction import EntryBatch
from ledger.server.settings import Settings


@dataclass(slots=True)
class Draft:
    """A file on disk under the name `file`, and whether a row names it."""

    file: str
    named: bool = False


@contextmanager
def drafted(settings: Settings, data: bytes, random_bytes: Callable[[int], bytes]) -> Iterator[Draft]:
    """Write the file before the transaction that names it; delete it if nothing came of that.

    Whether a commit that met an outage took place nobody knows: then the file stays, and `sweep` finds it if no row
    has its name.
    """
    draft = Draft(save(settings, data, random_bytes))
    try:
        yield draft
    except DatabaseUnavailable:
        raise
    except BaseException:
        delete_many(settings, [draft.file])
        raise
    if not draft.named:
        delete_many(settings, [draft.file])


def keep_file(
    batch: EntryBatch,
    settings: Settings,
    row: CaseRow,
    speaker: Speaker,
    checked: CheckedFile,
    draft: Draft,
    evidence_index: int | None = None,
) -> tuple[AttachmentRow, bool]:
    """The file as part of the case, and whether it is new: the same bytes twice are one attachment.

    Raises NotFound, AppealInvalid, AttachmentRefused (`digest_mismatch`, `too_many_files`), ActionRefused.
    """
    check_party(batch, row, speaker)
    place = _place(batch, row, speaker, checked, evidence_index)
    for one in store.of_case(batch.connection, row.id):
        if (one.party, bytes(one.sha256), one.evidence_index) == (speaker.party.value, checked.sha256, place):
            return one, False
    check_room(batch.connection, row.id, settings, speaker.party.value)
    note_file(batch, row, speaker, checked.name)
    new = NewAttachment(
        case_id=row.id,
        party=speaker.party.value,
        platform=speaker.platform,
        name=checked.name,
        media_type=checked.media_type,
        size_bytes=checked.size_bytes,
        width_px=checked.width_px,
        height_px=checked.height_px,
        sha256=checked.sha256,
        file=draft.file,
        evidence_index=place,
        added_at=batch.now,
    )
    number = store.add(batch.connection, new)
    draft.named = True
    return AttachmentRow(**{name: getattr(new, name) for name in new.__dataclass_fields__}, id=number), True


def _place(
    batch: EntryBatch, row: CaseRow, speaker: Speaker, checked: CheckedFile, evidence_index: int | None
) -> int | None:
    """The reported item (0 is the first) that this file is; None for the person's files, and for the new evidence for
    which the case was opened again for its reporter."""
    if speaker.party is Party.SUBJECT:
        if evidence_index is not None:
            raise AppealInvalid("Only the reporter's files are items of evidence.")
        return None
    digest = b64url(checked.sha256)
    reported = [item["sha256"] for item in reported_evidence(batch.connection, row.report_id)]
    if evidence_index is None:
        if digest not in reported and _is_new_evidence(batch, row, checked.sha256):
            return None
        if digest not in reported:
            raise refused("digest_mismatch", "The report named no item of evidence with this file's SHA-256.")
        return reported.index(digest)
    if not 0 <= evidence_index < len(reported) or reported[evidence_index] != digest:
        raise refused("digest_mismatch", "The report's item of this number has another SHA-256, or there is none.")
    return evidence_index


def _is_new_evidence(batch: EntryBatch, row: CaseRow, sha256: bytes) -> bool:
    """Whether the case has the round that its reporter was granted for evidence of this digest."""
    request = order_lines.request(batch.connection, row.id)
    granted = request is not None and request.granted is True and row.round == request.round
    return granted and request is not None and bytes(request.evidence_sha256) == sha256
