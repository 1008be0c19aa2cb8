"""The ledger's entries: private bodies, the commitments that stand for them in public, and public leaves.

A *leaf* is what the Merkle log hashes and everybody may read. Governance entries stand in it in clear. Every
other entry is only a commitment, HMAC-SHA256(salt, canonical body): its type, its platform and its exact time
stay inside the body, so that whoever sees a standing change cannot learn from the log who reported. Body and
salt live in erasable rows; once they are gone the commitment says nothing and every proof still verifies.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from ledger.errors import InvalidCanonicalForm, InvalidEncoding, InvalidRequest, LedgerError
from ledger.protocol.encoding import (
    MAX_INTEGER,
    b64url,
    canonical_json,
    canonical_object,
    format_time,
    parse_time,
    unb64url,
)
from ledger.protocol.row_enum import RowEnum

SALT_BYTES = 32
EVENT_SORT = "event"
_SORT = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
MAX_LEAF_BYTES = 65535
"""An entry bundle of C2SP tlog-tiles gives each entry a 16-bit length."""


def _(message: str) -> str:
    """`message` itself, marked for the catalogues."""
    return message


@dataclass(frozen=True, slots=True)
class EntrySpec:
    """Everything that is known of one type of entry, but for what it does.

    `members` are those that its body always has, `optional` those that it may have (of a private body without `type`).
    `case_title` is the msgid of what it is called on the page of a case, None: it is not shown there.
    """

    code: str
    members: frozenset[str]
    optional: frozenset[str] = frozenset()
    case_title: str | None = None


class EventType(RowEnum):
    """Entries about somebody: committed to in public, never shown."""

    # One row each. A further type is a row here, its text in the catalogues and a row in `docs/log.md`.
    spec: EntrySpec

    REPORT = EntrySpec(
        "report",
        frozenset(
            {
                *("id", "platform", "control_group", "recorded_at", "effective_from", "expires_at", "policy"),
                *("body", "signature"),
            }
        ),
        frozenset({"held_for"}),
        _("Report"),
    )
    WITHDRAWAL = EntrySpec("withdrawal", frozenset({"report", "platform", "reason", "recorded_at"}))
    RESTITUTION = EntrySpec("restitution", frozenset({"report", "platform", "received_at", "recorded_at"}))
    DISPUTE = EntrySpec(
        "dispute",
        frozenset({"report", "case", "round", "grounds", "recorded_at"}),
        frozenset({"suspends"}),
        _("Appeal"),
    )
    RESOLUTION = EntrySpec(
        "resolution",
        frozenset({"report", "case", "round", "outcome", "staff", "recorded_at"}),
        frozenset({"conduct", "slots"}),
        _("Outcome"),
    )
    STATEMENT = EntrySpec(
        "statement",
        frozenset({"report", "revision", "text", "locale", "recorded_at"}),
        case_title=_("Statement"),
    )
    RELEASE = EntrySpec(  # a held report is in effect from here on
        "release",
        frozenset({"report", "effective_from", "staff", "recorded_at"}),
        case_title=_("Release of the held report"),
    )
    REOPENING = EntrySpec(  # a decided case is open again because its reporter has new evidence
        "reopening",
        frozenset({"report", "case", "round", "evidence_sha256", "staff", "recorded_at"}),
        case_title=_("Reopened for the reporter"),
    )
    ERASURE = EntrySpec("erasure", frozenset({"report", "reason", "recorded_at"}))


class GovernanceType(StrEnum):
    """Entries about the ledger itself: public in full."""

    POLICY = "policy"
    KEY_ROTATION = "key_rotation"
    SNAPSHOT = "snapshot"
    PLATFORM_STATUS = "platform_status"


class WithdrawalReason(StrEnum):
    """Why a report was taken back. Those in `LEDGER_REASONS` are the ledger's own, never a platform's."""

    WRONG_PERSON = "wrong_person"
    WRONG_FACTS = "wrong_facts"
    DUPLICATE = "duplicate"
    OTHER = "other"
    LINKED_REPORT_VOID = "linked_report_void"
    """An `account_farm` report falls with either of the reports it rests on."""
    MALFORMED_SUBJECT = "malformed_subject"
    """A subject's element was recorded in another spelling than its canonical one."""
    NOT_RELEASED = "not_released"
    """A held report that was not released in time, or whose release was refused."""


LEDGER_REASONS = frozenset(
    {
        WithdrawalReason.LINKED_REPORT_VOID,
        WithdrawalReason.MALFORMED_SUBJECT,
        WithdrawalReason.NOT_RELEASED,
    }
)
"""Reasons for which only the ledger itself takes a report back."""


class PlatformState(StrEnum):
    """Whether a platform may write, and whether its control group's reports carry weight."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One public record. `commitment` (32 bytes) is set for events, `body` for governance entries. `sort` is `event`, a
    `GovernanceType`, or the sort of a governance entry that a later version added."""

    index: int
    sort: str
    hour: datetime
    commitment: bytes | None = None
    body: Mapping[str, Any] | None = None


def commitment(salt: bytes, body: bytes) -> bytes:
    """HMAC-SHA256 of the canonical `body` under the 32-byte `salt`: 32 bytes. Raises InvalidEncoding."""
    if len(salt) != SALT_BYTES:
        raise InvalidEncoding(f"An entry's salt must have {SALT_BYTES} bytes.")
    return hmac.digest(salt, body, hashlib.sha256)


def event_leaf(index: int, hour: datetime, commitment: bytes) -> bytes:
    """Canonical bytes of an event's leaf; `hour` is rounded down to the full hour.

    Raises InvalidEncoding unless `commitment` has 32 bytes, InvalidRequest for an impossible index.
    """
    if len(commitment) != 32:
        raise InvalidEncoding("A commitment must have 32 bytes.")
    leaf = {"index": _index(index), "sort": EVENT_SORT, "hour": _hour(hour), "commitment": b64url(commitment)}
    return canonical_json(leaf)


def governance_leaf(index: int, sort: GovernanceType, hour: datetime, body: Mapping[str, Any]) -> bytes:
    """Canonical bytes of a governance entry's leaf; `hour` is rounded down to the full hour.

    Raises InvalidRequest for a leaf of more than 65,535 bytes, InvalidCanonicalForm for an unfit body.
    """
    sort = GovernanceType(sort)
    leaf = {"index": _index(index), "sort": sort.value, "hour": _hour(hour), "body": dict(body)}
    data = canonical_json(leaf)
    if len(data) > MAX_LEAF_BYTES:
        raise InvalidRequest(f"A leaf has at most {MAX_LEAF_BYTES} bytes.")
    return data


def parse_leaf(data: bytes) -> Leaf:
    """The leaf in `data`: inverse of `event_leaf` and `governance_leaf`, only canonical bytes are accepted.

    An event's leaf has exactly the members that `event_leaf` writes: a further one would publish something about a
    report. A governance leaf may be of a later version: of another sort, which stands as text in `sort`, and with
    further members, which are ignored. Raises InvalidCanonicalForm for anything else.
    """
    if len(data) > MAX_LEAF_BYTES:
        raise InvalidCanonicalForm("This leaf is too long.")
    value = parse_canonical(data)
    try:
        if isinstance(value, dict):
            return _leaf(value)
    except (LedgerError, ValueError):
        pass
    raise InvalidCanonicalForm("This is not a leaf of this ledger.")


def _leaf(value: dict[str, Any]) -> Leaf:
    """Raises ValueError or a LedgerError for anything that is not a leaf."""
    sort = value.get("sort")
    is_event = sort == EVENT_SORT
    if is_event and value.keys() != {"index", "sort", "hour", "commitment"}:
        raise ValueError("other keys")
    if not {"index", "hour"} <= value.keys():
        raise ValueError("missing keys")
    index, hour = _index(value["index"]), parse_time(value["hour"])
    if hour.minute or hour.second:
        raise ValueError("not a full hour")
    if is_event:
        return Leaf(index, EVENT_SORT, hour, commitment=unb64url(value["commitment"], 32))
    if not isinstance(sort, str) or not _SORT.match(sort) or sort in set(EventType) or "commitment" in value:
        raise ValueError("not a governance entry")
    if not isinstance(value.get("body"), dict):
        raise ValueError("no body")
    return Leaf(index, sort, hour, body=value["body"])


def parse_canonical(data: bytes) -> Any:
    """The value whose canonical JSON is exactly `data`. Raises InvalidCanonicalForm, also for doubled keys."""
    try:
        value = json.loads(data.decode("utf-8"))
        same = canonical_json(value) == data
    except (UnicodeError, ValueError, RecursionError) as error:
        raise InvalidCanonicalForm("These bytes are not canonical JSON.") from error
    if not same:
        raise InvalidCanonicalForm("These bytes are not in canonical form.")
    return value


# --- private bodies -----------------------------------------------------------------------------------------


def event_entry(type_: EventType, members: Mapping[str, Any]) -> bytes:
    """Canonical bytes of a private body of this type. A member that is None is left out where the row has it optional.

    Raises InvalidCanonicalForm unless the members are those of the type's row.
    """
    return canonical_json(_checked_members(type_, members))


def _checked_members(type_: EventType, members: Mapping[str, Any]) -> dict[str, Any]:
    spec = type_.spec
    body = {name: value for name, value in members.items() if value is not None or name not in spec.optional}
    if not spec.members <= body.keys() <= spec.members | spec.optional:
        raise InvalidCanonicalForm(f"An entry of type {spec.code} has other members.")
    return {"type": spec.code, **body}


def report_entry(
    *,
    report_id: str,
    platform: str,
    control_group: str,
    recorded_at: datetime,
    effective_from: datetime,
    expires_at: datetime,
    policy_version: int,
    body: bytes,
    signature: bytes,
    held_for: str | None = None,
) -> bytes:
    """Canonical bytes of a report's entry: the canonical bytes of the signed `body`, its 64-byte Ed25519 `signature`,
    and what the ledger adds. The act it joined is left out: the reporter may read its own entry, and an act shared with
    others would tell it that another platform reported. `held_for` is the case because of which the report is held
    until a `release`; an ordinary report's entry has no such member. Raises InvalidEncoding, InvalidCanonicalForm."""
    if len(signature) != 64:
        raise InvalidEncoding("An Ed25519 signature must have 64 bytes.")
    members = {
        "id": report_id,
        "platform": platform,
        "control_group": control_group,
        "recorded_at": format_time(recorded_at),
        "effective_from": format_time(effective_from),
        "expires_at": format_time(expires_at),
        "policy": policy_version,
        "body": body,
        "signature": b64url(signature),
        "held_for": held_for,
    }
    checked = _checked_members(EventType.REPORT, members)
    return canonical_object("body", checked.pop("body"), checked)


def withdrawal_entry(*, report_id: str, platform: str, reason: WithdrawalReason, recorded_at: datetime) -> bytes:
    """Canonical bytes of a withdrawal. `platform` is the reporter, also when the ledger itself withdraws
    (`LEDGER_REASONS`)."""
    return event_entry(
        EventType.WITHDRAWAL,
        {
            "report": report_id,
            "platform": platform,
            "reason": WithdrawalReason(reason).value,
            "recorded_at": format_time(recorded_at),
        },
    )


def restitution_entry(*, report_id: str, platform: str, received_at: datetime, recorded_at: datetime) -> bytes:
    """Canonical bytes of a restitution: the full amount of the report came back at `received_at`."""
    return event_entry(
        EventType.RESTITUTION,
        {
            "report": report_id,
            "platform": platform,
            "received_at": format_time(received_at),
            "recorded_at": format_time(recorded_at),
        },
    )


def dispute_entry(
    *, report_id: str, case_id: str, round_number: int, grounds: str, recorded_at: datetime, suspends: bool = True
) -> bytes:
    """Canonical bytes of a dispute: from here on the report does not count, unless the entry has `suspends: false` (a
    later round that a platform filed, which is decided while the report counts on). `round_number` is 2 when a decided
    case is reopened. What the person wrote stays in the case file."""
    members = {
        "report": report_id,
        "case": case_id,
        "round": round_number,
        "grounds": grounds,
        "recorded_at": format_time(recorded_at),
        "suspends": None if suspends else False,
    }
    return event_entry(EventType.DISPUTE, members)


def resolution_entry(
    *,
    report_id: str,
    case_id: str,
    round_number: int,
    outcome: str,
    recorded_at: datetime,
    conduct: str | None = None,
    slots: Sequence[int] = (),
    staff: Sequence[int] = (),
) -> bytes:
    """Canonical bytes of what a case came to: an outcome of `rules.appeals`, or `overdue` (where the case suspends the
    report, the disputed mark goes too, and nothing counts until the decision), `withdrawn` (the person took the appeal
    back) or `report_gone`.

    `conduct` is the amended one, `slots` are the subjects that were unlinked, `staff` the numbers of those who decided:
    none where time did."""
    members = {
        "report": report_id,
        "case": case_id,
        "round": round_number,
        "outcome": outcome,
        "staff": list(staff),
        "recorded_at": format_time(recorded_at),
        "conduct": conduct,
        "slots": list(slots) or None,
    }
    return event_entry(EventType.RESOLUTION, members)


def statement_entry(*, report_id: str, revision: int, text: str, locale: str, recorded_at: datetime) -> bytes:
    """Canonical bytes of the person's own statement on a report (NFC text). Raises InvalidCanonicalForm."""
    return event_entry(
        EventType.STATEMENT,
        {
            "report": report_id,
            "revision": revision,
            "text": text,
            "locale": locale,
            "recorded_at": format_time(recorded_at),
        },
    )


def release_entry(*, report_id: str, effective_from: datetime, staff: Sequence[int], recorded_at: datetime) -> bytes:
    """Canonical bytes of a release: a held report is in effect from `effective_from` on. `staff` are the numbers of
    those who released it."""
    return event_entry(
        EventType.RELEASE,
        {
            "report": report_id,
            "effective_from": format_time(effective_from),
            "staff": list(staff),
            "recorded_at": format_time(recorded_at),
        },
    )


def reopening_entry(
    *,
    report_id: str,
    case_id: str,
    round_number: int,
    evidence_sha256: bytes,
    staff: Sequence[int],
    recorded_at: datetime,
) -> bytes:
    """Canonical bytes of a reopening for the reporter's new evidence (its SHA-256, 32 bytes): the case that was decided
    `unconfirmed` has a further round, and the report keeps its marks until that is decided. Raises InvalidEncoding."""
    if len(evidence_sha256) != 32:
        raise InvalidEncoding("A SHA-256 must have 32 bytes.")
    return event_entry(
        EventType.REOPENING,
        {
            "report": report_id,
            "case": case_id,
            "round": round_number,
            "evidence_sha256": b64url(evidence_sha256),
            "staff": list(staff),
            "recorded_at": format_time(recorded_at),
        },
    )


def erasure_entry(*, report_id: str, reason: str, recorded_at: datetime) -> bytes:
    """Canonical bytes of an erasure: body, salts, elements and files of the report are gone."""
    return event_entry(
        EventType.ERASURE, {"report": report_id, "reason": reason, "recorded_at": format_time(recorded_at)}
    )


# --- governance bodies --------------------------------------------------------------------------------------


def policy_body(*, version: int, toml_sha256: bytes, published_at: datetime, in_effect_at: datetime) -> dict[str, Any]:
    """A policy's publication: `toml_sha256` (32 bytes) pins its text. Raises InvalidEncoding."""
    if len(toml_sha256) != 32:
        raise InvalidEncoding("A SHA-256 must have 32 bytes.")
    return {
        "version": version,
        "toml_sha256": b64url(toml_sha256),
        "published_at": format_time(published_at),
        "in_effect_at": format_time(in_effect_at),
    }


Holders = Sequence[tuple[str, bytes]]
"""(id, 32-byte ristretto255 public key) of each key holder, in the order shares are listed in."""


@dataclass(frozen=True, slots=True)
class RotationRecord:
    """What a `key_rotation` entry says of the elements it turned: from which epoch to which, how many, and the Merkle
    root over them (`ledger.tlog.key_rotation`)."""

    from_epoch: int
    to_epoch: int
    elements: int
    root: bytes


def key_rotation_body(
    *,
    epoch: int,
    holders: Holders,
    log_origin: str,
    log_key: str,
    retired_epochs: Sequence[int] = (),
    next_epoch: tuple[int, Holders] | None = None,
    previous_epoch: tuple[int, Holders, datetime] | None = None,
    rotation: RotationRecord | None = None,
) -> dict[str, Any]:
    """The public keys in force from this entry on.

    `log_key` is the log's C2SP verifier key text; `retired_epochs` no longer answer. What follows is left out where it
    does not apply: `next_epoch` is announced (number, holders), `previous_epoch` still answers lookups until the given
    time, `rotation` is what was turned from one to the other. Raises InvalidEncoding.
    """
    body: dict[str, Any] = {
        "epoch": epoch,
        "holders": _holders(holders),
        "log": {"origin": log_origin, "key": log_key},
        "retired": list(retired_epochs),
    }
    if next_epoch is not None:
        body["next"] = {"epoch": next_epoch[0], "holders": _holders(next_epoch[1])}
    if previous_epoch is not None:
        number, theirs, until = previous_epoch
        body["previous"] = {"epoch": number, "holders": _holders(theirs), "until": format_time(until)}
    if rotation is not None:
        if len(rotation.root) != 32:
            raise InvalidEncoding("A Merkle root must have 32 bytes.")
        body["rotation"] = {
            "from": rotation.from_epoch,
            "to": rotation.to_epoch,
            "elements": rotation.elements,
            "root": b64url(rotation.root),
        }
    return body


def _holders(holders: Holders) -> list[dict[str, str]]:
    if not holders or any(len(key) != 32 for _, key in holders):
        raise InvalidEncoding("Each of at least one holder needs a public key of 32 bytes.")
    return [{"id": holder, "public_key": b64url(key)} for holder, key in holders]


def platform_status_body(
    *,
    platform: str,
    control_group: str,
    profile: str,
    status: PlatformState,
    keys: Sequence[tuple[str, bytes, bool]],
) -> dict[str, Any]:
    """A platform as it stands from this entry on; `keys` are (kid, 32-byte Ed25519 public key, revoked).

    Anybody can then check a report's signature against the key that was valid. Raises InvalidEncoding.
    """
    if any(len(key) != 32 for _, key, _ in keys):
        raise InvalidEncoding("An Ed25519 public key must have 32 bytes.")
    return {
        "platform": platform,
        "control_group": control_group,
        "profile": profile,
        "status": PlatformState(status).value,
        "keys": [
            {"kid": kid, "public_key": b64url(key), "status": "revoked" if revoked else "active"}
            for kid, key, revoked in keys
        ],
    }


def _index(index: int) -> int:
    if type(index) is not int or not 0 <= index <= MAX_INTEGER:
        raise InvalidRequest("An entry's index must be an integer from 0 to 2^53 - 1.")
    return index


def _hour(moment: datetime) -> str:
    text = format_time(moment)
    return text[:14] + "00:00Z"
