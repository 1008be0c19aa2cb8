"""Suite, holders' cards, signing key and order key from environment variables, for containers that get them that way.

Suite and keys are named by file or by text, never by both. Errors name variables and never repeat what they hold.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client.holders.cards import CardSource, cards_from_text
from ledger.client.identity.keyfiles import parse_order_key, parse_signing_key
from ledger.client.identity.suite import Suite, parse_suite_text
from ledger.errors import ConfigurationError

SUITE, SUITE_JSON = "REFUND_LEDGER_SUITE", "REFUND_LEDGER_SUITE_JSON"
KEY, KEY_PEM = "REFUND_LEDGER_KEY", "REFUND_LEDGER_KEY_PEM"
ORDER_KEY, ORDER_KEY_TEXT = "REFUND_LEDGER_ORDER_KEY", "REFUND_LEDGER_ORDER_KEY_TEXT"
STATE = "REFUND_LEDGER_STATE"
CARDS = "REFUND_LEDGER_CARDS"
VARIABLES = (SUITE, SUITE_JSON, KEY, KEY_PEM, ORDER_KEY, ORDER_KEY_TEXT, STATE, CARDS)
"""All variables that the SDK and the commands of platforms read here."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The first arguments of `RefundLedger`. `order_key` is None where it is stored beside the file of the signing
    key."""

    suite: str | Path | Suite
    key: str | Path | Ed25519PrivateKey = field(repr=False)
    order_key: bytes | str | Path | None = field(repr=False)
    state_dir: str | Path | None = None
    cards: CardSource | None = None


def read_credentials(
    environment: Mapping[str, str],
    *,
    suite: str | Path | None = None,
    key: str | Path | None = None,
    order_key: bytes | str | Path | None = None,
    state_dir: str | Path | None = None,
    cards: CardSource | None = None,
) -> Credentials:
    """Return the given arguments, and the rest from `environment`. An argument goes before both variables of its kind;
    an empty variable counts as not set. Raises ConfigurationError when something is missing, named twice or
    malformed."""
    found_suite = suite or read_suite(environment)
    if not found_suite:
        raise ConfigurationError(
            f"No suite is given: set {SUITE} (a file) or {SUITE_JSON} (its text), or give --suite."
        )
    found_key: str | Path | Ed25519PrivateKey = key or ""
    if key is None:
        file, text = _one_of(environment, KEY, KEY_PEM)
        found_key = file or (parse_signing_key(_lines(text), KEY_PEM) if text else "")
    if not found_key:
        raise ConfigurationError(f"No signing key is given: set {KEY} (a file) or {KEY_PEM} (its text), or give --key.")
    found_order_key: bytes | str | Path | None = order_key
    if order_key is None:
        file, text = _one_of(environment, ORDER_KEY, ORDER_KEY_TEXT)
        found_order_key = file or (parse_order_key(os.fsencode(text), ORDER_KEY_TEXT) if text else None)
    if found_order_key is None and isinstance(found_key, Ed25519PrivateKey):
        raise ConfigurationError(
            f"The signing key of {KEY_PEM} needs its order key: set {ORDER_KEY} (a file) or {ORDER_KEY_TEXT} (its "
            "text). `refund-ledger make-key` wrote it beside the signing key; all services of a platform share one."
        )
    return Credentials(
        found_suite,
        found_key,
        found_order_key,
        state_dir or environment.get(STATE) or None,
        cards or cards_from_text(environment.get(CARDS, "")),
    )


def read_suite(environment: Mapping[str, str]) -> Path | Suite | None:
    """Return the suite file that the environment names, or the suite that it holds. Raises ConfigurationError."""
    file, text = _one_of(environment, SUITE, SUITE_JSON)
    if file:
        return Path(file)
    return parse_suite_text(os.fsencode(text), SUITE_JSON) if text else None


def _one_of(environment: Mapping[str, str], file: str, text: str) -> tuple[str, str]:
    values = environment.get(file, ""), environment.get(text, "")
    if all(values):
        raise ConfigurationError(f"Set {file} or {text}, not both.")
    return values


def _lines(pem: str) -> bytes:
    """Return a PEM text, also where its line ends had to be written as backslash and n to fit into one line."""
    return os.fsencode(pem if "\n" in pem else pem.replace("\\n", "\n"))
