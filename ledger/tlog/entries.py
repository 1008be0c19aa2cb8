"""The ledger's entries: private bodies, their public commitments, and public leaves.

A *leaf* is a public record that the Merkle log hashes. The leaf of a governance entry has its body in clear. The leaf
of every other entry has only a commitment, HMAC-SHA256(salt, canonical body): type, platform and exact time are inside
the body, so that a reader who sees a standing change cannot learn from the log which platform reported. Body and salt
are stored in erasable rows; after their erasure the commitment reveals nothing and every proof still verifies.
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
from ledger.protocol.threshold import KeySet
from ledger.tlog.event_shape import event_members
from ledger.tlog.key_statement import Endorsement, KeyStatement, endorsement_json

SALT_BYTES = 32
EVENT_TYPE = "event"
_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
MAX_LEAF_BYTES = 65535
"""The longest leaf: an entry bundle of C2SP tlog-tiles gives each entry a 16-bit length."""


def _(message: str) -> str:
    """Return `message`, marked for the catalogues."""
    return message


@dataclass(frozen=True, slots=True)
class EntrySpec:
    """The properties of one type of entry.

    `members` are the names of the members that its body always has, `optional` of those that it may have (a private
    body without `type`). `case_title` is the msgid of its title on the page of a case, None if it is not shown there.
    """

    code: str
    members: frozenset[str]
    optional: frozenset[str] = frozenset()
    case_title: str | None = None


class EventType(RowEnum):
    """Types of private entries, which are about a person: the log shows a commitment only."""

    # A further type needs a row here, its text in the catalogues and a row in `docs/log.md`.
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
    RELEASE = EntrySpec(  # a held report takes effect
        "release",
        frozenset({"report", "effective_from", "staff", "recorded_at"}),
        case_title=_("Release of the held report"),
    )
    REOPENING = EntrySpec(  # a decided case is reopened because its reporter has new evidence
        "reopening",
        frozenset({"report", "case", "round", "evidence_sha256", "staff", "recorded_at"}),
        case_title=_("Reopened for the reporter"),
    )
    ERASURE = EntrySpec("erasure", frozenset({"report", "reason", "recorded_at"}))


class GovernanceType(StrEnum):
    """Types of entries about the ledger itself, which are public in full."""

    POLICY = "policy"
    KEY_ROTATION = "key_rotation"
    SNAPSHOT = "snapshot"
    PLATFORM_STATUS = "platform_status"


class WithdrawalReason(StrEnum):
    """The reason of a withdrawal. Those in `LEDGER_REASONS` are given by the ledger itself, never by a platform."""

    WRONG_PERSON = "wrong_person"
    WRONG_FACTS = "wrong_facts"
    DUPLICATE = "duplicate"
    OTHER = "other"
    LINKED_REPORT_VOID = "linked_report_void"
    """One of the reports on which an `account_farm` report is based was withdrawn or reversed."""
    MALFORMED_SUBJECT = "malformed_subject"
    """A subject's element was recorded in a non-canonical encoding."""
    NOT_RELEASED = "not_released"
    """A held report was not released in time, or its release was refused."""


LEDGER_REASONS = frozenset(
    {
        WithdrawalReason.LINKED_REPORT_VOID,
        WithdrawalReason.MALFORMED_SUBJECT,
        WithdrawalReason.NOT_RELEASED,
    }
)
"""Reasons for which only the ledger itself withdraws a report."""


class PlatformState(StrEnum):
    """The state of a platform: while it is suspended it may not write, and its control group's reports carry no
    weight."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One public record. `commitment` (32 bytes) is set for events, `body` for governance entries. `type` (the member
    `sort` of the JSON) is `event`, a `GovernanceType`, or the type of a governance entry that a later version added."""

    index: int
    type: str
    hour: datetime
    commitment: bytes | None = None
    body: Mapping[str, Any] | None = None


def commitment(salt: bytes, body: bytes) -> bytes:
    """Return HMAC-SHA256 of the canonical `body` under the 32-byte `salt`: 32 bytes. Raises InvalidEncoding."""
    if len(salt) != SALT_BYTES:
        raise InvalidEncoding(f"An entry's salt must have {SALT_BYTES} bytes.")
    return hmac.digest(salt, body, hashlib.sha256)


def event_leaf(index: int, hour: datetime, commitment: bytes) -> bytes:
    """Return the canonical bytes of an event's leaf. `hour` is rounded down to the full hour.

    Raises InvalidEncoding unless `commitment` has 32 bytes, InvalidRequest for an impossible index.
    """
    if len(commitment) != 32:
        raise InvalidEncoding("A commitment must have 32 bytes.")
    leaf = {"index": _index(index), "sort": EVENT_TYPE, "hour": _hour(hour), "commitment": b64url(commitment)}
    return canonical_json(leaf)


def governance_leaf(index: int, type_: GovernanceType, hour: datetime, body: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of a governance entry's leaf. `hour` is rounded down to the full hour.

    Raises InvalidRequest for a leaf of more than 65,535 bytes, InvalidCanonicalForm for a body without canonical form.
    """
    leaf = {"index": _index(index), "sort": GovernanceType(type_).value, "hour": _hour(hour), "body": dict(body)}
    data = canonical_json(leaf)
    if len(data) > MAX_LEAF_BYTES:
        raise InvalidRequest(f"A leaf has at most {MAX_LEAF_BYTES} bytes.")
    return data


def parse_leaf(data: bytes) -> Leaf:
    """Parse the bytes of `event_leaf` or `governance_leaf`. Only canonical bytes are accepted.

    An event's leaf has exactly the members that `event_leaf` writes: a further one would publish something about a
    report. A governance leaf may be of a later version: of an unknown type, kept as text, and with further members,
    which are ignored. Raises InvalidCanonicalForm for all other bytes.
    """
    if len(data) > MAX_LEAF_BYTES:
        raise InvalidCanonicalForm("This leaf is too long.")
    value = event_members(data) or parse_canonical(data)
    try:
        if isinstance(value, dict):
            return _leaf(value)
    except (LedgerError, ValueError):
        pass
    raise InvalidCanonicalForm("This is not a leaf of this ledger.")


def _leaf(value: dict[str, Any]) -> Leaf:
    """Return the leaf of a JSON object. Raises ValueError or a LedgerError for an object that is not a leaf."""
    type_ = value.get("sort")
    is_event = type_ == EVENT_TYPE
    if is_event and value.keys() != {"index", "sort", "hour", "commitment"}:
        raise ValueError("other keys")
    if not {"index", "hour"} <= value.keys():
        raise ValueError("missing keys")
    index, hour = _index(value["index"]), parse_time(value["hour"])
    if hour.minute or hour.second:
        raise ValueError("not a full hour")
    if is_event:
        return Leaf(index, EVENT_TYPE, hour, commitment=unb64url(value["commitment"], 32))
    if not isinstance(type_, str) or not _TYPE.match(type_) or type_ in set(EventType) or "commitment" in value:
        raise ValueError("not a governance entry")
    if not isinstance(value.get("body"), dict):
        raise ValueError("no body")
    return Leaf(index, type_, hour, body=value["body"])


def parse_canonical(data: bytes) -> Any:
    """Return the value whose canonical JSON is exactly `data`. Raises InvalidCanonicalForm, also for repeated keys."""
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
    """Return the canonical bytes of a private body of this type. An optional member that is None is left out.

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
    """Return the canonical bytes of a report's entry: the canonical bytes of the signed `body`, its 64-byte Ed25519
    `signature`, and the members that the ledger adds. The act it joined is left out: the reporter may read its own
    entry, and an act shared with other reports would show that another platform reported. `held_for` is the id of the
    case that holds the report until a `release`; the entry of an ordinary report has no such member. Raises
    InvalidEncoding, InvalidCanonicalForm."""
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
    """Return the canonical bytes of a withdrawal. `platform` is the reporter, also when the ledger itself withdraws
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
    """Return the canonical bytes of a restitution: the full amount of the report was paid back at `received_at`."""
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
    """Return the canonical bytes of a dispute: from this entry on the report does not count, unless the entry has
    `suspends: false` (a later round that a platform filed; the report counts until the decision). `round_number` is 2
    when a decided case is reopened. The person's text is stored in the case file only."""
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
    """Return the canonical bytes of the end of a case: an outcome of `rules.appeals`, or `overdue` (where the case
    suspends the report, the disputed mark goes too, and nothing counts until the decision), `withdrawn` (the person
    took the appeal back) or `report_gone`.

    `conduct` is the amended one, `slots` are the subjects that were unlinked, `staff` the numbers of those who decided:
    empty where no person decided."""
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
    """Return the canonical bytes of the person's own statement on a report (NFC text). Raises InvalidCanonicalForm."""
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
    """Return the canonical bytes of a release: a held report is in effect from `effective_from` on. `staff` are the
    numbers of the members of staff who released it."""
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
    """Return the canonical bytes of a reopening for the reporter's new evidence (its SHA-256, 32 bytes): the case that
    was decided `unconfirmed` has a further round, and the report keeps its marks until the decision. Raises
    InvalidEncoding."""
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
    """Return the canonical bytes of an erasure: body, salts, elements and files of the report are deleted."""
    return event_entry(
        EventType.ERASURE, {"report": report_id, "reason": reason, "recorded_at": format_time(recorded_at)}
    )


# --- governance bodies --------------------------------------------------------------------------------------


def policy_body(*, version: int, toml_sha256: bytes, published_at: datetime, in_effect_at: datetime) -> dict[str, Any]:
    """Return the body of a policy's publication: `toml_sha256` (32 bytes) pins its text. Raises InvalidEncoding."""
    if len(toml_sha256) != 32:
        raise InvalidEncoding("A SHA-256 must have 32 bytes.")
    return {
        "version": version,
        "toml_sha256": b64url(toml_sha256),
        "published_at": format_time(published_at),
        "in_effect_at": format_time(in_effect_at),
    }


Holders = Sequence[tuple[str, bytes]]
"""(id, 32-byte ristretto255 public key) of the one holder of a whole key (1 of 1)."""


class KeyEvent(StrEnum):
    """What a `key_rotation` entry records."""

    GENESIS = "genesis"
    ANNOUNCE = "announce"
    SWITCH = "switch"
    RETIRE = "retire"
    REFRESH = "refresh"
    RESHARE = "reshare"


@dataclass(frozen=True, slots=True)
class SharedKey:
    """The key of an epoch that several holders have shares of: its newest sharing, and the index of the log's entry
    with the statement of that sharing."""

    keys: KeySet
    statement_entry: int


@dataclass(frozen=True, slots=True)
class IntroducedSharing:
    """A sharing that an entry introduces: its statement, the signatures over it, and the index of the entry with the
    statement that it follows (None at genesis)."""

    statement: KeyStatement
    endorsements: Sequence[Endorsement]
    previous_entry: int | None


@dataclass(frozen=True, slots=True)
class RotationRecord:
    """The part of a `key_rotation` entry about the converted elements: the two epochs, the number of elements, and the
    Merkle root over them (`ledger.tlog.key_rotation`)."""

    from_epoch: int
    to_epoch: int
    elements: int
    root: bytes


def key_rotation_body(
    *,
    epoch: int,
    holders: Holders | SharedKey,
    log_origin: str,
    log_key: str,
    retired_epochs: Sequence[int] = (),
    next_epoch: tuple[int, Holders | SharedKey] | None = None,
    previous_epoch: tuple[int, Holders | SharedKey, datetime] | None = None,
    rotation: RotationRecord | None = None,
    kind: KeyEvent | None = None,
    sharing: IntroducedSharing | None = None,
) -> dict[str, Any]:
    """Return the body of a key rotation: the public keys in force from this entry on.

    `log_key` is the log's C2SP verifier key text; `retired_epochs` no longer answer. Members that do not apply are left
    out: `next_epoch` is announced (number, holders), `previous_epoch` still answers lookups until the given time,
    `rotation` describes the elements that were converted from one to the other, `sharing` is a new sharing with its
    signed statement. Raises InvalidEncoding.
    """
    body: dict[str, Any] = {
        "epoch": epoch,
        **_epoch_keys(holders),
        "log": {"origin": log_origin, "key": log_key},
        "retired": list(retired_epochs),
    }
    if next_epoch is not None:
        body["next"] = {"epoch": next_epoch[0], **_epoch_keys(next_epoch[1])}
    if previous_epoch is not None:
        number, theirs, until = previous_epoch
        body["previous"] = {"epoch": number, **_epoch_keys(theirs), "until": format_time(until)}
    if rotation is not None:
        if len(rotation.root) != 32:
            raise InvalidEncoding("A Merkle root must have 32 bytes.")
        body["rotation"] = {
            "from": rotation.from_epoch,
            "to": rotation.to_epoch,
            "elements": rotation.elements,
            "root": b64url(rotation.root),
        }
    if kind is not None:
        body["kind"] = KeyEvent(kind).value
    if sharing is not None:
        body["statement"] = sharing.statement.json
        body["endorsements"] = [endorsement_json(endorsement) for endorsement in sharing.endorsements]
        body["previous_entry"] = sharing.previous_entry
    return body


def _epoch_keys(key: Holders | SharedKey) -> dict[str, Any]:
    """Return the members about the key of one epoch."""
    if isinstance(key, SharedKey):
        keys = key.keys
        return {
            "holders": [
                {"index": holder.index, "id": holder.holder, "public_key": b64url(holder.public_key)}
                for holder in keys.holders
            ],
            "generation": keys.generation,
            "threshold": keys.threshold,
            "public_key": b64url(keys.public_key),
            "statement_entry": key.statement_entry,
        }
    if not key or any(len(public_key) != 32 for _, public_key in key):
        raise InvalidEncoding("Each of at least one holder needs a public key of 32 bytes.")
    return {"holders": [{"id": holder, "public_key": b64url(public_key)} for holder, public_key in key]}


def platform_status_body(
    *,
    platform: str,
    control_group: str,
    profile: str,
    status: PlatformState,
    keys: Sequence[tuple[str, bytes, bool]],
) -> dict[str, Any]:
    """Return the body of a platform's status from this entry on; `keys` are (kid, 32-byte Ed25519 public key, revoked).

    A reader can then check a report's signature against the key that was valid. Raises InvalidEncoding.
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
