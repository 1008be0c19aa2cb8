"""Settings of the server and its operator commands, read once from the environment (`REFUND_LEDGER_*`).

Nothing is read at import: call `Settings()`. Secrets have no default; keys live in files (see
`ledger/server/keys/files.py`). Every limit is here, with its unit last in the name.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ledger.errors import ConfigurationError
from ledger.protocol.urls import path_prefix

PREFIX = "REFUND_LEDGER_"

CLIENT_NAMES = frozenset(
    {"SUITE", "SUITE_JSON", "KEY", "KEY_PEM", "ORDER_KEY", "ORDER_KEY_TEXT", "STATE", "CA_FILE"},
)
"""What the SDK and the client commands read under the same prefix."""

_KUBERNETES = re.compile(r"(?:[A-Z0-9_]+_)?(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?)\Z")
"""What Kubernetes sets in every container for services that are called `refund-ledger` or `refund-ledger-...`."""
_LINK = re.compile(r"(tcp|udp|sctp)://")
"""How Kubernetes' values of `..._PORT` begin."""


class Settings(BaseSettings):
    """Frozen settings. Field names map to `REFUND_LEDGER_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="REFUND_LEDGER_", frozen=True, extra="ignore")

    database_url: str = "sqlite:///var/ledger.db"
    """`sqlite:///path` (embedded default) or `postgresql+psycopg://...` (production)."""
    service: str = Field("refund-ledger.local", pattern=r"^[a-z0-9.-]{1,64}$")
    """Service id: the audience of tokens, part of every signed report, and the base of the log's origin."""
    environment: Literal["live", "test"] = "live"
    holder: str = Field("ledger", pattern=r"^[a-z0-9-]{1,32}$")
    """Id of the OPRF key holder that this deployment is."""
    keys_dir: Path = Path("var/keys")
    guard_dir: Path = Path("var/guard")
    """Folder of the checkpoint guard. Keep it outside the database and outside its backups."""
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    public_url: str | None = None
    """The URL that platforms use; written into suite files."""

    oprf_daily_quota_elements: int = Field(100_000, ge=1)
    """Blinded elements a platform may have evaluated in a UTC day, unless `platform quota` says otherwise."""
    oprf_burst_elements: int = Field(20_000, ge=1)
    """Blinded elements a platform may have evaluated at once, before `oprf_rate_elements_per_second` holds it back."""
    oprf_rate_elements_per_second: int = Field(500, ge=1)
    oprf_threads: int = Field(2, ge=1, le=64)
    """Threads that share one batch of evaluations; libsodium runs outside the interpreter's lock."""
    body_limit_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    """Largest request body but files. A batch of 1000 reports with two subjects and four evidence items fits; all else
    has smaller limits (api/route_table.py)."""
    target_limit_bytes: int = Field(8 * 1024, ge=1024)
    """Longest address of a request, its query included."""
    header_limit_bytes: int = Field(32 * 1024, ge=4096)
    """Largest header of a request, all fields together."""
    header_timeout_seconds: float = Field(10.0, gt=0)
    """How long a connection may take from its first byte (a new one: from its start) to the end of a header."""
    body_timeout_seconds: float = Field(30.0, gt=0)
    """How long a body may take, and one second more for every `body_rate_bytes_per_second` that have arrived."""
    body_rate_bytes_per_second: int = Field(8 * 1024, ge=1)
    answer_stall_seconds: float = Field(60.0, gt=0)
    """After how long a connection is dropped whose client takes nothing of an answer."""
    connections_max: int | None = Field(None, ge=8)
    """Connections of one process. By default four fifths of the files it may open (`ulimit -n`) without the hundred
    that it needs itself, at most 10,000."""
    connections_per_address_max: int | None = Field(None, ge=0)
    """Connections from one address (of IPv6 from one /64); 0: no limit of its own. By default half of all: a proxy in
    front is one address."""
    appender_max_batch: int = Field(2000, ge=1)
    """Commands that one transaction of the appender takes at most. 1 means one transaction a command."""
    appender_linger_ms: float = Field(1.0, ge=0)
    """How long the appender waits for company after the first command of a batch, in milliseconds."""
    appender_queue_limit: int = Field(20_000, ge=1)
    """Commands waiting at most; beyond it a request gets 503 `overloaded`."""
    lookup_linger_ms: float = Field(0.0, ge=0)
    subject_link_minutes: int = Field(10, ge=1, le=60)
    """How long the single-use link to a person's own record is good."""
    subject_session_minutes: int = Field(30, ge=1, le=120)
    """How long the person may read and write after opening it."""
    subject_sessions_daily_quota: int = Field(1_000, ge=0)
    """Links that a platform may have made in a UTC day."""
    appeals_daily_quota: int = Field(1_000, ge=0)
    """Appeals that a platform may try to file in a UTC day, refused ones included."""
    pictures_daily_quota_hashes: int = Field(10_000, ge=0)
    """Hashes of pictures that a platform may have searched for in a UTC day."""
    publish_interval_ms: int = Field(1000, ge=10)
    """How often the publisher looks whether the log grew."""
    auth_refresh_seconds: float = Field(1.0, gt=0, le=5)
    """How often a process re-reads platforms and keys; a revocation is effective everywhere within 5 s."""
    lookup_refresh_ms: int = Field(100, ge=1, le=1000)
    """How often a process asks the database for new tags, to answer clean lookups from memory."""
    snapshots_dir: Path = Path("var/snapshots")
    """Folder of published snapshots; on several hosts a shared one. Its files are public to members, but hold nothing
    that can be read without an element."""
    snapshot_interval_seconds: float = Field(3600.0, gt=0)
    snapshot_lifetime_hours: int = Field(24, ge=1, le=24)
    """How long clients may use a snapshot."""
    snapshots_kept: int = Field(3, ge=1, le=100)
    """Snapshots served at a time, the newest and those before it; each holds about 180 bytes an entry."""
    alarm_lookups_min: int = Field(2_000, ge=1)
    """Lookups of a platform in a UTC day below which the alarm of misses says nothing."""
    alarm_miss_share: float = Field(0.999, gt=0, lt=1)
    """Share of clean lookups above which a platform raises the alarm of misses."""
    alarm_bucket_share: float = Field(0.5, gt=0, le=1)
    """Share of a snapshot's buckets that a platform may fetch one by one before it raises the alarm of scanning."""
    attachments_dir: Path = Path("var/attachments")
    """Folder of the files that parties of an appeal handed in; on several hosts a shared one."""
    attachment_limit_bytes: int = Field(10 * 1024 * 1024, ge=1024)
    attachments_per_case: int = Field(20, ge=0)
    attachment_pixels_max: int = Field(50_000_000, ge=1)
    """Largest picture, width times height times frames: what showing it costs grows with that, not with its bytes."""
    metrics_token: str | None = Field(None, min_length=16, repr=False)
    """Bearer token of `/metrics`; without one there is no such path."""
    staff_idle_minutes: int = Field(30, ge=1, le=24 * 60)
    """After how long without a request a staff session ends."""
    staff_session_hours: int = Field(12, ge=1, le=24 * 7)
    """After how long a staff session ends however it is used."""
    webhook_allow_private: bool = False
    """Let webhooks go by http, to every port and to addresses that are not public. For tests and closed networks: any
    platform could then have this service connect to whatever it can reach."""
    maintenance_interval_seconds: float = Field(3600.0, gt=0)
    """How often what is due is erased and old idempotency answers are forgotten."""
    appeal_clock_seconds: float = Field(60.0, gt=0)
    """How often the clocks of appeals are looked at: how late an overdue mark or a silence may take effect."""
    lock_timeout_ms: int = Field(5_000, ge=1)
    statement_timeout_ms: int = Field(30_000, ge=1)
    read_deadline_ms: int = Field(1_500, ge=100)
    """Within what time the database must answer a lookup, and a background reading that lookups rest on; then 503 and
    another connection."""
    write_deadline_ms: int = Field(6_000, ge=500)
    """Within what time the database must record a batch of reports, and answer any COMMIT; then 503 and another
    connection. Above the lock timeout, so that a wait for a lock ends by that one."""
    connect_deadline_ms: int = Field(3_000, ge=500)
    """Within what time a connection must be made, all hosts of the URL together."""
    pooler: Literal["auto", "transaction"] = "auto"
    """What stands between this program and PostgreSQL: found out (`auto`), or a pooler in transaction mode."""
    pool_size: int = Field(10, ge=1)

    @field_validator("port", mode="before")
    @classmethod
    def _pass_over_link(cls, value: Any) -> Any:
        """The default where the value is what Kubernetes sets for a service called `refund-ledger`."""
        return 8000 if isinstance(value, str) and _LINK.match(value) else value

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            sound = parts.port is None or 0 < parts.port < 65536
        except ValueError:
            parts, sound = urlsplit(""), False
        if (
            not sound
            or parts.scheme not in ("http", "https")
            or not parts.hostname
            or re.search(r"[\s\x00-\x1f]", value)
        ):
            raise ValueError("an address that starts with https:// (or http://) and names a host")
        if parts.username is not None or parts.query or parts.fragment or value.endswith(("?", "#")):
            raise ValueError("an address without user, `?` and `#`")
        try:
            path_prefix(value)
        except ConfigurationError:
            raise ValueError("an address whose path holds letters, digits and ._~- between single slashes") from None
        return value

    @property
    def origin(self) -> str:
        """Origin line of the log's checkpoints (C2SP tlog-checkpoint)."""
        return f"{self.service}/log"


def load_settings(variables: Mapping[str, str] | None = None, /, **changes: Any) -> Settings:
    """Settings from the environment `variables` alone (this process's unless given), with `changes` that are not None
    in the place of its values. Raises ConfigurationError that names every setting which is unknown or not acceptable,
    and what would be."""
    problems = unknown_settings(os.environ if variables is None else variables)
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        settings = Settings(**given) if variables is None else _settings_of(variables, given)
    except ValidationError as error:
        problems += _problems(error)
        raise ConfigurationError(_sentence(problems)) from None
    if problems:
        raise ConfigurationError(_sentence(problems))
    return settings


class GivenSettings(Settings):
    """Settings from arguments only: nothing is read from the environment of the process."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """pydantic-settings: where values come from."""
        return (init_settings,)


def _settings_of(variables: Mapping[str, str], changes: Mapping[str, Any]) -> Settings:
    """The settings that `variables` and `changes` say. Raises ValidationError."""
    upper = {name.upper(): value for name, value in variables.items()}
    names = Settings.model_fields
    values = {name: upper[PREFIX + name.upper()] for name in names if PREFIX + name.upper() in upper}
    checked = GivenSettings(**{**values, **changes})
    return Settings.model_construct(checked.model_fields_set, **{name: getattr(checked, name) for name in names})


def unknown_settings(names: Iterable[str]) -> list[str]:
    """A sentence for each `REFUND_LEDGER_*` name that no part of the ledger reads, with the nearest one."""
    known = {name.upper() for name in Settings.model_fields} | CLIENT_NAMES
    found = []
    for name in sorted(names):
        short = name.upper().removeprefix(PREFIX)
        is_link = short.endswith("_PORT") and isinstance(names, Mapping) and _LINK.match(names[name]) is not None
        if not name.upper().startswith(PREFIX) or short in known or is_link or _KUBERNETES.match(short):
            continue
        near = difflib.get_close_matches(short, sorted(known), n=1, cutoff=0.6)
        found.append(f"{name} is no setting" + (f"; do you mean {PREFIX}{near[0]}?" if near else "."))
    return found


def _problems(error: ValidationError) -> list[str]:
    found = []
    for one in error.errors(include_url=False, include_input=False):
        name = PREFIX + str(one["loc"][0]).upper() if one["loc"] else "The settings"
        found.append(f"{name} must be {_acceptable(one['type'], dict(one.get('ctx', {})), one['msg'])}.")
    return sorted(found)


_BOUNDS = {
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "{le} or less",
    "less_than": "less than {lt}",
    "string_too_short": "{min_length} characters or more",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text that matches {pattern}",
}
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "path": "a path"}


def _acceptable(kind: str, context: Mapping[str, Any], message: str) -> str:
    """What a value should have been, in words; the value itself may be a secret."""
    if kind == "value_error":
        return str(context.get("error", message))
    if kind in _BOUNDS:
        return _BOUNDS[kind].format_map(context)
    return _KINDS.get(kind.partition("_")[0], "of another form: " + message.lower().rstrip("."))


def _sentence(problems: list[str]) -> str:
    return " ".join(problems)
