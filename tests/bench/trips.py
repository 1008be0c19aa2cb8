"""`python -m tests.bench.trips`: how many calls, functions and files of the project one request goes through.

A server runs in this process with a profiler in every thread. Each trip runs once unmeasured, for what is loaded or
cached at first use, and then once measured. Only threads that work for requests are counted. A generator that goes on
counts as a call.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from ledger.protocol.identifiers import Kind
from tests.api.appealed import contested, newest, somebody, staffed
from tests.api.conftest import ACME, BETA, READER, Api, person, running
from tests.api.console_fixture import post
from tests.support import ROOT, new_ledger, report_payload

PACKAGES = (f"{ROOT}/ledger/", f"{ROOT}/api/")

ANSWERING = ("Thread-1 (run)", "AnyIO worker thread", "appender", "lookups")
"""Names of the threads that work for a request: the event loop, routes, and those that write and look up in batches."""


class Trip:
    """The calls between two functions of the project while it records."""

    def __init__(self) -> None:
        self.recording = False
        self._clear()

    def _clear(self) -> None:
        self.calls = 0
        self.functions: set[tuple[str, str, int]] = set()

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        if not self.recording or event != "call":
            return
        code = frame.f_code
        if code.co_filename.startswith(PACKAGES) and threading.current_thread().name in ANSWERING:
            self.calls += 1
            self.functions.add((code.co_filename, code.co_qualname, code.co_firstlineno))

    def measured(self, run: Callable[[], Any]) -> dict[str, int]:
        """The figures of one run."""
        self._clear()
        self.recording = True
        run()
        self.recording = False
        return {
            "calls": self.calls,
            "functions": len(self.functions),
            "files": len({file for file, _name, _line in self.functions}),
        }


def report_body(api: Api) -> Callable[[], None]:
    """A report about a person of their own, ready to be sent."""
    payload = report_payload(api.rt, ACME, somebody())

    def run() -> None:
        answer = api.request("POST", "/v1/reports", ACME, key=secrets.token_hex(8), json=payload)
        assert answer.status_code == 201, answer.text

    return run


def clean_lookup(api: Api) -> Callable[[], None]:
    """A lookup of a person without a report."""
    body = api.lookup_body((Kind.PHONE, person()))

    def run() -> None:
        assert api.request("POST", "/v1/lookups", BETA, json=body).status_code == 200

    return run


def listed_lookup(api: Api) -> Callable[[], None]:
    """A lookup of a person with one report."""
    who = somebody()
    assert api.report(ACME, who).status_code == 201
    body = api.lookup_body(*who)

    def run() -> None:
        answer = api.request("POST", "/v1/lookups", BETA, json=body)
        assert answer.json()["events"] == 1, answer.text

    return run


def main() -> None:
    """Print one line a trip."""
    trip = Trip()
    threading.setprofile(trip)
    folder = Path(tempfile.mkdtemp(prefix="rcl-trips-"))
    settings = new_ledger(f"sqlite:///{folder / 'ledger.db'}", folder)
    for platform in (ACME, BETA, READER):
        platform.enrol(settings)
    with running(settings) as api, staffed(api) as at:

        def decision() -> Callable[[], None]:
            case = at.taken(contested(api))
            fields = {"outcome": "overturned", "reasons": "The carrier lost it.", "confirmed": "yes"}
            fields["seen"] = newest(api, case)

            def run() -> None:
                answer = post(at.client("reviewer"), f"/console/cases/{case}/decide", fields)
                assert answer.status_code == 303, answer.text

            return run

        for name, prepared in {
            "lookup, clean": lambda: clean_lookup(api),
            "lookup, listed": lambda: listed_lookup(api),
            "report": lambda: report_body(api),
            "decision, form to log": decision,
        }.items():
            prepared()()
            figures = trip.measured(prepared())
            line = f"{name:24} {figures['calls']:5} calls {figures['functions']:4} functions {figures['files']:3} files"
            sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
