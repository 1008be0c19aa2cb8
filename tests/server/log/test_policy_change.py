"""The moment at which another policy comes into effect, crossed by a running ledger on both engines: by a process that
was started long before the publication and by a later one, by direct, private and local lookups, and by erasure."""

from __future__ import annotations

import io
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from sqlalchemy import Connection, select

from api.app import create_app
from api.consumer.schemas import OwnStanding
from api.serving import server_options
from ledger.cli.operator.platforms import suite_text
from ledger.client import Check, Lookup, RefundLedger
from ledger.client.identity.suite import parse_suite_text
from ledger.client.lookups.local_standing import POLICIES
from ledger.errors import NotFound, PolicyUnreadable, SnapshotUnknown
from ledger.protocol.encoding import b64url, day_floor, format_time, from_day
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import decode_id
from ledger.rules.policy.timeline import PublishedPolicy, first_allowed
from ledger.rules.policy.values import parse_policy
from ledger.rules.standing import group_weight
from ledger.server.appeals.consumer_record import own_record
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.log import EntryBody, LogEntry
from ledger.server.db.tables.reports import Listing, Report
from ledger.server.keys.files import load_log_key, raw_public
from ledger.server.log import policies
from ledger.server.log import queries as log_store
from ledger.server.log.policies import REFRESH_SECONDS
from ledger.server.log.policy_publication import publish_policy
from ledger.server.log.policy_queries import insert_text
from ledger.server.log.writer import GovernanceDraft, append, open_head
from ledger.server.platforms.suite import suite
from ledger.server.records.case_queries import put_outcome
from ledger.server.reports.expiries import shorten_due
from ledger.server.reports.reports import check_report, get_report
from ledger.server.runtime import Runtime
from ledger.server.snapshots import queries as snapshot_store
from ledger.server.snapshots.builder import PublishedSnapshot, publish_due
from ledger.tlog.entries import GovernanceType, commitment, parse_leaf, policy_body
from ledger.tlog.merkle import leaf_hash
from tests.forked import ForkedProcess
from tests.oracles import root_of
from tests.policies import changed_policy
from tests.processes import until
from tests.server.appeals.test_appeals import session_of
from tests.server.conftest import Clock, LedgerFixture, Subjects
from tests.support import (
    ROOT,
    Platform,
    evidence,
    lookup_request,
    opened,
    publish,
    report_payload,
    server_environment,
    submit_lookup,
)

pytestmark = pytest.mark.one_engine

LIGHTER = {"severity__fake_return_tracking": 1, "lookup__expiry_minutes": 7}
"""A policy under which `fake_return_tracking` has the points and the retention of the lightest conducts."""

SHORTER = {"retention_days__3": 100}


def announce(ledger: LedgerFixture, **numbers: int) -> datetime:
    """Publish the next policy with other numbers, and return the moment at which it comes into effect."""
    newest = ledger.rt.policies.timeline.newest
    text = changed_policy(newest.version + 1, newest.text, **numbers)
    done = publish_policy(ledger.rt.engine, text, ledger.clock())
    ledger.rt.policies.refresh()
    return done.in_effect_at


def snapshot(ledger: LedgerFixture) -> PublishedSnapshot | None:
    """Build a snapshot if one is due, sign the log, and serve the snapshot."""
    settings = ledger.rt.settings
    key = load_log_key(settings)
    done = publish_due(settings, ledger.rt.engine, key, ledger.clock(), random_bytes=secrets.token_bytes)
    publish(settings)
    ledger.rt.snapshots.refresh()
    return done


def direct(rt: Runtime, platform: Platform, person: Subjects) -> dict[str, Any]:
    """The answer of this process to a lookup."""
    answer = json.loads(submit_lookup(rt, platform.member(), lookup_request(rt, person)).result(60))
    return {name: answer[name] for name in ("tier", "credit", "points", "events", "reporters", "policy")}


@contextmanager
def over_http(rt: Runtime, clock: Clock) -> Iterator[str]:
    """Run the API of a runtime in a thread, and return its address."""
    app = create_app(rt.settings, now=clock, log_stream=io.BytesIO(), runtime=rt)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", **server_options(rt.settings)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until(lambda: server.started, "the server answers")
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


class TurnedFile:
    """The ledger's clock for processes: setting it writes the file that they read."""

    def __init__(self, ledger: LedgerFixture, path: Path) -> None:
        self._ledger, self.path = ledger, path
        self.turn(ledger.clock.moment)

    def turn(self, moment: datetime) -> None:
        self._ledger.clock.moment = moment
        new = self.path.with_suffix(".new")
        new.write_text(moment.isoformat())
        new.replace(self.path)


@contextmanager
def api_process(ledger: LedgerFixture, clock: TurnedFile) -> Iterator[str]:
    """Run the API of the ledger in its own process, and return its address."""
    process = ForkedProcess(
        "tests.server.log.policy_process",
        [str(clock.path)],
        environment={**os.environ, **server_environment(ledger.rt.settings)},
        folder=ROOT,
        stderr=2,
        talk=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.close()


def sdk(ledger: LedgerFixture, url: str, folder: Path) -> RefundLedger:
    """bolt's SDK, by the ledger's clock."""
    bolt, rt = ledger.bolt, ledger.rt
    keys = [(bolt.kid, raw_public(bolt.key))]
    text = suite_text(rt.settings, rt.engine, bolt.name, bolt.control_group, bolt.profile, bolt.kid, keys, url)
    pinned = parse_suite_text(text.encode(), "the suite")
    return RefundLedger(
        pinned, bolt.key, state_dir=folder, order_key=b"o" * 32, lookup_budget_seconds=30, now=ledger.clock
    )


def test_direct_private_and_local_answers_agree_on_both_sides_of_the_moment(
    ledger: LedgerFixture, tmp_path: Path
) -> None:
    """With an old snapshot in the SDK's cache, two processes, and nothing restarted."""
    raw = {"payment": "alipay/2088000000000000"}
    person = [(Kind.PAYMENT, ledger.person(0)[1][1])]
    ledger.report(ledger.acme, person)
    before = ledger.rt.policy
    moment = announce(ledger, **LIGHTER)
    assert moment - ledger.clock() >= timedelta(days=7)
    with ExitStack() as stack:
        late = stack.enter_context(opened(ledger.rt.settings, ledger.clock))
        url = stack.enter_context(over_http(ledger.rt, ledger.clock))
        ledgers = {name: stack.enter_context(sdk(ledger, url, tmp_path / name)) for name in POLICIES}

        def agreed(policy: int) -> dict[str, Any]:
            """What both processes, the bucket and the downloaded files say."""
            mine = direct(ledger.rt, ledger.bolt, person)
            assert direct(late, ledger.bolt, person) == mine
            asked = ledgers["private"].lookup(raw, order="A-1")
            answers: list[Lookup | Check] = [
                asked,
                *[client.check(raw, policy=name) for name, client in ledgers.items()],
            ]
            for answer in answers:
                values = {name: getattr(answer, name) for name in mine}
                assert {**values, "policy": int(values["policy"])} == mine, answer.source
            stranger = ledgers["download"].check({"payment": "alipay/2088000000009999"}, policy="download")
            assert (stranger.tier, stranger.policy) == ("clear", str(policy))
            clean = ledger.rt.lookups.from_memory(ledger.bolt.member(), lookup_request(ledger.rt, ledger.person(9)))
            if clean is not None:
                answered = json.loads(clean)
                kept = datetime.fromisoformat(answered["expires_at"]) - datetime.fromisoformat(answered["as_of"])
                minutes = ledger.rt.policy.lookup_expiry_minutes
                assert (answered["policy"], kept) == (policy, timedelta(minutes=minutes))
            assert mine["policy"] == policy
            return mine

        ledger.clock.moment = moment - timedelta(hours=3)
        old = snapshot(ledger)
        assert old is not None
        assert (old.manifest.policy, old.manifest.not_after) == (before.version, moment)
        former = agreed(before.version)
        ledger.clock.moment = moment - timedelta(seconds=1)
        last = agreed(before.version)
        assert last["points"] == former["points"]

        ledger.clock.moment = moment
        with pytest.raises(SnapshotUnknown):
            ledger.rt.snapshots.latest()
        for name, client in ledgers.items():
            with pytest.raises(SnapshotUnknown):
                client.check(raw, policy=name)
        new = snapshot(ledger)
        assert new is not None
        assert (new.manifest.policy, new.manifest.not_after) == (before.version + 1, moment + timedelta(days=1))
        now = agreed(before.version + 1)
        assert now["points"] < former["points"]
        assert ledger.rt.policy.lookup_expiry_minutes == 7


def test_two_processes_cross_the_moment_together(ledger: LedgerFixture, tmp_path: Path) -> None:
    """One began before the publication, one after it; none is started again. A snapshot of the former policy is served
    by both until the moment, and by none from then on; direct, private and local answers agree on both sides."""
    raw = {"payment": "alipay/2088000000000000"}
    ledger.report(ledger.acme, [(Kind.PAYMENT, ledger.person(0)[1][1])])
    before = ledger.rt.policy.version
    clock = TurnedFile(ledger, tmp_path / "moment")
    with ExitStack() as stack:
        urls = {"early": stack.enter_context(api_process(ledger, clock))}
        moment = announce(ledger, **LIGHTER)
        clock.turn(moment - timedelta(hours=1))
        urls["late"] = stack.enter_context(api_process(ledger, clock))
        ledgers = {name: stack.enter_context(sdk(ledger, url, tmp_path / name)) for name, url in urls.items()}

        def suite_of(name: str) -> dict[str, Any]:
            return dict(httpx2.get(f"{urls[name]}/v1/suite").json())

        def served(name: str) -> str | None:
            try:
                return ledgers[name].check(raw, policy="private").policy
            except SnapshotUnknown:
                return None

        def agreed(policy: int) -> float:
            """The points that both processes say, whichever way they are asked."""
            answers: list[Lookup | Check] = []
            for client in ledgers.values():
                answers.append(client.lookup(raw, order="A-1"))
                answers += [client.check(raw, policy=way) for way in POLICIES]
            assert {answer.policy for answer in answers} == {str(policy)}
            (points,) = {answer.points for answer in answers}
            assert points is not None
            return points

        def serves(policy: int) -> None:
            for name in urls:
                until(partial(lambda name: served(name) == str(policy), name), f"{name} serves policy {policy}")

        until(lambda: suite_of("early")["next_policies"], "the early process finds the publication")
        assert snapshot(ledger) is not None
        assert {suite_of(name)["policy"] for name in urls} == {before}
        serves(before)
        former = agreed(before)
        clock.turn(moment - timedelta(seconds=1))
        assert agreed(before) == former

        clock.turn(moment)
        for name, client in ledgers.items():
            assert (suite_of(name)["policy"], served(name)) == (before + 1, None)
            for way in POLICIES:
                with pytest.raises(SnapshotUnknown):
                    client.check(raw, policy=way)
            assert client.lookup(raw, order="A-1").policy == str(before + 1)
        assert snapshot(ledger) is not None
        serves(before + 1)
        assert agreed(before + 1) < former


def test_a_process_finds_what_was_published_within_seconds(ledger: LedgerFixture) -> None:
    timeline = ledger.rt.policies.timeline
    text = changed_policy(timeline.newest.version + 1, timeline.newest.text, **LIGHTER)
    done = publish_policy(ledger.rt.engine, text, ledger.clock())
    assert REFRESH_SECONDS <= 5
    ledger.rt.policies.worker.wake()
    until(lambda: ledger.rt.policies.timeline.newest == done, "the entry is found")
    said = suite(ledger.rt.settings, ledger.rt.keys, ledger.rt.policies.timeline, ledger.rt.now())
    assert said["policy"] == timeline.newest.version
    assert [policy["version"] for policy in said["next_policies"]] == [done.version]
    ledger.clock.moment = done.in_effect_at
    served = suite(ledger.rt.settings, ledger.rt.keys, ledger.rt.policies.timeline, ledger.rt.now())
    assert (served["policy"], served["next_policies"]) == (done.version, [])


def test_a_policy_that_two_refreshes_read_counts_once(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ledger.rt.policies.timeline.published
    text = changed_policy(before[-1].version + 1, before[-1].text, **LIGHTER)
    has_read, go_on = threading.Event(), threading.Event()
    real = policies._published

    def held(connection: Connection, after: int) -> list[PublishedPolicy]:
        published = real(connection, after)
        if threading.current_thread() is slow:
            has_read.set()
            assert go_on.wait(60)
        return published

    slow = threading.Thread(target=ledger.rt.policies.refresh)
    monkeypatch.setattr(policies, "_published", held)
    done = publish_policy(ledger.rt.engine, text, ledger.clock())
    slow.start()
    assert has_read.wait(60)
    ledger.rt.policies.refresh()
    go_on.set()
    slow.join(20)
    assert ledger.rt.policies.timeline.published == (*before, done)


def test_weights_follow_the_policy_from_its_moment_on(ledger: LedgerFixture) -> None:
    """In snapshots at once, in direct answers as soon as the clocks' thread has run, which it does at the moment."""
    with writing(ledger.rt.engine) as connection:
        for number in range(5):
            put_outcome(
                connection, 10**9 + number, "acme", "acme-group", "overturned", ledger.clock() - timedelta(days=1)
            )
    ledger.rt.maintenance.clocks()
    ledger.rt.members.refresh()
    before = ledger.rt.members.weights()["acme-group"]
    moment = announce(ledger, weights__prior_reports=1)
    after = group_weight(5, 5, parse_policy(ledger.rt.policies.timeline.newest.text or ""))
    assert after < before
    ledger.clock.moment = moment - timedelta(seconds=7)
    assert ledger.rt.maintenance._clocks_turn() == pytest.approx(7.001)
    ledger.rt.members.refresh()
    assert ledger.rt.members.weights()["acme-group"] == before
    ledger.clock.moment = moment
    assert snapshot(ledger) is not None
    with reading(ledger.rt.engine) as connection:
        (row,) = snapshot_store.published(connection)
    assert json.loads(row.weights)["acme-group"] == after
    ledger.rt.members.refresh()
    assert ledger.rt.members.weights()["acme-group"] == after
    assert ledger.rt.maintenance._clocks_turn() == ledger.rt.settings.appeal_clock_seconds


def test_a_report_that_waits_across_the_moment_is_recorded_under_the_policy_of_its_entry(ledger: LedgerFixture) -> None:
    """It was checked a second earlier, when it was kept for longer."""
    moment = announce(ledger, **SHORTER)
    ledger.clock.moment = moment - timedelta(seconds=1)
    payload = report_payload(ledger.rt, ledger.acme, ledger.person())
    command = check_report(ledger.rt.reports, ledger.acme.member(), payload, "key")
    act_day = day_floor(ledger.clock() - timedelta(days=6))
    assert command.intake.expires_day == act_day + 365
    ledger.clock.moment = moment
    stored = ledger.rt.sequencer.submit(command).result(60)
    report = json.loads(stored.body)
    assert report["expires_at"] == format_time(from_day(act_day + 100))
    with reading(ledger.rt.engine) as connection:
        opening = log_store.read_body(connection, report["entry_index"])
    assert opening is not None
    entry = json.loads(opening[2])
    assert (entry["policy"], entry["expires_at"]) == (ledger.rt.policy.version, report["expires_at"])


def test_an_expiry_that_a_policy_shortens_is_erased_sixty_days_after_the_earlier_day(ledger: LedgerFixture) -> None:
    old = ledger.report(ledger.acme, ledger.person())
    acted = ledger.clock() - timedelta(days=6)
    short_day = day_floor(acted) + 100
    assert old["expires_at"] == format_time(from_day(day_floor(acted) + 365))
    moment = announce(ledger, **SHORTER)
    ledger.clock.moment = moment
    shown = get_report(ledger.rt.context, ledger.acme.member(), old["id"])
    assert shown["expires_at"] == format_time(from_day(short_day)), "at once"
    assert shorten_due(ledger.rt.context) == 1
    assert shorten_due(ledger.rt.context) == 0
    ledger.clock.moment = from_day(short_day) - timedelta(seconds=1)
    assert direct(ledger.rt, ledger.bolt, ledger.person())["events"] == 1
    ledger.clock.moment = from_day(short_day)
    assert direct(ledger.rt, ledger.bolt, ledger.person())["events"] == 0
    assert get_report(ledger.rt.context, ledger.acme.member(), old["id"])["status"] == "expired"
    ledger.clock.moment = from_day(short_day + 60) - timedelta(seconds=1)
    assert ledger.rt.maintenance.round() == 0
    with reading(ledger.rt.engine) as connection:
        leaf = log_store.read_leaf(connection, old["entry_index"])
        opening = log_store.read_body(connection, old["entry_index"])
    assert leaf is not None
    assert opening is not None
    assert parse_leaf(bytes(leaf)).commitment == commitment(bytes(opening[1]), bytes(opening[2]))
    ledger.clock.moment = from_day(short_day + 60)
    assert ledger.rt.maintenance.round() == 1
    assert ledger.rt.maintenance.round() == 0
    with pytest.raises(NotFound):
        get_report(ledger.rt.context, ledger.acme.member(), old["id"])
    assert publish(ledger.rt.settings).frozen is None
    with reading(ledger.rt.engine) as connection:
        leaves = [bytes(leaf) for leaf in connection.scalars(select(LogEntry.leaf).order_by(LogEntry.entry_index))]
        published = log_store.latest_checkpoint(connection)
        bodies = set(connection.scalars(select(EntryBody.type)))
    assert leaves[old["entry_index"]] == bytes(leaf), "the log keeps every leaf"
    assert published is not None
    assert published.root == root_of([leaf_hash(leaf) for leaf in leaves])
    assert bodies == {"erasure"}


def test_what_a_policy_shortened_stays_short_under_the_next_one(ledger: LedgerFixture) -> None:
    """Also when the next one keeps for longer again, and no process ran while the shorter one was in effect."""
    recorded = [ledger.report(ledger.acme, ledger.person())]
    grave = ledger.report(
        ledger.bolt, ledger.person(1), conduct="tampered_video", evidence=evidence("original_file", "admission")
    )
    first = announce(ledger, **SHORTER)
    second = announce(ledger, retention_days__3=300)
    assert second == first + timedelta(days=1)
    ledger.clock.moment = second + timedelta(hours=2)
    recorded.append(ledger.report(ledger.acme, ledger.person(2)))
    assert shorten_due(ledger.rt.context) == 1
    assert shorten_due(ledger.rt.context) == 0
    days = {}
    with reading(ledger.rt.engine) as connection:
        for table, key in ((Report, Report.id), (Listing, Listing.report_id)):
            days[table] = {row[0]: row[1] for row in connection.execute(select(key, table.expires_day))}
    assert days[Report] == days[Listing]
    numbers = [decode_id("rp", report["id"], ledger.rt.settings.service) for report in (*recorded, grave)]
    kept = [days[Report][number] for number in numbers]
    assert kept[0] - _act_day(ledger, recorded[0]) == 100
    assert kept[1] - _act_day(ledger, recorded[1]) == 300, "recorded when 300 days were in effect"
    assert kept[2] - _act_day(ledger, grave) == 1095, "another severity"


def _act_day(ledger: LedgerFixture, report: dict[str, Any]) -> int:
    number = decode_id("rp", str(report["id"]), ledger.rt.settings.service)
    with reading(ledger.rt.engine) as connection:
        ended_at = connection.scalar(select(Report.act_ended_at).where(Report.id == number))
    assert ended_at is not None
    return day_floor(ended_at)


def publish_as_a_later_version(ledger: LedgerFixture, text: str) -> datetime:
    """Append the entry of the next policy as a program does that can read the form of `text`, and return its moment."""
    with writing(ledger.rt.engine) as connection:
        head, recorded_at = open_head(connection, ledger.clock())
        moment = first_allowed(ledger.rt.policies.timeline, recorded_at)
        body = policy_body(
            version=ledger.rt.policies.timeline.newest.version + 1,
            toml_sha256=sha256(text.encode()).digest(),
            published_at=recorded_at,
            in_effect_at=moment,
        )
        insert_text(connection, text)
        append(connection, head, [GovernanceDraft(GovernanceType.POLICY, body)], recorded_at)
    return moment


def test_a_policy_that_this_program_cannot_read_stops_answers_from_its_moment_on(
    ledger: LedgerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """Until then it answers and logs warnings; from then on it answers under no other policy."""
    policy = ledger.rt.policy
    moment = publish_as_a_later_version(ledger, "a form of a later version")
    ledger.rt.policies.refresh()
    assert f"policy_unreadable {policy.version + 1}" in caplog.text
    ledger.clock.moment = moment - timedelta(seconds=1)
    assert direct(ledger.rt, ledger.bolt, ledger.person())["policy"] == policy.version
    with opened(ledger.rt.settings, ledger.clock) as rt:
        assert rt.policy == policy
    ledger.clock.moment = moment
    with pytest.raises(PolicyUnreadable, match="upgrade"):
        direct(ledger.rt, ledger.bolt, ledger.person())
    with pytest.raises(PolicyUnreadable, match="upgrade"), opened(ledger.rt.settings, ledger.clock):
        pass
    with over_http(ledger.rt, ledger.clock) as url, httpx2.Client(base_url=url, verify=False) as client:
        said = client.get("/v1/suite").json()
        assert (said["policy"], said["next_policies"]) == (policy.version + 1, [])
        assert client.get("/readyz").json()["checks"]["policy"] == "unreadable"
        assert client.get("/readyz").status_code == client.get("/readyz/write").status_code == 503


def test_a_text_that_was_altered_in_the_database_is_not_used(ledger: LedgerFixture) -> None:
    moment = announce(ledger, **LIGHTER)
    with writing(ledger.rt.engine) as connection:
        insert_text(connection, "another text")  # under its own digest: it belongs to no entry
        connection.exec_driver_sql("UPDATE policy_text SET text = text || '# altered'")
    ledger.clock.moment = moment
    with pytest.raises(PolicyUnreadable, match="not in the database"), opened(ledger.rt.settings, ledger.clock):
        pass
    ledger.clock.moment = moment - timedelta(seconds=1)
    with opened(ledger.rt.settings, ledger.clock) as rt:
        assert rt.policy == ledger.rt.policy, "the shipped text stands in for the first one"


def test_published_texts_are_served_to_everybody(ledger: LedgerFixture) -> None:
    first = ledger.rt.policies.timeline.newest
    moment = announce(ledger, **LIGHTER)
    second = ledger.rt.policies.timeline.newest
    with over_http(ledger.rt, ledger.clock) as url, httpx2.Client(base_url=url, verify=False) as client:
        for now, current in ((moment - timedelta(seconds=1), first), (moment, second)):
            ledger.clock.moment = now
            listed = client.get("/v1/policies").json()
            assert listed["in_effect"] == current.version
            assert [listing["version"] for listing in listed["policies"]] == [first.version, second.version]
            assert listed["policies"][1]["in_effect_at"] == format_time(moment)
        for listing, entry in zip(listed["policies"], (first, second), strict=True):
            answer = client.get(f"/v1/policies/{entry.version}")
            shown = answer.json()
            assert {**listing, "toml": entry.text} == shown
            assert listing["toml_sha256"] == b64url(sha256(shown["toml"].encode()).digest())
            etag = answer.headers["etag"]
            assert client.get(f"/v1/policies/{entry.version}", headers={"If-None-Match": etag}).status_code == 304
        for unknown in ("0", "9999", "01", "-1", "x", "1e1", "99999999999999999999", "%D9%A1"):
            refused = client.get(f"/v1/policies/{unknown}")
            assert (refused.status_code, refused.json()["code"]) == (404, "not_found"), unknown


def test_a_person_finds_the_rules_and_their_announced_change_in_the_record(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person())
    moment = announce(ledger, **LIGHTER)
    newest = ledger.rt.policies.timeline.newest
    record = own_record(ledger.rt.context, ledger.rt.members.weights(), session_of(ledger, ledger.person()))
    standing = record["standing"]
    assert standing["policy"] == newest.version - 1
    assert standing["next_policies"] == [{"version": newest.version, "in_effect_at": format_time(moment)}]
    OwnStanding.model_validate_json(json.dumps(standing))
    ledger.clock.moment = moment
    record = own_record(ledger.rt.context, ledger.rt.members.weights(), session_of(ledger, ledger.person()))
    assert (record["standing"]["policy"], record["standing"]["next_policies"]) == (newest.version, [])
