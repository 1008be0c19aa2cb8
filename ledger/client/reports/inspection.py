"""Inspection of evidence on the platform's own machine. The extra `evidence` is loaded at the first call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger.client.models.pictures import PictureHash
from ledger.client.reports.evidence import evidence, inspection_json
from ledger.protocol.encoding import b64url
from ledger.rules.conduct import Evidence, EvidenceType
from ledger.rules.provenance import Origin, OriginSource, origin_json

if TYPE_CHECKING:
    from ledger.evidence.receipt import InspectionReceipt, ReceiptAgreement


_HASHED = frozenset({EvidenceType.ORIGINAL_FILE, EvidenceType.SOURCE_IMAGE})
"""Items whose PDQ hash a report carries, so that the claimant's picture is found again, and the merchant's is not."""


def inspect(
    file: str | Path, *, listing: Sequence[str | Path] = (), received_at: datetime | None = None
) -> InspectionReceipt:
    """Return the receipt of an inspection of `file`: findings and notes about its origin, with their places in the
    file. With the merchant's photos as `listing` (at most 16), also whether the picture was made from one of them.

    `received_at` (aware) is when you received the file: a signature under the former interim trust list may count for
    one that was there before that list's end. Nothing is sent anywhere.

    Raises EvidenceUnreadable, EvidenceTooLarge, EvidenceFormatUnknown, EvidenceMalformed,
    ListingUnreadable, InvalidRequest, and ConfigurationError where the extra `evidence` is not installed.
    """
    from ledger.evidence.inspection import inspect_file

    return inspect_file(file, listing, received_at=received_at)


def inspected_evidence(
    type: str, file: str | Path, *, listing: Sequence[str | Path] = (), origin: Origin | None = None
) -> Evidence:
    """Return an item of evidence with what an inspection of `file` found: for an `original_file`, an `ai_label`, a
    `listing_match` and the like. An `original_file` or `source_image` that is a picture also carries its PDQ hash.

    `origin` (`claim_upload(received_at)` or `handed_in_by_merchant()`) says where the file came from; an
    `original_file` carries it, and counts only if it was uploaded with the claim.

    Raises what `evidence` and `inspect` raise.
    """
    uploaded = origin is not None and origin.source is OriginSource.CLAIM_UPLOAD
    receipt = inspect(file, listing=listing, received_at=origin.received_at if origin and uploaded else None)
    carried = origin if type == EvidenceType.ORIGINAL_FILE else None
    item = evidence(type, sha256=receipt.sha256, inspection=receipt.in_report(), origin=carried)
    if item.type in _HASHED and receipt.pdq:
        item = replace(item, pdq=receipt.pdq, pdq_quality=receipt.pdq_quality)
    return item


def evidence_members(receipt: InspectionReceipt, origin: Origin | None = None) -> dict[str, Any]:
    """Return all members that an inspected file has as an item of evidence in JSON, but for `type`; `origin` is for an
    `original_file` alone."""
    members: dict[str, Any] = {"sha256": b64url(receipt.sha256), "inspection": inspection_json(receipt.in_report())}
    members |= {"pdq": receipt.pdq, "pdq_quality": receipt.pdq_quality} if receipt.pdq else {}
    return members if origin is None else {**members, "origin": origin_json(origin)}


def picture_hash(file: str | Path) -> PictureHash:
    """Return the perceptual hash of a picture, to search with.

    Raises PictureUnreadable, PictureUnfit (too flat to be distinguished from others), and ConfigurationError where the
    extra `evidence` is not installed.
    """
    from ledger.evidence.perceptual_hash import pdq

    picture = pdq.hash_file(file).need_usable()
    return PictureHash(picture.hex, picture.quality)


def match_picture(file: str | Path, listing: str | Path) -> bytes | None:
    """Return a PNG that shows `file` beside the merchant's photo it was made from, with what was changed outlined; None
    if it was not made from it.

    Raises EvidenceUnreadable, EvidenceTooLarge, PictureUnreadable, ListingUnreadable, ConfigurationError.
    """
    from ledger.evidence.inspection import draw_match

    return draw_match(file, listing)


def verify_inspection(
    file: str | Path,
    receipt: Mapping[str, Any],
    *,
    listing: Sequence[str | Path] = (),
    received_at: datetime | None = None,
) -> ReceiptAgreement:
    """Return whether `file` agrees with a receipt of an inspection, given as JSON values; if listing photos were
    compared, or the time of receipt was given, the same are needed as `listing` and `received_at`.

    Raises InspectionReceiptInvalid, and what `inspect` raises.
    """
    from ledger.evidence.inspection import verify_file

    return verify_file(file, receipt, listing, received_at=received_at)
