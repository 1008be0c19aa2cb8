"""The files that holders exchange in a ceremony: JSON texts, each signed by its holder. Pure.

    ID.participant.json    the holder's keys and organisation, for one ledger
    ID.deal.json           the ceremony as the holder understood it, and its message of the first round
    ID.certificate.json    its message of the second round
    ID.endorsement.json    the signature of a holder that leaves over the key statement of its successors

Each has `format`, `kind`, and `signature`: Ed25519 of the holder's signing key over
"refund-ledger ceremony file v1\\n" || canonical JSON of the other members. The messages (`payload`, base64url) are
those of `ledger.protocol.ceremony.rounds`, signed with the static keys besides.

A *ceremony* is what all participants agree on: kind, attempt, threshold, the participant files of all, who leaves, and
the statement of the sharing that is changed. The SHA-256 of its canonical JSON is the nonce of the session, so all
messages depend on every member, and its fingerprint is what people read aloud.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256, sha512
from typing import Any, TypeVar

from cryptography.exceptions import InvalidSignature as SignatureRefused
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import (
    CeremonyFault,
    CeremonyMismatch,
    HolderMismatch,
    InvalidCanonicalForm,
    InvalidInput,
    InvalidSignature,
    LedgerError,
    NewerFormat,
)
from ledger.protocol.ceremony import rotation
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.ceremony.rounds import CeremonyResult
from ledger.protocol.ceremony.session import CeremonyParticipant, CeremonySession
from ledger.protocol.encoding import b64url, canonical_json, unb64url
from ledger.protocol.signing_keys import check_public_key
from ledger.protocol.voprf import check_element
from ledger.tlog.key_statement import (
    MAX_HOLDERS,
    Endorsement,
    KeyStatement,
    PreviousKeys,
    StatedHolder,
    endorsement_json,
    make_statement,
    organisation_name,
    parse_endorsement,
    parse_statement,
)
from ledger.tlog.ledger_card import LedgerCard, ledger_card_of

FILE_FORMAT = 1
MAX_CEREMONY_FILE_BYTES = 1024 * 1024
MAX_ATTEMPT = 1000
NONCE_BYTES = 32
MULTIPLE_CONTEXT = b"refund-ledger key statement v1"
"""What the proof in a statement is for that its K is a known multiple of the previous K."""

PARTICIPANT, DEAL, CERTIFICATE, ENDORSEMENT = "participant", "deal", "certificate", "endorsement"

_DOMAIN = b"refund-ledger ceremony file v1\n"
_ID = re.compile(r"[a-z0-9-]{1,32}\Z")
_ORGANISATION = re.compile(r"\S(?:.{0,126}\S)?\Z")
_KEPT = (HolderMismatch, CeremonyFault, InvalidSignature, NewerFormat)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ParticipantFile:
    """A holder as it takes part in ceremonies of a ledger: id, organisation, its static ristretto255 key and its
    Ed25519 signing key. `nonce` makes the ceremonies of two folders of one holder different. `members` is the signed
    JSON."""

    card: LedgerCard
    holder: str
    organisation: str
    static_key: bytes
    signing_key: bytes
    members: Mapping[str, Any]

    @property
    def operator(self) -> bool:
        """True if the holder's organisation is the operator of the ledger."""
        return organisation_name(self.organisation) == organisation_name(self.card.operator)


@dataclass(frozen=True)
class Ceremony:
    """What all participants of a ceremony agree on. `participants` are in the order of their ids. `leaving` are ids of
    dealers of a resharing that get no share. `previous` is the statement of the sharing that is changed, None for
    `generate`.

    Raises HolderMismatch, CeremonyMismatch and CeremonyFault, with the id at fault as `holder` in the details, and
    InvalidInput for parameters that do not belong together.
    """

    kind: CeremonyKind
    attempt: int
    threshold: int
    participants: tuple[ParticipantFile, ...]
    leaving: tuple[str, ...] = ()
    previous: KeyStatement | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "participants", tuple(sorted(self.participants, key=lambda item: item.holder)))
        object.__setattr__(self, "leaving", tuple(sorted(self.leaving)))
        if not 1 <= self.attempt <= MAX_ATTEMPT:
            raise InvalidInput(f"The number of an attempt is from 1 to {MAX_ATTEMPT}.")
        if (self.previous is None) != (self.kind is CeremonyKind.GENERATE):
            raise InvalidInput("Every ceremony but the first one changes a sharing.")
        if not 2 <= len(self.participants) <= MAX_HOLDERS:
            raise InvalidInput(f"A ceremony has 2 to {MAX_HOLDERS} participants. Give the files of all.")
        self._check_participants()
        self._check_leaving()
        if not 1 <= self.threshold <= len(self.receivers):
            raise InvalidInput("The threshold is at most the number of holders of the new sharing.")
        self._check_independent()
        if self.previous is not None:
            self._check_previous(self.previous)
        self.session()  # refuses what the messages refuse

    @property
    def card(self) -> LedgerCard:
        """Return the ledger that the key is for."""
        return self.participants[0].card

    @property
    def epoch(self) -> int:
        """Return the epoch of the new sharing."""
        if self.previous is None:
            return 1
        return self.previous.epoch + (self.kind is CeremonyKind.ROTATE)

    @property
    def generation(self) -> int:
        """Return the generation of the new sharing."""
        return 1 if self.previous is None or self.kind is CeremonyKind.ROTATE else self.previous.keys.generation + 1

    @property
    def receivers(self) -> tuple[ParticipantFile, ...]:
        """Return the participants that get a share, in the order of their ids."""
        return tuple([participant for participant in self.participants if participant.holder not in self.leaving])

    @property
    def json(self) -> dict[str, Any]:
        """Return the ceremony as JSON members."""
        return {
            "kind": self.kind.value,
            "attempt": self.attempt,
            "threshold": self.threshold,
            "participants": [dict(participant.members) for participant in self.participants],
            "leaving": list(self.leaving),
            "previous": None if self.previous is None else self.previous.json,
        }

    @cached_property
    def canonical(self) -> bytes:
        """Return the canonical JSON, whose fingerprint people compare."""
        return canonical_json(self.json)

    @cached_property
    def digest(self) -> bytes:
        """Return the SHA-256 of the canonical JSON: the nonce of the session."""
        return sha256(self.canonical).digest()

    def participant(self, holder: str) -> ParticipantFile:
        """Return the participant of this id. Raises HolderMismatch."""
        for participant in self.participants:
            if participant.holder == holder:
                return participant
        raise HolderMismatch(f"{holder} does not take part in this ceremony.", holder=holder)

    def number(self, holder: str) -> int:
        """Return the number of a participant in the messages. Raises HolderMismatch."""
        for participant in self.session().participants:
            if participant.holder == holder:
                return participant.number
        raise HolderMismatch(f"{holder} does not take part in this ceremony.", holder=holder)

    def session(self) -> CeremonySession:
        """Return the session of the cryptographic messages. Raises CeremonyFault, InvalidInput."""
        return self._session

    @cached_property
    def _session(self) -> CeremonySession:
        known = {} if self.previous is None else {key.holder: key.index for key in self.previous.keys.holders}
        placed = {participant.holder: index for index, participant in enumerate(self.receivers, 1)}
        participants = []
        for number, participant in enumerate(self.participants, 1):
            holder, key = participant.holder, participant.static_key
            if self.kind is CeremonyKind.RESHARE:
                participants.append(CeremonyParticipant(number, holder, key, known.get(holder), placed.get(holder)))
            else:
                index = known[holder] if self.previous is not None else number
                participants.append(CeremonyParticipant.staying(index, holder, key))
        return CeremonySession(
            kind=self.kind,
            service=self.card.service,
            environment=self.card.environment,
            log_key=self.card.log_key.encode(),
            epoch=self.epoch,
            threshold=self.threshold,
            participants=tuple(sorted(participants, key=lambda participant: participant.number)),
            nonce=self.digest,
            old=None if self.previous is None else self.previous.keys,
            receiving_key=self.card.receiving_key if self.kind is CeremonyKind.ROTATE else None,
        )

    def statement(self, result: CeremonyResult) -> KeyStatement:
        """Return the key statement of the sharing that the ceremony made. Every participant makes the same bytes.

        Raises what `make_statement` does.
        """
        previous = proof = None
        if self.previous is not None:
            previous = PreviousKeys(self.previous.epoch, self.previous.keys.generation, self.previous.keys.public_key)
        if previous is not None and result.factor is not None:
            # All participants know the factor, and all need the same proof: the nonce is hashed from the factor.
            nonce = sha512(b"refund-ledger multiple proof v1" + result.factor + self.digest).digest()
            keys = (previous.public_key, result.keys.public_key)
            proof = rotation.prove_multiple(result.factor, *keys, MULTIPLE_CONTEXT, nonce)
        holders = []
        for key in result.keys.holders:
            who = self.participant(key.holder)
            holders.append(StatedHolder(key, who.organisation, who.operator, who.signing_key))
        return make_statement(
            service=self.card.service,
            environment=self.card.environment,
            log_key=self.card.log_key,
            epoch=self.epoch,
            kind=self.kind,
            generation=result.keys.generation,
            threshold=result.keys.threshold,
            public_key=result.keys.public_key,
            holders=holders,
            previous=previous,
            multiple_proof=proof,
        )

    def _check_participants(self) -> None:
        for first, second in zip(self.participants, self.participants[1:], strict=False):
            if first.holder == second.holder:
                raise HolderMismatch(f"{first.holder} is a participant twice.", holder=first.holder)
        for name in ("static_key", "signing_key"):
            owners: dict[bytes, str] = {}
            for participant in self.participants:
                other = owners.setdefault(getattr(participant, name), participant.holder)
                if other != participant.holder:
                    raise HolderMismatch(
                        f"{other} and {participant.holder} have the same key: one of them copied it.",
                        holder=participant.holder,
                    )
        for participant in self.participants:
            if participant.card != self.card:
                raise CeremonyMismatch(
                    f"{participant.holder} has another ledger.json than {self.participants[0].holder}.",
                    holder=participant.holder,
                )

    def _check_leaving(self) -> None:
        if self.leaving and self.kind is not CeremonyKind.RESHARE:
            raise InvalidInput("Only in a resharing holders leave.")
        if len(set(self.leaving)) != len(self.leaving):
            raise InvalidInput("A holder leaves once.")
        for holder in self.leaving:
            self.participant(holder)

    def _check_independent(self) -> None:
        names = Counter(organisation_name(participant.organisation) for participant in self.receivers)
        for participant in self.receivers:
            if names[organisation_name(participant.organisation)] >= self.threshold:
                raise HolderMismatch(
                    f"{participant.organisation} would hold as many shares as the threshold. Holders are independent "
                    "organisations.",
                    holder=participant.holder,
                )

    def _check_previous(self, previous: KeyStatement) -> None:
        if (previous.service, previous.environment, previous.log_key) != (
            self.card.service,
            self.card.environment,
            self.card.log_key,
        ):
            raise CeremonyMismatch("The present sharing is of another ledger.")
        present = {holder.key.holder: holder for holder in previous.holders}
        for participant in self.participants:
            holder = present.get(participant.holder)
            if holder is None:
                if self.kind is not CeremonyKind.RESHARE or participant.holder in self.leaving:
                    raise HolderMismatch(f"{participant.holder} has no share yet.", holder=participant.holder)
            elif holder.signing_key != participant.signing_key or holder.organisation != participant.organisation:
                raise HolderMismatch(
                    f"The participant file of {participant.holder} has other keys or another organisation than the "
                    "present sharing. A holder with new keys takes part under a new id.",
                    holder=participant.holder,
                )
        if sum(participant.holder in present for participant in self.participants) < previous.keys.threshold:
            raise HolderMismatch(f"At least {previous.keys.threshold} holders of the present sharing take part.")


@dataclass(frozen=True, slots=True)
class DealFile:
    """A holder's file of the first round: the ceremony as it understood it, and its message."""

    ceremony: Ceremony
    holder: str
    payload: bytes
    members: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """A holder's file of the second round: the digest of the ceremony, and its message."""

    ceremony: bytes
    holder: str
    payload: bytes
    members: Mapping[str, Any]


# --- writing ----------------------------------------------------------------------------------------------------


def file_text(members: Mapping[str, Any]) -> str:
    """Return the text of a file with these members. Raises InvalidCanonicalForm."""
    return canonical_json(dict(members)).decode() + "\n"


def make_participant(
    card: LedgerCard, holder: str, organisation: str, static_key: bytes, nonce: bytes, key: Ed25519PrivateKey
) -> ParticipantFile:
    """Return the participant file of a holder; `nonce` is 32 random bytes made with its keys. Raises what
    `parse_participant` does."""
    members = {
        "ledger": card.json,
        "id": holder,
        "organisation": organisation,
        "static_key": b64url(static_key),
        "signing_key": b64url(key.public_key().public_bytes_raw()),
        "nonce": b64url(nonce),
    }
    return participant_of(_signed(PARTICIPANT, members, key))


def make_deal(ceremony: Ceremony, holder: str, payload: bytes, key: Ed25519PrivateKey) -> DealFile:
    """Return a holder's file of the first round. Raises HolderMismatch (no participant), InvalidSignature (another
    key)."""
    members = _signed(DEAL, {"ceremony": ceremony.json, "holder": holder, "payload": b64url(payload)}, key)
    _verify(members, ceremony.participant(holder).signing_key, holder)
    return DealFile(ceremony, holder, payload, members)


def make_certificate(ceremony: Ceremony, holder: str, payload: bytes, key: Ed25519PrivateKey) -> CertificateFile:
    """Return a holder's file of the second round. Raises HolderMismatch, InvalidSignature as `make_deal`."""
    members = {"ceremony": b64url(ceremony.digest), "holder": holder, "payload": b64url(payload)}
    signed = _signed(CERTIFICATE, members, key)
    _verify(signed, ceremony.participant(holder).signing_key, holder)
    return CertificateFile(ceremony.digest, holder, payload, signed)


def make_endorsement_file(
    statement: KeyStatement, holder: str, endorsement: Endorsement, key: Ed25519PrivateKey
) -> dict[str, Any]:
    """Return the members of the file with which a holder that leaves endorses a statement."""
    members = {"statement": statement.json, "holder": holder, "endorsement": endorsement_json(endorsement)}
    return _signed(ENDORSEMENT, members, key)


def _signed(kind: str, members: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    unsigned = {"format": FILE_FORMAT, "kind": kind, **members}
    return {**unsigned, "signature": b64url(key.sign(_DOMAIN + canonical_json(unsigned)))}


# --- reading ----------------------------------------------------------------------------------------------------


def parse_participant(text: bytes) -> ParticipantFile:
    """Return the participant of a file, with its signature verified.

    Raises InvalidSignature, NewerFormat, InvalidCanonicalForm for all other faults.
    """
    return participant_of(_members(text, PARTICIPANT))


def participant_of(members: Any) -> ParticipantFile:
    """Return the participant of its JSON members. Raises what `parse_participant` does."""
    return _of_form(PARTICIPANT, lambda: _participant(members))


def _participant(members: Any) -> ParticipantFile:
    _check_kind(members, PARTICIPANT)
    holder, organisation = members["id"], members["organisation"]
    static_key, signing_key = unb64url(members["static_key"], 32), unb64url(members["signing_key"], 32)
    unb64url(members["nonce"], NONCE_BYTES)
    check_element(static_key)
    check_public_key(signing_key)
    if not _ID.match(holder) or not _ORGANISATION.match(organisation):
        raise ValueError("id or organisation")
    _verify(members, signing_key, holder)
    card = ledger_card_of(members["ledger"])
    if holder == card.service:
        raise InvalidCanonicalForm("A holder has another id than the ledger: tokens name it.")
    return ParticipantFile(card, holder, organisation, static_key, signing_key, dict(members))


def parse_deal(text: bytes) -> DealFile:
    """Return the content of a file of the first round, with its signature verified; its message is not.

    Raises what `Ceremony` does, InvalidSignature, NewerFormat, InvalidCanonicalForm for all other faults.
    """
    members = _members(text, DEAL)

    def parse() -> DealFile:
        ceremony = ceremony_of(members["ceremony"])
        holder = members["holder"]
        _verify(members, ceremony.participant(holder).signing_key, holder)
        return DealFile(ceremony, holder, unb64url(members["payload"]), members)

    return _of_form(DEAL, parse)


def parse_certificate(text: bytes) -> CertificateFile:
    """Return the content of a file of the second round. Its signature is verified by `check_certificate`.

    Raises NewerFormat, InvalidCanonicalForm.
    """
    members = _members(text, CERTIFICATE)

    def parse() -> CertificateFile:
        if not _ID.match(members["holder"]):
            raise ValueError("holder")
        digest = unb64url(members["ceremony"], 32)
        return CertificateFile(digest, members["holder"], unb64url(members["payload"]), members)

    return _of_form(CERTIFICATE, parse)


def check_certificate(ceremony: Ceremony, certificate: CertificateFile) -> None:
    """Check that a file of the second round belongs to this ceremony and is signed by its participant.

    Raises CeremonyMismatch (another ceremony), HolderMismatch (no participant), InvalidSignature.
    """
    if certificate.ceremony != ceremony.digest:
        raise CeremonyMismatch(
            f"{certificate.holder} certified another ceremony, or another attempt.", holder=certificate.holder
        )
    _verify(certificate.members, ceremony.participant(certificate.holder).signing_key, certificate.holder)


def parse_endorsement_file(text: bytes) -> tuple[KeyStatement, Endorsement]:
    """Return the statement and the endorsement of an endorsement file. The endorsement is not verified: see
    `check_succession`. Raises what `parse_statement` does."""
    members = _members(text, ENDORSEMENT)
    return _of_form(
        ENDORSEMENT, lambda: (parse_statement(members["statement"]), parse_endorsement(members["endorsement"]))
    )


def ceremony_of(members: Any) -> Ceremony:
    """Return the ceremony of its JSON members. Raises what `Ceremony` does, InvalidSignature, NewerFormat,
    InvalidCanonicalForm for all other faults."""

    def parse() -> Ceremony:
        previous, participants, leaving = members["previous"], members["participants"], members["leaving"]
        numbers = (members["attempt"], members["threshold"])
        if not all(type(number) is int for number in numbers) or not isinstance(leaving, list):
            raise ValueError("attempt, threshold or leaving")
        if not isinstance(participants, list) or len(participants) > MAX_HOLDERS:
            raise ValueError("participants")
        ceremony = Ceremony(
            CeremonyKind(members["kind"]),
            *numbers,
            tuple([_participant(item) for item in participants]),
            tuple(leaving),
            None if previous is None else parse_statement(previous),
        )
        if ceremony.canonical != canonical_json(members):
            raise ValueError("members of a later version, or another order")
        return ceremony

    return _of_form("description of a ceremony", parse)


# --- the factor of a rotation -----------------------------------------------------------------------------------


def open_factor(secret: bytes, certificates: Sequence[bytes], previous: KeyStatement, new: KeyStatement) -> bytes:
    """Return the factor rho of a rotation, a scalar of 32 bytes with new K = rho x previous K, from the texts of all
    certificate files, with the secret of the ledger's receiving key.

    The factor of each participant is checked against its commitment. Raises CeremonyFault with the participant at fault
    (also for a file that is missing or false), CeremonyMismatch for certificates of another rotation than the one from
    `previous` to `new`, InvalidInput for another secret; NewerFormat, InvalidCanonicalForm.
    """
    files = [parse_certificate(text) for text in certificates]
    factor = rotation.open_factor([file.payload for file in files], secret)
    session = factor.session
    if (
        (session.service, session.environment, session.log_key)
        != (previous.service, previous.environment, previous.log_key.encode())
        or session.old != previous.keys
        or session.epoch != new.epoch
        or factor.public_key != new.keys.public_key
    ):
        raise CeremonyMismatch("These certificates are of another rotation than the key statement.")
    return factor.factor


def verify_multiple(old_key: bytes, new_key: bytes, proof: bytes) -> None:
    """Check the proof of a key statement that its K is a known multiple of the previous K. Raises InvalidProof."""
    rotation.verify_multiple(old_key, new_key, MULTIPLE_CONTEXT, proof)


# --- members ----------------------------------------------------------------------------------------------------


def _members(text: bytes, kind: str) -> dict[str, Any]:
    if len(text) > MAX_CEREMONY_FILE_BYTES:
        raise InvalidCanonicalForm("This file is too large for a ceremony.")

    def parse() -> dict[str, Any]:
        members = json.loads(text)
        _check_kind(members, kind)
        return dict(members)

    return _of_form(kind, parse)


def _check_kind(members: Any, kind: str) -> None:
    form = members["format"]
    if type(form) is int and form > FILE_FORMAT:
        raise NewerFormat("This file has a format that this version does not know.")
    if type(form) is not int or form != FILE_FORMAT:
        raise ValueError("format")
    if members["kind"] != kind:
        raise InvalidCanonicalForm(f"This is a {members['kind']} file, not a {kind} file.")


def _verify(members: Mapping[str, Any], signing_key: bytes, holder: str) -> None:
    unsigned = {name: value for name, value in members.items() if name != "signature"}
    signature = unb64url(members["signature"], 64)
    try:
        Ed25519PublicKey.from_public_bytes(signing_key).verify(signature, _DOMAIN + canonical_json(unsigned))
    except (SignatureRefused, ValueError) as error:
        raise InvalidSignature(f"This file is not signed by {holder}, or it was altered.", holder=holder) from error


def _of_form(name: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except _KEPT:
        raise
    except LedgerError as error:
        raise InvalidCanonicalForm(f"This is not a valid {name}. {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidCanonicalForm(f"This is not a valid {name} of a ceremony.") from error
