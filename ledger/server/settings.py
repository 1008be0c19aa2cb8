"""Settings of the server and its operator commands, read once from the environment (`REFUND_LEDGER_*`).

Nothing is read at import: call `load_settings()`. Secrets have no default; keys are stored in files (see
`ledger/server/keys/files.py`). Every limit is a setting, with its unit at the end of the name.
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
    {"SUITE", "SUITE_JSON", "KEY", "KEY_PEM", "ORDER_KEY", "ORDER_KEY_TEXT", "STATE", "CARDS", "CA_FILE"},
)
"""Variables of the SDK and the platforms' commands with the same prefix."""

HOLDER_NAMES = "HOLDER_"
"""Beginning of the variables of a key holder's service (`ledger/holder/settings.py`), which checks them itself."""

_KUBERNETES = re.compile(r"(?:[A-Z0-9_]+_)?(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?)\Z")
"""Variables that Kubernetes sets in every container for services named `refund-ledger` or `refund-ledger-...`."""
_LINK = re.compile(r"(tcp|udp|sctp)://")
"""Beginning of Kubernetes' values of `..._PORT`."""


class Settings(BaseSettings):
    """Frozen settings. Field names map to `REFUND_LEDGER_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="REFUND_LEDGER_", frozen=True, extra="ignore")

    database_url: str = "sqlite:///var/ledger.db"
    """`sqlite:///path` (embedded default) or `postgresql+psycopg://...` (production)."""
    service: str = Field("refund-ledger.local", pattern=r"^[a-z0-9.-]{1,64}$")
    """Service id: the audience of tokens, part of every signed report, and the base of the log's origin."""
    environment: Literal["live", "test"] = "live"
    holder: str = Field("ledger", pattern=r"^[a-z0-9-]{1,32}$")
    """Id of this deployment as an OPRF key holder."""
    keys_dir: Path = Path("var/keys")
    guard_dir: Path = Path("var/guard")
    """Folder of the checkpoint guard. Keep it outside the database and outside its backups."""
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    public_url: str | None = None
    """The URL for platforms and people; it is written into suite files."""

    oprf_daily_quota_elements: int = Field(100_000, ge=1)
    """Blinded elements that a platform may have evaluated in a UTC day, unless it has its own quota (`platform
    quota`)."""
    oprf_burst_elements: int = Field(20_000, ge=1)
    """Blinded elements that a platform may have evaluated at once, before `oprf_rate_elements_per_second` limits it."""
    oprf_rate_elements_per_second: int = Field(500, ge=1)
    oprf_threads: int = Field(2, ge=1, le=64)
    """Threads that share one batch of evaluations; libsodium runs without the interpreter's lock."""
    body_limit_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    """Largest request body, except for files. A batch of 1000 reports with two subjects and four evidence items fits;
    other routes have smaller limits (api/route_table.py)."""
    target_limit_bytes: int = Field(8 * 1024, ge=1024)
    """Longest address of a request, its query included."""
    header_limit_bytes: int = Field(32 * 1024, ge=4096)
    """Largest header of a request, all fields together."""
    header_timeout_seconds: float = Field(10.0, gt=0)
    """Longest time from a request's first byte (on a new connection: from its start) to the end of the header."""
    body_timeout_seconds: float = Field(30.0, gt=0)
    """Longest time for a body, plus one second for every `body_rate_bytes_per_second` that have arrived."""
    body_rate_bytes_per_second: int = Field(8 * 1024, ge=1)
    answer_stall_seconds: float = Field(60.0, gt=0)
    """Time after which a connection is closed if its client reads nothing of an answer."""
    connections_max: int | None = Field(None, ge=8)
    """Connections of one process. Default: four fifths of (`ulimit -n` minus 100 files that the process itself needs),
    at most 10,000."""
    connections_per_address_max: int | None = Field(None, ge=0)
    """Connections from one address (IPv6: from one /64); 0 means no such limit. Default: half of all. All connections
    through a proxy come from one address."""
    appender_max_batch: int = Field(2000, ge=1)
    """Largest number of commands in one transaction of the log writer. 1 means one transaction for each command."""
    appender_linger_ms: float = Field(1.0, ge=0)
    """How long the log writer waits for more commands after the first one of a batch."""
    appender_queue_limit: int = Field(20_000, ge=1)
    """Largest number of waiting commands; further requests are answered 503 `overloaded`."""
    lookup_linger_ms: float = Field(0.0, ge=0)
    subject_link_minutes: int = Field(10, ge=1, le=60)
    """How long the single-use link to a person's own record is valid."""
    subject_session_minutes: int = Field(30, ge=1, le=120)
    """How long the session lasts that the link opens."""
    subject_sessions_daily_quota: int = Field(1_000, ge=0)
    """Links that a platform may have made in a UTC day."""
    appeals_daily_quota: int = Field(1_000, ge=0)
    """Appeals that a platform may try to file in a UTC day, refused ones included."""
    pictures_daily_quota_hashes: int = Field(10_000, ge=0)
    """Hashes of pictures that a platform may have searched for in a UTC day."""
    publish_interval_ms: int = Field(1000, ge=10)
    """How often the publisher checks whether the log has grown."""
    auth_refresh_seconds: float = Field(1.0, gt=0, le=5)
    """How often a process reads platforms and keys again; a revocation takes effect in all processes within 5 s."""
    lookup_refresh_ms: int = Field(100, ge=1, le=1000)
    """How often a process reads new tags from the database, to answer clean lookups from memory."""
    snapshots_dir: Path = Path("var/snapshots")
    """Folder of published snapshots, shared between hosts. All members can read its files, but cannot decrypt an entry
    without its element."""
    snapshot_interval_seconds: float = Field(3600.0, gt=0)
    snapshot_lifetime_hours: int = Field(24, ge=1, le=24)
    """How long clients may use a snapshot."""
    snapshots_kept: int = Field(3, ge=1, le=100)
    """Number of snapshots that are served, the newest and earlier ones; each has about 180 bytes for each entry."""
    alarm_lookups_min: int = Field(2_000, ge=1)
    """Smallest number of lookups of a platform in a UTC day for the alarm of misses."""
    alarm_miss_share: float = Field(0.999, gt=0, lt=1)
    """Share of clean lookups of a platform above which the alarm of misses is raised."""
    alarm_bucket_share: float = Field(0.5, gt=0, le=1)
    """Share of a snapshot's buckets, fetched one by one by a platform, from which the alarm of scanning is raised."""
    attachments_dir: Path = Path("var/attachments")
    """Folder of the files of appeals, shared between hosts."""
    attachment_limit_bytes: int = Field(10 * 1024 * 1024, ge=1024)
    attachments_per_case: int = Field(20, ge=0)
    attachment_pixels_max: int = Field(50_000_000, ge=1)
    """Largest picture, as width times height times frames: the cost of decoding depends on this, not on its bytes."""
    metrics_token: str | None = Field(None, min_length=16, repr=False)
    """Bearer token of `/metrics`; without a token the path does not exist."""
    staff_idle_minutes: int = Field(30, ge=1, le=24 * 60)
    """Time without a request after which a staff session ends."""
    staff_session_hours: int = Field(12, ge=1, le=24 * 7)
    """Longest duration of a staff session."""
    webhook_allow_private: bool = False
    """Allow webhooks by http, to every port and to addresses that are not public. For tests and closed networks only:
    every platform could make this service connect to any address that it can reach."""
    maintenance_interval_seconds: float = Field(3600.0, gt=0)
    """How often due erasures are made and old idempotency answers deleted."""
    appeal_clock_seconds: float = Field(60.0, gt=0)
    """How often the deadlines of appeals are checked: a passed deadline takes effect at most this much later."""
    lock_timeout_ms: int = Field(5_000, ge=1)
    statement_timeout_ms: int = Field(30_000, ge=1)
    read_deadline_ms: int = Field(1_500, ge=100)
    """Time in which the database must answer a lookup, or a background read that lookups depend on; after it, the
    answer is 503 and the connection is replaced."""
    write_deadline_ms: int = Field(6_000, ge=500)
    """Time in which the database must record a batch of reports, or answer a COMMIT; after it, the answer is 503 and
    the connection is replaced. Must be above the lock timeout, so that the lock timeout ends a wait for a lock."""
    connect_deadline_ms: int = Field(3_000, ge=500)
    """Time in which a connection must be established, for all hosts of the URL together."""
    pooler: Literal["auto", "transaction"] = "auto"
    """The pooler between this program and PostgreSQL: `auto` detects it, `transaction` is one in transaction mode."""
    pool_size: int = Field(10, ge=1)

    @field_validator("port", mode="before")
    @classmethod
    def _pass_over_link(cls, value: Any) -> Any:
        """Return the default for a value that Kubernetes sets for a service named `refund-ledger`."""
        return 8000 if isinstance(value, str) and _LINK.match(value) else value

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str | None) -> str | None:
        return None if value is None else check_address(value)

    @property
    def origin(self) -> str:
        """Origin line of the log's checkpoints (C2SP tlog-checkpoint)."""
        return f"{self.service}/log"


def check_address(value: str) -> str:
    """Return an address that starts with https:// or http:// and has no more than a path. Raises ValueError, which says
    what is expected."""
    try:
        parts = urlsplit(value)
        sound = parts.port is None or 0 < parts.port < 65536
    except ValueError:
        parts, sound = urlsplit(""), False
    if not sound or parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\x00-\x1f]", value):
        raise ValueError("an address that starts with https:// (or http://) and names a host")
    if parts.username is not None or parts.query or parts.fragment or value.endswith(("?", "#")):
        raise ValueError("an address without user, `?` and `#`")
    try:
        path_prefix(value)
    except ConfigurationError:
        raise ValueError("an address whose path holds letters, digits and ._~- between single slashes") from None
    return value


def load_settings(variables: Mapping[str, str] | None = None, /, **changes: Any) -> Settings:
    """Return the settings of `variables` (default: the environment of this process), with those of `changes` that are
    not None in their place.

    Raises ConfigurationError, which names every unknown setting and every value that is not allowed, and says what is
    allowed.
    """
    problems = unknown_settings(os.environ if variables is None else variables)
    overrides = {name: value for name, value in changes.items() if value is not None}
    try:
        settings = Settings(**overrides) if variables is None else _settings_of(variables, overrides)
    except ValidationError as error:
        problems += problems_of(error)
        raise ConfigurationError(_sentence(problems)) from None
    if problems:
        raise ConfigurationError(_sentence(problems))
    return settings


class GivenSettings(Settings):
    """Settings from arguments only; the environment of the process is not read."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of values for pydantic-settings: the arguments only."""
        return (init_settings,)


def _settings_of(variables: Mapping[str, str], changes: Mapping[str, Any]) -> Settings:
    """Return the settings of `variables` and `changes`. Raises ValidationError."""
    upper = {name.upper(): value for name, value in variables.items()}
    names = Settings.model_fields
    values = {name: upper[PREFIX + name.upper()] for name in names if PREFIX + name.upper() in upper}
    checked = GivenSettings(**{**values, **changes})
    return Settings.model_construct(checked.model_fields_set, **{name: getattr(checked, name) for name in names})


def unknown_settings(names: Iterable[str]) -> list[str]:
    """Return a sentence for each `REFUND_LEDGER_*` name that no part of the ledger reads, with the most similar known
    name."""
    known = {name.upper() for name in Settings.model_fields} | CLIENT_NAMES
    problems = []
    for name in sorted(names):
        short = name.upper().removeprefix(PREFIX)
        is_link = short.endswith("_PORT") and isinstance(names, Mapping) and _LINK.match(names[name]) is not None
        if not name.upper().startswith(PREFIX) or short in known or is_link or _KUBERNETES.match(short):
            continue
        if short.startswith(HOLDER_NAMES):
            continue
        near = difflib.get_close_matches(short, sorted(known), n=1, cutoff=0.6)
        problems.append(f"{name} is no setting" + (f"; do you mean {PREFIX}{near[0]}?" if near else "."))
    return problems


def problems_of(error: ValidationError, prefix: str = PREFIX) -> list[str]:
    """Return a sentence for each setting whose value is not allowed; `prefix` is the beginning of their variables."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False):
        name = prefix + str(problem["loc"][0]).upper() if problem["loc"] else "The settings"
        allowed = _allowed(problem["type"], dict(problem.get("ctx", {})), problem["msg"])
        problems.append(f"{name} must be {allowed}.")
    return sorted(problems)


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


def _allowed(kind: str, context: Mapping[str, Any], message: str) -> str:
    """Return which values are allowed, in words. The value itself is not repeated, because it may be a secret."""
    if kind == "value_error":
        return str(context.get("error", message))
    if kind in _BOUNDS:
        return _BOUNDS[kind].format_map(context)
    return _KINDS.get(kind.partition("_")[0], "of another form: " + message.lower().rstrip("."))


def _sentence(problems: list[str]) -> str:
    return " ".join(problems)
