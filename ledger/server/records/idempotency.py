"""What a write is known by: who asks, under which idempotency key, and a MAC over what is asked."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ledger.errors import InvalidRequest
from ledger.protocol.encoding import canonical_json
from ledger.server.platforms.members import Member
from ledger.server.records.commands import Asked

if TYPE_CHECKING:
    from ledger.server.runtime import Runtime

MAX_KEY_CHARS = 255


def asked(rt: Runtime, member: Member, key: str, request: Mapping[str, Any], operation: str) -> Asked:
    """The request's identity. The MAC is keyed, so that a stolen database allows no guess at what was asked.

    `request` is what was understood, in canonical form: texts in NFC. Raises InvalidRequest for an unfit `key`.
    """
    if not key or len(key) > MAX_KEY_CHARS or not key.isascii() or not key.isprintable():
        raise InvalidRequest("An idempotency key has 1 to 255 visible ASCII characters.")
    text = operation.encode() + b"\n" + canonical_json(request)
    mac = hmac.digest(rt.keys.idempotency_key, text, hashlib.sha256)
    return Asked(member.platform, member.control_group, key, mac)
