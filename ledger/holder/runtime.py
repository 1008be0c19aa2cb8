"""What one process of a holder's service holds open: folder, shares, database, log, background threads."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Engine

from ledger.client.transport.budgets import Deadline
from ledger.client.transport.http import Transport
from ledger.client.verify.log import Fetch
from ledger.errors import ConfigurationError, NotFound, Unavailable
from ledger.holder import budget_queries
from ledger.holder.database import open_holder_database
from ledger.holder.evaluation import Evaluator
from ledger.holder.folder import HolderFolder, read_folder
from ledger.holder.log_follower import LogFollower
from ledger.holder.metrics import HOLDER_METRICS_PREFIX, HolderMetrics, holder_gauge
from ledger.holder.queries import read_head
from ledger.holder.serving import HeldShares, share_states
from ledger.holder.settings import HolderSettings
from ledger.holder.state import StateReader
from ledger.holder.tokens import KEPT_SECONDS, TokenVerifier
from ledger.protocol.encoding import canonical_json
from ledger.server.db.engine import reading, within, writing
from ledger.server.process.supervision import Worker
from ledger.tlog.key_statement import KeyStatement, make_card

SHARES_SECONDS = 5.0
"""How often the holder's folder is read again."""
UPKEEP_SECONDS = 60.0
FETCH_SECONDS = 30.0
_GONE = (404, 410)

log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """Return the current time (aware, UTC)."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class HolderRuntime:
    """Everything that one process of a holder's service holds open."""

    settings: HolderSettings
    folder: HolderFolder
    engine: Engine
    state: StateReader
    follower: LogFollower
    shares: HeldShares
    tokens: TokenVerifier
    evaluator: Evaluator
    metrics: HolderMetrics
    now: Callable[[], datetime]
    workers: tuple[Worker, ...]
    transport: Transport | None

    def start(self) -> HolderRuntime:
        """Start the background threads, and return this."""
        for worker in self.workers:
            worker.start()
        return self

    def close(self, seconds: float = 10.0) -> None:
        """Stop the background threads and close everything; threads that hang are left behind."""
        for worker in self.workers:
            worker.stop()
        end = time.monotonic() + seconds
        for worker in self.workers:
            worker.close(max(0.05, end - time.monotonic()))
        if self.transport is not None:
            self.transport.close()
        self.engine.dispose()

    def card(self) -> bytes:
        """Return the holder's card of its newest share that is served. Raises NotFound before one is served, and
        ConfigurationError when the signing key cannot be read."""
        states = share_states(self.state.current(), self.shares.shares, self.now())
        served = [each.share for each in states if each.state == "served"]
        if not served:
            raise NotFound("The log does not have a sharing with this holder yet.")
        newest = max(served, key=lambda share: (share.epoch, share.generation))
        return _signed_card(self.folder, newest.statement, newest.index)

    def readiness(self) -> dict[str, Any]:
        """Return the answer of `GET /readyz`, from memory. `status` is `ready` when a share is served, the database
        answers, and the log continues the last head."""
        snapshot, fresh = self.state.latest, self.state.fresh()
        states = share_states(snapshot, self.shares.shares, self.now())
        serving = any(each.state == "served" for each in states)
        fault = None if snapshot.head is None else snapshot.head.fault
        checks = {worker.name: worker.progress().state for worker in self.workers}
        ready = fresh and serving and fault is None
        return {
            "status": "ready" if ready else "not_ready",
            "database": "ok" if fresh else "unavailable",
            "shares": "ok" if serving else "none_served",
            "log": "unreachable" if self.follower.unreachable and fault is None else fault or "ok",
            "checks": checks,
        }

    def gauges(self) -> Iterator[Metric]:
        """Yield the gauges of this process, from memory."""
        snapshot, now = self.state.latest, self.now()
        text = "Whether evaluations are answered (GET /readyz)."
        yield holder_gauge("ready", text, self.readiness()["status"] == "ready")
        head = snapshot.head
        if head is not None:
            age = (now - head.seen_at).total_seconds()
            yield holder_gauge("log_age_seconds", "Since the log was last read and continued the head.", age)
            yield holder_gauge("log_entries", "Entries of the log's last accepted head.", head.size)
            yield holder_gauge("log_consistent", "Whether the log continues the last head.", head.fault is None)
            yield holder_gauge("log_forked", "Whether the log signed two histories.", head.fork_note is not None)
            text = "Key statements in the log that this holder refused."
            yield holder_gauge("statements_refused", text, len(snapshot.refused_statements))
        served = GaugeMetricFamily(
            HOLDER_METRICS_PREFIX + "share", "Held shares: 1 while served.", labels=["epoch", "generation", "state"]
        )
        for each in share_states(snapshot, self.shares.shares, now):
            labels = [str(each.share.epoch), str(each.share.generation), each.state]
            served.add_metric(labels, float(each.state == "served"))
        yield served
        yield holder_gauge("platforms_admitted", "Platforms admitted here.", len(snapshot.members))
        sound = GaugeMetricFamily(
            HOLDER_METRICS_PREFIX + "thread_ok", "Whether a background thread makes progress.", labels=["thread"]
        )
        for worker in self.workers:
            sound.add_metric([worker.name], float(worker.progress().state == "ok"))
        yield sound


def open_holder_runtime(
    settings: HolderSettings, now: Callable[[], datetime] = utc_now, *, fetch: Fetch | None = None
) -> HolderRuntime:
    """Open everything and read the log once. The background threads run after `start`. `fetch` reads the log (default:
    from the ledger's address).

    Raises ConfigurationError for a folder, database or setting that cannot work, and for a share that does not fit the
    key in the log; Unavailable when the log cannot be read and the holder has no state of it; Inconsistent for a faulty
    log without such a state; DatabaseUnavailable.
    """
    folder = read_folder(settings.dir)
    shares = HeldShares(settings.dir)
    if not shares.shares:
        raise ConfigurationError("This holder has no share yet. Finish the ceremony first (docs/ceremonies.md).")
    for share in shares.shares:
        named = (share.statement.service, share.statement.environment, share.statement.log_key)
        if named != (folder.card.service, folder.card.environment, folder.card.log_key):
            raise ConfigurationError("A share in the holder's folder is of another ledger than its ledger.json.")
    engine = open_holder_database(settings, upgrade=True)
    shared = settings.shared
    reads, writes = within(engine, shared.read_deadline_ms), within(engine, shared.write_deadline_ms)
    transport = None
    try:
        if fetch is None:
            address = settings.ledger_url or folder.card.url
            transport = Transport(address)
            fetch = log_fetch(transport, address)
        follower = LogFollower(engine, folder.card, fetch, now, seconds=settings.log_seconds)
        try:
            follower.follow()
        except Unavailable:
            with reading(engine) as connection:
                known = read_head(connection) is not None
            if not known:
                raise
        state = StateReader(reads, settings.refresh_seconds)
        shares.check(state.latest, now())
    except BaseException:
        if transport is not None:
            transport.close()
        engine.dispose()
        raise
    follower.on_change = state.refresh
    metrics = HolderMetrics()

    def read_shares() -> None:
        shares.refresh(state.latest, now())

    def upkeep() -> None:
        expired = int((now() - timedelta(seconds=KEPT_SECONDS)).timestamp())
        with writing(engine) as connection:
            budget_queries.forget_tokens(connection, expired)

    workers = (
        state.worker,
        follower.worker,
        Worker(
            "shares", read_shares, seconds=SHARES_SECONDS, delay_seconds=SHARES_SECONDS, patience_seconds=UPKEEP_SECONDS
        ),
        Worker("upkeep", upkeep, seconds=UPKEEP_SECONDS, patience_seconds=5 * UPKEEP_SECONDS),
    )
    runtime = HolderRuntime(
        settings=settings,
        folder=folder,
        engine=engine,
        state=state,
        follower=follower,
        shares=shares,
        tokens=TokenVerifier(folder.holder, folder.card.log_key, now),
        evaluator=Evaluator(settings, writes, shares, metrics, now),
        metrics=metrics,
        now=now,
        workers=workers,
        transport=transport,
    )
    metrics.gauges = runtime.gauges
    return runtime


@lru_cache(maxsize=8)
def _signed_card(folder: HolderFolder, statement: KeyStatement, index: int) -> bytes:
    """Return a card. Cached, because all may ask for it, and making it takes as long as evaluating 20 elements."""
    return canonical_json(make_card(statement, index, folder.url, folder.signing_key()))


def log_fetch(transport: Transport, address: str) -> Fetch:
    """Return a function that fetches a resource of the log: from `<address>/log/`, or from `<address>/` if the address
    ends in `/log`. It raises NotFound if the log does not have the resource, Unavailable if it cannot be reached."""
    prefix = "" if urlsplit(address).path.rstrip("/").endswith("/log") else "/log"

    def fetch(path: str) -> bytes:
        try:
            return transport.send("GET", f"{prefix}/{path}", Deadline(FETCH_SECONDS)).body
        except Unavailable as error:
            if error.details.get("status") in _GONE:  # a mirror of plain files answers 404 without a problem document
                raise NotFound("The log has no such resource.") from error
            raise

    return fetch
