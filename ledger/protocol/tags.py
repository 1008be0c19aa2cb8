"""Values derived from the element T of an identifier: the tag that is looked up, its prefix, and the commitment in a
report.

Only reports carry the element itself. It cannot be computed from a tag, and the kind is part of both derivations: a
phone number reported as a payment instrument matches nothing.
"""

from __future__ import annotations

import hmac
from hashlib import sha512

from ledger.errors import InvalidInput, InvalidPoint
from ledger.protocol.identifiers import Kind, parse_kind

TAG_BYTES = 32
ELEMENT_BYTES = 32
SALT_BYTES = 32
MAX_PREFIX_BITS = 32
MAX_EPOCH = 2**32 - 1

# HKDF-Extract without a salt (RFC 5869 section 2.2) is HMAC under a key of zeros, so both of its first blocks are
# constants (RFC 2104) and hashed once: sealing and tagging do this for every element.
_INNER, _OUTER = sha512(b"\x36" * 128), sha512(b"\x5c" * 128)
_TAG_INFO = b"refund-ledger tag v1:"
# HKDF-Expand (RFC 5869 section 2.3) of 32 bytes needs only its first block: HMAC(PRK, info || 0x01).
_TAG_BLOCKS = {kind: _TAG_INFO + kind.value.encode() + b"\x01" for kind in Kind}


def tag(kind: Kind | str, element: bytes) -> bytes:
    """Return the 32 bytes under which an element is looked up: HKDF-SHA512(T, no salt, "refund-ledger tag v1:" ||
    kind).

    Only the length of `element` is checked here (`voprf.check_element` checks the rest, at intake). Raises
    UnsupportedKind, InvalidPoint.
    """
    block = _TAG_BLOCKS[parse_kind(kind)]
    return hmac.digest(extract(element), block, "sha512")[:TAG_BYTES]


def extract(element: bytes) -> bytes:
    """Return HKDF-Extract (SHA-512, no salt) of 32 secret bytes, usually an element: the 64-byte PRK from which tags
    and sealed entries are expanded. Raises InvalidPoint for another length."""
    _check_element_length(element)
    inner, outer = _INNER.copy(), _OUTER.copy()
    inner.update(element)
    outer.update(inner.digest())
    return outer.digest()


def prefix(tag: bytes, bits: int) -> int:
    """Return the first `bits` bits of a tag (1 to 32) as an integer: the number of its bucket. Raises InvalidInput."""
    if len(tag) != TAG_BYTES:
        raise InvalidInput(f"A tag must have {TAG_BYTES} bytes.")
    if not 1 <= bits <= MAX_PREFIX_BITS:
        raise InvalidInput(f"A prefix must have 1 to {MAX_PREFIX_BITS} bits.")
    return int.from_bytes(tag[:4], "big") >> (MAX_PREFIX_BITS - bits)


def subject_commitment(salt: bytes, epoch: int, kind: Kind | str, element: bytes) -> bytes:
    """Return the 32 bytes that represent a subject in a signed report: HMAC-SHA256(salt, epoch || kind || T).

    `salt` is 32 fresh random bytes for each subject; the epoch is encoded as 4 bytes big-endian and the kind with its
    length in one byte before it. Erasing the salt makes the commitment meaningless.
    Raises InvalidInput (salt, epoch), UnsupportedKind, InvalidPoint.
    """
    if len(salt) != SALT_BYTES:
        raise InvalidInput(f"The salt of a subject must have {SALT_BYTES} bytes.")
    if not 0 <= epoch <= MAX_EPOCH:
        raise InvalidInput("A key epoch must fit in 4 bytes.")
    _check_element_length(element)
    name = parse_kind(kind).value.encode()
    return hmac.digest(salt, epoch.to_bytes(4, "big") + bytes([len(name)]) + name + element, "sha256")


def _check_element_length(element: bytes) -> None:
    if len(element) != ELEMENT_BYTES:
        raise InvalidPoint(f"A group element must have {ELEMENT_BYTES} bytes.")
