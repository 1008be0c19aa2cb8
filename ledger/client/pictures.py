"""The part of the SDK that asks whether a picture was used before: by its perceptual hash, never by the picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ledger.client.models.pictures import PictureReuse, parse_reuses
from ledger.client.session import Session
from ledger.client.transport.http import Deadline
from ledger.errors import InvalidRequest, PictureUnfit
from ledger.protocol.encoding import b64url
from ledger.rules.pictures import MAX_SEARCHED, MIN_QUALITY, is_degenerate
from ledger.rules.reports import order_ref

_REPORT_ID = re.compile(r"rp_[A-Za-z0-9]{1,29}\Z")
_PDQ = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class PictureHash:
    """A PDQ hash (64 hexadecimal digits) and its quality, as `ledger.evidence.perceptual_hash.pdq` makes them from a
    file."""

    pdq: str
    quality: int


class Pictures(Session):
    """Searches for reused pictures."""

    def search_pictures(self, pictures: Sequence[PictureHash], *, order: str) -> list[PictureReuse]:
        """For each of 1 to 8 pictures of a claim, how often others used it; in order. The picture itself is never
        sent, and nothing here says who the buyer is. With retries; `lookup(..., pictures=...)` asks both in 300 ms.

        Raises PictureUnfit for a quality below 50, QuotaExceeded and the other named refusals, Unavailable.
        """
        body = search_json(pictures, order_ref(self._order_key(), order))
        self._ready()
        return list(self._retrying(lambda limit: self._search(body, len(pictures), limit)))

    def report_pictures(self, report_id: str) -> list[PictureReuse]:
        """Where else the searchable pictures of a report of yours were used, its own refund left out.
        Raises NotFound, QuotaExceeded and the other named refusals, Unavailable."""
        if not _REPORT_ID.match(report_id):
            raise InvalidRequest("A report's id looks like rp_ and letters and digits.")
        return list(self._get(f"/v1/reports/{report_id}/pictures", parse_reuses))

    def _search(self, body: dict[str, Any], pictures: int, limit: Deadline) -> tuple[PictureReuse, ...]:
        return self._post("/v1/pictures/search", body, limit).read(lambda value: parse_reuses(value, pictures))


def search_json(pictures: Sequence[PictureHash], reference: bytes) -> dict[str, Any]:
    """The request for `pictures`; `reference` is its 32-byte order_ref. Raises InvalidRequest, PictureUnfit."""
    if not 1 <= len(pictures) <= MAX_SEARCHED:
        raise InvalidRequest(f"A search carries 1 to {MAX_SEARCHED} pictures.")
    for one in pictures:
        if not _PDQ.match(one.pdq):
            raise InvalidRequest("A PDQ hash has 64 lower-case hexadecimal digits.")
        if one.quality < MIN_QUALITY or is_degenerate(bytes.fromhex(one.pdq)):
            raise PictureUnfit(f"A hash of a quality below {MIN_QUALITY} would meet too many others.")
    return {
        "pictures": [{"pdq": one.pdq, "quality": one.quality} for one in pictures],
        "order_ref": b64url(reference),
    }
