"""Items of the outbox: which can be sent, in which order, and how many together."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Sequence

from ledger.client.inputs import check_idempotency_key
from ledger.client.outbox.store import Item
from ledger.errors import InvalidRequest

BATCH_ITEMS = 1000
BATCH_BYTES = 3 * 1024 * 1024
"""Longest batch sent; the service reads 4 MiB."""

_CHANGE_PATH = re.compile(r"/v1/reports/(rp_[A-Za-z0-9]{1,29})/(withdraw|restitution)")


def report_id_of(item: Item) -> str:
    """Return the report that a withdrawal or a restitution is about; empty for another path."""
    match = _CHANGE_PATH.fullmatch(item.path)
    return "" if match is None else match[1]


def check_item(item: Item) -> None:
    """Check that an item can be sent. Raises InvalidRequest for an idempotency key that earlier versions did not check,
    and for a damaged row of the file."""
    check_idempotency_key(item.idempotency_key)
    try:
        sent = json.loads(item.content)
        if item.operation == "report":
            body = sent["body"]
            fit = (
                item.path == "/v1/reports"
                and item.content[:1] == b"{"
                and isinstance(body["order_ref"], str)
                and isinstance(body["epoch"], int)
                and isinstance(sent["signature"], str)
            )
        else:
            match = _CHANGE_PATH.fullmatch(item.path)
            text = sent["reason" if item.operation == "withdraw" else "received_at"]
            fit = match is not None and match[2] == item.operation and isinstance(text, str)
    except (ValueError, KeyError, TypeError, RecursionError):
        fit = False
    if not fit:
        raise InvalidRequest("This item of the outbox is damaged. Discard it, and send it again from your records.")


def in_order(items: Sequence[Item]) -> list[Item]:
    """Return items in the order in which a flush sends them: those with the fewest attempts first, then the oldest. No
    item goes before an older one about the same report or order."""
    most: dict[str, int] = {}
    ranked: list[tuple[int, int, Item]] = []
    for item in items:
        matter = _matter(item)
        most[matter] = max(most.get(matter, 0), item.attempts)
        ranked.append((most[matter], item.number, item))
    return [item for _, _, item in sorted(ranked, key=lambda rank: rank[:2])]


def _matter(item: Item) -> str:
    if item.operation != "report":
        return item.path.rpartition("/")[0]
    try:
        return str(json.loads(item.content)["body"]["order_ref"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def take_chunk(queue: deque[Item], size: int) -> list[Item]:
    """Return the next items of `queue` that go into one request, taken out of it: one change, or up to `size` reports
    that stay within `BATCH_BYTES`."""
    chunk = [queue.popleft()]
    length = _length(chunk[0])
    while queue and len(chunk) < size and chunk[0].operation == queue[0].operation == "report":
        length += _length(queue[0])
        if length > BATCH_BYTES:
            break
        chunk.append(queue.popleft())
    return chunk


def _length(item: Item) -> int:
    return len(item.content) + len(item.idempotency_key) + 32
