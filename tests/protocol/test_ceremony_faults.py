"""Ceremonies that must fail: every false, missing or altered message names the participant that it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import CeremonyFault, CeremonyMismatch, InvalidInput, InvalidProof
from ledger.protocol import polynomials, sodium
from ledger.protocol.ceremony import dealing, rotation, rounds
from ledger.protocol.ceremony.ciphersuite import CeremonySuite
from ledger.protocol.ceremony.dealing import Dealing
from ledger.protocol.ceremony.envelope import ROUND_CERTIFY, ROUND_DEAL, digest, seal, unverified_body
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.ceremony.session import CeremonySession
from ledger.protocol.encoding import b64url
from ledger.protocol.threshold import lagrange
from tests.ceremonies import (
    LEDGER_SECRET,
    Q,
    Run,
    changed,
    generated,
    moving,
    random_bytes,
    session,
    static_secret,
    staying,
)
from tests.counts import trials

KINDS = list(CeremonyKind)
BAD = 2
"""The participant at fault."""
HONEST = 3
FRAME = CeremonySuite.of("RefundLedgerCeremonyMessage-v1")


@dataclass
class Prepared:
    """A ceremony of 2 of 3 of each kind, complete. In `reshare`, participant 1 leaves and 4 is new."""

    runs: dict[CeremonyKind, Run]

    def __getitem__(self, kind: CeremonyKind) -> Run:
        return self.runs[kind]


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    before = generated(2, 3)
    places = (moving(1, 1, None), moving(2, 2, 1), moving(3, 3, 2), moving(4, None, 3))
    return Prepared(
        {
            CeremonyKind.GENERATE: before,
            CeremonyKind.REFRESH: changed(CeremonyKind.REFRESH, before).all(),
            CeremonyKind.RESHARE: changed(CeremonyKind.RESHARE, before, places).all(),
            CeremonyKind.ROTATE: changed(CeremonyKind.ROTATE, before).all(),
        }
    )


def certify_with(run: Run, message: bytes, number: int = HONEST) -> CeremonyFault:
    """The error of an honest participant that gets `message` from the participant at fault."""
    with pytest.raises(CeremonyFault) as caught:
        run.certify_as(number, run.messages | {BAD: message})
    return caught.value


def finish_with(run: Run, certificate: bytes) -> CeremonyFault:
    with pytest.raises(CeremonyFault) as caught:
        run.finish_as(HONEST, run.certificates | {BAD: certificate})
    return caught.value


def resealed(run: Run, body: bytes, round_number: int = ROUND_DEAL) -> bytes:
    """A message that the participant at fault signed correctly."""
    return seal(run.session, round_number, BAD, static_secret(BAD), body)


def flipped(data: bytes, place: int, bit: int = 0) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


# --- altered on the way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_altered_bytes_anywhere_name_the_participant(prepared: Prepared, kind: CeremonyKind) -> None:
    run = prepared[kind]
    message, certificate = run.messages[BAD], run.certificates[BAD]
    step = trials(17, 1)
    for place in {*range(80), *range(0, len(message), step), *range(len(message) - 65, len(message))}:
        error = certify_with(run, flipped(message, place, place % 8))
        assert error.details["participant"] == BAD
        assert error.details["holder"] == "holder-2"
    for place in {*range(0, 80, 3), *range(0, len(certificate), 2 * step), len(certificate) - 1}:
        assert finish_with(run, flipped(certificate, place, place % 8)).details["participant"] == BAD


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_that_are_wrong(prepared: Prepared, kind: CeremonyKind) -> None:
    run = prepared[kind]
    for message in (b"", run.messages[BAD][:-1], run.messages[BAD] + b"\x00", run.messages[BAD][:74]):
        assert certify_with(run, message).details["participant"] == BAD
    for certificate in (b"", run.certificates[BAD][:-1], run.certificates[BAD] + b"\x00"):
        assert finish_with(run, certificate).details["participant"] == BAD


@pytest.mark.parametrize("kind", KINDS)
def test_heads_that_are_false_although_signed(prepared: Prepared, kind: CeremonyKind) -> None:
    """Sign true bodies under a head of another version, kind, round, number or length."""
    run = prepared[kind]
    for message, refused in ((run.messages[BAD], certify_with), (run.certificates[BAD], finish_with)):
        framed = message[:-64]
        for place in (0, 3, 4, 5, 6, 71, 74):
            false = flipped(framed, place)
            error = refused(run, false + FRAME.sign(static_secret(BAD), false))
            assert error.details == {"participant": BAD, "holder": "holder-2", "reason": "malformed"}
        run.certify_as(HONEST, run.messages)
        assert FRAME.sign(static_secret(BAD), framed) == message[-64:]


@pytest.mark.parametrize("kind", KINDS)
def test_missing_doubled_swapped_and_foreign_messages(prepared: Prepared, kind: CeremonyKind) -> None:
    run = prepared[kind]
    for sent, step in ((run.messages, run.certify_as), (run.certificates, run.finish_as)):
        for messages, participant in (
            ({number: sent[number] for number in run.numbers if number != BAD}, BAD),
            (sent | {BAD: sent[1]}, BAD),
            (sent | {1: sent[BAD], BAD: sent[1]}, 1),
        ):
            with pytest.raises(CeremonyFault) as caught:
                step(HONEST, messages)
            assert caught.value.details["participant"] == participant
    assert certify_with(run, run.certificates[BAD]).details["participant"] == BAD
    other = prepared[CeremonyKind.GENERATE if kind is not CeremonyKind.GENERATE else CeremonyKind.REFRESH]
    assert certify_with(run, other.messages[BAD]).details["participant"] == BAD


@pytest.mark.parametrize("kind", KINDS)
def test_a_participant_of_another_session_is_named(prepared: Prepared, kind: CeremonyKind) -> None:
    run = prepared[kind]
    changes: list[CeremonySession] = [
        replace(run.session, nonce=random_bytes("again", 32)),
        replace(run.session, service="other.example"),
        replace(run.session, threshold=3)
        if kind in (CeremonyKind.GENERATE, CeremonyKind.RESHARE)
        else replace(run.session, epoch=9),
    ]
    for changed_session in changes:
        other = Run(changed_session, run.shares).deal()
        error = certify_with(run, other.messages[BAD])
        assert isinstance(error, CeremonyMismatch)
        assert (error.details["participant"], error.details["reason"]) == (BAD, "session")


@pytest.mark.parametrize("kind", KINDS)
def test_views_that_differ_are_not_certified(prepared: Prepared, kind: CeremonyKind) -> None:
    """It is refused if the participant at fault deals two valid messages and shows them to different participants."""
    run = prepared[kind]
    second = Run(run.session, run.shares).deal()
    entropy = random_bytes("second", len(run.entropy(BAD)))
    again = rounds.deal(run.session, BAD, static_secret(BAD), entropy, run.shares.get(BAD))
    assert again.message != run.messages[BAD]
    certificate = second.certify_as(1, run.messages | {BAD: again.message}).message
    with pytest.raises(CeremonyMismatch) as caught:
        run.finish_as(HONEST, run.certificates | {1: certificate})
    assert (caught.value.details["participant"], caught.value.details["reason"]) == (1, "transcript")


@pytest.mark.parametrize("kind", KINDS)
def test_views_that_differ_in_the_share_of_another_are_not_certified(prepared: Prepared, kind: CeremonyKind) -> None:
    """Let the dealer show two messages that differ in what it encrypted for itself, which no other one opens."""
    run = prepared[kind]
    body = unverified_body(run.messages[BAD])
    places = [participant.number for _, participant in run.session.receivers]
    size = 8 + 48 + (rotation.REVEAL_KEY_BYTES if kind is CeremonyKind.ROTATE else 0)
    own = len(body) - size * (len(places) - places.index(BAD)) + 8
    second = run.certify_as(1, run.messages | {BAD: resealed(run, flipped(body, own))})
    with pytest.raises(CeremonyMismatch) as caught:
        run.finish_as(HONEST, run.certificates | {1: second.message})
    assert (caught.value.details["participant"], caught.value.details["reason"]) == (1, "transcript")


def test_other_extensions_are_not_certified() -> None:
    run = Run(session(CeremonyKind.GENERATE, 2, staying([1, 2, 3]))).deal().certify(b"a statement")
    for other in (b"", b"A statement", b"a statement\x00"):
        certificate = run.certify_as(BAD, run.messages, other).message
        assert isinstance(finish_with(run, certificate), CeremonyMismatch)
    assert run.finish().keys == generated(2, 3).keys


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_without_a_true_signature(prepared: Prepared, kind: CeremonyKind) -> None:
    run = prepared[kind]
    body = unverified_body(run.certificates[BAD])
    other = unverified_body(run.certificates[1])[64:128]
    for signature in (other, bytes(64), b"\xff" * 64):
        error = finish_with(run, resealed(run, body[:64] + signature + body[128:], ROUND_CERTIFY))
        assert error.details == {"participant": BAD, "holder": "holder-2", "reason": "certificate"}
    if kind is not CeremonyKind.ROTATE:
        assert finish_with(run, resealed(run, body + b"\x00", ROUND_CERTIFY)).details["reason"] == "malformed"


def test_the_own_message_must_come_back_unchanged(prepared: Prepared) -> None:
    run = prepared[CeremonyKind.REFRESH]
    entropy = random_bytes("other", len(run.entropy(BAD)))
    again = rounds.deal(run.session, BAD, static_secret(BAD), entropy, run.shares[BAD])
    error = certify_with(run, again.message, BAD)
    assert error.details == {"participant": BAD, "holder": "holder-2", "reason": "own"}


# --- dealers that lie -----------------------------------------------------------------------------------------


@settings(max_examples=trials(25, 400), deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 2**20), st.integers(0, 7))
def test_a_dealer_that_signs_altered_bytes_is_named(
    prepared: Prepared, kind: CeremonyKind, place: int, bit: int
) -> None:
    """Each alteration that the dealer signs is refused by another participant, harms its own share alone, or is in the
    commitment to its factor, which it then cannot open."""
    run = prepared[kind]
    body = unverified_body(run.messages[BAD])
    place %= len(body)
    message = resealed(run, flipped(body, place, bit))
    named = [refusal(run, number, message) for number in run.numbers if number != BAD]
    assert set(named) <= {None, BAD}
    assert BAD in named or own_share_is_false(run, message) or (kind is CeremonyKind.ROTATE and place < 64)


def refusal(run: Run, number: int, message: bytes) -> object:
    """The participant that `number` names when it gets `message` from the dealer at fault, None if it certifies."""
    try:
        run.certify_as(number, run.messages | {BAD: message})
    except CeremonyFault as error:
        return error.details["participant"]
    return None


def own_share_is_false(run: Run, message: bytes) -> bool:
    """True if the share in `message` for the dealer itself does not open."""
    first = 1 if run.session.kind in (CeremonyKind.REFRESH, CeremonyKind.ROTATE) else 0
    place = [participant.number for _, participant in run.session.receivers].index(BAD)
    who, suite = run.session.at(BAD), run.session.suite
    try:
        item = Dealing.decode(dealt_body(run, message), 2, 3, first)
        item.open_share(suite, run.session.context, static_secret(BAD), who.key, who.receiver or 0, place, first)
    except dealing.DealingFault:
        return True
    return False


def dealt_body(run: Run, message: bytes) -> bytes:
    return unverified_body(message)[128 if run.session.kind is CeremonyKind.ROTATE else 0 :]


def lie(
    run: Run,
    coefficients: list[int],
    payload: bytes = b"",
    head: bytes = b"",
    committed: list[int] | None = None,
) -> bytes:
    """A message that deals these coefficients to all, correctly signed and encrypted; `committed` replaces those that
    are committed to and proven."""
    first = 1 if run.session.kind in (CeremonyKind.REFRESH, CeremonyKind.ROTATE) else 0
    secrets = [(value % Q).to_bytes(32, "little") for value in coefficients]
    receivers = [(index, who.key, payload) for index, who in run.session.receivers]
    suite, context, ephemeral = run.session.suite, run.session.context, (77).to_bytes(32, "little")
    item = dealing.deal(suite, context, secrets, ephemeral, static_secret(BAD), receivers, first)
    if committed is not None:
        other = [(value % Q).to_bytes(32, "little") for value in committed]
        texts = item.ciphertexts
        item = dealing.deal(suite, context, other, ephemeral, static_secret(BAD), receivers, first)
        item = replace(item, ciphertexts=texts)
    return resealed(run, head + item.encode())


@pytest.mark.parametrize("kind", KINDS)
def test_shares_that_are_not_the_committed_ones(prepared: Prepared, kind: CeremonyKind) -> None:
    run = prepared[kind]
    constant = [int.from_bytes(run.shares[BAD], "little")] if kind is CeremonyKind.RESHARE else [5]
    if kind is CeremonyKind.RESHARE:
        constant = [constant[0] * lagrange([1, 2, 3])[BAD]]
    factor = rotation.FactorSecrets.of(random_bytes("factor", rotation.ENTROPY_BYTES))
    head = factor.commitments(run.session, BAD) if kind is CeremonyKind.ROTATE else b""
    payload = factor.reveal_key if kind is CeremonyKind.ROTATE else b""
    constant = [] if kind in (CeremonyKind.REFRESH, CeremonyKind.ROTATE) else constant
    run.certify_as(HONEST, run.messages | {BAD: lie(run, [*constant, 6], payload, head)})
    error = certify_with(run, lie(run, [*constant, 6], payload, head, committed=[*constant, 7]))
    assert error.details == {"participant": BAD, "holder": "holder-2", "reason": "share"}
    if kind is not CeremonyKind.ROTATE:
        error = certify_with(run, lie(run, [*constant, 6], b"more"))
        assert error.details["reason"] == "malformed"
    # a polynomial of a higher degree: one commitment and one threshold more
    assert certify_with(run, lie(run, [*constant, 6, 7], payload, head)).details["reason"] == "malformed"


def test_a_refresh_with_another_constant_is_no_sharing_of_zero(prepared: Prepared) -> None:
    """Let the dealer deal f(x) = 1 + 6 x, and commit to 6 x."""
    run = prepared[CeremonyKind.REFRESH]
    receivers = [(index, who.key, b"") for index, who in run.session.receivers]
    suite, context, ephemeral = run.session.suite, run.session.context, (77).to_bytes(32, "little")
    honest = dealing.deal(suite, context, [(6).to_bytes(32, "little")], ephemeral, static_secret(BAD), receivers, 1)
    texts = [
        suite.encrypt(ephemeral, static_secret(BAD), key, context, (1 + 6 * index).to_bytes(32, "little"))
        for index, key, _ in receivers
    ]
    error = certify_with(run, resealed(run, replace(honest, ciphertexts=tuple(texts)).encode()))
    assert error.details["reason"] == "share"


@pytest.mark.parametrize("kind", [CeremonyKind.REFRESH, CeremonyKind.ROTATE])
def test_a_refresh_that_mirrors_another_dealer_has_no_proof(prepared: Prepared, kind: CeremonyKind) -> None:
    """Otherwise, the dealer would cancel out what another one deals, and does not know its coefficient."""
    run = prepared[kind]
    head = dealt_body(run, run.messages[BAD])
    theirs = dealt_body(run, run.messages[1])[:32]
    minus = sodium.scalarmult((Q - 1).to_bytes(32, "little"), theirs)
    body = unverified_body(run.messages[BAD])
    start = len(body) - len(head)
    for point, reason in ((minus, "possession"), (theirs, "possession"), (bytes(32), "malformed")):
        message = resealed(run, body[:start] + point + body[start + 32 :])
        assert certify_with(run, message).details["reason"] == reason


def test_dealers_that_cancel_each_other_out_fail_without_a_name() -> None:
    """Two of two dealers conspire: then no key changes, and no single one is at fault."""
    run = changed(CeremonyKind.REFRESH, generated(2, 2)).deal()
    ephemeral = (77).to_bytes(32, "little")
    messages = {}
    for number, value in ((1, 6), (2, Q - 6)):
        receivers = [(index, who.key, b"") for index, who in run.session.receivers]
        suite, coefficients = run.session.suite, [value.to_bytes(32, "little")]
        item = dealing.deal(suite, run.session.context, coefficients, ephemeral, static_secret(number), receivers, 1)
        messages[number] = seal(run.session, ROUND_DEAL, number, static_secret(number), item.encode())
    state = run.dealt[1].state
    own = b64url(digest(run.messages[1])).encode()
    state = state.replace(own, b64url(digest(messages[1])).encode())
    with pytest.raises(CeremonyFault) as caught:
        rounds.certify(run.session, state, static_secret(1), messages)
    assert caught.value.details == {"participant": None, "reason": "sum"}


def test_a_resharing_of_another_secret_than_the_share(prepared: Prepared) -> None:
    run = prepared[CeremonyKind.RESHARE]
    for constant in (5, int.from_bytes(run.shares[BAD], "little")):
        error = certify_with(run, lie(run, [constant, 6]))
        assert error.details == {"participant": BAD, "holder": "holder-2", "reason": "constant"}
        assert certify_with(run, lie(run, [constant, 6]), 1).details["reason"] == "constant"  # it leaves: no share
    new = seal(run.session, ROUND_DEAL, 4, static_secret(4), unverified_body(run.messages[1]))
    with pytest.raises(CeremonyFault) as caught:
        run.certify_as(HONEST, run.messages | {4: new})
    assert (caught.value.details["participant"], caught.value.details["reason"]) == (4, "malformed")


@pytest.mark.parametrize(
    "key",
    [bytes(32), b"\xff" * 32, polynomials.commit([static_secret(1)])[0]],
    ids=["identity", "no element", "doubled"],
)
def test_static_keys_that_are_no_elements_or_doubled(key: bytes) -> None:
    first, second, third = staying([1, 2, 3])
    with pytest.raises(CeremonyFault) as caught:
        replace(generated(2, 3).session, participants=(first, replace(second, key=key), third))
    assert caught.value.details == {"participant": 2, "holder": "holder-2", "reason": "key"}


# --- the factor of a rotation ---------------------------------------------------------------------------------


def test_a_reveal_key_that_was_not_committed_to(prepared: Prepared) -> None:
    run = prepared[CeremonyKind.ROTATE]
    factor = rotation.FactorSecrets.of(random_bytes("factor", rotation.ENTROPY_BYTES))
    head = factor.commitments(run.session, BAD)
    for payload in (b"", bytes(32), factor.reveal_key + b"\x00"):
        error = certify_with(run, lie(run, [6], payload, head))
        assert error.details == {"participant": BAD, "holder": "holder-2", "reason": "reveal_key"}


def test_a_copied_commitment_cannot_be_opened(prepared: Prepared) -> None:
    """Compare the commitments to the same secrets of another participant, or in another session: all differ."""
    run = prepared[CeremonyKind.ROTATE]
    secrets = rotation.FactorSecrets.of(run.entropy(1)[128:])
    other = replace(run.session, nonce=random_bytes("again", 32))
    written = [secrets.commitments(run.session, 1), secrets.commitments(run.session, BAD)]
    written.append(secrets.commitments(other, 1))
    assert written[0] == unverified_body(run.messages[1])[:128]
    assert len({part for item in written for part in (item[:64], item[64:])}) == 6


def reveal_parts(run: Run) -> tuple[bytes, int]:
    """The body of the certificate of the participant at fault, and where its encrypted factor begins."""
    body = unverified_body(run.certificates[BAD])
    return body, 128 + 4 + int.from_bytes(body[128:132], "big")


@pytest.mark.parametrize("change", ["box", "opening", "zero", "copied", "shortened"])
def test_a_factor_that_does_not_open(prepared: Prepared, change: str) -> None:
    run = prepared[CeremonyKind.ROTATE]
    body, start = reveal_parts(run)
    secrets = rotation.FactorSecrets.of(run.entropy(BAD)[128:])
    associated = run.session.context + bytes([BAD])

    def boxed(opened: bytes) -> bytes:
        box = sodium.aead_encrypt(secrets.reveal_key, bytes(24), opened, associated)
        return body[:start] + box + body[start + len(box) :]

    assert boxed(secrets.factor + secrets.opening) == body
    bodies: dict[str, Callable[[], bytes]] = {
        "box": lambda: flipped(body, start),
        "opening": lambda: boxed(secrets.factor + bytes(32)),
        "zero": lambda: boxed(bytes(32) + secrets.opening),
        "copied": lambda: flipped(body, len(body) - 1),
        "shortened": lambda: body[:-1],
    }
    error = finish_with(run, resealed(run, bodies[change](), ROUND_CERTIFY))
    assert error.details == {"participant": BAD, "holder": "holder-2", "reason": "factor"}


@pytest.mark.parametrize("value", [0, Q, 1])
def test_factors_of_zero_and_products_of_one(prepared: Prepared, value: int) -> None:
    """Check that a commitment to no scalar cannot be opened, and that factors that cancel out rotate nothing."""
    run = prepared[CeremonyKind.ROTATE]
    encoded = value.to_bytes(32, "little")
    if value == 1:
        with pytest.raises(CeremonyFault) as caught:
            rotation.product([encoded])
        assert caught.value.details["participant"] is None
        inverse = sodium.scalar_invert((9).to_bytes(32, "little"))
        with pytest.raises(CeremonyFault):
            rotation.product([(9).to_bytes(32, "little"), inverse])
    else:
        who = run.session.at(BAD)
        secrets = rotation.FactorSecrets(encoded, bytes(32), bytes(32), (5).to_bytes(32, "little"))
        commitments = [secrets.commitments(run.session, BAD)[:64]] * 3
        reveal = secrets.reveal(run.session, BAD, static_secret(BAD), commitments)
        with pytest.raises(CeremonyFault) as caught:
            rotation.open_reveal(run.session, who, reveal, bytes(32), commitments)
        assert caught.value.details["participant"] == BAD


def test_the_ledger_names_certificates_that_do_not_open(prepared: Prepared) -> None:
    run = prepared[CeremonyKind.ROTATE]
    body, start = reveal_parts(run)
    sealed_at = start + 80 + 32
    for changed_body in (
        flipped(body, sealed_at),
        flipped(body, sealed_at - 1),
        flipped(body, len(body) - 1),
        body[:-1],
        body[:start] + body[start:sealed_at] + unverified_body(run.certificates[1])[sealed_at:],
    ):
        certificates = run.certificates | {BAD: resealed(run, changed_body, ROUND_CERTIFY)}
        with pytest.raises(CeremonyFault) as caught:
            rotation.open_factor(list(certificates.values()), LEDGER_SECRET)
        assert (caught.value.details["participant"], caught.value.details["reason"]) == (BAD, "factor")
    sent = list(run.certificates.values())
    for certificates_given, participant in (
        ([sent[0], sent[2]], BAD),
        ([sent[0], sent[0], sent[2]], BAD),
        ([flipped(sent[1], 200), sent[0], sent[2]], BAD),
        ([sent[1], flipped(sent[0], 200), sent[2]], 1),
        ([sent[1].replace(b'"test"', b'"tent"'), sent[0], sent[2]], BAD),
        ([sent[0], sent[1].replace(b'"test"', b'"tent"'), sent[2]], BAD),
        ([sent[1][:300], sent[0], sent[2]], BAD),
    ):
        with pytest.raises(CeremonyFault) as caught:
            rotation.open_factor(certificates_given, LEDGER_SECRET)
        assert caught.value.details["participant"] == participant
    for given_certificates, secret in (
        ([], LEDGER_SECRET),
        (sent, static_secret(1)),
        ([*sent, sent[0]], LEDGER_SECRET),
    ):
        with pytest.raises(InvalidInput):
            rotation.open_factor(given_certificates, secret)
    refreshed = list(prepared[CeremonyKind.REFRESH].certificates.values())
    with pytest.raises(CeremonyFault):
        rotation.open_factor(refreshed, LEDGER_SECRET)


def test_the_proof_of_a_known_multiple() -> None:
    factor, old = (1234567).to_bytes(32, "little"), sodium.scalarmult_base((89).to_bytes(32, "little"))
    new = sodium.scalarmult(factor, old)
    proof = rotation.prove_multiple(factor, old, new, b"epoch 2", bytes(64))
    rotation.verify_multiple(old, new, b"epoch 2", proof)
    assert proof != rotation.prove_multiple(factor, old, new, b"epoch 2", b"\x01" * 64)
    for old_key, new_key, context, value in (
        (new, old, b"epoch 2", proof),
        (old, old, b"epoch 2", proof),
        (old, new, b"epoch 3", proof),
        (old, sodium.scalarmult(factor, new), b"epoch 2", proof),
        (bytes(32), new, b"epoch 2", proof),
        (old, b"\xff" * 32, b"epoch 2", proof),
        *[(old, new, b"epoch 2", flipped(proof, place)) for place in range(64)],
        (old, new, b"epoch 2", proof + b"\x00"),
        (old, new, b"epoch 2", proof[:-1]),
        (old, new, b"epoch 2", b""),
        (old, new, b"epoch 2", bytes(64)),
    ):
        with pytest.raises(InvalidProof):
            rotation.verify_multiple(old_key, new_key, context, value)
    unit = (1).to_bytes(32, "little")
    with pytest.raises(InvalidProof):  # a true proof that the key did not change
        rotation.verify_multiple(old, old, b"epoch 2", rotation.prove_multiple(unit, old, old, b"epoch 2", bytes(64)))
    for secret, key, nonce in ((unit, new, bytes(64)), (factor, old, bytes(64)), (factor, new, bytes(63))):
        with pytest.raises(InvalidInput):
            rotation.prove_multiple(secret, old, key, b"epoch 2", nonce)
