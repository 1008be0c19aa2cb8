"""Shares of a key: any t of one sharing give the elements of the whole key, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha512
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import BatchSizeInvalid, HolderMismatch, IdentityPoint, InvalidProof
from ledger.protocol import sodium, voprf
from ledger.protocol.threshold import HolderKey, KeySet, Share, VerifiedShare, combine, verify_share
from tests.oracles import shamir_share

NONCE = bytes(range(64))
SECRET = voprf.derive_secret(bytes(32), b"shared key")
INPUTS = [b"phone:+8613800138000", b"email:li@example.com"]
BLINDS = [voprf.blinding_scalar(sha512(b"blind" + value).digest()) for value in INPUTS]
BLINDED = voprf.blind(INPUTS, BLINDS)
EXPECTED = [sodium.scalarmult(SECRET, voprf.hash_to_group(value)) for value in INPUTS]

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


@given(st.data())
@settings(deadline=None, max_examples=15)
def test_any_t_of_n_holders_give_the_elements_of_the_whole_key(data: st.DataObject) -> None:
    indexes = data.draw(st.lists(st.integers(1, 255), min_size=1, max_size=5, unique=True))
    threshold = data.draw(st.integers(1 if len(indexes) == 1 else 2, len(indexes)))
    shares = split(threshold, indexes, data.draw(st.binary(max_size=4)))
    keys = keys_of(threshold, shares)
    subset = data.draw(st.permutations(indexes))[:threshold]
    assert elements(keys, [answer(index, shares[index]) for index in subset]) == EXPECTED


def test_each_pair_gives_the_same_elements() -> None:
    for pair in combinations([FIRST, SECOND, FIFTH], 2):
        assert elements(KEYS, pair) == elements(KEYS, pair[::-1]) == EXPECTED
    assert elements(KeySet.single("h", voprf.public_key(SECRET)), [answer(1, SECRET)]) == EXPECTED


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


def test_shares_of_two_generations_are_not_combined() -> None:
    """Also when a caller mistakes one for the other: the proof shows that the share is of another key."""
    renewed = split(2, [1, 2, 5], b"renewed")
    keys = keys_of(2, renewed, 2)
    old, new = verify_share(KEYS, BLINDED, FIRST), verify_share(keys, BLINDED, answer(2, renewed[2], 2))
    with pytest.raises(HolderMismatch):
        combine(BLINDS, [old, new])
    with pytest.raises(InvalidProof):
        verify_share(KEYS, BLINDED, answer(2, renewed[2]))
    mixed = [VerifiedShare(KEYS, 1, FIRST.evaluated), VerifiedShare(KEYS, 2, new.evaluated)]
    assert combine(BLINDS, mixed) != EXPECTED, "what the two refusals above prevent"


def test_every_holder_answers_the_whole_batch() -> None:
    with pytest.raises(InvalidProof):
        elements(KEYS, [FIRST, replace(SECOND, evaluated=SECOND.evaluated[:1])])
    with pytest.raises(BatchSizeInvalid):
        combine(BLINDS[:1], [verify_share(KEYS, BLINDED, share) for share in (FIRST, SECOND)])


WRONG_KEYS: dict[str, Callable[[], KeySet]] = {
    "no holder": lambda: KeySet(1, 1, KEYS.public_key, ()),
    "a threshold of none": lambda: replace(KEYS, threshold=0),
    "a threshold above the number": lambda: replace(KEYS, threshold=4),
    "another threshold": lambda: replace(KEYS, threshold=1),
    "another key": lambda: replace(KEYS, public_key=KEYS.holders[0].public_key),
    "generation 0": lambda: replace(KEYS, generation=0),
    "an index twice": lambda: replace(KEYS, holders=(KEYS.holders[0], replace(KEYS.holders[1], index=1))),
    "index 0": lambda: replace(KEYS, holders=(KEYS.holders[0], replace(KEYS.holders[1], index=0))),
    "index 256": lambda: replace(KEYS, holders=(KEYS.holders[0], replace(KEYS.holders[1], index=256))),
    "an id twice": lambda: replace(KEYS, holders=(KEYS.holders[0], replace(KEYS.holders[1], holder="h1"))),
    "a key twice": lambda: replace(
        KEYS, holders=(KEYS.holders[0], replace(KEYS.holders[1], public_key=KEYS.holders[0].public_key))
    ),
    "holders that traded places": lambda: replace(
        KEYS,
        holders=(replace(KEYS.holders[0], index=2), replace(KEYS.holders[1], index=1), KEYS.holders[2]),
    ),
    "a holder of another sharing": lambda: replace(
        KEYS, holders=(*KEYS.holders[:2], replace(KEYS.holders[2], public_key=voprf.public_key(split(2, [5], b"x")[5])))
    ),
}


@pytest.mark.parametrize("make", WRONG_KEYS.values(), ids=WRONG_KEYS.keys())
def test_keys_that_are_not_of_one_sharing_are_refused(make: Callable[[], KeySet]) -> None:
    with pytest.raises(HolderMismatch):
        make()


def test_shares_that_cancel_out_are_refused() -> None:
    """A key of zero has no key set; and elements that cancel out give no element."""
    line = {1: SECRET, 2: (2 * int.from_bytes(SECRET, "little") % sodium.GROUP_ORDER).to_bytes(32, "little")}
    holders = tuple([HolderKey(index, f"h{index}", voprf.public_key(share)) for index, share in line.items()])
    with pytest.raises(IdentityPoint):
        KeySet(1, 2, bytes(32), holders)
    keys = keys_of(2, split(2, [1, 2]))
    cancelling = [VerifiedShare(keys, index, answer(index, share).evaluated) for index, share in line.items()]
    with pytest.raises(IdentityPoint):
        combine(BLINDS, cancelling)
