"""Load that remembers what was acknowledged, and an audit that compares it with what the database holds."""

from __future__ import annotations

import json
import random
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2
from sqlalchemy import func, select

from ledger.protocol import sodium
from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import decode_id
from ledger.protocol.tags import tag
from ledger.server.db.engine import open_engine, reading
from ledger.server.db.tables.log import CheckpointRow, EntryBody, LogEntry, LogHead
from ledger.server.db.tables.reports import Listing, Report, Reversal
from ledger.server.keys.files import load_log_key, raw_public
from ledger.server.log.writer import tile_reader
from ledger.server.runtime import Runtime, utc_now
from ledger.server.settings import Settings
from ledger.tlog.checkpoint import open_checkpoint
from ledger.tlog.entries import commitment, parse_leaf
from ledger.tlog.merkle import leaf_hash, tree_root
from tests.faults.oracle import standings_from_entries
from tests.oracles import root_of
from tests.support import Platform, lookup_request, mint, opened, report_payload, submit_lookup

PEOPLE = 40
"""Few people, so that acts, orders and standings meet."""
PAUSE_SECONDS = 0.1
"""Between two tries of a request that was cut or failed. An outbox waits longer."""


@dataclass
class Acknowledged:
    """What a server said it kept: report ids by idempotency key, withdrawn reports, and answers by status."""

    reports: dict[str, str] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    doubled: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Reporters:
    """Threads that report, repeat and withdraw against whatever `url` is now, until stopped."""

    def __init__(self, rt: Runtime, platforms: list[Platform], *, threads: int, seed: int) -> None:
        self.rt, self.platforms, self.seen = rt, platforms, Acknowledged()
        self.url = ""
        self._stop = threading.Event()
        base = random.Random(seed)
        self.people = [sodium.scalarmult_base(sodium.scalar_reduce(base.randbytes(64))) for _ in range(PEOPLE)]
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed * 1000 + number),), daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)
            assert not thread.is_alive()

    def _run(self, rng: random.Random) -> None:
        with httpx2.Client(verify=False, timeout=10) as client:
            while not self._stop.is_set():
                platform = rng.choice(self.platforms)
                if rng.random() < 0.15 and self._withdraw(client, platform, rng):
                    continue
                self._report(client, platform, rng)

    def _report(self, client: httpx2.Client, platform: Platform, rng: random.Random) -> None:
        payload = report_payload(
            self.rt, platform, [(Kind.PHONE, rng.choice(self.people))], amount_minor=rng.choice([100, 200])
        )
        key = f"{platform.name}:{secrets.token_hex(12)}"
        # As an outbox would: the same request under the same key until there is an answer.
        while not self._stop.is_set():
            answer = self._post(client, platform, "/v1/reports", payload, key)
            if answer is None or answer.status_code >= 500:
                continue
            assert answer.status_code == 201, answer.text
            self._remember(key, answer.json()["id"])
            if rng.random() < 0.2:
                again = self._post(client, platform, "/v1/reports", payload, key)
                if again is not None and again.status_code == 201:
                    self._remember(key, again.json()["id"])
            return

    def _withdraw(self, client: httpx2.Client, platform: Platform, rng: random.Random) -> bool:
        with self.seen.lock:
            mine = [value for key, value in self.seen.reports.items() if key.startswith(platform.name + ":")]
        if not mine:
            return False
        report_id = rng.choice(mine)
        answer = self._post(
            client, platform, f"/v1/reports/{report_id}/withdraw", {"reason": "wrong_facts"}, secrets.token_hex(12)
        )
        if answer is not None and answer.status_code == 200:
            with self.seen.lock:
                if report_id in self.seen.withdrawn:
                    self.seen.doubled.append(report_id)
                self.seen.withdrawn.add(report_id)
        return True

    def _remember(self, key: str, report_id: str) -> None:
        with self.seen.lock:
            if self.seen.reports.setdefault(key, report_id) != report_id:
                self.seen.doubled.append(key)

    def _post(
        self, client: httpx2.Client, platform: Platform, path: str, body: Any, key: str
    ) -> httpx2.Response | None:
        token = mint(platform.key, platform.kid, platform.name, self.rt.settings.service)
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key, "Content-Type": "application/json"}
        try:
            answer = client.post(self.url + path, content=json.dumps(body), headers=headers)
        except httpx2.TransportError:
            self._count("cut")
            time.sleep(PAUSE_SECONDS)
            return None
        self._count(str(answer.status_code))
        if answer.status_code >= 500:
            time.sleep(PAUSE_SECONDS)
        return answer

    def _count(self, what: str) -> None:
        with self.seen.lock:
            self.seen.statuses[what] += 1


def audit(settings: Settings, seen: Acknowledged, people: list[bytes]) -> dict[str, int]:
    """Every promise about the log, checked against the database. Returns counts for the reader."""
    log_public = raw_public(load_log_key(settings))
    engine = open_engine(settings.database_url)
    try:
        with reading(engine) as connection:
            size = connection.scalar(select(LogHead.size)) or 0
            entries = connection.execute(
                select(LogEntry.entry_index, LogEntry.leaf).order_by(LogEntry.entry_index)
            ).all()
            bodies = {row.entry_index: row for row in connection.execute(select(EntryBody.__table__))}
            checkpoints = connection.execute(select(CheckpointRow.size, CheckpointRow.root, CheckpointRow.note)).all()
            reports = {row.id: row for row in connection.execute(select(Report.__table__))}
            reversed_ids = list(connection.scalars(select(Reversal.report_id)))
            listed = set(connection.scalars(select(Listing.report_id)))
            read_tile = tile_reader(connection)
            stored_root = tree_root(size, read_tile)
            doubled_orders = connection.scalar(
                select(func.count()).select_from(
                    select(Report.control_group, Report.order_ref)
                    .where(Report.live)
                    .group_by(Report.control_group, Report.order_ref)
                    .having(func.count() > 1)
                    .subquery()
                )
            )
    finally:
        engine.dispose()

    assert [index for index, _ in entries] == list(range(size)), "indexes are dense"
    leaves = [bytes(leaf) for _, leaf in entries]
    hashes = [leaf_hash(leaf) for leaf in leaves]
    assert stored_root == root_of(hashes), "the root recomputes"
    for index, leaf in enumerate(leaves):
        parsed = parse_leaf(leaf)
        assert parsed.index == index
        if parsed.commitment is not None:
            body = bodies[index]
            assert commitment(bytes(body.salt), bytes(body.body)) == parsed.commitment
    for checkpoint_size, root, note in checkpoints:
        checkpoint = open_checkpoint(note, settings.origin, log_public)
        assert (checkpoint.size, checkpoint.root) == (checkpoint_size, bytes(root))
        assert checkpoint.root == root_of(hashes[:checkpoint_size]), "every checkpoint signed is a prefix"

    assert seen.doubled == [], "no key got two reports, nothing was withdrawn twice"
    ids = [decode_id("rp", public, settings.service) for public in seen.reports.values()]
    assert len(set(ids)) == len(ids)
    assert set(ids) <= set(reports), "every acknowledged report is in the log"
    for report_id in ids:
        assert json.loads(bytes(bodies[report_id].body))["type"] == "report"
    withdrawn = {decode_id("rp", public, settings.service) for public in seen.withdrawn}
    assert len(reversed_ids) == len(set(reversed_ids)), "nothing is reversed twice"
    assert withdrawn <= set(reversed_ids), "every acknowledged withdrawal is kept"
    assert doubled_orders == 0
    assert listed == {row.id for row in reports.values() if row.live}
    assert {row.id for row in reports.values() if not row.live} == set(reversed_ids)
    standings_agree(settings, people)
    return {"entries": size, "checkpoints": len(checkpoints), "reports": len(reports), "reversed": len(reversed_ids)}


def standings_agree(settings: Settings, people: list[bytes]) -> None:
    """What a lookup says equals the fold of the events that the log's own bodies tell."""
    moment = utc_now()  # one clock for both, or a point could decay in between
    with opened(settings, lambda: moment) as rt:
        expected = standings_from_entries(rt, people)
        for person in people:
            answer = json.loads(submit_lookup(rt, _auditor(), lookup_request(rt, [(Kind.PHONE, person)])).result(30))
            required = expected[tag(Kind.PHONE, person)]
            assert (answer["tier"], answer["points"], answer["events"], answer["reporters"]) == (
                required.tier,
                required.points,
                required.events,
                required.reporters,
            ), b64url(person)


def _auditor() -> Any:
    return Platform("auditor", "auditors", "auditor-1").member()
