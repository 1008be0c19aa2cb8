"""The part of the SDK that asks whether a picture was used before: by its perceptual hash, never by the picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ledger.client.results import Fields
from ledger.client.session import Session
from ledger.core.encoding import b64url
from ledger.core.pictures import MAX_SEARCHED, MIN_QUALITY
from ledger.core.reports import order_ref
from ledger.errors import InvalidRequest, PictureUnfit, UnexpectedAnswer

_REPORT_ID = re.compile(r"rp_[A-Za-z0-9]{1,29}\Z")
_PDQ = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class PictureHash:
    """A PDQ hash (64 hexadecimal digits) and its quality, as `ledger.evidence.pdq` makes them from a file."""

    pdq: str
    quality: int


@dataclass(frozen=True, slots=True)
class PictureReuse:
    """How often a picture, or one that looks the same, was used in confirmed reports. A reason to look closer, never
    one to refuse: it says nothing about the person who sends the picture now."""

    reports: int
    """Counting reports of others."""
    platforms: int
    """Independent members that made them."""
    own_reports: int
    """Counting reports of your own control group, not among `reports`."""
    more: bool
    """There are more than the ledger counts at once."""


class Pictures(Session):
    """Searches for reused pictures."""

    def search_pictures(self, pictures: Sequence[PictureHash], *, order: str) -> list[PictureReuse]:
        """For each of 1 to 8 pictures of a claim, how often others used it; in order. The picture itself is never
        sent, and nothing here says who the buyer is.

        Raises PictureUnfit for a quality below 50, QuotaExceeded and the other named refusals, Unavailable.
        """
        if not 1 <= len(pictures) <= MAX_SEARCHED:
            raise InvalidRequest(f"A search carries 1 to {MAX_SEARCHED} pictures.")
        for one in pictures:
            if not _PDQ.match(one.pdq):
                raise InvalidRequest("A PDQ hash has 64 lower-case hexadecimal digits.")
            if one.quality < MIN_QUALITY:
                raise PictureUnfit(f"A hash of a quality below {MIN_QUALITY} would meet too many others.")
        body: dict[str, Any] = {
            "pictures": [{"pdq": one.pdq, "quality": one.quality} for one in pictures],
            "order_ref": b64url(order_ref(self._order_key(), order)),
        }
        self.connect()
        found = _parse(self._retrying(lambda limit: self._post("/v1/pictures/search", body, limit)))
        if len(found) != len(pictures):
            raise UnexpectedAnswer("The ledger answered another number of pictures than were asked about.")
        return found

    def report_pictures(self, report_id: str) -> list[PictureReuse]:
        """Where else the searchable pictures of a report of yours were used, the report itself left out.
        Raises NotFound, QuotaExceeded and the other named refusals, Unavailable."""
        if not _REPORT_ID.match(report_id):
            raise InvalidRequest("A report's id looks like rp_ and letters and digits.")
        return _parse(self._get(f"/v1/reports/{report_id}/pictures"))


def _parse(answer: object) -> list[PictureReuse]:
    return [
        PictureReuse(one.integer("reports"), one.integer("platforms"), one.integer("own_reports"), one.flag("more"))
        for one in (Fields(item) for item in Fields(answer).items("results"))
    ]
