"""The ledger card `ledger.json`, which the operator gives to the holders of a new ledger before the key exists. Pure.

    {"format": 1, "service", "environment", "operator", "log": {"origin", "key"}, "url", "receiving_key"}

`operator` is the operator's organisation, `log.key` the log's C2SP verifier key, `receiving_key` a ristretto255
public key to which the holders of a rotation encrypt its factor. The card is not signed: the fingerprint of the
ceremony, which the holders read aloud, covers it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ledger.errors import InvalidCanonicalForm, LedgerError, NewerFormat
from ledger.protocol.encoding import b64url, canonical_json, unb64url
from ledger.protocol.voprf import check_element
from ledger.tlog.checkpoint import parse_verifier_key

CARD_FORMAT = 1
MAX_LEDGER_CARD_BYTES = 16 * 1024
LEDGER_CARD_NAME = "ledger.json"
"""Name of the file that `keys init --threshold` writes and every holder gets."""

_SERVICE = re.compile(r"[a-z0-9.-]{1,64}\Z")
_ORGANISATION = re.compile(r"\S(?:.{0,126}\S)?\Z")
_MAX_URL_CHARS = 200


@dataclass(frozen=True, slots=True)
class LedgerCard:
    """What a holder has to know about a ledger: its service id, environment (live or test), the operator's
    organisation, the log's verifier key, the address of its API, and its receiving key (32 bytes).

    Raises InvalidCanonicalForm for members that are malformed, InvalidPoint, IdentityPoint for another receiving key.
    """

    service: str
    environment: str
    operator: str
    log_key: str
    url: str
    receiving_key: bytes

    def __post_init__(self) -> None:
        if not _SERVICE.match(self.service) or self.environment not in ("live", "test"):
            raise InvalidCanonicalForm("The service or environment of a ledger card is malformed.")
        if not _ORGANISATION.match(self.operator):
            raise InvalidCanonicalForm("The operator of a ledger card is the name of an organisation.")
        parse_verifier_key(self.log_key)
        _check_url(self.url)
        check_element(self.receiving_key)
        canonical_json(self.json)  # refuses names that are not in NFC

    @property
    def log_origin(self) -> str:
        """Return the origin of the ledger's log."""
        return parse_verifier_key(self.log_key)[0]

    @property
    def json(self) -> dict[str, Any]:
        """Return the card as JSON members."""
        return {
            "format": CARD_FORMAT,
            "service": self.service,
            "environment": self.environment,
            "operator": self.operator,
            "log": {"origin": self.log_origin, "key": self.log_key},
            "url": self.url,
            "receiving_key": b64url(self.receiving_key),
        }


def ledger_card_text(card: LedgerCard) -> str:
    """Return the text of `ledger.json`: the card's members, one on a line, with a line feed at the end."""
    return json.dumps(card.json, ensure_ascii=False, indent=2) + "\n"


def parse_ledger_card(text: bytes) -> LedgerCard:
    """Return the card in the text of `ledger.json`. Further members are ignored.

    Raises NewerFormat for a format of a later version, InvalidCanonicalForm for all other faults.
    """
    if len(text) > MAX_LEDGER_CARD_BYTES:
        raise InvalidCanonicalForm("This ledger card is too large.")
    try:
        return ledger_card_of(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise InvalidCanonicalForm("This is not a ledger card (ledger.json of the operator).") from error


def ledger_card_of(members: Any) -> LedgerCard:
    """Return the card of its JSON members. Raises NewerFormat, InvalidCanonicalForm as `parse_ledger_card`."""
    try:
        form = members["format"]
        if type(form) is int and form > CARD_FORMAT:
            raise NewerFormat("This ledger card has a format that this version does not know.")
        texts = {name: members[name] for name in ("service", "environment", "operator", "url")}
        log = members["log"]
        if type(form) is not int or form != CARD_FORMAT:
            raise InvalidCanonicalForm("This is not a ledger card.")
        if not all(isinstance(text, str) for text in (*texts.values(), log["key"])):
            raise InvalidCanonicalForm("This is not a ledger card.")
        card = LedgerCard(log_key=log["key"], receiving_key=unb64url(members["receiving_key"], 32), **texts)
        if log["origin"] != card.log_origin:
            raise InvalidCanonicalForm("The log's key in this ledger card is of another log.")
        return card
    except NewerFormat:
        raise
    except (LedgerError, TypeError, KeyError) as error:
        reason = str(error) if isinstance(error, LedgerError) else "A member is missing or malformed."
        raise InvalidCanonicalForm(f"This is not a ledger card. {reason}") from error


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        fit = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fit = False
    if not fit or "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidCanonicalForm("The address in a ledger card starts with https:// and names a host.")
    if len(url) > _MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url or url.endswith("/"):
        raise InvalidCanonicalForm("The address in a ledger card is malformed, or ends with a slash.")
