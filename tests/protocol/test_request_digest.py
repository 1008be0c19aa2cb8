"""Digests of questions: published vectors, computed by hand, and what a digest binds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidCanonicalForm, InvalidEncoding
from ledger.protocol.encoding import b64url, unb64url
from ledger.protocol.request_digest import question_digest

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "docs" / "vectors" / "questions.json").read_text("utf-8"))[
    "vectors"
]

nonces = st.binary(min_size=16, max_size=16)
values = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text('abc"\\/~', max_size=4)
requests = st.dictionaries(
    st.sampled_from(["epoch", "purpose", "refund", "min_index"]), values | st.dictionaries(st.just("a"), values)
)


@pytest.mark.parametrize("vector", VECTORS, ids=[v["about"] for v in VECTORS])
def test_published_vectors(vector: dict[str, Any]) -> None:
    request = json.loads(vector["request"])
    nonce = b"" if request.get("nonce") is None else unb64url(request["nonce"], 16)
    by_hand = hashlib.sha256(b"refund-ledger question v1" + nonce + vector["canonical"].encode()).digest()
    assert b64url(by_hand) == vector["question"]
    assert question_digest(request, nonce) == by_hand


@given(requests, requests, nonces, nonces)
def test_only_the_same_request_with_the_same_nonce_has_the_same_digest(
    item: dict[str, Any], other: dict[str, Any], first: bytes, second: bytes
) -> None:
    same = json.dumps(item, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (question_digest(item, first) == question_digest(other, first)) is same
    assert (question_digest(item, first) == question_digest(item, second)) is (first == second)
    assert question_digest({**item, "nonce": b64url(first)}, first) == question_digest(item, first)
    assert question_digest(dict(reversed(item.items())), first) == question_digest(item, first)


@pytest.mark.parametrize("length", [1, 15, 17, 32])
def test_a_nonce_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(InvalidEncoding):
        question_digest({"epoch": 1}, bytes(length))


@pytest.mark.parametrize("value", [1.5, 2**53, "e\u0301", {1: 2}])
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(InvalidCanonicalForm):
        question_digest({"epoch": value}, b"")
