"""One proof for many pairs: D_i = k * C_i for every i, with the k of B = k * A (RFC 9497 section 2.2). Pure.

Evaluations (`voprf`) and key rotations (`ledger.tlog.key_rotation`) prove the same kind of statement. They differ in A
(the generator; the old public key) and in the context string, which takes the place of RFC 9497's `contextString` in

    seedDST       "Seed-" || context              hashed into the seed of the weights, after B
    HashToScalar  DST "HashToScalar-" || context  for each weight ("Composite") and for the challenge ("Challenge")

so a proof of one protocol, key or epoch is worth nothing in another. Weights and challenge hash B, not A: where A is
not the generator, the context must name it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha512
from typing import TypeVar

from ledger.protocol import sodium

PROOF_BYTES = 64
"""c || s, two scalars."""

_LENGTH_32 = (32).to_bytes(2, "big")
_SHA512_BLOCK_BYTES = 128
_MIN_PART = 32  # below this a second thread costs more than it saves

# expand_message_xmd (RFC 9380 section 5.3.1) for 64 bytes of SHA-512 output needs one block:
# b_0 = H(Z_pad || message || I2OSP(64, 2) || I2OSP(0, 1) || DST'), b_1 = H(b_0 || I2OSP(1, 1) || DST').
_Z_PAD = bytes(_SHA512_BLOCK_BYTES)
_XMD_LENGTH = (64).to_bytes(2, "big") + b"\x00"

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class ProofContext:
    """The domain separation of one protocol, made by `ProofContext.of`."""

    seed_dst: bytes
    scalar_dst_prime: bytes

    @classmethod
    def of(cls, context: bytes) -> ProofContext:
        """Return the context of a context string of at most 242 bytes."""
        return cls(b"Seed-" + context, dst_prime(b"HashToScalar-" + context))


def dst_prime(dst: bytes) -> bytes:
    """A domain separation tag of at most 255 bytes, with its length behind it (RFC 9380 section 5.3.1)."""
    return dst + bytes([len(dst)])


def expand(message: bytes, dst_prime: bytes) -> bytes:
    """64 uniform bytes from a message: expand_message_xmd with SHA-512 (RFC 9380 section 5.3.1)."""
    block_0 = sha512(_Z_PAD + message + _XMD_LENGTH + dst_prime).digest()
    return sha512(block_0 + b"\x01" + dst_prime).digest()


def prefixed(data: bytes) -> bytes:
    """`data` after its length in two bytes, big-endian."""
    return len(data).to_bytes(2, "big") + data


def composite_seed(context: ProofContext, key: bytes) -> bytes:
    """The seed of the weights for statements under public key B (`ComputeComposites`), 64 bytes."""
    return sha512(_LENGTH_32 + key + prefixed(context.seed_dst)).digest()


def coefficients(
    context: ProofContext, seed: bytes, first: Sequence[bytes], second: Sequence[bytes], start: int = 0
) -> Iterator[int]:
    """The weights d_i of `ComputeComposites` (RFC 9497 section 2.2.1), not yet reduced; M = sum of d_i x first_i.

    `start` is the first pair's index in its batch; indexes have 16 bits, so a batch has at most 65,535 pairs.
    HashToScalar is written out here: this loop is the largest cost of a proof after the group operations.
    """
    head = sha512(_Z_PAD + prefixed(seed))
    tail = b"Composite" + _XMD_LENGTH + context.scalar_dst_prime
    block_1 = b"\x01" + context.scalar_dst_prime
    for i, (c, d) in enumerate(zip(first, second, strict=True), start):
        block_0 = head.copy()
        block_0.update(b"%b\x00\x20%b\x00\x20%b%b" % (i.to_bytes(2, "big"), c, d, tail))
        yield int.from_bytes(sha512(block_0.digest() + block_1).digest(), "little")


def prove(context: ProofContext, secret: bytes, base: bytes | None, key: bytes, m: bytes, z: bytes, r: bytes) -> bytes:
    """Return c || s (64 bytes), the proof of key = secret x base and z = secret x m. `base` is None for the generator.

    `r` must be secret, and never the same for two different challenges: that would reveal the secret.
    Raises InvalidScalar, InvalidPoint.
    """
    t2 = sodium.scalarmult_base(r) if base is None else sodium.scalarmult(r, base)
    c = _challenge(context, key, m, z, t2, sodium.scalarmult(r, m))
    return c + sodium.scalar_sub(r, sodium.scalar_mul(c, secret))


def holds(context: ProofContext, base: bytes | None, key: bytes, m: bytes, z: bytes, proof: bytes) -> bool:
    """True if `proof` (64 bytes) shows key = k x base and z = k x m for one k. `base` is None for the generator.

    Raises InvalidScalar and InvalidPoint for what is not canonical. A zero c or s, or an identity on the way, is
    possible with probability 2^-252 only and raises too: callers refuse it like any false proof.
    """
    c, s = proof[:32], proof[32:]
    based = sodium.scalarmult_base(s) if base is None else sodium.scalarmult(s, base)
    t2 = sodium.add(based, sodium.scalarmult(c, key))
    t3 = sodium.add(sodium.scalarmult(s, m), sodium.scalarmult(c, z))
    return _challenge(context, key, m, z, t2, t3) == c


def in_parts(task: Callable[[int, int], Part], count: int, workers: int) -> list[Part]:
    """Return the results of `task(start, stop)` over consecutive ranges that cover 0..count, in order, on up to
    `workers` threads.

    Threads help because libsodium runs without the interpreter lock. A small count stays on the calling thread.
    """
    parts = max(1, min(workers, count // _MIN_PART))
    size = -(-count // parts)
    if parts == 1:
        return [task(0, count)]
    with ThreadPoolExecutor(parts - 1, thread_name_prefix="dleq") as pool:
        later = [pool.submit(task, start, min(start + size, count)) for start in range(size, count, size)]
        return [task(0, size), *[part.result() for part in later]]


def total(points: Sequence[bytes]) -> bytes:
    """Return the sum of at least one element, such as the parts of a composite. Raises InvalidPoint."""
    result = points[0]
    for point in points[1:]:
        result = sodium.add(result, point)
    return result


def _challenge(context: ProofContext, key: bytes, m: bytes, z: bytes, t2: bytes, t3: bytes) -> bytes:
    transcript = b"".join([_LENGTH_32 + point for point in (key, m, z, t2, t3)])
    return sodium.scalar_reduce(expand(transcript + b"Challenge", context.scalar_dst_prime))
