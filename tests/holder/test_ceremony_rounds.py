"""Whole ceremonies through the commands: keys, shares, statements, cards, and what each kind keeps or changes."""

from __future__ import annotations

import itertools
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger.errors import CeremonyMismatch, ConfigurationError, InvalidSignature
from ledger.holder.ceremony import destroy_old
from ledger.holder.shares import active_shares, share_files
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.sodium import GROUP_ORDER
from ledger.tlog.ceremony_files import open_factor, parse_endorsement_file, verify_multiple
from ledger.tlog.key_statement import Endorsement, check_endorsed, check_succession
from tests.holder.ceremony_kit import (
    RECEIVING_SECRET,
    Exchange,
    altered,
    confirmed,
    interpolated,
    public_of,
    refusal,
    run,
)

THREE = ("north", "south", "ops")
FIVE = ("east", "north", "ops", "south", "west")
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def first(exchanges: dict[str, Exchange]) -> Exchange:
    """A ledger whose key is shared 2 of 3, for tests that change nothing."""
    return exchanges["finish"]


@pytest.fixture
def exchange(after: Callable[[str], Exchange]) -> Exchange:
    """A copy of it for one test."""
    return after("finish")


@pytest.fixture(scope="module")
def once_refreshed(exchanges: dict[str, Exchange], tmp_path_factory: pytest.TempPathFactory) -> Exchange:
    exchange = Exchange(tmp_path_factory.mktemp("refreshed") / "refreshed")
    shutil.copytree(exchanges["finish"].root, exchange.root)
    exchange.all_rounds("refresh", THREE)
    return exchange


@pytest.fixture
def refreshed(once_refreshed: Exchange, tmp_path: Path) -> Exchange:
    """A copy of it, refreshed."""
    shutil.copytree(once_refreshed.root, tmp_path / "refreshed")
    return Exchange(tmp_path / "refreshed")


def endorsements(exchange: Exchange, names: tuple[str, ...]) -> list[Endorsement]:
    return [exchange.card(name).endorsement for name in names]


def test_any_two_of_three_shares_give_the_key(first: Exchange) -> None:
    statement = first.cards(THREE)
    secrets = {first.secret(pair, 1, 1) for pair in itertools.combinations(THREE, 2)}
    assert [public_of(secret) for secret in secrets] == [statement.keys.public_key]
    assert (statement.keys.threshold, statement.keys.generation, statement.epoch) == (2, 1, 1)
    assert [(holder.key.index, holder.key.holder) for holder in statement.holders] == [
        (1, "north"),
        (2, "ops"),
        (3, "south"),
    ]
    assert [holder.key.holder for holder in statement.holders if holder.operator] == ["ops"]
    assert statement.previous is None
    check_endorsed(statement, endorsements(first, THREE))
    with pytest.raises(InvalidSignature):
        check_endorsed(statement, endorsements(first, THREE[:2]))


def test_any_three_of_five_shares_give_the_key(tmp_path: Path) -> None:
    exchange = Exchange.create(tmp_path, FIVE)
    exchange.all_rounds("deal", FIVE, "--threshold", 3)
    statement = exchange.cards(FIVE)
    secrets = {exchange.secret(some, 1, 1) for some in itertools.combinations(FIVE, 3)}
    assert [public_of(secret) for secret in secrets] == [statement.keys.public_key]
    assert len({exchange.secret(some, 1, 1) for some in itertools.combinations(FIVE, 2)} - secrets) == 10
    check_endorsed(statement, endorsements(exchange, FIVE))


def test_files_are_for_their_owner_only(first: Exchange) -> None:
    for name in THREE:
        folder = first.folder(name)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert set(files.values()) == {0o600}
        assert files.keys() == {
            "holder.json", "ledger.json", "signing.key", "static.key", "share-1-1.json", "ceremony.json", "lock",
        }  # fmt: skip


@pytest.mark.parametrize("name", ["signing.key", "share-1-1.json", "ceremony.json"])
def test_a_file_that_others_can_read_is_refused(exchange: Exchange, name: str) -> None:
    (exchange.folder("north") / name).chmod(0o640)
    error = refusal(*exchange.finish_words("north", THREE), code=2)
    assert name in error["message"]


def test_a_folder_that_others_can_enter_is_refused(exchange: Exchange) -> None:
    exchange.folder("north").chmod(0o750)
    assert "0700" in refusal(*exchange.finish_words("north", THREE), code=2)["message"]


def test_a_share_is_shown_by_no_repr(first: Exchange) -> None:
    (share,) = active_shares(first.folder("north"))
    assert str(share.secret) not in repr(share)
    assert "secret" not in repr(share)


def test_every_step_gives_the_same_bytes_again(exchange: Exchange) -> None:
    def contents() -> dict[Path, bytes]:
        files = [*exchange.files.iterdir(), *exchange.folder("north").iterdir()]
        return {path: path.read_bytes() for path in files if path.name != "ceremony.json"}

    before = contents()
    confirmed(exchange.begin_words("deal", "north", THREE, "--threshold", 2))
    confirmed(exchange.certify_words("north", THREE))
    run(*exchange.finish_words("north", THREE))
    exchange.join("north")
    assert contents() == before


def test_a_refresh_keeps_the_key_and_changes_every_share(first: Exchange, once_refreshed: Exchange) -> None:
    old, secret, exchange = first.cards(THREE), first.secret(THREE[:2], 1, 1), once_refreshed
    new = exchange.cards(THREE)
    assert new.keys.public_key == old.keys.public_key
    assert (new.epoch, new.keys.generation, new.kind) == (1, 2, CeremonyKind.REFRESH)
    assert {exchange.secret(pair, 1, 2) for pair in itertools.combinations(THREE, 2)} == {secret}
    for name in THREE:
        before, after = active_shares(exchange.folder(name))
        assert before.secret != after.secret
    check_succession(old, new, endorsements(exchange, THREE), verify_multiple)


def test_a_resharing_keeps_the_key_for_other_holders(exchange: Exchange) -> None:
    old, secret = exchange.cards(THREE), exchange.secret(THREE[:2], 1, 1)
    joining = ("east", "west")
    for name in joining:
        exchange.join(name)
    everyone = ("north", "south", *joining)  # ops is lost: two of three deal
    exchange.all_rounds("reshare", everyone, "--threshold", 2, "--leaving", "south", card_for=joining)
    staying = ("north", *joining)
    new = exchange.cards(staying)
    assert new.keys.public_key == old.keys.public_key
    assert (new.epoch, new.keys.generation, new.kind) == (1, 2, CeremonyKind.RESHARE)
    assert {exchange.secret(pair, 1, 2) for pair in itertools.combinations(staying, 2)} == {secret}
    assert [share.generation for share in active_shares(exchange.folder("south"))] == [1]
    statement, leaving = parse_endorsement_file((exchange.files / "south.card.json").read_bytes())
    assert statement.canonical == new.canonical
    own = endorsements(exchange, staying)
    check_succession(old, new, [*own, leaving], verify_multiple)
    with pytest.raises(InvalidSignature):
        check_succession(old, new, own, verify_multiple)


def test_a_resharing_changes_the_threshold(exchange: Exchange) -> None:
    secret = exchange.secret(THREE[:2], 1, 1)
    for name in ("east", "west"):
        exchange.join(name)
    exchange.all_rounds("reshare", FIVE[1:] + FIVE[:1], "--threshold", 3, card_for=("east", "west"))
    exchange.cards(FIVE)
    assert {exchange.secret(some, 1, 2) for some in itertools.combinations(FIVE, 3)} == {secret}
    assert secret not in {exchange.secret(some, 1, 2) for some in itertools.combinations(FIVE, 2)}


def test_a_rotation_multiplies_the_key_by_a_factor_that_the_ledger_opens(exchange: Exchange) -> None:
    old, secret = exchange.cards(THREE), exchange.secret(THREE[:2], 1, 1)
    exchange.all_rounds("rotate", THREE)
    new = exchange.cards(THREE)
    assert (new.epoch, new.keys.generation, new.kind) == (2, 1, CeremonyKind.ROTATE)
    certificates = [path.read_bytes() for path in exchange.of("certificate", THREE)]
    factor = int.from_bytes(open_factor(RECEIVING_SECRET, certificates, old, new), "little")
    assert {exchange.secret(pair, 2, 1) for pair in itertools.combinations(THREE, 2)} == {secret * factor % GROUP_ORDER}
    assert public_of(secret * factor % GROUP_ORDER) == new.keys.public_key
    check_succession(old, new, endorsements(exchange, THREE), verify_multiple)
    with pytest.raises(CeremonyMismatch):
        open_factor(RECEIVING_SECRET, certificates, new, old)


def test_a_refresh_without_a_lost_holder(exchange: Exchange) -> None:
    secret = exchange.secret(THREE[:2], 1, 1)
    exchange.all_rounds("refresh", THREE[:2], "--without", "ops")
    assert exchange.secret(THREE[:2], 1, 2) == secret
    assert [holder.key.holder for holder in exchange.cards(THREE[:2]).holders] == ["north", "south"]


def test_shares_of_two_generations_do_not_give_the_key(once_refreshed: Exchange) -> None:
    secret = once_refreshed.secret(THREE[:2], 1, 1)
    shares = {name: active_shares(once_refreshed.folder(name)) for name in THREE}
    mixed = [
        (shares[name][generation].index, int.from_bytes(shares[name][generation].secret, "little"))
        for name, generation in (("north", 0), ("south", 1))
    ]
    assert interpolated(mixed) != secret


def test_a_card_with_a_new_address(exchange: Exchange) -> None:
    words = ["card", "--folder", exchange.folder("north"), "--out", exchange.files / "north.card.json"]
    before = exchange.card("north")
    run(*words)
    assert exchange.card("north") == before
    run(*words, "--url", "https://moved.example/")
    assert exchange.card("north").url == "https://moved.example"
    assert exchange.card("north").statement == before.statement
    run(*words)
    assert exchange.card("north").url == "https://moved.example"


def test_old_shares_are_destroyed_a_day_after_the_log_has_the_new_ones(refreshed: Exchange) -> None:
    exchange, folder = refreshed, refreshed.folder("north")
    inode = (folder / "share-1-1.json").open("rb")
    logged = {(1, 1): NOW - timedelta(days=90), (1, 2): NOW}
    assert destroy_old(folder, logged, {1}, NOW + timedelta(hours=23, minutes=59)) == []
    assert destroy_old(folder, logged, {1}, NOW + timedelta(hours=24)) == ["share-1-1.json", "ceremony.json"]
    assert [share.generation for share in active_shares(folder)] == [2]
    with inode:
        assert set(inode.read()) == {0}, "the bytes were overwritten"
    assert destroy_old(folder, logged, {1}, NOW + timedelta(hours=25)) == []
    exchange.all_rounds("rotate", THREE)
    logged[2, 1] = NOW + timedelta(days=10)
    later = NOW + timedelta(days=20)
    assert destroy_old(folder, logged, {1, 2}, later) == ["ceremony.json"], "epoch 1 is evaluated until the switch"
    assert destroy_old(folder, logged, {2}, later) == ["share-1-2.json"]
    assert [(share.epoch, share.generation) for share in active_shares(folder)] == [(2, 1)]


def test_a_share_that_is_not_logged_destroys_nothing(refreshed: Exchange) -> None:
    folder = refreshed.folder("north")
    assert destroy_old(folder, {(1, 1): NOW}, {1}, NOW + timedelta(days=300)) == []
    assert len(share_files(folder)) == 2


def test_a_share_of_another_sharing_is_refused(exchange: Exchange) -> None:
    north, south = (exchange.folder(name) / "share-1-1.json" for name in ("north", "south"))
    north.write_bytes(south.read_bytes())
    altered(north, lambda members: members.update(index=1))
    with pytest.raises(ConfigurationError, match="does not belong"):
        active_shares(exchange.folder("north"))
    north.write_bytes(b"{}")
    with pytest.raises(ConfigurationError, match="damaged"):
        active_shares(exchange.folder("north"))
