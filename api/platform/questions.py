"""A lookup as it was sent: checked, and with the digest that its answer repeats."""

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
"""Where a request's state holds the error with which its lookup has failed already, on the hot path."""

_TO_URLSAFE = bytes.maketrans(b"+/", b"-_")
_FROM_URLSAFE = bytes.maketrans(b"-_", b"+/")
_KINDS = {kind.value: kind for kind in Kind}


def read_lookup(sent: Any, parser: Callable[[type[Lookup], object], Lookup] = parse) -> LookupRequest:
    """The lookup in the JSON value `sent`. Raises InvalidRequest where it does not have the documented form: what is
    wrong where is said as `parser` says it."""
    wanted = parser(Lookup, sent)
    refund = wanted.refund
    return LookupRequest(
        epoch=wanted.epoch,
        # The schema lets one spelling of 32 bytes through, so nothing is left for `unb64url` to refuse.
        subjects=tuple([(_KINDS[subject.kind], _decoded(subject.tag + "=")) for subject in wanted.subjects]),
        purpose=wanted.purpose,
        order_ref=_decoded(wanted.order_ref + "="),
        digest=digest_text(sent, wanted.nonce),
        nonce=wanted.nonce,
        consent_ref=wanted.consent_ref,
        amount_minor=None if refund is None else refund.amount_minor,
        currency=None if refund is None else refund.currency,
        claim=None if refund is None else refund.claim,
        min_index=wanted.min_index,
    )


def digest_text(sent: dict[str, Any], nonce: str | None) -> str:
    """`ledger.protocol.request_digest.question_digest` of a lookup that the schema let through, as base64url.

    Such a request has ASCII strings, integers within 2^53, null, lists and objects only, of which orjson makes the
    canonical bytes in a twentieth of the time (tests/api/test_questions.py compares the two).
    """
    asked = sent.copy()
    asked.pop("nonce", None)
    random = b"" if nonce is None else _decoded(nonce + "==")
    canonical = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(DOMAIN + random + canonical).digest()
    return b2a_base64(digest, newline=False).translate(_TO_URLSAFE)[:-1].decode()


def _decoded(text: str) -> bytes:
    """The bytes of checked base64url `text`, with its padding; `base64.urlsafe_b64decode` takes twice as long."""
    return a2b_base64(text.encode().translate(_FROM_URLSAFE))
