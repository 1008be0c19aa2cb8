"""Blinded evaluation with a daily quota: the oracle that somebody enumerating identifiers would need."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ledger.core import voprf
from ledger.core.encoding import DAY_SECONDS, day_floor, unix_seconds
from ledger.errors import BatchSizeInvalid, QuotaExceeded
from ledger.service.members import Member
from ledger.store import members as store
from ledger.store.engine import writing

if TYPE_CHECKING:
    from ledger.service.runtime import Runtime


def evaluate(rt: Runtime, member: Member, epoch: int, blinded: Sequence[bytes]) -> voprf.Evaluation:
    """Multiply 1 to 1000 blinded elements (32 bytes each) by this holder's key, with one proof.

    The quota is deducted and committed before anything is evaluated, so neither a crash nor a second process gives an
    answer that was not counted. A malformed point is refused before that and costs nothing: it tells nobody anything.
    Raises StaleEpoch, BatchSizeInvalid, InvalidPoint, IdentityPoint, QuotaExceeded, Unavailable.
    """
    secret = rt.keys.evaluating(epoch).need_secret()
    if not 1 <= len(blinded) <= voprf.MAX_BATCH:
        raise BatchSizeInvalid(f"A batch holds 1 to {voprf.MAX_BATCH} elements.")
    for element in blinded:
        voprf.check_element(element)
    deduct(rt, member, len(blinded), rt.now())
    nonce = secrets.token_bytes(voprf.NONCE_BYTES)
    return voprf.evaluate(secret, blinded, nonce, workers=rt.settings.oprf_threads)


def deduct(rt: Runtime, member: Member, elements: int, now: datetime) -> None:
    """Count `elements` against the platform's quota of the UTC day of `now`, all or none.

    Raises QuotaExceeded, with the seconds until the next UTC midnight, and DatabaseUnavailable.
    """
    quota = member.oprf_daily_quota_elements
    if quota is None:
        quota = rt.settings.oprf_daily_quota_elements
    with writing(rt.engine) as connection:
        granted = store.deduct_oprf(connection, member.platform, day_floor(now), elements, quota)
    if not granted:
        raise QuotaExceeded(
            "Your platform's daily quota of blinded elements does not cover this batch.",
            retry_after_seconds=DAY_SECONDS - unix_seconds(now) % DAY_SECONDS,
        )
