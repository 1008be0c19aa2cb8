"""Blinded evaluation within budgets. The budgets matter because this is the oracle that an attacker needs to enumerate
identifiers."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from ledger.errors import BatchSizeInvalid
from ledger.protocol import voprf
from ledger.server.oprf.budgets import Oprf, deduct
from ledger.server.platforms.members import Member


def evaluate(oprf: Oprf, member: Member, epoch: int, blinded: Sequence[bytes]) -> voprf.Evaluation:
    """Multiply 1 to 1000 blinded elements (32 bytes each) by this holder's key, and return the evaluation with one
    proof.

    The budget is deducted and committed before the evaluation, so neither a crash nor a second process gives an answer
    that was not counted. A malformed point is refused before that and costs nothing: the refusal discloses nothing.
    Raises StaleEpoch, BatchSizeInvalid, InvalidPoint, IdentityPoint, QuotaExceeded, Unavailable.
    """
    secret = oprf.keys.evaluating(epoch).need_secret()
    if not 1 <= len(blinded) <= voprf.MAX_BATCH:
        raise BatchSizeInvalid(f"A batch holds 1 to {voprf.MAX_BATCH} elements.")
    for element in blinded:
        voprf.check_element(element)
    deduct(oprf, member, len(blinded), oprf.context.now())
    nonce = secrets.token_bytes(voprf.NONCE_BYTES)
    return voprf.evaluate(secret, blinded, nonce, workers=oprf.settings.oprf_threads)
