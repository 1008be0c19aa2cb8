"""The digest of a request, which binds an answer to the request that it answers.

A client adds a fresh 16-byte nonce to each lookup and compares the digest in the answer with its own, so that it never
accepts the answer to another request: neither one that a shared connection, a proxy or a cache has mixed up, nor an
older one to the same request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from ledger.errors import InvalidEncoding
from ledger.protocol.encoding import canonical_json

NONCE_BYTES = 16

DOMAIN = b"refund-ledger question v1"
"""The prefix of the hashed bytes (domain separation)."""


def question_digest(request: Mapping[str, Any], nonce: bytes) -> bytes:
    """Return SHA-256 of `DOMAIN` || `nonce` || the canonical JSON of `request` without its member `nonce`: 32
    bytes.

    `request` is the JSON object as it was sent: an optional member that was left out and one that was sent as null are
    two questions. In a batch it is the item. `nonce` has 16 bytes, or none where the request has no nonce or null.

    Raises InvalidEncoding for a nonce of another length, InvalidCanonicalForm for a request without canonical form.
    """
    if len(nonce) not in (0, NONCE_BYTES):
        raise InvalidEncoding(f"A nonce has {NONCE_BYTES} bytes, or none.")
    asked = {name: value for name, value in request.items() if name != "nonce"}
    return hashlib.sha256(DOMAIN + nonce + canonical_json(asked)).digest()
