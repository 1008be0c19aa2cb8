"""The cache of snapshots: kept over restarts, shared, refreshed, deleted at its end; and what it gives in an outage."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.client import Buyer, RefundLedger
from ledger.errors import ConfigurationError, Unavailable
from ledger.protocol.encoding import b64url
from tests.client.small_ledger import SmallLedger

LISTED = {"phone": "+86 138 0013 8000"}
STRANGER = {"phone": "+86 138 0013 8001"}


def list_somebody(ledger: SmallLedger, **changes: Any) -> None:
    ledger.publish({("phone", LISTED["phone"]): [ledger.event()]}, **changes)


def folder(ledger: SmallLedger) -> Path:
    return ledger.folder / "state" / "snapshots"


def versions(ledger: SmallLedger) -> list[str]:
    return sorted(path.name for path in folder(ledger).iterdir() if path.is_dir())


def test_it_survives_restarts_and_is_shared(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    buyer = ledger.buyer(LISTED)
    with ledger.connect() as acme, ledger.connect() as second:
        assert acme.check(buyer).events == 1
        ledger.asked()
        assert second.check(buyer).events == 1, "another process of the host"
        with ledger.connect() as later:
            assert later.check(buyer).events == 1
            assert later.check(buyer, policy="private").events == 1
    assert [path for path in ledger.asked() if "/buckets/" not in path] == []
    for path in (folder(ledger), *folder(ledger).rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_many_at_once_fetch_each_file_once(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    buyer = ledger.buyer(LISTED)
    opened = [ledger.connect() for _ in range(4)]
    try:
        with ThreadPoolExecutor(8) as pool:
            events = list(pool.map(lambda number: opened[number % 4].check(buyer).events, range(16)))
    finally:
        for client in opened:
            client.close()
    assert events == [1] * 16
    files = [path for path in ledger.asked() if path.endswith(("filter", "buckets.bin"))]
    assert len(files) == 2


@pytest.mark.parametrize("name", ["filter.bin", "buckets.bin", "latest.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damaged_files_are_noticed_and_fetched_again(ledger: SmallLedger, name: str, damage: str) -> None:
    list_somebody(ledger)
    buyer = ledger.buyer(LISTED)
    with ledger.connect() as acme:
        acme.check(buyer)
    (path,) = folder(ledger).rglob(name)
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + (bytes([data[middle] ^ 1]) + data[middle + 1 :] if damage == "flipped" else b""))
    ledger.asked()
    with ledger.connect() as acme:
        assert acme.check(buyer).events == 1
    assert ledger.asked(), "it was fetched again"
    (path,) = folder(ledger).rglob(name)
    assert path.read_bytes() == data


def test_a_damaged_bucket_is_fetched_again(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    buyer = ledger.buyer(LISTED)
    with ledger.connect() as acme:
        acme.check(buyer, policy="private")
        (path,) = [path for path in folder(ledger).rglob("buckets/*") if path.is_file()]
        path.write_bytes(bytes(path.stat().st_size))
        assert acme.check(buyer, policy="private").events == 1
        assert sum("/buckets/" in path for path in ledger.asked()) == 2


def test_one_of_the_day_before_is_replaced_after_midnight(ledger: SmallLedger) -> None:
    """Reports begin to count then, and one is cut then."""
    ledger.now = ledger.now.replace(hour=23, minute=50, second=0)
    list_somebody(ledger)
    buyer = ledger.buyer(LISTED)
    with ledger.connect() as acme:
        acme.check(buyer)
        ledger.asked()
        ledger.now += timedelta(minutes=10, seconds=-1)
        ledger.publish()
        assert acme.check(buyer).events == 1
        assert ledger.asked() == []
        ledger.now += timedelta(seconds=1)
        assert acme.check(buyer).events == 0


def test_a_newer_one_is_fetched_after_an_hour_and_replaces_the_old(ledger: SmallLedger) -> None:
    ledger.now = ledger.now.replace(hour=9)
    list_somebody(ledger)
    buyer = ledger.buyer(LISTED)
    with ledger.connect() as acme:
        acme.check(buyer)
        ledger.now += timedelta(minutes=59)
        ledger.publish()
        assert acme.check(buyer).events == 1
        ledger.now += timedelta(minutes=1)
        assert acme.check(buyer).events == 0
        assert versions(ledger) == [b64url(ledger.published[1].manifest.version)]
        ledger.asked()
        ledger.now += timedelta(hours=1)
        for _ in range(2):
            acme.check(buyer)
        assert ledger.asked().count("/v1/snapshots/latest") == 1, "while there is none, it is asked once a minute"
        ledger.now += timedelta(minutes=1)
        acme.check(buyer)
        assert ledger.asked().count("/v1/snapshots/latest") == 1


def test_an_outage_leaves_the_last_one_until_its_end(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    buyer = ledger.buyer(LISTED)
    with ledger.connect() as acme:
        acme.check(buyer)
        ledger.broken = True
        ledger.now += timedelta(hours=23, minutes=59)
        for client in (acme, ledger.connect()):
            check = client.check(buyer)
            assert (check.events, check.expires_at) == (1, ledger.published[0].manifest.not_after)
            client.close()
    ledger.now += timedelta(minutes=1)
    with ledger.connect() as acme:
        with pytest.raises(Unavailable):
            acme.check(buyer)
        assert versions(ledger) == [], "what is past its end is deleted"


def test_one_that_stays_open_is_not_used_past_its_end(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    buyer = ledger.buyer(LISTED)
    with ledger.connect() as acme:
        acme.check(buyer)
        ledger.broken = True
        ledger.now += timedelta(hours=24)
        with pytest.raises(Unavailable):
            acme.check(buyer)
        assert versions(ledger) == []


def test_a_download_that_fails_halfway_leaves_the_one_before(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    buyer = ledger.buyer(LISTED)
    with ledger.connect() as acme:
        acme.check(buyer)
        ledger.now += timedelta(hours=1)
        ledger.publish()
        ledger.replace[ledger.path(ledger.published[1], "buckets.bin")] = lambda answer: (
            404, {}, b'{"code": "snapshot_unknown", "detail": "Gone."}',
        )  # fmt: skip
        assert acme.check(buyer).events == 1
        assert len(versions(ledger)) == 2
        ledger.replace.clear()
        ledger.now += timedelta(minutes=1)
        assert acme.check(buyer).events == 0
        assert len(versions(ledger)) == 1


def test_a_check_does_not_wait_for_anothers_download(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    buyer = ledger.buyer(LISTED)
    started, go_on = threading.Event(), threading.Event()

    def slow(answer: Any) -> Any:
        started.set()
        go_on.wait(20)
        return answer

    with ledger.connect() as acme, ledger.connect() as other:
        for client in (acme, other):
            client.check(buyer)
        ledger.now += timedelta(hours=1)
        ledger.publish()
        ledger.replace[ledger.path(ledger.published[1], "buckets.bin")] = slow
        with ThreadPoolExecutor(1) as pool:
            refreshing = pool.submit(acme.check, buyer)
            assert started.wait(20)
            assert acme.check(buyer).events == 1
            assert other.check(buyer).events == 1, "nor for another process's"
            go_on.set()
            assert refreshing.result().events == 0
        ledger.now += timedelta(minutes=1)
        assert other.check(buyer).events == 0


def test_after_a_restart_the_last_whole_one_is_used(ledger: SmallLedger) -> None:
    """A newer one was found, and then came the outage."""
    list_somebody(ledger)
    buyer = ledger.buyer(LISTED)
    with ledger.connect() as acme:
        acme.check(buyer)
        ledger.now += timedelta(hours=1)
        ledger.publish()
        acme.check(buyer, policy="private")
    ledger.broken = True
    with ledger.connect() as acme:
        assert acme.check(buyer).events == 1


def test_a_folder_that_cannot_be_written_is_told(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    (ledger.folder / "state").mkdir()
    folder(ledger).write_text("a file")
    with ledger.connect() as acme, pytest.raises(ConfigurationError):
        acme.check(ledger.buyer(LISTED))


def test_abandoned_temporary_files_go_away(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    with ledger.connect() as acme:
        acme.check(ledger.buyer(LISTED))
    (version,) = versions(ledger)
    old, fresh = folder(ledger) / version / ".filter.bin.0123", folder(ledger) / version / ".filter.bin.4567"
    for path in (old, fresh):
        path.write_bytes(b"part")
    os.utime(old, (time.time() - 100_000,) * 2)
    ledger.now += timedelta(hours=1)
    with ledger.connect() as acme:
        acme.check(ledger.buyer(LISTED))
    assert [old.exists(), fresh.exists()] == [False, True]


# --- what an outage leaves of a lookup ----------------------------------------------------------------------------


def certainly_clear(ledger: SmallLedger) -> Buyer:
    """A buyer that the filter does not take for a listed one."""
    with ledger.connect("elsewhere") as other:
        for number in range(20):
            buyer = ledger.buyer({"device": f"device-{number:016}"})
            if not other.check_tags(buyer.subjects[0].tag, epoch=1).any():
                return buyer
    raise AssertionError("the filter holds everybody")


def outage(ledger: SmallLedger, who: Any) -> tuple[str, str]:
    with ledger.connect(lookup_budget_seconds=5) as acme:
        lookup = acme.lookup(who, order="A-1")
        return lookup.tier, lookup.source


def test_a_local_filter_tells_who_is_clear_in_an_outage(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    stranger, listed = certainly_clear(ledger), ledger.buyer(LISTED)
    with ledger.connect() as acme:
        assert acme.refresh_snapshot(buckets=False) == ledger.now
        assert acme.lookup(stranger, order="A-1").source == "direct"
    ledger.broken = True
    with ledger.connect(lookup_budget_seconds=5) as acme:
        lookup = acme.lookup(stranger, order="A-1")
        assert (lookup.tier, lookup.credit, lookup.source, lookup.guidance) == (
            "clear",
            100,
            "local_filter",
            ("approve",),
        )
        assert (lookup.as_of, lookup.as_of_index, lookup.id) == (ledger.now, ledger.published[0].manifest.cut, None)
        assert lookup.expires_at == ledger.now + timedelta(minutes=15)
        seen = ledger.published[0].manifest.cut
        tiers = [acme.lookup(stranger, order="A-1", min_index=index).tier for index in (seen, seen + 1)]
        assert tiers == ["clear", "unavailable"], "it knows nothing of what came later"
    assert outage(ledger, Buyer.from_tags(1, stranger.tags())) == ("clear", "local_filter")
    assert outage(ledger, listed) == ("unavailable", "direct")
    assert outage(ledger, Buyer(1, (*stranger.subjects, *listed.subjects))) == ("unavailable", "direct")
    assert outage(ledger, Buyer(2, stranger.subjects)) == ("unavailable", "direct"), "tags of another key epoch"
    ledger.now += timedelta(hours=24)
    assert outage(ledger, stranger) == ("unavailable", "direct")


def test_raw_identifiers_help_in_an_outage_if_they_are_remembered(ledger: SmallLedger) -> None:
    ledger.publish()
    with ledger.connect(lookup_budget_seconds=5) as acme:
        acme.refresh_snapshot(buckets=False)
        buyer = acme.tag(**STRANGER)
        ledger.broken = True
        sources = [acme.lookup(who, order="A-1").source for who in (buyer, STRANGER, {"device": "device-0123456789"})]
    assert sources == ["local_filter", "local_filter", "direct"]


def test_a_filter_that_another_process_fetched_is_found(ledger: SmallLedger) -> None:
    ledger.publish()
    buyer = ledger.buyer(STRANGER)

    def tell(acme: RefundLedger) -> str:
        return acme.lookup(buyer, order="A-1").tier

    with ledger.connect(lookup_budget_seconds=5) as acme:
        ledger.broken = True
        assert tell(acme) == "unavailable"
        ledger.broken = False
        with ledger.connect() as job:
            job.refresh_snapshot(buckets=False)
        ledger.broken = True
        ledger.now += timedelta(minutes=1)
        assert tell(acme) == "clear"
