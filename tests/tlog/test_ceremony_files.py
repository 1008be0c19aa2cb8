"""Ceremony files as the ledger and its verifiers read them: the factor of a rotation, its proof, what is refused."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.errors import (
    CeremonyFault,
    CeremonyMismatch,
    HolderMismatch,
    InvalidCanonicalForm,
    InvalidInput,
    InvalidProof,
    InvalidSignature,
    NewerFormat,
)
from ledger.protocol import sodium
from ledger.protocol.ceremony import rounds
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.encoding import canonical_json
from ledger.protocol.voprf import derive_secret, public_key
from ledger.tlog.ceremony_files import (
    MAX_CEREMONY_FILE_BYTES,
    Ceremony,
    ParticipantFile,
    file_text,
    make_certificate,
    make_endorsement_file,
    make_participant,
    open_factor,
    parse_certificate,
    parse_deal,
    parse_endorsement_file,
    parse_participant,
    verify_multiple,
)
from ledger.tlog.checkpoint import verifier_key
from ledger.tlog.key_statement import KeyStatement, endorse, organisation_name
from ledger.tlog.ledger_card import LedgerCard

NAMES = ("north", "south", "west")
RECEIVING_SECRET = derive_secret(bytes(32), b"a receiving key")
CARD = LedgerCard(
    service="ledger.example",
    environment="test",
    operator="Ledger Operations Ltd",
    log_key=verifier_key(
        "ledger.example/log", Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    ),
    url="https://ledger.example",
    receiving_key=public_key(RECEIVING_SECRET),
)
SIGNING = {name: Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32)) for name in NAMES}
STATIC = {name: derive_secret(name.encode().ljust(32), b"static") for name in NAMES}


def participant(name: str, organisation: str | None = None) -> ParticipantFile:
    return make_participant(CARD, name, organisation or name, public_key(STATIC[name]), bytes(32), SIGNING[name])


PARTICIPANTS = tuple([participant(name) for name in NAMES])


@dataclass(frozen=True)
class Rotated:
    """A first key and its rotation: both statements, and the texts of the certificate files."""

    first: KeyStatement
    second: KeyStatement
    ceremony: Ceremony
    certificates: tuple[bytes, ...]
    factor: bytes


def played(ceremony: Ceremony, shares: dict[str, bytes]) -> tuple[list[rounds.CeremonyResult], list[bytes]]:
    """Play a ceremony of all three, and return their results and certificates."""
    session, numbers = ceremony.session(), {name: ceremony.number(name) for name in NAMES}
    dealt = {
        number: rounds.deal(
            session, number, STATIC[name], secrets.token_bytes(rounds.entropy_bytes(session, number)), shares.get(name)
        )
        for name, number in numbers.items()
    }
    deals = {number: step.message for number, step in dealt.items()}
    certified = {
        numbers[name]: rounds.certify(session, dealt[numbers[name]].state, STATIC[name], deals) for name in NAMES
    }
    messages = {number: step.message for number, step in certified.items()}
    results = [rounds.finish(session, certified[numbers[name]].state, messages, shares.get(name)) for name in NAMES]
    return results, [messages[numbers[name]] for name in NAMES]


@pytest.fixture(scope="module")
def rotated() -> Rotated:
    generate = Ceremony(CeremonyKind.GENERATE, 1, 2, PARTICIPANTS)
    results, _ = played(generate, {})
    first = generate.statement(results[0])
    shares = {name: result.share for name, result in zip(NAMES, results, strict=True) if result.share is not None}
    ceremony = Ceremony(CeremonyKind.ROTATE, 1, 2, PARTICIPANTS, (), first)
    results, messages = played(ceremony, shares)
    statements = {ceremony.statement(result).canonical for result in results}
    assert len(statements) == 1, "all make the same bytes, the proof of the multiple included"
    files = [
        make_certificate(ceremony, name, message, SIGNING[name]) for name, message in zip(NAMES, messages, strict=True)
    ]
    texts = tuple([file_text(file.members).encode() for file in files])
    assert results[0].factor is not None
    return Rotated(first, ceremony.statement(results[0]), ceremony, texts, results[0].factor)


def opened(rotated: Rotated, certificates: Sequence[bytes] | None = None, secret: bytes = RECEIVING_SECRET) -> bytes:
    texts = rotated.certificates if certificates is None else certificates
    return open_factor(secret, texts, rotated.first, rotated.second)


def test_the_ledger_opens_the_factor(rotated: Rotated) -> None:
    factor = opened(rotated)
    assert factor == rotated.factor
    assert sodium.scalarmult(factor, rotated.first.keys.public_key) == rotated.second.keys.public_key
    assert opened(rotated, rotated.certificates[::-1]) == factor


def test_the_proof_of_the_multiple(rotated: Rotated) -> None:
    old, new, proof = rotated.first.keys.public_key, rotated.second.keys.public_key, rotated.second.multiple_proof
    assert proof is not None
    verify_multiple(old, new, proof)
    for false in ((new, old, proof), (old, old, proof), (old, new, proof[::-1])):
        with pytest.raises(InvalidProof):
            verify_multiple(*false)


def test_a_missing_certificate_is_named(rotated: Rotated) -> None:
    with pytest.raises(CeremonyFault) as caught:
        opened(rotated, rotated.certificates[:2])
    assert caught.value.details["holder"] == "west"
    with pytest.raises(CeremonyFault) as caught:
        opened(rotated, [*rotated.certificates[:2], rotated.certificates[1]])
    assert caught.value.details["holder"] == "west"
    with pytest.raises(InvalidInput):
        opened(rotated, [])


def test_an_altered_certificate_is_named(rotated: Rotated) -> None:
    payload = bytearray(parse_certificate(rotated.certificates[1]).payload)
    payload[-70] ^= 1
    false = make_certificate(rotated.ceremony, "south", bytes(payload), SIGNING["south"])
    with pytest.raises(CeremonyFault) as caught:
        opened(rotated, [rotated.certificates[0], file_text(false.members).encode(), rotated.certificates[2]])
    assert caught.value.details["holder"] == "south"


def test_certificates_of_another_rotation_are_refused(rotated: Rotated) -> None:
    with pytest.raises(CeremonyMismatch):
        open_factor(RECEIVING_SECRET, rotated.certificates, rotated.second, rotated.second)
    with pytest.raises(CeremonyMismatch):
        open_factor(RECEIVING_SECRET, rotated.certificates, rotated.first, rotated.first)
    with pytest.raises(InvalidInput):
        opened(rotated, secret=STATIC["north"])


def test_an_endorsement_file_is_read_as_it_was_written(rotated: Rotated) -> None:
    endorsement = endorse(rotated.second, SIGNING["north"])
    text = file_text(make_endorsement_file(rotated.second, "north", endorsement, SIGNING["north"])).encode()
    assert parse_endorsement_file(text) == (rotated.second, endorsement)
    with pytest.raises(InvalidCanonicalForm, match="a endorsement file, not a certificate"):
        parse_certificate(text)


def test_a_participant_file_is_read_as_it_was_written() -> None:
    for file in PARTICIPANTS:
        assert parse_participant(file_text(file.members).encode()) == file


def test_other_texts_are_refused() -> None:
    members = dict(PARTICIPANTS[0].members)
    for text in (b"", b"[]", b"7", b"[" * 20_000, b" " * (MAX_CEREMONY_FILE_BYTES + 1), canonical_json({})):
        for parse in (parse_participant, parse_deal, parse_certificate, parse_endorsement_file):
            with pytest.raises(InvalidCanonicalForm):
                parse(text)
    with pytest.raises(NewerFormat):
        parse_participant(canonical_json(members | {"format": 2}))
    with pytest.raises(InvalidSignature):
        parse_participant(canonical_json(members | {"later": 1}))
    with pytest.raises(InvalidCanonicalForm):
        parse_participant(canonical_json(members | {"format": True}))


def test_a_holder_has_another_id_than_the_ledger() -> None:
    """A holder would get tokens whose audience is the ledger."""
    key, static = SIGNING["north"], public_key(STATIC["north"])
    with pytest.raises(InvalidCanonicalForm, match="another id than the ledger"):
        make_participant(replace(CARD, service="north"), "north", "North", static, bytes(32), key)


def test_organisations_are_compared_without_case_and_spaces() -> None:
    assert organisation_name("Cafe\u0301  LTD ") == organisation_name("CAF\u00c9 ltd")
    assert participant("north", "LEDGER  operations LTD").operator
    assert not participant("north", "Ledger Operations").operator
    with pytest.raises(HolderMismatch, match="as many shares as the threshold"):
        Ceremony(CeremonyKind.GENERATE, 1, 2, (participant("north", "One"), participant("south", "ONE")))


@pytest.mark.parametrize(
    ("kind", "attempt", "threshold", "leaving"),
    [
        (CeremonyKind.GENERATE, 0, 2, ()),
        (CeremonyKind.GENERATE, 1001, 2, ()),
        (CeremonyKind.GENERATE, 1, 0, ()),
        (CeremonyKind.GENERATE, 1, 4, ()),
        (CeremonyKind.GENERATE, 1, 2, ("north",)),
        (CeremonyKind.REFRESH, 1, 2, ()),
    ],
)
def test_parameters_that_do_not_belong_together(
    kind: CeremonyKind, attempt: int, threshold: int, leaving: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidInput):
        Ceremony(kind, attempt, threshold, PARTICIPANTS, leaving)
