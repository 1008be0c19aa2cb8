"""The holder follows the log: every head continues the last one, and a log that does not is never followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.errors import NotFound, Unavailable
from ledger.holder.queries import HeadRow, read_head
from ledger.server.db.engine import reading
from ledger.tlog.entries import GovernanceType
from ledger.tlog.key_statement import endorse, parse_statement
from tests.holder.kit import Caller, Consortium, HolderService, SignedLog, points


def head(service: HolderService) -> HeadRow:
    """The head that the holder keeps."""
    with reading(service.rt.engine) as connection:
        row = read_head(connection)
    assert row is not None
    return row


def follow(service: HolderService) -> HeadRow:
    """Read the log once; the head afterwards."""
    service.rt.follower.follow()
    return head(service)


@pytest.fixture
def serve_log(consortium: Consortium) -> Callable[[SignedLog], None]:
    """`serve_log(log)`: from now on the address of the log answers with this one."""

    def serve(log: SignedLog) -> None:
        consortium.log.entries, consortium.log.key = log.entries, log.key

    return serve


def test_every_new_head_continues_the_last_one(service: HolderService, consortium: Consortium) -> None:
    for count in (0, 1, 2, 250, 3, 300, 600):
        consortium.log.fill(count)
        consortium.log.fetched.clear()
        row = follow(service)
        assert row.size == len(consortium.log.entries)
        assert row.note == consortium.log.note()
        assert row.fault is None
        assert len(consortium.log.fetched) <= 2 + count // 256 + 1, "entries that were read are not read again"


def test_only_the_right_edge_is_kept(service: HolderService, consortium: Consortium) -> None:
    consortium.log.fill(1000)
    row = follow(service)
    assert len(row.edge) == 32 * (1001).bit_count()


def test_a_fork_of_the_same_size_is_proven_and_not_followed(
    service: HolderService, consortium: Consortium, acme: Caller, serve_log: Callable[[SignedLog], None]
) -> None:
    consortium.log.fill(10)
    good = consortium.log.fork(11)
    other = consortium.log.fork(5)
    before = follow(service)
    other.status("acme", suspended=True)
    other.fill(5)
    serve_log(other)
    row = follow(service)
    assert (row.size, row.root, row.fault, row.fork_note) == (11, before.root, "forked", other.note())
    assert service.rt.readiness()["log"] == "forked"
    assert service.request("GET", "/readyz").status == 503
    assert service.evaluate(acme, points(1)).status == 200, "the last state stays in use"
    serve_log(good)
    row = follow(service)
    assert (row.fault, row.fork_note) == (None, other.note()), "the proof stays"
    assert service.request("GET", "/readyz").status == 200


def test_a_longer_fork_is_not_followed(
    service: HolderService, consortium: Consortium, acme: Caller, serve_log: Callable[[SignedLog], None]
) -> None:
    consortium.log.fill(10)
    before = follow(service)
    other = consortium.log.fork(5)
    other.status("acme", suspended=True)
    other.fill(400)
    serve_log(other)
    row = follow(service)
    assert (row.size, row.root, row.fault) == (11, before.root, "not_continued")
    assert service.evaluate(acme, points(1)).status == 200


def test_a_log_that_became_shorter_is_not_followed(
    service: HolderService, consortium: Consortium, serve_log: Callable[[SignedLog], None]
) -> None:
    consortium.log.fill(10)
    good = consortium.log.fork(11)
    follow(service)
    serve_log(consortium.log.fork(5))
    row = follow(service)
    assert (row.size, row.fault) == (11, "rolled_back")
    serve_log(good)
    assert follow(service).fault is None


def test_another_key_and_an_entry_that_is_none_are_refused(
    service: HolderService, consortium: Consortium, serve_log: Callable[[SignedLog], None]
) -> None:
    before, key = head(service), consortium.log.key
    consortium.log.key = Ed25519PrivateKey.generate()
    assert follow(service).fault == "malformed"
    consortium.log.key = key
    assert follow(service).fault is None
    consortium.log.entries.append(b'{"index":1}')
    assert follow(service).fault == "malformed"
    consortium.log.entries[-1] = consortium.log.entries[0]
    row = follow(service)
    assert (row.fault, row.size) == ("malformed", before.size), "an entry at another place than it says"


def test_an_outage_changes_nothing_and_ends(service: HolderService, consortium: Consortium, acme: Caller) -> None:
    before = head(service)
    for error in (Unavailable("down"), NotFound("no checkpoint")):
        consortium.log.broken = error
        with pytest.raises(Unavailable):
            service.rt.follower.follow()
        assert service.rt.readiness()["log"] == "unreachable"
    assert head(service) == before
    service.clock.turn(hours=3)
    assert service.evaluate(acme, points(1)).status == 200, "a holder goes on without the ledger"
    assert service.request("GET", "/readyz").status == 200
    consortium.log.broken = None
    assert follow(service).seen_at == service.clock()
    assert service.rt.readiness()["log"] == "ok"


def test_the_state_outlives_a_restart(
    service: HolderService, consortium: Consortium, open_service: Callable[..., HolderService]
) -> None:
    consortium.log.fill(20)
    consortium.log.status("acme", suspended=True)
    follow(service)
    consortium.log.fetched.clear()
    again = open_service("north")
    assert consortium.log.fetched == ["checkpoint"]
    assert head(again).size == 22


def test_of_two_processes_that_read_the_same_entries_one_writes(
    service: HolderService, consortium: Consortium, open_service: Callable[..., HolderService]
) -> None:
    other = open_service("north")
    consortium.refresh()
    stale = head(service)
    read = service.rt.follower._read(stale, [])
    follow(other)
    service.rt.follower._save(stale, *read)
    assert [seen.generation for seen in other.rt.state.current().of_epoch(1)] == [1, 2]
    assert head(service).size == 2


# --- key statements ---------------------------------------------------------------------------------------------


def statements(service: HolderService) -> list[tuple[int, int]]:
    """The accepted statements by epoch and generation."""
    service.rt.follower.follow()
    snapshot = service.rt.state.current()
    return [(seen.statement.epoch, seen.generation) for seen in snapshot.statements]


def test_refresh_and_rotation_are_accepted(service: HolderService, consortium: Consortium) -> None:
    assert statements(service) == [(1, 1)]
    consortium.refresh()
    consortium.rotate()
    assert statements(service) == [(1, 1), (1, 2), (2, 1)]
    row = head(service)
    assert (row.current_epoch, row.next_epoch) == (1, 2)
    consortium.log.publish(2)
    row = follow(service)
    assert (row.current_epoch, row.next_epoch) == (2, None)
    consortium.log.publish(1, next_epoch=2)
    row = follow(service)
    assert (row.current_epoch, row.next_epoch) == (2, None), "an epoch that is over does not come back"


def publish_changed(consortium: Consortium, **changes: Any) -> None:
    """Log a refresh whose statement has other members, signed by all its holders all the same."""
    sharing = consortium.refresh(publish=False)
    statement = parse_statement({**sharing.statement.json, **changes})
    keys = [holder.signing_key() for holder in consortium.folders.values()]
    consortium.log.publish(1, statement, [endorse(statement, key) for key in keys])


def test_a_statement_that_is_no_successor_is_refused(service: HolderService, consortium: Consortium) -> None:
    first = consortium.sharings[0]
    previous = {"epoch": 1, "generation": 7, "public_key": first.statement.json["public_key"]}
    publish_changed(consortium, previous=previous)
    assert statements(service) == [(1, 1)]
    assert service.rt.state.current().refused_statements == {1: "holder_mismatch"}
    service.rt.follower.follow()
    assert service.rt.state.current().refused_statements == {1: "holder_mismatch"}


@pytest.mark.parametrize("change", ["another service", "no endorsement", "false signature", "malformed", "generate"])
def test_statements_are_refused(service: HolderService, consortium: Consortium, change: str) -> None:
    log, sharing = consortium.log, consortium.refresh(publish=False)
    statement, signed = sharing.statement, sharing.endorsements
    if change == "another service":
        other = parse_statement({**statement.json, "service": "other.example"})
        log.publish(1, other, [endorse(other, holder.signing_key()) for holder in consortium.folders.values()])
    elif change == "no endorsement":
        log.publish(1, statement, signed[1:])
    elif change == "false signature":
        log.publish(1, statement, [replace(signed[0], signature=signed[1].signature), *signed[1:]])
    elif change == "malformed":
        log.append(GovernanceType.KEY_ROTATION, {"epoch": 1, "statement": {"format": 1}, "endorsements": []})
        log.append(GovernanceType.KEY_ROTATION, {"epoch": 1, "statement": 5, "endorsements": None})
    else:
        again = Consortium(consortium.folders["north"].path.parent.parent / "others")
        other = parse_statement({**again.generate().statement.json, "log": statement.json["log"]})
        log.publish(1, other, [endorse(other, holder.signing_key()) for holder in again.folders.values()])
    assert statements(service) == [(1, 1)]
    assert set(service.rt.state.current().refused_statements.values()) <= {
        "holder_mismatch", "invalid_signature", "invalid_canonical_form",
    }  # fmt: skip
    log.publish(1, sharing.statement, sharing.endorsements)
    assert statements(service) == [(1, 1), (1, 2)]


def test_holders_of_an_earlier_sharing_decide_nothing(service: HolderService, consortium: Consortium) -> None:
    """They may have left, or their signing keys may have been stolen since; a statement that is accepted ends with the
    destruction of the shares before it."""
    consortium.refresh()
    assert statements(service) == [(1, 1), (1, 2)]
    consortium.sharings.reverse()
    stray = consortium.rotate(publish=False)
    assert stray.statement.previous is not None
    assert stray.statement.previous.generation == 1
    consortium.log.publish(1, stray.statement, stray.endorsements, next_epoch=2)
    assert statements(service) == [(1, 1), (1, 2)]
    assert set(service.rt.state.current().refused_statements.values()) == {"holder_mismatch"}
    assert head(service).next_epoch is None


def test_an_epoch_that_no_statement_introduced_does_not_end_the_present_one(
    service: HolderService, consortium: Consortium, acme: Caller
) -> None:
    for current, following in ((999, None), (1, 2), (0, None)):
        consortium.log.publish(current, next_epoch=following)
        row = follow(service)
        assert (row.current_epoch, row.next_epoch, row.fault) == (1, None, None)
    assert service.evaluate(acme, points(1)).status == 200
    assert set(service.rt.state.current().refused_statements.values()) == {"holder_mismatch"}


def test_platform_entries_of_another_form_are_ignored(service: HolderService, consortium: Consortium) -> None:
    for body in (
        {"platform": 5}, {"platform": "x" * 100, "status": "suspended"}, {"platform": "acme"},
        {"platform": "bolt", "status": "active", "keys": [5, {"kid": 1}, {"kid": "k", "public_key": "x"}]},
    ):  # fmt: skip
        consortium.log.append(GovernanceType.PLATFORM_STATUS, body)
    assert follow(service).fault is None
