"""Shares that are missing, doubled, of unknown holders or in another's place are refused before they are combined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha512

import pytest

from ledger.errors import BatchSizeInvalid, HolderMismatch, InvalidProof
from ledger.protocol import voprf
from ledger.protocol.threshold import HolderKey, KeySet, Share, combine, verify_share
from tests.oracles import shamir_share

NONCE = bytes(range(64))
SECRET = voprf.derive_secret(bytes(32), b"shared key")
INPUTS = [b"phone:+8613800138000", b"email:li@example.com"]
BLINDS = [voprf.blinding_scalar(sha512(b"blind" + value).digest()) for value in INPUTS]
BLINDED = voprf.blind(INPUTS, BLINDS)

Secrets = dict[int, bytes]


def split(threshold: int, indexes: Sequence[int], seed: bytes = b"", secret: bytes = SECRET) -> Secrets:
    """The shares of a sharing, by index."""
    coefficients = [voprf.derive_secret(sha512(seed + bytes([n])).digest()[:32], b"") for n in range(1, threshold)]
    return {index: shamir_share(secret, coefficients, index) for index in indexes}


def keys_of(threshold: int, shares: Secrets, generation: int = 1, secret: bytes = SECRET) -> KeySet:
    holders = [HolderKey(index, f"h{index}", voprf.public_key(share)) for index, share in shares.items()]
    return KeySet(generation, threshold, voprf.public_key(secret), tuple(holders))


def answer(index: int, secret: bytes, generation: int = 1) -> Share:
    evaluation = voprf.evaluate(secret, BLINDED, NONCE)
    return Share(generation, index, evaluation.evaluated, evaluation.proof)


def elements(keys: KeySet, answers: Sequence[Share]) -> list[bytes]:
    return combine(BLINDS, [verify_share(keys, BLINDED, share) for share in answers])


TWO_OF_THREE = split(2, [1, 2, 5])
KEYS = keys_of(2, TWO_OF_THREE)
FIRST, SECOND, FIFTH = (answer(index, secret) for index, secret in TWO_OF_THREE.items())


Choice = Callable[[Share, Share, Share], list[Share]]
WRONG_SHARES: dict[str, Choice] = {
    "none": lambda a, b, c: [],
    "one of two": lambda a, b, c: [a],
    "doubled": lambda a, b, c: [a, a],
    "doubled besides": lambda a, b, c: [a, b, a],
    "more than the threshold": lambda a, b, c: [a, b, c],
    "of an unknown holder": lambda a, b, c: [a, replace(b, index=3)],
    "of another generation": lambda a, b, c: [a, replace(b, generation=2)],
}


@pytest.mark.parametrize("choose", WRONG_SHARES.values(), ids=WRONG_SHARES.keys())
def test_missing_doubled_and_unknown_shares_are_refused(choose: Choice) -> None:
    with pytest.raises(HolderMismatch):
        elements(KEYS, choose(FIRST, SECOND, FIFTH))


def test_holders_cannot_trade_places() -> None:
    with pytest.raises(InvalidProof) as caught:
        elements(KEYS, [replace(SECOND, index=1), replace(FIRST, index=2)])
    assert caught.value.details["holder"] == "h1"


def test_one_false_share_is_named() -> None:
    with pytest.raises(InvalidProof) as caught:
        elements(KEYS, [FIRST, replace(SECOND, evaluated=SECOND.evaluated[::-1])])
    assert caught.value.details["holder"] == "h2"


def test_every_holder_answers_the_whole_batch() -> None:
    with pytest.raises(InvalidProof):
        elements(KEYS, [FIRST, replace(SECOND, evaluated=SECOND.evaluated[:1])])
    with pytest.raises(BatchSizeInvalid):
        combine(BLINDS[:1], [verify_share(KEYS, BLINDED, share) for share in (FIRST, SECOND)])
