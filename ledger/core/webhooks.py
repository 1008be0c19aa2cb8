"""Webhooks by the Standard Webhooks specification (version 1.0.0): types, messages, signatures, when to try again.

A message is thin: its type, its time, ids and states. What they mean is read through the API by whoever is told, so a
copy of a message tells nothing about a person.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum

from ledger.core.encoding import format_time
from ledger.errors import ConfigurationError, InvalidSignature, WebhookInvalid

SECRET_PREFIX = "whsec_"
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE_SECONDS = 300
"""How far a receiver lets the time of sending differ from its own clock."""

LADDER = tuple(
    timedelta(seconds=seconds)
    for seconds in (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
)
"""How long each attempt waits after the one before; after the last one the delivery has failed (75.6 hours in all)."""

JITTER_SHARE = 0.1
"""A wait is drawn out by up to this share, so that what failed together does not come back together."""

_SIGNATURE_BYTES = hashlib.sha256().digest_size
_TIMESTAMP = re.compile(r"[0-9]{1,12}\Z", re.ASCII)


class WebhookType(StrEnum):
    """What a platform can be told."""

    APPEAL_OPENED = "appeal.opened"
    APPEAL_QUESTION_ASKED = "appeal.question_asked"
    APPEAL_DECIDED = "appeal.decided"
    REPORT_VOIDED = "report.voided"
    SNAPSHOT_PUBLISHED = "snapshot.published"
    KEY_ROTATED = "key.rotated"
    TEST = "webhook.test"


class DeliveryState(StrEnum):
    """Where a delivery stands. It is tried again only while it is pending."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


def message_body(type_: WebhookType, now: datetime, data: Mapping[str, str | int]) -> str:
    """The bytes of a message, as they are signed and sent at every attempt. `data` holds ids and states only."""
    document = {"type": type_.value, "timestamp": format_time(now), "data": dict(data)}
    return json.dumps(document, ensure_ascii=True, separators=(",", ":"))


def parse_types(names: Iterable[str]) -> tuple[WebhookType, ...]:
    """The subscribed types in their order of declaration. Raises WebhookInvalid for none, a doubled or an unknown one.

    `webhook.test` is not subscribed to: it is sent to who asks for it.
    """
    wanted = list(names)
    known = [one for one in WebhookType if one is not WebhookType.TEST]
    if not wanted or len(set(wanted)) != len(wanted) or not set(wanted) <= set(known):
        raise WebhookInvalid(f"Events are one or more, each once, of: {', '.join(known)}.")
    return tuple(one for one in known if one in wanted)


# --- signatures -------------------------------------------------------------------------------------------------


def format_secret(secret: bytes) -> str:
    """A secret as people see it: `whsec_` and base64."""
    return SECRET_PREFIX + base64.b64encode(secret).decode("ascii")


def parse_secret(text: str) -> bytes:
    """Inverse of `format_secret`. Raises ConfigurationError; its message holds nothing of the secret."""
    try:
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not text.startswith(SECRET_PREFIX) or not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise ConfigurationError("A webhook secret is whsec_ and the base64 of 24 to 64 bytes.")
    return secret


def _mac(secret: bytes, message_id: str, timestamp: int, body: bytes) -> bytes:
    return hmac.digest(secret, b"%s.%d.%s" % (message_id.encode(), timestamp, body), hashlib.sha256)


def signature_header(secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature for each secret. `timestamp` is the time of the
    attempt, in Unix seconds."""
    macs = (_mac(secret, message_id, timestamp, body) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(mac).decode('ascii')}" for mac in macs)


def check_signature(
    secrets: Sequence[bytes],
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    tolerance_seconds: int = TOLERANCE_SECONDS,
) -> tuple[str, int]:
    """The message's id and the time of sending (Unix seconds), if one of the signatures is by one of `secrets`.

    Every signature is compared with every secret in constant time. Signatures of versions other than v1 are passed
    over. Raises InvalidSignature: a header is missing or malformed, the time is too far off, or nothing matches.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    message_id, stamp = lower.get(ID_HEADER, ""), lower.get(TIMESTAMP_HEADER, "")
    if not message_id or not _TIMESTAMP.match(stamp):
        raise InvalidSignature("The webhook headers are missing or malformed.")
    timestamp = int(stamp)
    if abs(now.timestamp() - timestamp) > tolerance_seconds:
        raise InvalidSignature("The webhook was sent at another time than now: an old message, or a wrong clock.")
    expected = [_mac(secret, message_id, timestamp, body) for secret in secrets]
    given = [_signature(part) for part in lower.get(SIGNATURE_HEADER, "").split(" ")]
    matches = [hmac.compare_digest(mac, one) for mac in expected for one in given]
    if not any(matches):
        raise InvalidSignature("No signature of the webhook is by this secret.")
    return message_id, timestamp


def _signature(part: str) -> bytes:
    """The bytes of one signature; none that could match for another version or a malformed one."""
    version, _, encoded = part.partition(",")
    if version != "v1":
        return b""
    try:
        mac = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return mac if len(mac) == _SIGNATURE_BYTES else b""


# --- attempts ---------------------------------------------------------------------------------------------------


def next_wait(
    attempts: int,
    jitter: float,
    retry_after: timedelta | None = None,
    ladder: Sequence[timedelta] = LADDER,
) -> timedelta | None:
    """How long to wait after `attempts` failed ones; None: there is no further one. `jitter` lies in [0, 1).

    What the receiver asked for (`retry_after`) makes the wait longer, up to the next rung of the ladder.
    """
    if attempts >= len(ladder):
        return None
    wait = ladder[attempts]
    if retry_after is not None:
        longest = ladder[min(attempts + 1, len(ladder) - 1)]
        wait = max(wait, min(retry_after, longest))
    return wait * (1 + JITTER_SHARE * jitter)


def parse_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """`Retry-After` (RFC 9110 section 10.2.3): seconds or an HTTP date. None for nothing, nonsense or the past."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=int(text[:9]))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    wait = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now
    return wait if wait > timedelta(0) else None
