"""The part of the SDK that asks whether a picture was used before: by its perceptual hash, never by the picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ledger.client.inputs import check_id
from ledger.client.models.pictures import PictureHash, PictureReuse, parse_reuses
from ledger.client.session import Session
from ledger.client.transport.budgets import Deadline
from ledger.errors import InvalidRequest, PictureUnfit
from ledger.protocol.encoding import b64url
from ledger.rules.pictures import MAX_SEARCHED, MIN_QUALITY, is_degenerate
from ledger.rules.reports import order_ref

_PDQ = re.compile(r"[0-9a-f]{64}\Z")


PictureReuses = list[PictureReuse]
"""One result for each picture."""


class Pictures:
    """`ledger.pictures`: searches for reused pictures.

    Each method raises InvalidRequest for an unfit argument, Unauthenticated or Forbidden (and their leaves) where the
    platform has no access, UnexpectedAnswer or AnswerMismatch for a wrong answer, Unavailable in an outage, and what
    `RefundLedger.connect` raises; its docstring names the other errors.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def search(self, pictures: Sequence[PictureHash], *, order: str) -> PictureReuses:
        """Return for each of 1 to 8 pictures of a claim, how often others used it; in order. The picture itself is
        never sent, and nothing here says who the buyer is. With retries; `lookup(..., pictures=...)` asks both in 300
        ms.

        Raises PictureUnfit for a quality below 50, QuotaExceeded and the other named refusals, Unavailable.
        """
        body = search_json(pictures, order_ref(self._session.order_key(), order))
        self._session.ready()
        return list(self._session.retrying(lambda limit: search(self._session, body, len(pictures), limit)))

    def for_report(self, report_id: str) -> PictureReuses:
        """Return where else the searchable pictures of a report of yours were used, its own refund left out. Raises
        NotFound, QuotaExceeded and the other named refusals, Unavailable."""
        return list(self._session.get(f"/v1/reports/{check_id('rp', report_id)}/pictures", parse_reuses))


def search(session: Session, body: dict[str, Any], pictures: int, limit: Deadline) -> tuple[PictureReuse, ...]:
    """Send one search for this number of `pictures`, and return the results. Raises UnexpectedAnswer and what a request
    raises."""
    return session.post("/v1/pictures/search", body, limit).read(lambda value: parse_reuses(value, pictures))


def search_json(pictures: Sequence[PictureHash], reference: bytes) -> dict[str, Any]:
    """Return the request for `pictures`; `reference` is its 32-byte order_ref. Raises InvalidRequest, PictureUnfit."""
    if not 1 <= len(pictures) <= MAX_SEARCHED:
        raise InvalidRequest(f"A search carries 1 to {MAX_SEARCHED} pictures.")
    for picture in pictures:
        if not _PDQ.match(picture.pdq):
            raise InvalidRequest("A PDQ hash has 64 lower-case hexadecimal digits.")
        if picture.quality < MIN_QUALITY or is_degenerate(bytes.fromhex(picture.pdq)):
            raise PictureUnfit(f"A hash of a quality below {MIN_QUALITY} would meet too many others.")
    return {
        "pictures": [{"pdq": picture.pdq, "quality": picture.quality} for picture in pictures],
        "order_ref": b64url(reference),
    }
