"""Whether this process can serve everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ledger.errors import LedgerError
from ledger.store.engine import reading
from ledger.store.log import read_head

if TYPE_CHECKING:
    from ledger.service.runtime import Runtime


def readiness(rt: Runtime) -> dict[str, Any]:
    """{status, database, log, checks}: the answer of `GET /readyz`. `status` is `ready` if all is well."""
    database, log = "ok", "ok"
    try:
        with reading(rt.engine) as connection:
            head = read_head(connection)
        if head is None or head.frozen is not None:
            log = "frozen"
    except LedgerError:
        database, log = "unavailable", "unknown"
    checks = {
        "appender": "ok" if rt.appender.alive() else "stopped",
        "lookups": "ok" if rt.desk.alive() else "stopped",
        "presence": "ok" if rt.presence.alive() else "stopped",
        "snapshots": "ok" if rt.shelf.alive() else "stopped",
        "members": "ok" if rt.members.fresh() else "stale",
    }
    ready = database == "ok" and log == "ok" and all(value == "ok" for value in checks.values())
    return {"status": "ready" if ready else "not_ready", "database": database, "log": log, "checks": checks}
