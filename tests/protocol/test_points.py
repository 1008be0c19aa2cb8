"""An element has one encoding: every other spelling of it, and the identity in all of them, is refused wherever the
core takes one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger.errors import IdentityPoint, InvalidPoint, InvalidProof, InvalidRotation
from ledger.protocol import sodium, voprf
from ledger.protocol.threshold import KeySet, Share, verify_share
from ledger.tlog.key_rotation import (
    Rotated,
    RotationKeys,
    RotationVerifier,
    format_batch,
    parse_batch,
    prove,
    rotate_elements,
    rotation_factor,
    verify,
)
from tests.counts import trials
from tests.spellings import ELEMENTS, IDENTITIES, SMALL, SPELLINGS, decodes, element, other_spellings, with_bit_255

SECRET = voprf.derive_secret(bytes(32), b"spellings")
OTHER = voprf.derive_secret(b"\x01" * 32, b"spellings")
PUBLIC, OTHER_PUBLIC = voprf.public_key(SECRET), voprf.public_key(OTHER)
GOOD = [element(1), element(2)]
NONCE = bytes(64)
some = settings(deadline=None, max_examples=trials(18, 30))


@cache
def evaluation() -> voprf.Evaluation:
    return voprf.evaluate(SECRET, GOOD, NONCE)


def test_the_small_elements_have_a_spelling_with_2p_added() -> None:
    assert len(SMALL) >= 5
    assert {len(other_spellings(item)) for item in SMALL} > {7}
    assert all(sodium.is_valid_point(each) for each in SMALL)


def test_libsodium_itself_takes_the_spelling_with_bit_255() -> None:
    """Else these checks would be here for nothing."""
    lib = sodium._lib()
    for item in (bytes(32), *GOOD):
        assert lib.crypto_core_ristretto255_is_valid_point(with_bit_255(item)) == 1


@given(ELEMENTS)
@settings(deadline=None, max_examples=trials(36, 60))
def test_of_all_spellings_only_the_canonical_one_is_valid(encoding: bytes) -> None:
    assert sodium.is_valid_point(encoding)
    assert decodes(encoding)
    sodium.check_point(encoding)
    assert sodium.canonical_spelling(encoding) == encoding
    for spelled in other_spellings(encoding):
        assert not sodium.is_valid_point(spelled)
        assert not decodes(spelled)
        with pytest.raises(InvalidPoint):
            sodium.check_point(spelled)
    assert sodium.canonical_spelling(with_bit_255(encoding)) == encoding


near_p = st.integers(-40, 40).map(lambda n: (2**255 - 19 + n) % 2**256)
near_bit_255 = st.integers(-40, 40).map(lambda n: (2**255 + n) % 2**256)
numbers = st.one_of(
    st.integers(0, 2**256 - 1), st.integers(0, 60), near_p, near_bit_255, st.integers(2**256 - 60, 2**256 - 1)
)


@given(numbers)
@settings(deadline=None, max_examples=trials(36, 3000))
def test_validity_is_that_of_the_rfc_for_any_32_bytes(number: int) -> None:
    encoding = number.to_bytes(32, "little")
    assert sodium.is_valid_point(encoding) == (decodes(encoding) and encoding != bytes(32))


@pytest.mark.parametrize("identity", IDENTITIES, ids=bytes.hex)
def test_the_identity_is_named_in_every_spelling(identity: bytes) -> None:
    assert sodium.is_identity(identity)
    assert not sodium.is_valid_point(identity)
    assert sodium.canonical_spelling(identity) is None
    for call in (
        lambda: sodium.check_point(identity),
        lambda: sodium.scalarmult(SECRET, identity),
        lambda: sodium.sum_of_products([1, 2], [GOOD[0], identity]),
        lambda: sodium.add(GOOD[0], identity),
        lambda: sodium.sub(identity, GOOD[0]),
        lambda: voprf.check_element(identity),
        lambda: voprf.evaluate(SECRET, [GOOD[0], identity], NONCE),
        lambda: rotate_elements(SECRET, [identity]),
    ):
        with pytest.raises(IdentityPoint):
            call()


@given(ELEMENTS)
@some
def test_the_identity_is_nothing_else(encoding: bytes) -> None:
    assert not any(sodium.is_identity(item) for item in (encoding, *other_spellings(encoding)))


ENTRANCES: dict[str, Callable[[bytes], Any]] = {
    "scalarmult": lambda bad: sodium.scalarmult(SECRET, bad),
    "scalarmult_many": lambda bad: sodium.scalarmult_many(SECRET, [*GOOD, bad]),
    "sum_of_products": lambda bad: sodium.sum_of_products([3, 4, 5], [*GOOD, bad]),
    "sum_of_products, once": lambda bad: sodium.sum_of_products([1], [bad]),
    "add, left": lambda bad: sodium.add(bad, GOOD[0]),
    "add, right": lambda bad: sodium.add(GOOD[0], bad),
    "sub, left": lambda bad: sodium.sub(bad, GOOD[0]),
    "sub, right": lambda bad: sodium.sub(GOOD[0], bad),
    "check_element": voprf.check_element,
    "evaluate": lambda bad: voprf.evaluate(SECRET, [*GOOD, bad], NONCE),
    "evaluate, in two threads": lambda bad: voprf.evaluate(SECRET, [*GOOD * 40, bad], NONCE, workers=2),
    "verify, a holder's key": lambda bad: voprf.verify(bad, GOOD, evaluation().evaluated, evaluation().proof),
    "verify, blinded": lambda bad: voprf.verify(PUBLIC, [bad, GOOD[1]], evaluation().evaluated, evaluation().proof),
    "rotate_elements": lambda bad: rotate_elements(SECRET, [*GOOD, bad]),
}


@pytest.mark.parametrize("name", ENTRANCES)
@given(SPELLINGS)
@example(with_bit_255(GOOD[0]))
@settings(deadline=None, max_examples=10)
def test_no_other_spelling_comes_in(name: str, spelled: bytes) -> None:
    with pytest.raises(InvalidPoint):
        ENTRANCES[name](spelled)


@given(st.integers(0, 1), st.data())
@some
def test_a_share_in_another_spelling_is_a_false_share(place: int, data: st.DataObject) -> None:
    """The element is the right one, and the holder made its proof for that very spelling."""
    evaluated = list(evaluation().evaluated)
    spellings = [with_bit_255(evaluated[place]), *other_spellings(evaluated[place]), *IDENTITIES]
    evaluated[place] = data.draw(st.sampled_from(spellings))
    proof = voprf.generate_proof(SECRET, GOOD, evaluated, OTHER)
    share = Share(1, 1, tuple(evaluated), proof)
    with pytest.raises(InvalidProof):
        voprf.verify(PUBLIC, GOOD, evaluated, proof)
    with pytest.raises(InvalidProof):
        verify_share(KeySet.single("h", PUBLIC), GOOD, share)


def test_one_proof_holds_for_one_spelling_only() -> None:
    """The proof of a batch that was made with libsodium's tolerance: weights are hashed from the other spelling."""
    spelled = with_bit_255(GOOD[0])
    with pytest.raises(InvalidPoint):
        voprf.generate_proof(SECRET, [spelled], [evaluation().evaluated[0]], OTHER)


# --- rotations ----------------------------------------------------------------------------------------------------

KEYS = RotationKeys(1, 2, PUBLIC, OTHER_PUBLIC)
FACTOR = rotation_factor(SECRET, OTHER)


@cache
def rotated() -> tuple[list[bytes], list[bytes], bytes]:
    old = [element(n) for n in range(4)]
    new = rotate_elements(FACTOR, old)
    return old, new, prove(FACTOR, KEYS, old, new, NONCE)


@pytest.mark.parametrize("side", [0, 1], ids=["old", "new"])
@given(st.integers(0, 3), st.data())
@settings(deadline=None, max_examples=trials(18, 30))
def test_a_rotation_file_holds_canonical_elements_only(side: int, place: int, data: st.DataObject) -> None:
    old, new, proof = rotated()
    lists = (list(old), list(new))
    spellings = [with_bit_255(lists[side][place]), *other_spellings(lists[side][place]), *IDENTITIES]
    lists[side][place] = data.draw(st.sampled_from(spellings))
    if side == 1:  # an operator can make a proof for what it spelled otherwise
        proof = prove(FACTOR, KEYS, lists[0], lists[1], NONCE)
    with pytest.raises(InvalidRotation):
        verify(KEYS, lists[0], lists[1], proof)
    items = [
        Rotated(n, 0, "phone", before, after, bytes(32), b"\x01" * 32)
        for n, (before, after) in enumerate(zip(*lists, strict=True))
    ]
    batch = parse_batch(format_batch(items, proof, KEYS, 0))
    verifier = RotationVerifier(KEYS)
    with pytest.raises(InvalidRotation):
        verifier.add(batch)
    assert verifier.count == 0


@given(SPELLINGS, st.booleans())
@some
def test_public_keys_of_a_rotation_have_one_spelling(spelled: bytes, old: bool) -> None:
    with pytest.raises(InvalidRotation):
        RotationKeys(1, 2, spelled if old else PUBLIC, OTHER_PUBLIC if old else spelled)
