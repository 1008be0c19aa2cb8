"""Settings of a key holder's service and commands, read once from the environment (`REFUND_LEDGER_HOLDER_*`).

Nothing is read at import: call `load_holder_settings()`. docs/holders.md lists every setting.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledger.errors import ConfigurationError
from ledger.server.settings import Settings, check_address, problems_of

HOLDER_PREFIX = "REFUND_LEDGER_HOLDER_"
DATABASE_SETTING = HOLDER_PREFIX + "DATABASE_URL"


class HolderSettings(BaseSettings):
    """Frozen settings of a key holder. Field names map to `REFUND_LEDGER_HOLDER_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix=HOLDER_PREFIX, frozen=True, extra="ignore")

    dir: Path = Path("var/holder")
    """The holder's folder: shares, keys, cards (docs/ceremonies.md)."""
    database_url: str | None = None
    """`sqlite:///path` or `postgresql+psycopg://...`: admission, budgets, tokens, and the state of the log. Default:
    `holder.db` in the folder."""
    ledger_url: str | None = None
    """Address of the ledger whose log is followed. Default: the address in `ledger.json`."""
    host: str = "127.0.0.1"
    port: int = Field(8100, ge=0, le=65535)
    daily_quota_elements: int = Field(100_000, ge=0)
    """Elements that a control group may have evaluated in a UTC day, unless it has its own budget (`holder admit
    --daily`)."""
    burst_elements: int = Field(20_000, ge=1)
    """Elements that a control group may have evaluated at once, before `rate_elements_per_second` limits it."""
    rate_elements_per_second: int = Field(500, ge=1)
    threads: int = Field(2, ge=1, le=64)
    """Threads that share one batch of evaluations."""
    requests_max: int = Field(64, ge=1)
    """Requests that are evaluated or wait for it; further ones are answered 503 `overloaded`."""
    log_seconds: float = Field(10.0, gt=0)
    """How often the ledger's log is read."""
    refresh_seconds: float = Field(1.0, gt=0, le=5)
    """How often a process reads admissions and the state of the log again; a suspension takes effect within 5 s."""
    metrics_token: str | None = Field(None, min_length=16, repr=False)
    """Bearer token of `/metrics`; without a token the path does not exist."""
    connections_max: int | None = Field(None, ge=8)
    """Connections of one process. Default: four fifths of (`ulimit -n` minus 100), at most 10,000."""
    connections_per_address_max: int | None = Field(None, ge=0)
    """Connections from one address (IPv6: from one /64); 0 means no such limit. Default: half of all."""
    pooler: Literal["auto", "transaction"] = "auto"
    """The pooler between this program and PostgreSQL: `auto` detects it, `transaction` is one in transaction mode."""

    @field_validator("ledger_url")
    @classmethod
    def _check_ledger_url(cls, value: str | None) -> str | None:
        return None if value is None else check_address(value)

    @property
    def database(self) -> str:
        """The URL of the database."""
        return self.database_url or f"sqlite:///{self.dir / 'holder.db'}"

    @property
    def shared(self) -> Settings:
        """The settings of the parts that the ledger's server has too (database, connections), with its defaults."""
        return Settings.model_construct(
            database_url=self.database,
            pooler=self.pooler,
            connections_max=self.connections_max,
            connections_per_address_max=self.connections_per_address_max,
        )


def load_holder_settings(**changes: Any) -> HolderSettings:
    """Return the settings of this process's environment, with those of `changes` that are not None in their place.

    Raises ConfigurationError, which names every unknown setting and every value that is not allowed.
    """
    problems = _unknown(list(os.environ))
    try:
        settings = HolderSettings(**{name: value for name, value in changes.items() if value is not None})
    except ValidationError as error:
        raise ConfigurationError(" ".join([*problems, *problems_of(error, HOLDER_PREFIX)])) from None
    if problems:
        raise ConfigurationError(" ".join(problems))
    return settings


def _unknown(names: list[str]) -> list[str]:
    """Return a sentence for each variable of a holder's prefix that is no setting."""
    known = sorted(name.upper() for name in HolderSettings.model_fields)
    problems = []
    for name in sorted(names):
        short = name.upper().removeprefix(HOLDER_PREFIX)
        if name.upper().startswith(HOLDER_PREFIX) and short not in known:
            near = difflib.get_close_matches(short, known, n=1, cutoff=0.6)
            problems.append(f"{name} is no setting" + (f"; do you mean {HOLDER_PREFIX}{near[0]}?" if near else "."))
    return problems
