"""Key rotation: its algebra against keys, formulas and another implementation, its proof, and every refusal."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha512
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voprf import ristretto

from ledger.errors import (
    BatchSizeInvalid,
    IdentityPoint,
    InvalidInput,
    InvalidPoint,
    InvalidProof,
    InvalidRotation,
    InvalidScalar,
)
from ledger.protocol import dleq, sodium, voprf
from ledger.tlog.key_rotation import MAX_BATCH, RotationKeys, prove, rotate_elements, rotation_factor, verify
from tests.counts import trials

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "docs" / "vectors" / "rotation.json").read_text("utf-8"))

SEED = bytes(range(32))
OLD, NEW, OTHER = (voprf.derive_secret(SEED, info) for info in (b"old", b"new", b"other"))
A, B, C = (voprf.public_key(secret) for secret in (OLD, NEW, OTHER))
KEYS = RotationKeys(3, 4, A, B)
DELTA = rotation_factor(OLD, NEW)
NONCE = bytes(range(64))
IDENTITY = bytes(32)
ORDER = sodium.GROUP_ORDER

Pairs = tuple[list[bytes], list[bytes]]


@cache
def hashed(i: int) -> bytes:
    return voprf.hash_to_group(b"phone:+86138%08d" % i)


@cache
def pair(i: int) -> tuple[bytes, bytes]:
    """An element under both keys, made from the keys and not by a rotation."""
    return sodium.scalarmult(OLD, hashed(i)), sodium.scalarmult(NEW, hashed(i))


def pairs(count: int) -> Pairs:
    return [pair(i)[0] for i in range(count)], [pair(i)[1] for i in range(count)]


@cache
def proof_of(count: int) -> bytes:
    return prove(DELTA, KEYS, *pairs(count), NONCE)


# --- algebra ------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5), st.binary(min_size=32, max_size=32))
@settings(deadline=None, max_examples=trials(18, 30))
def test_a_rotated_element_is_the_one_under_the_new_key(inputs: list[bytes], seed: bytes) -> None:
    old, new = voprf.derive_secret(seed, b"k"), voprf.derive_secret(seed, b"k'")
    elements = [sodium.scalarmult(old, voprf.hash_to_group(x)) for x in inputs]
    expected = [sodium.scalarmult(new, voprf.hash_to_group(x)) for x in inputs]
    factor = rotation_factor(old, new)
    assert rotate_elements(factor, elements) == expected
    assert rotate_elements(rotation_factor(new, old), expected) == elements
    quotient = int.from_bytes(new, "little") * pow(int.from_bytes(old, "little"), -1, ORDER) % ORDER
    assert factor == quotient.to_bytes(32, "little")
    keys = RotationKeys(0, 1, voprf.public_key(old), voprf.public_key(new))
    verify(keys, elements, expected, prove(factor, keys, elements, expected, seed * 2))


def finalize(message: bytes, element: bytes) -> bytes:
    return sha512(len(message).to_bytes(2, "big") + message + b"\x00\x20" + element + b"Finalize").digest()


def test_another_implementation_agrees_under_both_keys() -> None:
    theirs = [ristretto.Evaluator.from_seed(SEED, info) for info in (b"old", b"new")]
    inputs = [b"email:buyer-%d@example.com" % i for i in range(3)]
    elements = [sodium.scalarmult(OLD, voprf.hash_to_group(x)) for x in inputs]
    for server, known in zip(theirs, (elements, rotate_elements(DELTA, elements)), strict=True):
        assert [server.evaluate_known_input(x) for x in inputs] == [
            finalize(x, t) for x, t in zip(inputs, known, strict=True)
        ]


def test_another_client_unblinds_a_rotated_evaluation() -> None:
    inputs = [b"device:%d" % i for i in range(3)]
    blindings = [ristretto.Client.blind(x) for x in inputs]
    blinded = [b.serialize() for _, b in blindings]
    rotated = rotate_elements(DELTA, voprf.evaluate(OLD, blinded, NONCE).evaluated)
    r = voprf.blinding_scalar(sha512(b"r").digest())
    output = voprf.generate_proof(NEW, blinded, rotated, r) + b"".join(rotated)
    outputs = ristretto.Client.finalize_batch(
        [client for client, _ in blindings],
        ristretto.VerifiableBatchOutput.deserialize(output),
        ristretto.PublicKey.deserialize(B),
    )
    assert outputs == [finalize(x, sodium.scalarmult(NEW, voprf.hash_to_group(x))) for x in inputs]


# --- the proof, by plain formulas ---------------------------------------------------------------------------


def hash_to_scalar(message: bytes, dst: bytes) -> int:
    """RFC 9380 expand_message_xmd to 64 bytes, modulo the order (RFC 9497 section 4.1)."""
    dst_prime = dst + bytes([len(dst)])
    b_0 = sha512(bytes(128) + message + b"\x00\x40\x00" + dst_prime).digest()
    return int.from_bytes(sha512(b_0 + b"\x01" + dst_prime).digest(), "little") % ORDER


def prefixed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def combine(*terms: tuple[int, bytes]) -> bytes:
    """The sum of scalar x point over all terms."""
    total = IDENTITY
    for scalar, point in terms:
        product = sodium.scalarmult(scalar.to_bytes(32, "little"), point)
        total = product if total == IDENTITY else sodium.add(total, product)
    return total


def context(keys: RotationKeys) -> bytes:
    epochs = keys.old_epoch.to_bytes(4, "big") + keys.new_epoch.to_bytes(4, "big")
    return b"RefundLedgerRotate-v1-" + epochs + keys.old_public


def composites(keys: RotationKeys, old: Sequence[bytes], new: Sequence[bytes]) -> tuple[bytes, bytes]:
    """M and Z of RFC 9497 section 2.2.1, ComputeComposites."""
    seed, dst = sha512(prefixed(keys.new_public, b"Seed-" + context(keys))).digest(), b"HashToScalar-" + context(keys)
    weights = [
        hash_to_scalar(prefixed(seed) + i.to_bytes(2, "big") + prefixed(c, d) + b"Composite", dst)
        for i, (c, d) in enumerate(zip(old, new, strict=True))
    ]
    return combine(*zip(weights, old, strict=True)), combine(*zip(weights, new, strict=True))


def holds(keys: RotationKeys, old: Sequence[bytes], new: Sequence[bytes], proof: bytes) -> bool:
    """VerifyProof of RFC 9497 section 2.2.2 with A = old key, B = new key."""
    m, z = composites(keys, old, new)
    c, s = (int.from_bytes(half, "little") for half in (proof[:32], proof[32:]))
    t2 = combine((s, keys.old_public), (c, keys.new_public))
    t3 = combine((s, m), (c, z))
    return hash_to_scalar(prefixed(keys.new_public, m, z, t2, t3) + b"Challenge", b"HashToScalar-" + context(keys)) == c


@given(st.integers(1, 40), st.integers(0, 2**32 - 2), st.data())
@settings(deadline=None, max_examples=trials(12, 25))
def test_a_proof_satisfies_the_formulas_of_the_rfc(count: int, old_epoch: int, data: st.DataObject) -> None:
    keys = RotationKeys(old_epoch, data.draw(st.integers(old_epoch + 1, 2**32 - 1)), A, B)
    old, new = pairs(count)
    proof = prove(DELTA, keys, old, new, data.draw(st.binary(min_size=64, max_size=64)))
    verify(keys, old, new, proof)
    assert holds(keys, old, new, proof)
    assert not holds(KEYS, old, new, bytes([proof[0] ^ 1]) + proof[1:])


@pytest.mark.parametrize("count", [1, 63, 101])
@pytest.mark.parametrize("workers", [2, 3])
def test_threads_change_nothing(count: int, workers: int) -> None:
    old, new = pairs(count)
    assert rotate_elements(DELTA, old, workers=workers) == new
    assert prove(DELTA, KEYS, old, new, NONCE, workers=workers) == proof_of(count)
    verify(KEYS, old, new, proof_of(count), workers=workers)
    with pytest.raises(InvalidRotation):
        verify(KEYS, old, [*new[:-1], pair(count)[1]], proof_of(count), workers=workers)


def test_a_larger_batch_with_a_repeated_person() -> None:
    old, new = pairs(100)
    old, new = old * 4, new * 4
    proof = prove(DELTA, KEYS, old, new, NONCE, workers=2)
    verify(KEYS, old, new, proof, workers=2)
    assert holds(KEYS, old, new, proof)


@pytest.mark.parametrize("vector", VECTORS["proofs"], ids=lambda v: f"{len(v['old'])} pairs")
def test_published_proofs(vector: dict[str, Any]) -> None:
    secrets = [bytes.fromhex(VECTORS[name]) for name in ("old_secret", "new_secret")]
    public = [voprf.public_key(secret) for secret in secrets]
    assert [key.hex() for key in public] == [VECTORS["old_public"], VECTORS["new_public"]]
    keys = RotationKeys(VECTORS["old_epoch"], VECTORS["new_epoch"], *public)
    assert keys.context.hex() == VECTORS["context"]
    factor = rotation_factor(*secrets)
    assert factor.hex() == VECTORS["factor"]
    old, new = ([bytes.fromhex(element) for element in vector[name]] for name in ("old", "new"))
    assert rotate_elements(factor, old) == new
    assert [point.hex() for point in composites(keys, old, new)] == [vector["m"], vector["z"]]
    proof = bytes.fromhex(vector["proof"])
    assert prove(factor, keys, old, new, bytes.fromhex(vector["nonce"])) == proof
    verify(keys, old, new, proof)
    assert holds(keys, old, new, proof)


# --- refusals -----------------------------------------------------------------------------------------------


def swapped(items: list[bytes], i: int, j: int) -> list[bytes]:
    out = items.copy()
    out[i], out[j] = items[j], items[i]
    return out


def replaced(items: list[bytes], i: int, item: bytes) -> list[bytes]:
    return [*items[:i], item, *items[i + 1 :]]


Change = Callable[[list[bytes], list[bytes], int, int], Pairs]
CHANGES: dict[str, Change] = {
    "new swapped": lambda old, new, i, j: (old, swapped(new, i, j)),
    "old swapped": lambda old, new, i, j: (swapped(old, i, j), new),
    "pairs reordered": lambda old, new, i, j: (swapped(old, i, j), swapped(new, i, j)),
    "lists exchanged": lambda old, new, i, j: (new, old),
    "not rotated": lambda old, new, i, j: (old, replaced(new, i, old[i])),
    "rotated otherwise": lambda old, new, i, j: (old, replaced(new, i, sodium.scalarmult(OTHER, old[i]))),
    "new of another": lambda old, new, i, j: (old, replaced(new, i, pair(50)[1])),
    "another pair": lambda old, new, i, j: (replaced(old, i, pair(50)[0]), replaced(new, i, pair(50)[1])),
    "doubled": lambda old, new, i, j: (replaced(old, i, old[j]), replaced(new, i, new[j])),
    "pair added": lambda old, new, i, j: ([*old, pair(50)[0]], [*new, pair(50)[1]]),
    "pair omitted": lambda old, new, i, j: (old[:i] + old[i + 1 :], new[:i] + new[i + 1 :]),
    "new omitted": lambda old, new, i, j: (old, new[:i] + new[i + 1 :]),
    "old omitted": lambda old, new, i, j: (old[:i] + old[i + 1 :], new),
    "identity": lambda old, new, i, j: (old, replaced(new, i, IDENTITY)),
    "old identity": lambda old, new, i, j: (replaced(old, i, IDENTITY), new),
    "not canonical": lambda old, new, i, j: (old, replaced(new, i, b"\x00" + b"\xff" * 31)),
    "truncated": lambda old, new, i, j: (old, replaced(new, i, new[i][:31])),
    "over-long": lambda old, new, i, j: (replaced(old, i, old[i] + b"\x00"), new),
    "offsets that cancel": lambda old, new, i, j: (
        old,
        replaced(replaced(new, i, sodium.add(new[i], pair(51)[0])), j, sodium.sub(new[j], pair(51)[0])),
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@given(st.integers(2, 12), st.data())
@settings(deadline=None, max_examples=4)
def test_changed_elements_are_refused(change: Change, count: int, data: st.DataObject) -> None:
    i, j = data.draw(st.permutations(range(count)))[:2]
    old, new = change(*pairs(count), i, j)
    with pytest.raises(InvalidRotation):
        verify(KEYS, old, new, proof_of(count))


@pytest.mark.parametrize("name", ["new swapped", "not rotated", "rotated otherwise", "doubled", "offsets that cancel"])
def test_a_proof_made_for_false_pairs_is_refused(name: str) -> None:
    old, new = pairs(5)
    false = old, CHANGES[name](old, new, 1, 3)[1]
    with pytest.raises(InvalidRotation):
        verify(KEYS, *false, prove(DELTA, KEYS, *false, NONCE))


@given(st.integers(0, 511))
@settings(deadline=None, max_examples=trials(24, 40))
def test_one_flipped_bit_breaks_a_proof(bit: int) -> None:
    flipped = (int.from_bytes(proof_of(3), "big") ^ 1 << bit).to_bytes(64, "big")
    with pytest.raises(InvalidRotation):
        verify(KEYS, *pairs(3), flipped)


def plus_order(scalar: bytes) -> bytes:
    return (int.from_bytes(scalar, "little") + ORDER).to_bytes(32, "little")


def test_proofs_of_another_form_are_refused() -> None:
    proof = proof_of(3)
    c, s = proof[:32], proof[32:]
    for false in (b"", proof[:63], proof + b"\x00", bytes(64), IDENTITY + s, c + IDENTITY, s + c):
        with pytest.raises(InvalidRotation):
            verify(KEYS, *pairs(3), false)
    for scalars in (plus_order(c) + s, c + plus_order(s)):
        with pytest.raises(InvalidRotation, match="canonical"):
            verify(KEYS, *pairs(3), scalars)


OTHER_KEYS = {
    "old epoch": replace(KEYS, old_epoch=2),
    "new epoch": replace(KEYS, new_epoch=5),
    "both epochs": replace(KEYS, old_epoch=4, new_epoch=5),
    "old key": replace(KEYS, old_public=C),
    "new key": replace(KEYS, new_public=C),
    "keys exchanged": replace(KEYS, old_public=B, new_public=A),
    # The same delta leads from one to the other: only the context distinguishes the old keys.
    "keys with the same factor": replace(KEYS, old_public=C, new_public=sodium.scalarmult(DELTA, C)),
}


@pytest.mark.parametrize("keys", OTHER_KEYS.values(), ids=OTHER_KEYS.keys())
def test_a_proof_counts_for_one_step_only(keys: RotationKeys) -> None:
    with pytest.raises(InvalidRotation):
        verify(keys, *pairs(3), proof_of(3))


def test_an_evaluation_proof_is_no_rotation_proof_and_back() -> None:
    # With the generator as old key both prove log_G(B) = log_T(T'): the context alone keeps them apart.
    generator = sodium.scalarmult_base((1).to_bytes(32, "little"))
    keys = RotationKeys(3, 4, generator, B)
    evaluation = voprf.evaluate(NEW, [hashed(0)], NONCE)
    proof = prove(NEW, keys, [hashed(0)], evaluation.evaluated, NONCE)
    verify(keys, [hashed(0)], evaluation.evaluated, proof)
    with pytest.raises(InvalidRotation):
        verify(keys, [hashed(0)], evaluation.evaluated, evaluation.proof)
    with pytest.raises(InvalidProof):
        voprf.verify(B, [hashed(0)], evaluation.evaluated, proof)


@pytest.mark.parametrize(
    "values",
    [(4, 4, A, B), (4, 3, A, B), (-1, 3, A, B), (3, 2**32, A, B), (3, 4, A, A), (3, 4, IDENTITY, B), (3, 4, A, B[:31])],
)
def test_keys_that_are_no_step_are_refused(values: tuple[int, int, bytes, bytes]) -> None:
    with pytest.raises(InvalidRotation):
        RotationKeys(*values)


def test_factors_and_nonces_are_checked() -> None:
    old, new = pairs(2)
    with pytest.raises(InvalidInput):
        rotation_factor(OLD, OLD)
    for bad in (IDENTITY, ORDER.to_bytes(32, "little"), DELTA[:31], b""):
        for secrets in ((bad, NEW), (OLD, bad)):
            with pytest.raises(InvalidScalar):
                rotation_factor(*secrets)
        with pytest.raises(InvalidScalar):
            rotate_elements(bad, old)
    for bad in (IDENTITY, rotation_factor(OLD, OTHER)):
        with pytest.raises(InvalidScalar):
            prove(bad, KEYS, old, new, NONCE)
    with pytest.raises(InvalidInput):
        prove(DELTA, KEYS, old, new, NONCE[:63])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("bad", "error"), [(IDENTITY, IdentityPoint), (b"\x00" + b"\xff" * 31, InvalidPoint), (b"", InvalidPoint)]
)
def test_bad_elements_are_not_rotated(bad: bytes, error: type[InvalidPoint], workers: int) -> None:
    old, new = pairs(70)
    for position in (0, 69):
        with pytest.raises(error):
            rotate_elements(DELTA, replaced(old, position, bad), workers=workers)
        with pytest.raises(error):
            prove(DELTA, KEYS, replaced(old, position, bad), new, NONCE, workers=workers)


def test_a_batch_has_1_to_65535_elements() -> None:
    assert MAX_BATCH == 65_535
    for wrong in ([], [A] * (MAX_BATCH + 1)):
        with pytest.raises(BatchSizeInvalid):
            rotate_elements(DELTA, wrong)
        with pytest.raises(BatchSizeInvalid):
            prove(DELTA, KEYS, wrong, wrong, NONCE)
        with pytest.raises(InvalidRotation):
            verify(KEYS, wrong, wrong, proof_of(3))
    with pytest.raises(BatchSizeInvalid):
        prove(DELTA, KEYS, pairs(2)[0], pairs(3)[1], NONCE)


# --- nonces -------------------------------------------------------------------------------------------------


def recover(first: bytes, two: bytes) -> bytes:
    """(s1 - s2) / (c2 - c1): the secret of two proofs that used one r."""
    (c1, s1), (c2, s2) = ((proof[:32], proof[32:]) for proof in (first, two))
    return sodium.scalar_mul(sodium.scalar_sub(s1, s2), sodium.scalar_invert(sodium.scalar_sub(c2, c1)))


def test_a_repeated_nonce_reveals_nothing() -> None:
    proofs = [proof_of(2), proof_of(3), prove(DELTA, replace(KEYS, new_epoch=5), *pairs(2), NONCE)]
    assert prove(DELTA, KEYS, *pairs(2), NONCE) == proofs[0]
    assert prove(DELTA, KEYS, *pairs(2), bytes(64)) != proofs[0]
    for value, two in ((0, 1), (0, 2), (1, 2)):
        assert recover(proofs[value], proofs[two]) != DELTA


def test_a_repeated_r_would_reveal_the_factor() -> None:
    # Why `prove` derives r.
    r = voprf.blinding_scalar(sha512(b"r").digest())
    proofs = []
    for count in (2, 3):
        m, z = composites(KEYS, *pairs(count))
        proofs.append(dleq.prove(dleq.ProofContext.of(KEYS.context), DELTA, A, B, m, z, r))
        verify(KEYS, *pairs(count), proofs[-1])
    assert recover(*proofs) == DELTA
