"""The SDK as it runs in containers: as another user, without a home, with mounted secrets and folders it cannot write.

`python -m tests.client.contained` reads a JSON list of scenarios from standard input and prints a JSON list of what
came of each. Every scenario runs in a child process of its own, so that it can become another user:

- `user`, `groups`: who it becomes; `environment`: variables that are set, or with null removed.
- `key_file`: only this signing key is read, and `key` of the result says "ok" or what was refused.
- `suite`, `key`, `order_key`, `state`: the client's arguments, each optional; without `suite` they come from the
  environment. The client then does everything once, and the result names what each call answered.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ledger.client import RefundLedger, evidence
from ledger.client.identity.keyfiles import load_signing_key
from ledger.errors import LedgerError

WHO = {"phone": "+86 138 0013 8000"}


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """One more."""
        self.lines.append(record.getMessage())


def tried(call: Callable[[], object]) -> str:
    """What the call gives, or the error: `LedgerError: <code>: <message>`, or the bare class of anything else."""
    try:
        return str(call())
    except LedgerError as error:
        return f"LedgerError: {error.code}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def use(scenario: dict[str, Any]) -> dict[str, Any]:
    """Everything once."""
    heard = Lines()
    logging.getLogger("refund_ledger").addHandler(heard)
    state: dict[str, Any] = {}
    given = {name: scenario[name] for name in ("state_dir", "order_key") if scenario.get(name)}

    def opened() -> RefundLedger:
        if "suite" in scenario:
            return RefundLedger(scenario["suite"], scenario["key"], lookup_budget_seconds=20, **given)
        return RefundLedger.from_environment(lookup_budget_seconds=20, **given)

    opening = tried(lambda: state.setdefault("ledger", opened()) and "ok")
    result: dict[str, Any] = {"open": opening}
    ledger: RefundLedger | None = state.get("ledger")
    if ledger is not None:
        calls: dict[str, Callable[[], object]] = {
            "connect": ledger.connect,
            "subject": lambda: len(ledger.tag(**WHO).subjects),
            "lookup": lambda: ledger.lookup(WHO, order="A-1", consent_ref="c").tier,
            "download": lambda: ledger.check(WHO, policy="download", consent_ref="c").tier,
            "private": lambda: ledger.check(WHO, policy="private", consent_ref="c").tier,
            "again": lambda: ledger.check(WHO, policy="private", consent_ref="c").tier,
            "epoch": ledger.current_epoch,
            "outbox": lambda: len(ledger.outbox.list()),
        }
        result |= {name: tried(call) for name, call in calls.items()}
        if "report" in scenario:
            ledger._session.budget_seconds = (
                1.0  # the small ledger takes no reports: sending is not tried for ten seconds
            )
            result["report"] = tried(lambda: report(ledger))
        ledger.close()
    return {**result, "warnings": heard.lines}


def report(ledger: RefundLedger) -> str:
    """A report; its state."""
    return ledger.reports.create(
        ledger.tag(**WHO),
        conduct="fake_return_tracking",
        evidence=[evidence("carrier_record", sha256=b"0" * 32)],
        order="A-1",
        amount_minor=1,
        currency="CNY",
        outcome="refund_refused",
        act_ended_at=ledger._session.now(),
        notice_sent_at=ledger._session.now(),
        notice_ref="n",
        decided_by="d",
        consent_ref="c",
    ).state


def run(scenario: dict[str, Any]) -> dict[str, Any]:
    """One scenario, in this process."""
    for name, value in scenario.get("environment", {}).items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    if "user" in scenario:
        os.setgroups(scenario.get("groups", []))
        os.setgid(scenario["user"])
        os.setuid(scenario["user"])
    if "key_file" in scenario:
        return {"key": tried(lambda: "ok" if load_signing_key(Path(scenario["key_file"])) is not None else "")}
    return use(scenario)


def main() -> None:
    """All scenarios. The first, run before any other, loads what another user could not read."""
    scenarios = json.load(sys.stdin)
    results = []
    for number, scenario in enumerate(scenarios):
        if number == 0:
            results.append(run(scenario))
            continue
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            try:
                answer: dict[str, Any] = run(scenario)
            except BaseException as error:
                answer = {"failed": repr(error)}
            os.write(writing, json.dumps(answer).encode())
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as file:
            results.append(json.loads(file.read()))
        os.waitpid(child, 0)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
