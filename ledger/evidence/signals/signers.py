"""The signer of a C2PA manifest, as far as trust lists identify it: a `ledger.rules.findings.Trust` for each manifest.

The C2PA library checks signatures, chains and time stamps against the lists of a folder (`c2pa_child`) and says which
list a certificate was found under. What it says is judged here: the library takes any time stamp of an older manifest
for trusted, knows nothing of the interim list's end, and reports for an ancestor only what the signer above it did not
record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from ledger.errors import ConfigurationError, InvalidTime
from ledger.protocol.encoding import parse_time
from ledger.rules.findings import TRUSTED, Trust

SHIPPED_FOLDER = Path(__file__).resolve().parents[1] / "trust_lists"
LIST_FILES = ("official_signers", "official_time_stamps", "interim_anchors", "interim_allowed")
OFFICIAL, INTERIM, TIME_STAMPS = "official", "interim", "time-stamps"
"""Names under which the library reports a list. An entry of the interim list that is a signer's own certificate is
reported under no name."""

_FOUND_IN = re.compile(r"signing certificate trusted, found in \[([a-z-]*)\] trust anchors\Z")
_LEGACY_STAMP = "legacy "
_SIGNED = "claimSignature.validated"
_MISSIGNED = frozenset({"claimSignature.mismatch", "claimSignature.missing"})
_PREFIX = "signingCredential."


@dataclass(frozen=True, slots=True)
class TrustLists:
    """Trust lists in a folder. `state` is the date of the official one; a signature under the interim one counts if it
    is shown to be from before `interim_ends_at` (UTC)."""

    folder: Path
    state: str
    interim_ends_at: datetime


def read_trust_lists(folder: Path) -> TrustLists:
    """Return the lists that `lists.json` of a folder names. Raises ConfigurationError."""
    try:
        said = json.loads((folder / "lists.json").read_bytes())
        if not all((folder / said[name]["file"]).is_file() for name in LIST_FILES):
            raise ConfigurationError("The folder of trust lists lacks one of the files that lists.json names.")
        return TrustLists(folder, str(said["state"]), parse_time(said["interim_ends_at"]))
    except (OSError, ValueError, KeyError, TypeError, InvalidTime) as error:
        raise ConfigurationError("The folder of trust lists has no lists.json that can be read.") from error


@cache
def shipped() -> TrustLists:
    """Return the lists that come with this version."""
    return read_trust_lists(SHIPPED_FOLDER)


@dataclass(frozen=True, slots=True)
class Times:
    """When a file is looked at, and when it was met (UTC): received by the platform, if it says so."""

    now: datetime
    met_at: datetime

    @classmethod
    def of(cls, now: datetime, met_at: datetime | None) -> Times:
        """Return the times of an inspection. `met_at` is replaced by `now` if it is unknown or later."""
        return cls(now, now if met_at is None else min(met_at, now))


def trust_of(signature: Mapping[str, Any], lists: TrustLists, times: Times) -> Trust:
    """Return the trust in the signer of one manifest. `signature` is the unchecked JSON of `sandbox.c2pa_worker` about
    it: {claim, valid_from, valid_to, stamped_at, success, failure}.

    Without a time stamp under the lists the certificate must be valid now, because the signer can write any time.
    """
    success, failure = _codes(signature.get("success")), _codes(signature.get("failure"))
    if any(code.startswith(_PREFIX) and code.endswith("revoked") for code in failure):
        return Trust.REVOKED
    if f"{_PREFIX}invalid" in failure or _MISSIGNED & failure.keys() or _SIGNED not in success:
        return Trust.INVALID
    stamped_at = _stamped_at(signature, success)
    if not _valid(signature, stamped_at or times.now) or f"{_PREFIX}expired" in failure:
        return Trust.EXPIRED
    validated = _FOUND_IN.match(success.get(f"{_PREFIX}trusted", ""))
    if validated is None or f"{_PREFIX}untrusted" in failure:
        return Trust.UNLISTED
    if validated[1] == OFFICIAL:
        return Trust.LISTED
    if validated[1] in (INTERIM, "") and (stamped_at or times.met_at) < lists.interim_ends_at:
        return Trust.INTERIM if stamped_at or _valid(signature, times.met_at) else Trust.EXPIRED
    return Trust.UNLISTED


def recorded_trust(
    signature: Mapping[str, Any], recorded: Mapping[str, Any], above: Trust, lists: TrustLists, times: Times
) -> Trust:
    """Return the trust in the signer of an ancestor, of which the library reports only what the manifest above did not
    record.

    What was recorded counts as far as `above`, the trust in the signer that recorded it: where that signer found the
    ancestor trusted and the library does not object, the ancestor is as trusted as its recorder.
    """
    objections = _codes(signature.get("failure"))
    was = {kind: _codes(recorded.get(kind)) for kind in ("success", "failure")}
    successes = _codes(signature.get("success"))
    trusted = f"{_PREFIX}trusted"
    if trusted not in successes and trusted in was["success"] and not objections and above in TRUSTED:
        return above
    if trusted in successes:
        was["failure"].pop(f"{_PREFIX}untrusted", None)
    merged = {
        **signature,
        "success": _listed({**was["success"], **successes, trusted: successes.get(trusted, "")}),
        "failure": _listed({**was["failure"], **objections}),
    }
    trust = trust_of(merged, lists, times)
    unsaid = _SIGNED not in {**was["success"], **successes} and not objections
    return Trust.UNLISTED if trust is Trust.INVALID and unsaid else trust


def _listed(codes: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"code": code, "explanation": why} for code, why in codes.items()]


def _stamped_at(signature: Mapping[str, Any], success: Mapping[str, str]) -> datetime | None:
    """Return the time of a time stamp whose authority is under the lists, None if there is none. In older claims (v1)
    the library does not check the authority, and takes any for good."""
    explained = success.get("timeStamp.trusted")
    if signature.get("claim") != "v2" or explained is None or explained.startswith(_LEGACY_STAMP):
        return None
    return _time(signature.get("stamped_at"))


def _valid(signature: Mapping[str, Any], at: datetime) -> bool:
    start, end = _time(signature.get("valid_from")), _time(signature.get("valid_to"))
    return start is not None and end is not None and start <= at <= end


def _codes(value: Any) -> dict[str, str]:
    """Return {code: explanation} of the library's results."""
    entries = value if isinstance(value, list) else []
    return {
        str(item["code"]): str(item.get("explanation") or "")
        for item in entries
        if isinstance(item, dict) and "code" in item
    }


def _time(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment is not None and moment.tzinfo is not None else None
