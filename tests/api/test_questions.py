"""The digest that the API computes is the core's, for every request that the schema lets through."""

from __future__ import annotations

import unicodedata
from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.platform.questions import digest_text, read_lookup
from ledger.errors import InvalidRequest
from ledger.protocol.encoding import MAX_INTEGER, b64url, unb64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.request_digest import question_digest
from ledger.rules.consent import fault_of_reference


def fit(reference: str) -> bool:
    return fault_of_reference(reference) is None


bytes_32 = st.binary(min_size=32, max_size=32).map(b64url)
nonces = st.binary(min_size=16, max_size=16).map(b64url)
subjects = st.fixed_dictionaries({"kind": st.sampled_from([kind.value for kind in Kind]), "tag": bytes_32})
refunds = st.fixed_dictionaries(
    {
        "amount_minor": st.integers(0, MAX_INTEGER),
        "currency": st.text("ABCZ", min_size=3, max_size=3),
        "claim": st.sampled_from(["damaged", "not_received", "not_as_described", "returned", "other"]),
    }
)
references = st.text(min_size=1, max_size=128).map(partial(unicodedata.normalize, "NFC")).filter(fit)
lookups = st.fixed_dictionaries(
    {
        "epoch": st.integers(1, 2**31 - 1),
        "subjects": st.lists(subjects, min_size=1, max_size=8),
        "purpose": st.sampled_from(["refund_review", "appeal"]),
        "order_ref": bytes_32,
    },
    optional={
        "consent_ref": st.none() | references,
        "refund": st.none() | refunds,
        "min_index": st.none() | st.integers(0, MAX_INTEGER),
        "nonce": st.none() | nonces,
    },
)


@given(lookups, st.randoms())
def test_the_digest_is_the_cores(sent: dict[str, Any], random: Any) -> None:
    names = list(sent)
    random.shuffle(names)
    read = read_lookup(orjson.loads(orjson.dumps({name: sent[name] for name in names})))
    nonce = sent.get("nonce")
    expected = question_digest(sent, b"" if nonce is None else unb64url(nonce, 16))
    assert unb64url(read.digest, 32) == expected
    assert digest_text(sent, nonce) == read.digest
    assert read.nonce == nonce
    assert [(kind.value, b64url(tag)) for kind, tag in read.subjects] == [
        (subject["kind"], subject["tag"]) for subject in sent["subjects"]
    ]


GOOD = {
    "epoch": 1,
    "subjects": [{"kind": "phone", "tag": "A" * 43}],
    "purpose": "refund_review",
    "order_ref": "A" * 43,
}
"""Without optional members."""


@pytest.mark.parametrize(
    "nonce", ["", "A" * 21, "A" * 23, "A" * 21 + "B", "A" * 22 + "==", "A" * 21 + "+", "A" * 21 + "\n", 0, [], True]
)
def test_a_nonce_has_one_spelling_of_16_bytes(nonce: object) -> None:
    assert read_lookup({**GOOD, "nonce": "A" * 22}).nonce == "A" * 22
    with pytest.raises(InvalidRequest) as caught:
        read_lookup({**GOOD, "nonce": nonce})
    assert [error["loc"] for error in caught.value.details["errors"]] == [["nonce"]]  # type: ignore[attr-defined]
