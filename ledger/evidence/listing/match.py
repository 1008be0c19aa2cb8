"""Whether a claim's picture was made from the merchant's listing or dispatch photo, and what was changed in it.

A picture that is the listing proves no fraud: honest people send the listing photo to show what they ordered, draw an
arrow into it, or photograph their screen. What counts is the changed region, and a person has to look at it. What the
check cannot distinguish is listed in docs/evidence.md.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from ledger.evidence.findings import Fact, InspectionFinding, finding
from ledger.evidence.listing import overlay, registration
from ledger.evidence.listing.overlay import PictureAgreement
from ledger.evidence.listing.registration import Bytes, Features, Map, Pairs
from ledger.evidence.perceptual_hash.pdq import Pdq, hash_bytes
from ledger.evidence.perceptual_hash.pixels import WHERE, open_picture
from ledger.protocol.encoding import b64url
from ledger.rules.findings import FindingCode
from ledger.rules.pictures import MAX_DISTANCE, distance

OPENCV = str(cv2.__version__)
_SAME_SHAPE = 0.02
"""Pictures whose shapes differ less may be each other whole, stretched by a pixel or two."""

_FEW_PAIRS = 30
"""Fewer counterparts of features than these do not speak against a copy: there is too little in the pictures."""

_NO_PAIRS: Pairs = (np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32))


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture ready to be compared: pixels at working size, full size, PDQ hash, SHA-256 of its file."""

    pixels: Bytes
    width_px: int
    height_px: int
    pdq: Pdq
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Match:
    """A claim's picture made from a listing.

    `map` takes places of the listing to the claim, both at working size, and if `mirrored` to the claim's mirror image;
    `pairs` and `agreement` use the same positions. They are missing if there is too little in the pictures to lay one
    onto the other, and only the hashes say that they are the same.
    """

    pdq_distance: int | None
    map: Map | None = None
    pairs: Pairs = _NO_PAIRS
    mirrored: bool = False
    agreement: PictureAgreement | None = None

    @property
    def altered(self) -> bool:
        """True if there is a region in which the two differ."""
        return self.agreement is not None and bool(self.agreement.changed.any())


def photo(data: bytes) -> Photo:
    """Return a picture's bytes, decoded. Raises PictureUnreadable."""
    opened = open_picture(data, registration.WORKING_SIDE)
    pixels = registration.working_size(np.asarray(opened.image))
    return Photo(pixels, opened.width_px, opened.height_px, hash_bytes(data), hashlib.sha256(data).digest())


def judge(claim: Photo, listings: Sequence[Photo]) -> list[InspectionFinding]:
    """Return a finding for each listing that the claim was made from."""
    compared = [(listing, match) for listing, match in zip(listings, matches(claim, listings), strict=True) if match]
    return [_finding(claim, listing, match) for listing, match in compared]


def matches(claim: Photo, listings: Sequence[Photo]) -> list[Match | None]:
    """Return for each listing how the claim was made from it, None if it was not."""

    @cache
    def features(mirrored: bool) -> Features:
        return registration.features(seen(claim, mirrored))

    with registration.one_thread():
        return [_match(claim, listing, features) for listing in listings]


def seen(claim: Photo, mirrored: bool) -> Bytes:
    """Return the claim's pixels, or their mirror image."""
    return np.ascontiguousarray(claim.pixels[:, ::-1]) if mirrored else claim.pixels


def _match(claim: Photo, listing: Photo, features: Callable[[bool], Features]) -> Match | None:
    bits = distance(claim.pdq.bits, listing.pdq.bits) if claim.pdq.usable and listing.pdq.usable else None
    theirs = registration.features(listing.pixels)
    few = True
    for mirrored in (False, True):
        pairs = registration.matches(features(mirrored), theirs)
        few = few and len(pairs[0]) < _FEW_PAIRS
        registered = registration.register(pairs)
        if registered is not None:
            agreement = overlay.agreement(seen(claim, mirrored), listing.pixels, registered[0])
            if agreement is not None and agreement.holds:
                return Match(bits, *registered, mirrored, agreement)
    if few and _same_shape(claim, listing):
        whole = registration.stretched(claim.pixels, listing.pixels)
        agreement = overlay.agreement(claim.pixels, listing.pixels, whole)
        if agreement is not None and agreement.holds:
            return Match(bits, whole, agreement=agreement)
    return Match(bits) if few and bits is not None and bits <= MAX_DISTANCE else None


def _same_shape(claim: Photo, listing: Photo) -> bool:
    first, second = (picture.width_px / picture.height_px for picture in (claim, listing))
    return abs(first / second - 1) <= _SAME_SHAPE


def _finding(claim: Photo, listing: Photo, match: Match) -> InspectionFinding:
    code = FindingCode.LISTING_ALTERED if match.altered else FindingCode.LISTING_SAME
    facts: dict[str, Fact | None] = {
        "listing_sha256": b64url(listing.sha256),
        "pdq_distance": match.pdq_distance,
        "mirrored": int(match.mirrored),
    }
    if match.map is not None and match.agreement is not None:
        # From working sizes back to those of the files.
        larger = claim.width_px / claim.pixels.shape[1] * listing.pixels.shape[1] / listing.width_px
        facts |= {
            "inliers": len(match.pairs[0]),
            "scale_percent": round(100 * registration.scale_of(match.map) * larger),
            "rotation_degrees": _degrees(match.map),
            "overlap_percent": round(match.agreement.overlap_percent),
        }
    if match.altered and match.agreement is not None:
        facts["changed_percent"] = math.ceil(match.agreement.changed_percent)
        facts["changed_box"] = changed_box(claim, match)
    return finding(code, WHERE, **facts)


def _degrees(mapping: Map) -> int:
    """Return the clockwise turn of the listing in degrees, from -179 to 180."""
    turned = round(math.degrees(math.atan2(mapping[1, 0] - mapping[0, 1], mapping[0, 0] + mapping[1, 1])))
    return 180 if turned == -180 else turned


def changed_box(claim: Photo, match: Match) -> list[int]:
    """Return [left, top, width, height] of the changed region, in pixels of the claim as it is shown; empty if nothing
    was changed."""
    if match.agreement is None or not match.altered:
        return []
    rows, columns = match.agreement.changed.shape
    places = np.flatnonzero(match.agreement.changed.any(axis=0)), np.flatnonzero(match.agreement.changed.any(axis=1))
    left, right, top, bottom = (int(item) for place in places for item in (place[0], place[-1] + 1))
    if match.mirrored:
        left, right = columns - right, columns - left
    across, down = claim.width_px / columns, claim.height_px / rows
    left, right, top, bottom = round(left * across), round(right * across), round(top * down), round(bottom * down)
    return [left, top, right - left, bottom - top]
