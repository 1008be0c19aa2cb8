"""The standing of every listed tag on its own, streamed: what the dashboard counts and the simulator compares.

A tag is one identifier. A person has several, and a lookup folds what all of them meet, so it may answer a higher tier
than any of the person's tags has here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import groupby
from operator import attrgetter

from sqlalchemy import Engine

from ledger.protocol.encoding import day_floor
from ledger.protocol.identifiers import Kind
from ledger.rules.policy.values import Policy
from ledger.rules.standing import Event, Tier, fold, merge
from ledger.server.db.engine import reading, snapshot_reading, writing
from ledger.server.keys.epochs import current_of, read_epochs
from ledger.server.lookups.queries import ListingRow, listing_event
from ledger.server.platforms.group_weights import weights_at
from ledger.server.stats import queries as store

PAUSE_TAGS = 50
PAUSE_SHARE = 4
"""After so many tags the count sleeps for so many times as long as they took. Requests are served in the same process:
the count takes at most one fifth of an interpreter that it shares, and 10^6 tags take minutes."""


class CountStoppedError(Exception):
    """The process stops; what was counted so far is nothing to store."""


def tag_events(rows: Iterator[ListingRow]) -> Iterator[list[Event]]:
    """The events of one tag after the other; `rows` are ordered by tag."""
    for _, some in groupby(rows, attrgetter("tag")):
        yield merge([listing_event(row, Kind(row.kind)) for row in some])


def count_tiers(
    engine: Engine,
    policy: Policy,
    now: datetime,
    sleep: Callable[[float], None] = time.sleep,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[Tier, int]:
    """How many listed tags of the current key epoch stand in which tier at `now`. It only reads, from one moment.

    `sleep` is called between groups of tags, with seconds; `stopped` is asked there whether the count is given up.
    Raises CountStoppedError, DatabaseUnavailable.
    """
    counts = dict.fromkeys(Tier, 0)
    with snapshot_reading(engine) as connection:
        weights = weights_at(connection, policy, now)
        epoch = current_of(read_epochs(connection)).epoch
        began = time.perf_counter()
        for number, events in enumerate(tag_events(store.stream_tags(connection, epoch)), 1):
            counts[fold(events, weights, policy, now).tier] += 1
            if number % PAUSE_TAGS == 0:
                if stopped():
                    raise CountStoppedError
                sleep(PAUSE_SHARE * (time.perf_counter() - began))
                began = time.perf_counter()
    return counts


def record_daily_tiers(
    engine: Engine,
    policy: Policy,
    now: datetime,
    *,
    sleep: Callable[[float], None] = time.sleep,
    stopped: Callable[[], bool] = lambda: False,
) -> Mapping[Tier, int] | None:
    """Count the tiers of the UTC day, unless that was done before or `stopped` says so (see `count_tiers`); the counts
    if this call wrote them.

    The log's head is not touched: counting is one read transaction, writing another that inserts four rows. Two
    processes may count at once; the rows are those of the first. Raises DatabaseUnavailable.
    """
    day = day_floor(now)
    with reading(engine) as connection:
        if store.has_daily_tiers(connection, day):
            return None
    try:
        counts = count_tiers(engine, policy, now, sleep, stopped)
    except CountStoppedError:
        return None
    with writing(engine) as connection:
        written = store.insert_daily_tiers(connection, day, {tier.value: number for tier, number in counts.items()})
    return counts if written else None
