"""Parsing of a lookup, and the digest of the request that its answer repeats."""

from __future__ import annotations

import hashlib
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from typing import Any

import orjson

from api.json_io import parse
from api.platform.lookup_schemas import Lookup
from ledger.protocol.identifiers import Kind
from ledger.protocol.request_digest import DOMAIN
from ledger.server.lookups.service import LookupRequest

LOOKUP_FAILED = "lookup_failed"
"""Key in a request's state: the error with which its lookup has failed on the hot path."""

_TO_URLSAFE = bytes.maketrans(b"+/", b"-_")
_FROM_URLSAFE = bytes.maketrans(b"-_", b"+/")
_KINDS = {kind.value: kind for kind in Kind}


def read_lookup(sent: Any, parser: Callable[[type[Lookup], object], Lookup] = parse) -> LookupRequest:
    """Return the lookup in the JSON value `sent`. Raises InvalidRequest for another form, with the details that
    `parser` gives."""
    lookup = parser(Lookup, sent)
    refund = lookup.refund
    return LookupRequest(
        epoch=lookup.epoch,
        # The schema accepts one spelling of 32 bytes only, so `unb64url` is not needed.
        subjects=tuple([(_KINDS[subject.kind], _decoded(subject.tag + "=")) for subject in lookup.subjects]),
        purpose=lookup.purpose,
        order_ref=_decoded(lookup.order_ref + "="),
        digest=digest_text(sent, lookup.nonce),
        nonce=lookup.nonce,
        consent_ref=lookup.consent_ref,
        amount_minor=None if refund is None else refund.amount_minor,
        currency=None if refund is None else refund.currency,
        claim=None if refund is None else refund.claim,
        min_index=lookup.min_index,
    )


def digest_text(sent: dict[str, Any], nonce: str | None) -> str:
    """Return `ledger.protocol.request_digest.question_digest`, as base64url, of a lookup that the schema has accepted.

    Such a request has ASCII strings, integers within 2^53, null, lists and objects only, whose canonical bytes orjson
    writes in a twentieth of the time (tests/api/test_questions.py compares the two).
    """
    asked = sent.copy()
    asked.pop("nonce", None)
    random = b"" if nonce is None else _decoded(nonce + "==")
    canonical = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(DOMAIN + random + canonical).digest()
    return b2a_base64(digest, newline=False).translate(_TO_URLSAFE)[:-1].decode()


def _decoded(text: str) -> bytes:
    """Return the bytes of checked base64url `text`; `base64.urlsafe_b64decode` takes twice as long."""
    return a2b_base64(text.encode().translate(_FROM_URLSAFE))
