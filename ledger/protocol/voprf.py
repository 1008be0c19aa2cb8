"""Blinded evaluation of identifiers: RFC 9497, suite ristretto255-SHA512, mode VOPRF (0x01), up to `Finalize`.

A client blinds H(x); a key holder multiplies by its secret and proves with one DLEQ proof for the whole batch that it
used the key it published. `ledger.protocol.threshold` verifies the shares of several holders, combines them and removes
the blinds:

    T = k * H(x)

RFC 9497 would now hash T together with x. We keep the element T, so that a key rotation can turn T into
(k'/k) * T without any identifier. Nothing here is random: blinds and nonces are arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha512

from ledger.errors import (
    BatchSizeInvalid,
    InvalidInput,
    InvalidPoint,
    InvalidProof,
    InvalidScalar,
)
from ledger.protocol import dleq, sodium

SUITE = "ristretto255-SHA512"
MAX_BATCH = 1000
"""Elements in one evaluation, at most."""
ELEMENT_BYTES = 32
PROOF_BYTES = dleq.PROOF_BYTES
SEED_BYTES = 32
NONCE_BYTES = 64
MAX_INPUT_BYTES = 2**16 - 1

_MODE_VOPRF = 0x01
_CONTEXT = b"OPRFV1-" + bytes([_MODE_VOPRF]) + b"-" + SUITE.encode()  # RFC 9497 section 3.1
_NONCE_DOMAIN = b"RefundLedgerProofNonce-v1-" + _CONTEXT
_PROOF_CONTEXT = dleq.ProofContext.of(_CONTEXT)
_DST_GROUP = dleq.dst_prime(b"HashToGroup-" + _CONTEXT)
_DST_KEY = dleq.dst_prime(b"DeriveKeyPair" + _CONTEXT)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The answer of one key holder: an element for each blinded element, in order, and one proof (c || s, 64 bytes)."""

    evaluated: tuple[bytes, ...]
    proof: bytes


def derive_secret(seed: bytes, info: bytes) -> bytes:
    """Return a holder's secret scalar, derived from 32 secret random bytes and public `info` (RFC 9497 section 3.2.1).

    Raises InvalidInput for another seed length or an info above 65,535 bytes.
    """
    if len(seed) != SEED_BYTES:
        raise InvalidInput(f"A key seed must have {SEED_BYTES} bytes.")
    if len(info) > MAX_INPUT_BYTES:
        raise InvalidInput(f"Key information must have at most {MAX_INPUT_BYTES} bytes.")
    message = seed + dleq.prefixed(info)
    for counter in range(256):
        secret = sodium.scalar_reduce(dleq.expand(message + bytes([counter]), _DST_KEY))
        if sodium.is_canonical_scalar(secret):
            return secret
    raise InvalidInput("The seed yields no key.")  # probability 2^-64,000, named by the RFC all the same


def public_key(secret: bytes) -> bytes:
    """Return the public key of a holder's secret scalar. Raises InvalidScalar."""
    return sodium.scalarmult_base(secret)


def blinding_scalar(uniform: bytes) -> bytes:
    """Return a blind made of 64 secret random bytes; every input needs a fresh one. Raises InvalidInput for another
    length."""
    return sodium.scalar_reduce(uniform)


def check_element(element: bytes) -> None:
    """Check an element. Raises InvalidPoint unless it is a group element in its canonical encoding, IdentityPoint for
    the identity in any spelling."""
    sodium.check_point(element)


def canonical_spelling(element: bytes) -> bytes | None:
    """Return the canonical encoding of an element that was recorded before encodings were checked, None for the
    identity and for no element. New elements are checked with `check_element` instead."""
    return sodium.canonical_spelling(element)


def hash_to_group(message: bytes) -> bytes:
    """Return H(x) of RFC 9497 section 4.1. Raises InvalidInput above 65,535 bytes."""
    if len(message) > MAX_INPUT_BYTES:
        raise InvalidInput(f"An input must have at most {MAX_INPUT_BYTES} bytes.")
    return sodium.point_from_hash(dleq.expand(message, _DST_GROUP))


def blind(inputs: Sequence[bytes], blinds: Sequence[bytes]) -> list[bytes]:
    """Return blind x H(input) for each input (`Blind` of RFC 9497 section 3.3.1). Blinds must be secret and
    never reused.

    Raises BatchSizeInvalid, InvalidScalar, InvalidInput (too long an input).
    """
    _check_batch(len(inputs))
    _check_same_length(len(inputs), len(blinds))
    return [sodium.scalarmult(b, hash_to_group(message)) for b, message in zip(blinds, inputs, strict=True)]


def evaluate(secret: bytes, blinded: Sequence[bytes], nonce: bytes, *, workers: int = 1) -> Evaluation:
    """Return secret x each blinded element, with one proof for all (`BlindEvaluate` of RFC 9497 section 3.3.2).

    `nonce` is 64 fresh random bytes. The proof's scalar r is hashed from it, the secret and the proved statement, so
    that neither a repeated nor a guessable nonce reveals the secret. `workers` above 1 spreads a large batch over that
    many threads (libsodium runs without the interpreter lock); the result is the same. Raises BatchSizeInvalid,
    InvalidScalar, InvalidPoint, IdentityPoint, InvalidInput (nonce length).
    """
    _check_nonce(nonce)
    evaluated = multiply(secret, blinded, workers=workers)
    return Evaluation(evaluated, prove(secret, blinded, evaluated, nonce, workers=workers))


def multiply(secret: bytes, blinded: Sequence[bytes], *, workers: int = 1) -> tuple[bytes, ...]:
    """Return secret x each blinded element: the first half of `evaluate`, which refuses malformed elements. Nothing of
    it may leave without the proof. Raises BatchSizeInvalid, InvalidScalar, InvalidPoint, IdentityPoint."""
    _check_batch(len(blinded))
    parts = dleq.in_parts(
        lambda start, stop: sodium.scalarmult_many(secret, blinded[start:stop]), len(blinded), workers
    )
    return tuple([element for part in parts for element in part])


def prove(
    secret: bytes, blinded: Sequence[bytes], evaluated: Sequence[bytes], nonce: bytes, *, workers: int = 1
) -> bytes:
    """Return the proof (64 bytes) of what `multiply` returned for these elements: the second half of `evaluate`. Raises
    as `evaluate`."""
    _check_batch(len(blinded))
    _check_same_length(len(blinded), len(evaluated))
    _check_nonce(nonce)
    key = public_key(secret)
    seed = dleq.composite_seed(_PROOF_CONTEXT, key)

    def part(start: int, stop: int) -> bytes:
        given = blinded[start:stop]
        # Each weight needs its own pair only.
        weights = dleq.coefficients(_PROOF_CONTEXT, seed, given, evaluated[start:stop], start)
        return sodium.sum_of_products(weights, given)

    m = dleq.total(dleq.in_parts(part, len(blinded), workers))
    z = sodium.scalarmult(secret, m)
    r = sodium.scalar_reduce(sha512(_NONCE_DOMAIN + secret + nonce + key + m + z).digest())
    return dleq.prove(_PROOF_CONTEXT, secret, None, key, m, z, r)


def generate_proof(secret: bytes, blinded: Sequence[bytes], evaluated: Sequence[bytes], r: bytes) -> bytes:
    """`GenerateProof` of RFC 9497 section 2.2.1 with the scalar r given, for test vectors.

    An r used for two different batches reveals the secret: `evaluate` is what servers call. Raises as `evaluate`.
    """
    _check_batch(len(blinded))
    _check_same_length(len(blinded), len(evaluated))
    key = public_key(secret)
    seed = dleq.composite_seed(_PROOF_CONTEXT, key)
    m = sodium.sum_of_products(dleq.coefficients(_PROOF_CONTEXT, seed, blinded, evaluated), blinded)
    return dleq.prove(_PROOF_CONTEXT, secret, None, key, m, sodium.scalarmult(secret, m), r)


def verify(public_key: bytes, blinded: Sequence[bytes], evaluated: Sequence[bytes], proof: bytes) -> None:
    """Check that each evaluated element is the public key's secret x the blinded one (`VerifyProof` of RFC 9497).

    Raises InvalidProof for every fault in the values of the holder (`evaluated`, `proof`), and BatchSizeInvalid,
    InvalidPoint, IdentityPoint for the caller's own values.
    """
    _check_batch(len(blinded))
    check_element(public_key)
    if len(evaluated) != len(blinded):
        raise InvalidProof("A holder must answer every element, once and in order.")
    if len(proof) != PROOF_BYTES:
        raise InvalidProof(f"A proof must have {PROOF_BYTES} bytes.")
    seed = dleq.composite_seed(_PROOF_CONTEXT, public_key)
    coefficients = list(dleq.coefficients(_PROOF_CONTEXT, seed, blinded, evaluated))
    m = sodium.sum_of_products(coefficients, blinded)
    try:
        z = sodium.sum_of_products(coefficients, evaluated)
        holds = dleq.holds(_PROOF_CONTEXT, None, public_key, m, z, proof)
    except InvalidPoint as error:
        raise InvalidProof("A holder answered with something that is not a group element.") from error
    except InvalidScalar as error:
        raise InvalidProof("A proof holds a scalar that is not canonical.") from error
    if not holds:
        raise InvalidProof("A holder's proof does not match its published key and this batch.")


def _check_nonce(nonce: bytes) -> None:
    if len(nonce) != NONCE_BYTES:
        raise InvalidInput(f"A proof nonce must have {NONCE_BYTES} bytes.")


def _check_batch(count: int) -> None:
    if not 1 <= count <= MAX_BATCH:
        raise BatchSizeInvalid(f"A batch holds 1 to {MAX_BATCH} elements.")


def _check_same_length(count: int, other: int) -> None:
    if count != other:
        raise BatchSizeInvalid("The lists of one batch must have the same length.")
