"""Key statements, which the holders of a new sharing sign, and the cards that each holder gives to platforms. Pure.

A *statement* names everything that a client needs to check shares: service, log, epoch, generation, threshold, K, and
each holder with its index, K_i and Ed25519 signing key. All holders of the sharing sign the same bytes, so neither the
operator nor a minority of holders can name others. The log's `key_rotation` entry carries the statement with these
signatures (*endorsements*). A *card* is one holder's copy for platforms, with its own address.

    statement signature   Ed25519 over "refund-ledger key statement v1\\n" || canonical JSON of the statement
    card signature        Ed25519 over "refund-ledger holder card v1\\n" || canonical JSON of the card without
                          its member `signature`

A successor is accepted only if holders of the known sharing, at least its threshold, signed it, and if its K is the
known one (refresh, resharing) or a proven multiple of it (rotation).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature as SignatureRefused
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import (
    HolderMismatch,
    InvalidCanonicalForm,
    InvalidCheckpoint,
    InvalidInput,
    InvalidSignature,
    LedgerError,
    NewerFormat,
)
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.encoding import MAX_INTEGER, b64url, canonical_json, unb64url
from ledger.protocol.signing_keys import check_public_key
from ledger.protocol.threshold import HolderKey, KeySet
from ledger.tlog.checkpoint import parse_verifier_key

STATEMENT_FORMAT = 1
MAX_HOLDERS = 50
"""Holders of one sharing, at most: a statement with all endorsements fits in one leaf of the log."""
MAX_CARD_BYTES = 64 * 1024
MAX_URL_CHARS = 200
SIGNATURE_BYTES = 64

_STATEMENT_DOMAIN = b"refund-ledger key statement v1\n"
_CARD_DOMAIN = b"refund-ledger holder card v1\n"
_ID = re.compile(r"[a-z0-9-]{1,32}\Z")
_ORGANISATION = re.compile(r"\S(?:.{0,126}\S)?\Z")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StatedHolder:
    """A holder in a statement: its key K_i with index and id, its organisation, whether that is the operator, and its
    Ed25519 signing key (32 bytes)."""

    key: HolderKey
    organisation: str
    operator: bool
    signing_key: bytes


@dataclass(frozen=True, slots=True)
class PreviousKeys:
    """The sharing that a statement follows."""

    epoch: int
    generation: int
    public_key: bytes


@dataclass(frozen=True, slots=True)
class KeyStatement:
    """A parsed statement. `canonical` is the exact bytes that were signed: they may hold members of a later version.

    `multiple_proof` (64 bytes) shows for a rotation that K is a multiple of the previous K which its makers know.
    """

    service: str
    environment: str
    log_origin: str
    log_key: str
    epoch: int
    kind: CeremonyKind
    keys: KeySet
    holders: tuple[StatedHolder, ...]
    previous: PreviousKeys | None
    multiple_proof: bytes | None
    canonical: bytes

    @property
    def json(self) -> dict[str, Any]:
        """Return the statement as JSON members."""
        members: dict[str, Any] = json.loads(self.canonical)
        return members

    def holder(self, index: int) -> StatedHolder:
        """Return the holder at `index`. Raises HolderMismatch."""
        for holder in self.holders:
            if holder.key.index == index:
                return holder
        raise HolderMismatch("No key holder has this index.", index=index)


@dataclass(frozen=True, slots=True)
class Endorsement:
    """A holder's signature over a statement (64 bytes), named by its signing key."""

    signing_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Card:
    """One holder's card: the statement, the holder's index in it, its address, and its endorsement. The signatures were
    checked when it was parsed."""

    statement: KeyStatement
    index: int
    url: str
    endorsement: Endorsement

    @property
    def holder(self) -> StatedHolder:
        """Return the holder that signed this card."""
        return self.statement.holder(self.index)


# --- statements -------------------------------------------------------------------------------------------------


def make_statement(
    *,
    service: str,
    environment: str,
    log_key: str,
    epoch: int,
    kind: CeremonyKind,
    generation: int,
    threshold: int,
    public_key: bytes,
    holders: Iterable[StatedHolder],
    previous: PreviousKeys | None = None,
    multiple_proof: bytes | None = None,
) -> KeyStatement:
    """Return the statement of a sharing. `log_key` is the log's C2SP verifier key. Raises what `parse_statement`
    does."""
    members: dict[str, Any] = {
        "format": STATEMENT_FORMAT,
        "service": service,
        "environment": environment,
        "log": {"origin": _log_origin(log_key), "key": log_key},
        "epoch": epoch,
        "kind": CeremonyKind(kind).value,
        "generation": generation,
        "threshold": threshold,
        "public_key": b64url(public_key),
        "holders": [
            {
                "index": holder.key.index,
                "id": holder.key.holder,
                "organisation": holder.organisation,
                "operator": holder.operator,
                "public_key": b64url(holder.key.public_key),
                "signing_key": b64url(holder.signing_key),
            }
            for holder in sorted(holders, key=lambda holder: holder.key.index)
        ],
        "previous": None
        if previous is None
        else {
            "epoch": previous.epoch,
            "generation": previous.generation,
            "public_key": b64url(previous.public_key),
        },
        "multiple_proof": None if multiple_proof is None else b64url(multiple_proof),
        "witness_policy": None,
    }
    return parse_statement(members)


def parse_statement(value: object) -> KeyStatement:
    """Return the statement of JSON members, checked: also that all K_i are of one sharing of K. Further members are
    ignored, but signed.

    Raises HolderMismatch (the keys contradict each other, or an organisation has as many shares as the threshold),
    NewerFormat, InvalidCanonicalForm for all other faults.
    """
    return _of_form("a key statement", lambda: _statement(value))


def _statement(value: object) -> KeyStatement:
    members = _object(value)
    if _number(members, "format") != STATEMENT_FORMAT:
        raise NewerFormat("This key statement has a format that this version does not know.")
    log = _object(members["log"])
    log_key = _text(log, "key")
    if _log_origin(log_key) != _text(log, "origin"):
        raise ValueError("the log's key is of another log")
    if not isinstance(members["holders"], list) or not 1 <= len(members["holders"]) <= MAX_HOLDERS:
        raise ValueError("number of holders")
    holders = tuple([_holder(_object(holder)) for holder in members["holders"]])
    threshold = _number(members, "threshold")
    keys = KeySet(
        _number(members, "generation"),
        threshold,
        unb64url(members["public_key"], 32),
        tuple([holder.key for holder in holders]),
    )
    _check_independent(holders, threshold)
    if any(holder.key.holder == members["service"] for holder in holders):
        raise HolderMismatch("A key holder has another id than the ledger: tokens name it.")
    previous = None if members["previous"] is None else _previous(_object(members["previous"]))
    proof = members.get("multiple_proof")
    return KeyStatement(
        service=_text(members, "service"),
        environment=_text(members, "environment"),
        log_origin=_text(log, "origin"),
        log_key=log_key,
        epoch=_number(members, "epoch"),
        kind=CeremonyKind(_text(members, "kind")),
        keys=keys,
        holders=tuple(sorted(holders, key=lambda holder: holder.key.index)),
        previous=previous,
        multiple_proof=None if proof is None else unb64url(proof, SIGNATURE_BYTES),
        canonical=canonical_json(dict(members)),
    )


def _holder(members: Mapping[str, Any]) -> StatedHolder:
    key = HolderKey(_number(members, "index"), _text(members, "id"), unb64url(members["public_key"], 32))
    organisation, operator = _text(members, "organisation"), members["operator"]
    signing_key = unb64url(members["signing_key"], 32)
    check_public_key(signing_key)
    if not _ID.match(key.holder) or not _ORGANISATION.match(organisation) or not isinstance(operator, bool):
        raise ValueError("id, organisation or operator")
    return StatedHolder(key, organisation, operator, signing_key)


def _previous(members: Mapping[str, Any]) -> PreviousKeys:
    public_key = unb64url(members["public_key"], 32)
    return PreviousKeys(_number(members, "epoch"), _number(members, "generation"), public_key)


def organisation_name(name: str) -> str:
    """Return the form of an organisation's name in which two are compared: NFC, without regard to case and spaces."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).split())


def _check_independent(holders: Sequence[StatedHolder], threshold: int) -> None:
    """Raises HolderMismatch when one organisation, the operator included, has as many shares as the threshold (1 of 1
    is a trial in which it has), and for equal signing keys."""
    if len({holder.signing_key for holder in holders}) != len(holders):
        raise HolderMismatch("Each key holder signs with a key of its own.")
    parties = [organisation_name(holder.organisation) for holder in holders]
    largest = max([parties.count(party) for party in parties])
    if len(holders) > 1 and max(largest, sum(holder.operator for holder in holders)) >= threshold:
        raise HolderMismatch("One organisation would hold as many shares as the threshold.")


# --- endorsements -----------------------------------------------------------------------------------------------


def endorse(statement: KeyStatement, key: Ed25519PrivateKey) -> Endorsement:
    """Return the signature of `key` over a statement."""
    return Endorsement(key.public_key().public_bytes_raw(), key.sign(_STATEMENT_DOMAIN + statement.canonical))


def check_endorsed(statement: KeyStatement, endorsements: Iterable[Endorsement]) -> None:
    """Check that every holder of a statement signed it. Raises InvalidSignature, with `holder` in its details."""
    signed = _signers(statement, endorsements)
    for holder in statement.holders:
        if holder.signing_key not in signed:
            raise InvalidSignature("A key holder did not sign this key statement.", holder=holder.key.holder)


def check_succession(
    known: KeyStatement,
    new: KeyStatement,
    endorsements: Iterable[Endorsement],
    verify_multiple: Callable[[bytes, bytes, bytes], None],
) -> None:
    """Check that `new` follows `known` directly: same service and log, endorsed by all its own holders and by at least
    `known`'s threshold of `known`'s holders, and with the same K or a proven multiple of it.

    `verify_multiple(K, K', proof)` raises InvalidProof for a false proof. Raises HolderMismatch for another service,
    log, epoch, generation or K; InvalidSignature; InvalidProof.
    """
    endorsements = list(endorsements)
    if (new.service, new.environment, new.log_key) != (known.service, known.environment, known.log_key):
        raise HolderMismatch("The key statement is about another service or log.")
    followed = PreviousKeys(known.epoch, known.keys.generation, known.keys.public_key)
    if new.previous != followed:
        raise HolderMismatch("The key statement does not follow the known one.")
    if new.kind is CeremonyKind.ROTATE:
        if new.epoch <= known.epoch or new.keys.public_key == known.keys.public_key or new.multiple_proof is None:
            raise HolderMismatch("A rotation makes a new epoch with another key, and proves it.")
        verify_multiple(known.keys.public_key, new.keys.public_key, new.multiple_proof)
    elif (
        new.kind is CeremonyKind.GENERATE
        or new.epoch != known.epoch
        or new.keys.generation != known.keys.generation + 1
        or new.keys.public_key != known.keys.public_key
    ):
        raise HolderMismatch("A refresh or resharing keeps the epoch and its key, and makes the next generation.")
    check_endorsed(new, endorsements)
    signed = _signers(new, endorsements)
    if sum(holder.signing_key in signed for holder in known.holders) < known.keys.threshold:
        raise InvalidSignature("Too few of the known key holders signed the key statement that follows.")


def endorsement_json(endorsement: Endorsement) -> dict[str, str]:
    """Return an endorsement as JSON members."""
    return {"signing_key": b64url(endorsement.signing_key), "signature": b64url(endorsement.signature)}


def parse_endorsement(value: object) -> Endorsement:
    """Return the endorsement of JSON members, not verified. Raises InvalidCanonicalForm."""

    def parse() -> Endorsement:
        members = _object(value)
        return Endorsement(unb64url(members["signing_key"], 32), unb64url(members["signature"], SIGNATURE_BYTES))

    return _of_form("an endorsement", parse)


def _signers(statement: KeyStatement, endorsements: Iterable[Endorsement]) -> frozenset[bytes]:
    """Return the signing keys whose signatures are valid. Raises InvalidSignature for a false one."""
    signers = set()
    for endorsement in endorsements:
        _verify(endorsement.signing_key, endorsement.signature, _STATEMENT_DOMAIN + statement.canonical)
        signers.add(endorsement.signing_key)
    return frozenset(signers)


# --- cards ------------------------------------------------------------------------------------------------------


def make_card(statement: KeyStatement, index: int, url: str, key: Ed25519PrivateKey) -> dict[str, Any]:
    """Return a holder's card as JSON members, signed with its signing key. Raises what `parse_card` does."""
    members: dict[str, Any] = {
        "statement": statement.json,
        "index": index,
        "url": url,
        "statement_signature": b64url(endorse(statement, key).signature),
    }
    members["signature"] = b64url(key.sign(_CARD_DOMAIN + canonical_json(members)))
    parse_card(canonical_json(members))
    return members


def parse_card(text: bytes) -> Card:
    """Return the card in a JSON text, with both signatures verified. Further members are ignored, but signed.

    Raises InvalidSignature, HolderMismatch and NewerFormat as `parse_statement` does, InvalidCanonicalForm for all
    other faults.
    """
    if len(text) > MAX_CARD_BYTES:
        raise InvalidCanonicalForm("This holder card is too large.")
    return _of_form("a holder card", lambda: _card(text))


def _card(text: bytes) -> Card:
    members = dict(_object(json.loads(text)))
    statement = parse_statement(members["statement"])
    index, url = _number(members, "index"), check_url(_text(members, "url"))
    key = statement.holder(index).signing_key
    signature = unb64url(members.pop("signature"), SIGNATURE_BYTES)
    endorsement = Endorsement(key, unb64url(members["statement_signature"], SIGNATURE_BYTES))
    _verify(key, signature, _CARD_DOMAIN + canonical_json(members))
    _signers(statement, [endorsement])
    return Card(statement, index, url, endorsement)


def check_url(url: str) -> str:
    """Return the address of a holder's service without a slash at its end. Raises InvalidInput unless it is https, or
    http on this machine, without user, query and fragment."""
    try:
        parts = urlsplit(url)
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        port = parts.port
    except ValueError as error:
        raise InvalidInput("The address of a key holder is malformed.") from error
    fit = parts.scheme == "https" or (parts.scheme == "http" and local)
    if not fit or not parts.hostname or port == 0 or "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidInput("The address of a key holder starts with https:// and names a host.")
    if len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidInput("The address of a key holder is too long or has characters that an address has not.")
    return url.rstrip("/")


def _verify(signing_key: bytes, signature: bytes, signed: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(signing_key).verify(signature, signed)
    except (SignatureRefused, ValueError) as error:
        raise InvalidSignature("A key holder's signature does not match.") from error


# --- members ----------------------------------------------------------------------------------------------------


def _of_form(name: str, parse: Callable[[], T]) -> T:
    """Return what `parse` returns. Raises InvalidCanonicalForm for faults of form in its place."""
    try:
        return parse()
    except (HolderMismatch, InvalidSignature, NewerFormat):
        raise
    except (LedgerError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidCanonicalForm(f"This is not {name} of a key holder.") from error


def _log_origin(log_key: str) -> str:
    try:
        return parse_verifier_key(log_key)[0]
    except InvalidCheckpoint as error:
        raise InvalidCanonicalForm("The log's key in a key statement is malformed.") from error


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members[name]
    if not isinstance(value, str):
        raise ValueError(name)
    return value


def _number(members: Mapping[str, Any], name: str) -> int:
    value = members[name]
    if type(value) is not int or not 1 <= value <= MAX_INTEGER:
        raise ValueError(name)
    return value
