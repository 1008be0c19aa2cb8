"""Ceremonies that succeed: any t shares give one secret, and a refresh, a resharing and a rotation change exactly what
they should. The oracle is Shamir's scheme over plain integers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import InvalidInput
from ledger.protocol import sodium
from ledger.protocol.ceremony import cocktail, rotation, rounds
from ledger.protocol.ceremony.envelope import unverified_body
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.ceremony.session import CeremonyParticipant, CeremonySession
from ledger.protocol.threshold import interpolate
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
    value_at,
)
from tests.counts import trials

SIZES = st.integers(2, 6).flatmap(lambda n: st.tuples(st.integers(2, n), st.just(n)))
FEW = settings(max_examples=trials(5, 60), deadline=None)


def public(value: int) -> bytes:
    return sodium.scalarmult_base(value.to_bytes(32, "little"))


def on_one_polynomial(points: dict[int, bytes], t: int) -> bool:
    """True if all points, at least t, lie on one polynomial of degree t - 1."""
    basis = dict(list(points.items())[:t])
    return all(int.from_bytes(value, "little") == value_at(basis, index) for index, value in points.items())


def agree(run: Run) -> int:
    """Check that all participants have one sharing and that its secret is the key's, and return the secret."""
    assert {result.keys for result in run.results.values()} == {run.keys}
    assert run.keys.generation == run.session.generation
    for subset in itertools.combinations(run.new_shares, run.keys.threshold):
        assert public(value_at({index: run.new_shares[index] for index in subset})) == run.keys.public_key
    for index, share in run.new_shares.items():
        assert sodium.scalarmult_base(share) == run.keys.at(index).public_key
    return value_at(run.new_shares)


@FEW
@given(SIZES)
def test_generation_is_the_sum_of_all_dealt_polynomials(size: tuple[int, int]) -> None:
    t, n = size
    run = generated(t, n, f"{t} of {n}")
    blocks = [run.entropy(number) for number in run.numbers]
    sums = [sum(int.from_bytes(block[64 * k : 64 * k + 64], "little") for block in blocks) % Q for k in range(t)]
    for index, share in run.new_shares.items():
        expected = sum(coefficient * index**k for k, coefficient in enumerate(sums)) % Q
        assert int.from_bytes(share, "little") == expected
    assert agree(run) == sums[0]


def test_generation_writes_the_messages_of_cocktail_dkg() -> None:
    run = generated(2, 3)
    keys = [participant.key for participant in run.session.participants]
    assert run.session.context == cocktail.context(run.session.encode(), keys)
    bodies = [
        cocktail.round_1(run.session.context, 2, static_secret(number), keys, run.entropy(number))
        for number in run.numbers
    ]
    assert [unverified_body(message) for message in run.messages.values()] == bodies
    output = cocktail.round_2(run.session.context, 2, static_secret(2), keys, bodies)
    assert output.share == run.results[2].share
    assert output.public_key == run.keys.public_key
    cocktail.check_certificate(keys, run.results[1].transcript, run.results[1].signatures)


@FEW
@given(SIZES, st.integers(0, Q - 1))
def test_fewer_than_t_shares_fit_every_key(size: tuple[int, int], candidate: int) -> None:
    """Check that t - 1 shares and any candidate lie on one polynomial of degree t - 1. With t shares only the true key
    does: the same check refuses every other candidate."""
    t, n = size
    run = generated(t, n, "few")
    known = {index: run.new_shares[index] for index in range(1, t)}
    forged = {0: candidate.to_bytes(32, "little")} | known
    for index in range(t, n + 1):
        forged[index] = value_at({i: forged[i] for i in range(t)}, index).to_bytes(32, "little")
    assert on_one_polynomial(forged, t)
    assert known.items() <= forged.items()
    true = value_at(run.new_shares)
    enough = known | {t: run.new_shares[t]}
    for secret in (true, candidate):
        assert on_one_polynomial({0: secret.to_bytes(32, "little")} | enough, t) == (secret == true)


@FEW
@given(SIZES)
def test_a_refresh_keeps_the_key_and_changes_every_share(size: tuple[int, int]) -> None:
    before = generated(*size)
    after = changed(CeremonyKind.REFRESH, before).all()
    assert agree(after) == agree(before)
    assert (after.keys.public_key, after.keys.generation) == (before.keys.public_key, 2)
    for index, share in after.new_shares.items():
        assert share != before.new_shares[index]
        assert after.keys.at(index).public_key != before.keys.at(index).public_key


def test_shares_of_two_generations_never_give_the_key() -> None:
    before = generated(3, 5)
    after = changed(CeremonyKind.REFRESH, before).all()
    secret = value_at(before.new_shares)
    for subset in itertools.combinations(range(1, 6), 3):
        for chosen in itertools.product([before, after], repeat=3):
            mixed = {index: run.new_shares[index] for index, run in zip(subset, chosen, strict=True)}
            assert (value_at(mixed) == secret) == (len(set(map(id, chosen))) == 1)
    keys = [(index, run.keys.at(index).public_key) for index, run in ((1, before), (2, after), (3, after))]
    assert interpolate(keys) != before.keys.public_key


def test_a_refresh_without_a_holder_that_was_lost() -> None:
    before = generated(2, 4)
    after = changed(CeremonyKind.REFRESH, before, staying([1, 2, 4])).all()
    assert [holder.index for holder in after.keys.holders] == [1, 2, 4]
    assert agree(after) == agree(before)
    again = changed(CeremonyKind.REFRESH, after).all()
    assert (agree(again), again.keys.generation) == (agree(before), 3)


@FEW
@given(SIZES, st.integers(2, 5), st.integers(0, 3), st.integers(0, 2**20))
def test_resharing_keeps_the_key(size: tuple[int, int], t_new: int, extra: int, seed: int) -> None:
    t, n = size
    before = generated(t, n)
    random = Random(seed)
    dealers = sorted(random.sample(range(1, n + 1), random.randint(t, n)))
    keep = dealers[: len(dealers) // 2]
    n_new = max(t_new, len(keep) + extra)
    places = [moving(number, number, keep.index(number) + 1 if number in keep else None) for number in dealers]
    places += [moving(100 + index, None, index) for index in range(len(keep) + 1, n_new + 1)]
    after = changed(CeremonyKind.RESHARE, before, tuple(places), t_new).all()
    assert agree(after) == agree(before)
    assert (after.keys.threshold, len(after.keys.holders), after.keys.generation) == (t_new, n_new, 2)
    for number in set(dealers) - set(keep):
        assert (after.results[number].index, after.results[number].share) == (None, None)


@FEW
@given(SIZES)
def test_a_rotation_multiplies_by_one_factor(size: tuple[int, int]) -> None:
    before = generated(*size)
    after = changed(CeremonyKind.ROTATE, before).all()
    factor = after.results[1].factor
    assert factor is not None
    assert {result.factor for result in after.results.values()} == {factor}
    rho = int.from_bytes(factor, "little")
    assert agree(after) == agree(before) * rho % Q
    expected = 1
    for number in after.numbers:
        expected *= int.from_bytes(after.entropy(number)[64 * size[0] : 64 * size[0] + 64], "little")
    assert rho == expected % Q
    assert after.keys.generation == 1

    opened = rotation.open_factor(list(after.certificates.values()), LEDGER_SECRET)
    assert (opened.factor, opened.public_key, opened.session) == (factor, after.keys.public_key, after.session)


def test_every_step_repeats_itself() -> None:
    before = generated(2, 3)
    first, second = (changed(CeremonyKind.ROTATE, before).all() for _ in range(2))
    assert (first.dealt, first.certified, first.results) == (second.dealt, second.certified, second.results)


def test_no_message_holds_a_secret() -> None:
    before = generated(2, 3)
    run = changed(CeremonyKind.ROTATE, before).all()
    sent = b"".join([*run.messages.values(), *run.certificates.values()])
    secrets = [*before.new_shares.values(), *run.new_shares.values(), run.results[1].factor or b""]
    secrets += [run.entropy(1)[place : place + 32] for place in range(0, len(run.entropy(1)), 32)]
    secrets += [sodium.scalar_reduce(run.entropy(1)[place : place + 64]) for place in range(0, 256, 64)]
    assert not [secret for secret in secrets if secret in sent]
    for text in (repr(run.results[1]), repr(run.dealt[1]), repr(run.certified[1])):
        assert not [secret for secret in secrets if repr(secret) in text]


def test_sessions_are_written_and_read() -> None:
    before = generated(2, 3)
    places = (moving(1, 1, None), moving(3, 3, 2), moving(9, None, 1))
    for value in (
        before.session,
        changed(CeremonyKind.REFRESH, before).session,
        changed(CeremonyKind.ROTATE, before).session,
        changed(CeremonyKind.RESHARE, before, places).session,
    ):
        assert CeremonySession.decode(value.encode()) == value
        for text in (value.encode() + b" ", b"{}", b"[]", b"\xff", value.encode().replace(b'"test"', b"1")):
            with pytest.raises(InvalidInput):
                CeremonySession.decode(text)


def test_every_parameter_is_in_the_context() -> None:
    before = generated(2, 3)
    run = changed(CeremonyKind.REFRESH, before)
    variants = [
        run.session,
        replace(run.session, service="other.example"),
        replace(run.session, environment="live"),
        replace(run.session, log_key=b"\x01" * 32),
        replace(run.session, epoch=7),
        replace(run.session, nonce=random_bytes("other", 32)),
        replace(run.session, old=replace(before.keys, generation=5)),
        replace(run.session, old=changed(CeremonyKind.REFRESH, before).all().keys),
        replace(run.session, participants=run.session.participants[:2]),
        changed(CeremonyKind.ROTATE, before).session,
        replace(changed(CeremonyKind.ROTATE, before).session, epoch=3),
    ]
    assert len({variant.context for variant in variants}) == len(variants)


def test_sessions_that_contradict_themselves() -> None:
    before = generated(2, 3)
    valid = changed(CeremonyKind.REFRESH, before).session
    first, second, third = valid.participants
    reshared = replace(valid, kind=CeremonyKind.RESHARE)
    cases: list[Callable[[], object]] = [
        lambda: replace(valid, participants=()),
        lambda: replace(valid, participants=(second, first, third)),
        lambda: replace(valid, participants=(first, replace(second, holder="holder-1"), third)),
        lambda: replace(valid, participants=(first,)),
        lambda: replace(valid, participants=(first, replace(second, holder="other"), third)),
        lambda: replace(valid, participants=(first, second, replace(third, receiver=4))),
        lambda: replace(valid, participants=(first, second, *staying([4]))),
        lambda: replace(valid, participants=(first, second, *staying([256]))),
        lambda: replace(valid, participants=(replace(first, number=0), second, third)),
        lambda: replace(valid, threshold=1),
        lambda: replace(valid, threshold=3),
        lambda: replace(valid, nonce=b"short"),
        lambda: replace(valid, old=None),
        lambda: replace(valid, receiving_key=first.key),
        lambda: replace(valid, kind=CeremonyKind.ROTATE),
        lambda: replace(valid, kind=CeremonyKind.GENERATE),
        lambda: replace(reshared, threshold=4),
        lambda: replace(reshared, threshold=0),
        lambda: replace(reshared, participants=(first, replace(second, receiver=1), third)),
        lambda: replace(reshared, participants=(first, replace(second, dealer=1), third)),
        lambda: replace(reshared, participants=(first, replace(second, dealer=None), replace(third, dealer=None))),
        lambda: session(CeremonyKind.GENERATE, 2, staying([1, 3])),
        lambda: session(CeremonyKind.GENERATE, 1, staying([1, 2])),
        lambda: changed(CeremonyKind.REFRESH, generated(1, 1)),
        lambda: changed(CeremonyKind.RESHARE, generated(1, 1), (moving(1, 1, 1), moving(2, None, 2)), 2),
        lambda: changed(CeremonyKind.RESHARE, before, (moving(1, 1, 1), moving(2, 2, None)), 1),
    ]
    for case in cases:
        with pytest.raises(InvalidInput):
            case()


def test_secrets_shares_and_states_of_others_are_refused() -> None:
    before = generated(2, 3)
    run = changed(CeremonyKind.REFRESH, before).deal().certify()
    entropy = run.entropy(1)
    share = before.new_shares[1]
    mine = static_secret(1)
    cases: list[Callable[[], object]] = [
        lambda: rounds.deal(run.session, 1, static_secret(2), entropy, share),
        lambda: rounds.deal(run.session, 1, mine, entropy, before.new_shares[2]),
        lambda: rounds.deal(run.session, 1, mine, entropy),
        lambda: rounds.deal(run.session, 1, mine, entropy[:-1], share),
        lambda: rounds.deal(run.session, 4, mine, entropy, share),
        lambda: rounds.deal(before.session, 1, mine, before.entropy(1), share),
        lambda: rounds.certify(run.session, run.dealt[2].state, mine, run.messages),
        lambda: rounds.certify(run.session, run.certified[1].state, mine, run.messages),
        lambda: rounds.certify(run.session, before.dealt[1].state, mine, run.messages),
        lambda: rounds.certify(run.session, b"{}", mine, run.messages),
        lambda: rounds.certify(run.session, run.dealt[1].state[:-9] + b"}", mine, run.messages),
        lambda: rounds.certify(run.session, run.dealt[1].state, mine, run.messages | {4: run.messages[1]}),
        lambda: rounds.finish(run.session, run.dealt[1].state, run.certificates, share),
        lambda: rounds.finish(run.session, run.certified[1].state, run.certificates),
        lambda: rounds.finish(run.session, run.certified[1].state, run.certificates, before.new_shares[2]),
        lambda: rounds.finish(run.session, run.certified[1].state, run.certificates | {4: b""}, share),
    ]
    for case in cases:
        with pytest.raises(InvalidInput):
            case()


def test_one_of_one_by_a_ceremony() -> None:
    run = generated(1, 1)
    assert run.keys.is_single
    assert public(agree(run)) == run.keys.public_key
    assert isinstance(run.session.participants[0], CeremonyParticipant)
