"""The beginning of a ledger whose key several holders share, and the checks before its server runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from ledger.errors import ConfigurationError, EvaluatedByHolders, HolderMismatch, InvalidInput, LedgerError, StaleEpoch
from ledger.protocol import voprf
from ledger.protocol.encoding import b64url
from ledger.server.db.engine import open_engine, writing
from ledger.server.db.tables.keys import KeyEpoch, KeyHolder
from ledger.server.keys.cards import NewSharing, prepare_for_holders, read_cards
from ledger.server.keys.files import LOG_FILE, RECEIVING_FILE, SESSION_FILE
from ledger.server.log.genesis import init_keys
from ledger.server.oprf.evaluation import evaluate
from ledger.server.platforms.suite import suite
from ledger.server.rotation.sharings import publish_sharing
from ledger.server.runtime import open_runtime
from ledger.server.settings import Settings
from ledger.tlog.key_history import BEGUN_SINGLE
from ledger.tlog.key_statement import check_endorsed, parse_endorsement, parse_statement
from tests.rotations import body_of
from tests.server.keys.test_keys import NOW, contents, fresh
from tests.sharing import NAMES, OPERATOR, Holders, opened_shared, prepared, shared_ledger
from tests.support import new_ledger, opened, publish

pytestmark = pytest.mark.one_engine

FILES = {LOG_FILE, SESSION_FILE, RECEIVING_FILE, "ledger.json"}


@pytest.fixture
def settings(make_database: Callable[..., str], tmp_path: Path) -> Settings:
    """A ledger that has no key yet."""
    return fresh(make_database, tmp_path)


def test_the_entry_names_the_sharing_as_all_holders_signed_it(database_url: str, tmp_path: Path) -> None:
    settings, holders, made = shared_ledger(database_url, tmp_path)
    with opened_shared(settings, holders, made) as ledger:
        body, keys = body_of(ledger.rt.engine, 0), made.statement.keys
        assert (body["kind"], body["epoch"], body["previous_entry"], body["statement_entry"]) == ("genesis", 1, None, 0)
        assert (body["generation"], body["threshold"], body["public_key"]) == (1, 2, b64url(keys.public_key))
        assert body["holders"] == [
            {"index": holder.index, "id": holder.holder, "public_key": b64url(holder.public_key)}
            for holder in keys.holders
        ]
        statement = parse_statement(body["statement"])
        assert statement.canonical == made.statement.canonical
        check_endorsed(statement, [parse_endorsement(endorsement) for endorsement in body["endorsements"]])
        (epoch,) = suite(settings, ledger.rt.keys, ledger.rt.policies.timeline, NOW)["epochs"]
        assert [holder["url"] for holder in epoch["holders"]] == [f"https://{name}.example" for name in NAMES]
        assert {holder["organisation"] for holder in epoch["holders"]} == {"North Ltd", "South Ltd", "West Ltd"}
        assert (epoch["threshold"], epoch["public_key"], epoch["entry_index"]) == (2, body["public_key"], 0)
        assert ledger.verified().sharings_count == 1


def test_the_server_has_no_share_and_names_the_holders(database_url: str, tmp_path: Path) -> None:
    settings, holders, made = shared_ledger(database_url, tmp_path)
    assert {path.name for path in settings.keys_dir.iterdir()} == FILES
    with opened_shared(settings, holders, made) as ledger:
        blinded = [voprf.hash_to_group(b"x")]
        with pytest.raises(EvaluatedByHolders) as refused:
            evaluate(ledger.rt.oprf, ledger.acme.member(), 1, blinded)
        assert [(holder["id"], holder["url"]) for holder in refused.value.details["holders"]] == [  # type: ignore[attr-defined]
            (name, f"https://{name}.example") for name in NAMES
        ]
        with pytest.raises(StaleEpoch):
            evaluate(ledger.rt.oprf, ledger.acme.member(), 2, blinded)


def test_preparing_is_repeatable_and_overwrites_nothing(settings: Settings) -> None:
    card = prepared(settings)
    first = contents(settings)
    assert set(first) == FILES
    assert all((settings.keys_dir / name).stat().st_mode & 0o777 == 0o600 for name in FILES)
    assert prepared(settings) == card
    assert contents(settings) == first
    with pytest.raises(ConfigurationError, match="another operator"):
        prepare_for_holders(settings, "Other Ltd", "https://ledger.example")
    with pytest.raises(ConfigurationError, match="waits for the cards"):
        init_keys(settings, NOW)
    (settings.keys_dir / LOG_FILE).unlink()
    with pytest.raises(ConfigurationError):
        prepared(settings)
    assert contents(settings).items() <= first.items(), "a lost key is never made anew"


def test_an_operator_or_address_that_is_refused_leaves_no_file(settings: Settings) -> None:
    for operator, url in ((" ", "https://ledger.example"), (OPERATOR, "ftp://ledger.example")):
        with pytest.raises(InvalidInput):
            prepare_for_holders(settings, operator, url)
    assert not settings.keys_dir.exists()


def test_a_1_of_1_ledger_stays_one(settings: Settings, tmp_path: Path) -> None:
    init_keys(settings, NOW)
    before = contents(settings)
    with pytest.raises(ConfigurationError, match=BEGUN_SINGLE[:40]):
        prepared(settings)
    other = settings.model_copy(update={"keys_dir": tmp_path / "other"})
    made = Holders(prepared(other)).generate()
    with pytest.raises(ConfigurationError, match=BEGUN_SINGLE[:40]):
        init_keys(settings, NOW, made.sharing)
    engine = open_engine(settings.database_url)
    with pytest.raises(LedgerError, match=BEGUN_SINGLE[:40]):
        publish_sharing(settings, engine, made.sharing, NOW)
    engine.dispose()
    assert contents(settings).items() >= before.items()


def test_cards_that_do_not_begin_a_ledger_are_refused(settings: Settings, tmp_path: Path) -> None:
    holders = Holders(prepared(settings))
    made = holders.generate()
    files = made.write(tmp_path / "files")
    paths = [tmp_path / "files" / f"{name}.card.json" for name in NAMES]
    with pytest.raises(HolderMismatch, match="west"):
        read_cards(paths[:2])
    with pytest.raises(HolderMismatch):
        read_cards([*paths, paths[0]])
    with pytest.raises(InvalidInput, match=r"none\.json"):
        read_cards([*paths[:2], tmp_path / "none.json"])
    altered = json.loads(paths[0].read_text())
    altered["url"] = "https://elsewhere.example"
    (tmp_path / "altered.json").write_text(json.dumps(altered))
    with pytest.raises(LedgerError, match=r"altered\.json"):
        read_cards([tmp_path / "altered.json", *paths[1:]])
    refreshed = holders.refresh()
    with pytest.raises(HolderMismatch, match="one key statement"):
        refreshed.write(tmp_path / "next")
        read_cards([*paths[:2], tmp_path / "next" / "west.card.json"])
    for refused in (
        refreshed.sharing,
        Holders(replace(holders.card, operator="North Ltd"), operator=None).generate().sharing,
    ):
        with pytest.raises(HolderMismatch):
            init_keys(settings, NOW, refused)
    foreign = settings.model_copy(update={"keys_dir": tmp_path / "foreign"})
    with pytest.raises(HolderMismatch, match="another ledger"):
        init_keys(settings, NOW, Holders(prepared(foreign)).generate().sharing)
    init_keys(settings, NOW, files.sharing)
    with pytest.raises(ConfigurationError, match="exist already"):
        init_keys(settings, NOW, files.sharing)


def test_one_holder_may_be_the_operator_and_never_a_threshold(settings: Settings) -> None:
    holders = Holders(prepared(settings), operator="south")
    made = holders.generate()
    assert [holder.operator for holder in made.statement.holders] == [False, True, False]
    init_keys(settings, NOW, made.sharing)
    with opened(settings) as rt:
        assert [holder.operator for holder in rt.keys.current.holders] == [False, True, False]


def test_a_sharing_of_one_is_no_sharing(settings: Settings) -> None:
    made = Holders(prepared(settings)).generate()
    card = made.sharing
    assert card.statement.keys.threshold == 2
    with pytest.raises(InvalidInput):
        NewSharing.of([])


def test_a_server_refuses_holders_or_keys_that_the_log_does_not_name(database_url: str, tmp_path: Path) -> None:
    settings, _, _ = shared_ledger(database_url, tmp_path)
    publish(settings)
    stranger = Holders(prepared(settings.model_copy(update={"keys_dir": tmp_path / "other"}))).generate().statement
    engine = open_engine(settings.database_url, pool_size=1)
    for change, undo in (
        (update(KeyEpoch).values(threshold=1), update(KeyEpoch).values(threshold=2)),
        (
            update(KeyHolder).where(KeyHolder.share_index == 1).values(holder="ghost"),
            update(KeyHolder).where(KeyHolder.share_index == 1).values(holder="north"),
        ),
        (update(KeyEpoch).values(public_key=stranger.keys.public_key), None),
    ):
        with writing(engine) as connection:
            connection.execute(change)
        with pytest.raises(ConfigurationError, match="not those in the log"):
            open_runtime(settings)
        if undo is not None:
            with writing(engine) as connection:
                connection.execute(undo)
    engine.dispose()


def test_a_server_refuses_a_receiving_key_of_another_ledger(database_url: str, tmp_path: Path) -> None:
    settings, _, _ = shared_ledger(database_url, tmp_path)
    other = settings.model_copy(update={"keys_dir": tmp_path / "other"})
    prepared(other)
    shutil.copy(other.keys_dir / RECEIVING_FILE, settings.keys_dir / RECEIVING_FILE)
    with pytest.raises(ConfigurationError, match=r"receiving\.key"):
        open_runtime(settings)
    (settings.keys_dir / RECEIVING_FILE).unlink()
    with opened(settings) as rt:
        assert rt.keys.current.is_shared, "only the machine that rotates needs the receiving key"


def test_a_1_of_1_suite_says_what_it_is(database_url: str, tmp_path: Path) -> None:
    settings = new_ledger(database_url, tmp_path)
    with opened(settings) as rt:
        (epoch,) = suite(settings, rt.keys, rt.policies.timeline, NOW)["epochs"]
    assert (epoch["generation"], epoch["threshold"], len(epoch["holders"])) == (1, 1, 1)
    assert epoch["public_key"] == epoch["holders"][0]["public_key"]
