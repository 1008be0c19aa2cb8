"""The standing of every listed tag, one after another. The dashboard counts them and the simulator compares them.

A tag belongs to one identifier. A person has several identifiers, and a lookup combines the listings of all of them, so
its tier may be higher than that of each of the person's tags here.
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
"""After every `PAUSE_TAGS` tags the count sleeps for `PAUSE_SHARE` times the time that they took, because the same
process serves requests. So the count uses at most one fifth of the interpreter's time; 10^6 tags take minutes."""


class CountStoppedError(Exception):
    """Raised when the process stops before the count is complete; the partial count must not be stored."""


def tag_events(rows: Iterator[ListingRow]) -> Iterator[list[Event]]:
    """Yield the events of each tag, one tag after another; `rows` are ordered by tag."""
    for _, listings in groupby(rows, attrgetter("tag")):
        yield merge([listing_event(row, Kind(row.kind)) for row in listings])


def count_tiers(
    engine: Engine,
    policy: Policy,
    now: datetime,
    sleep: Callable[[float], None] = time.sleep,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[Tier, int]:
    """Return the number of listed tags of the current key epoch in each tier at `now`. It reads the state of one moment
    and writes nothing.

    Between groups of tags, `sleep` is called with a number of seconds, and the count ends if `stopped` returns True.
    Raises CountStoppedError then, ConfigurationError if no key epoch is current, DatabaseUnavailable.
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
    """Count the tiers of the UTC day and store the counts; return them if this call stored them. Return None if the day
    was counted before, or if `stopped` ended the count (see `count_tiers`).

    The log's head is not locked: the count is one read transaction, and another transaction inserts four rows. Two
    processes may count at the same time; the rows of the first are stored. Raises ConfigurationError if no key epoch is
    current, DatabaseUnavailable.
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
