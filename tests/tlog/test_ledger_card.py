"""The ledger card: one text for each card, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.errors import InvalidCanonicalForm, NewerFormat
from ledger.protocol.encoding import b64url
from ledger.protocol.voprf import derive_secret, public_key
from ledger.tlog.checkpoint import verifier_key
from ledger.tlog.ledger_card import LedgerCard, ledger_card_text, parse_ledger_card

LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
CARD = LedgerCard(
    service="ledger.example",
    environment="test",
    operator="Ledger Operations Ltd",
    log_key=verifier_key("ledger.example/log", LOG_KEY),
    url="https://ledger.example",
    receiving_key=public_key(derive_secret(bytes(32), b"a receiving key")),
)


def test_a_card_is_read_as_it_was_written() -> None:
    text = ledger_card_text(CARD).encode()
    assert parse_ledger_card(text) == CARD
    assert parse_ledger_card(json.dumps(json.loads(text) | {"later": 1}).encode()) == CARD


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"format": 2}, NewerFormat),
        ({"format": True}, InvalidCanonicalForm),
        ({"format": "1"}, InvalidCanonicalForm),
        ({"service": "Ledger Example"}, InvalidCanonicalForm),
        ({"environment": "staging"}, InvalidCanonicalForm),
        ({"operator": ""}, InvalidCanonicalForm),
        ({"operator": "Cafe\u0301"}, InvalidCanonicalForm),
        ({"operator": 7}, InvalidCanonicalForm),
        ({"log": {"origin": "other.example/log", "key": CARD.log_key}}, InvalidCanonicalForm),
        ({"log": {"origin": CARD.log_origin, "key": "x"}}, InvalidCanonicalForm),
        ({"log": None}, InvalidCanonicalForm),
        ({"url": "ftp://ledger.example"}, InvalidCanonicalForm),
        ({"url": "https://ledger.example/"}, InvalidCanonicalForm),
        ({"url": "https://user@ledger.example"}, InvalidCanonicalForm),
        ({"url": "https://[ledger"}, InvalidCanonicalForm),
        ({"receiving_key": b64url(bytes(32))}, InvalidCanonicalForm),
        ({"receiving_key": "short"}, InvalidCanonicalForm),
    ],
)
def test_a_malformed_card_is_refused(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_ledger_card(json.dumps(CARD.json | changes).encode())


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b"\xff", b"[" * 20_000, b" " * 20_000])
def test_another_text_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidCanonicalForm):
        parse_ledger_card(text)
